"""alternative.me's Fear & Greed index on loopback, and faults on order."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from answer_server import AnswerServer, Reply


@dataclass
class FearGreedServer(AnswerServer):
    """Serves `values` (seconds of the day's beginning to value), newest first, everything as text."""

    values: Mapping[int, int] = field(default_factory=dict)

    def reply(self, request: BaseHTTPRequestHandler) -> Reply:
        asked = urlsplit(request.path)
        if asked.path != "/fng/":
            return Reply(b"not here", status=404)
        limit = int(parse_qs(asked.query).get("limit", ["1"])[0])
        days = sorted(self.values, reverse=True)
        return Reply(fear_greed_body([(day, self.values[day]) for day in (days[:limit] if limit else days)]))


def fear_greed_body(days: list[tuple[object, object]], error: object = None) -> bytes:
    """The answer that lists these (stamp, value) in this order."""
    data = [
        {"value": _text(value), "value_classification": classification(value), "timestamp": _text(stamp)}
        for stamp, value in days
    ]
    if data:
        data[0]["time_until_update"] = "68499"
    answer = {"name": "Fear and Greed Index", "data": data, "metadata": {"error": error}}
    return json.dumps(answer).encode()


def classification(value: object) -> str:
    """As the service names a value."""
    if not isinstance(value, int):
        return "Neutral"
    bounds = ((25, "Extreme Fear"), (46, "Fear"), (54, "Neutral"), (75, "Greed"))
    return next((name for bound, name in bounds if value <= bound), "Extreme Greed")


def _text(value: object) -> object:
    return str(value) if type(value) is int else value
