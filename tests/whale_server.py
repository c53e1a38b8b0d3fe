"""Whale Alert's /v1/transactions on loopback: pages, cursors, a plan's limits, and faults on order."""

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from answer_server import AnswerServer, Reply

KEY = "k3y-of-the-whale-plan"


def transaction(
    number: int, time: int, usd: float, *, source: str = "", target: str = "", **more: Any
) -> dict:
    """A bitcoin transfer; source and target are owner types, empty where the owner is not known."""
    return {
        "blockchain": "bitcoin",
        "symbol": "btc",
        "id": str(number),
        "transaction_type": "transfer",
        "hash": f"{number:064x}",
        "from": _end(source),
        "to": _end(target),
        "timestamp": time,
        "amount": usd / 60_000.0,
        "amount_usd": usd,
        "transaction_count": 1,
    } | more


def _end(owner_type: str) -> dict[str, str]:
    if not owner_type:
        return {"address": "1JDknRvZ", "owner_type": "unknown"}
    return {"address": "3f5ce5fb", "owner": "binance", "owner_type": owner_type}


@dataclass
class WhaleServer(AnswerServer):
    """Serves `transactions` in the order of the list, as far back as `history_s` before `now` (seconds).

    page_rows: at most so many a page, whatever is asked. Errors repeat the key, as a careless service might.
    """

    transactions: list[dict[str, Any]] = field(default_factory=list)
    now: int = 0
    history_s: int = 30 * 86_400
    page_rows: int = 100

    def reply(self, request: BaseHTTPRequestHandler) -> Reply:
        asked = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if asked.path != "/v1/transactions":
            return Reply(b"not here", status=404)
        if request.headers.get("X-WA-API-KEY") != KEY:
            return _error(401, f"invalid api_key {request.headers.get('X-WA-API-KEY')}")
        start, end = int(query["start"]), int(query["end"])
        if start < self.now - self.history_s:
            plan = f"For the Free plan the maximum transaction history is {self.history_s} seconds"
            return _error(400, f"value out of range for start parameter. {plan}")
        first = int(query.get("cursor", "c-0").removeprefix("c-"))
        limit = min(int(query["limit"]), self.page_rows)
        found = []
        for position in range(first, len(self.transactions)):
            one = self.transactions[position]
            first = position + 1
            wanted = one["symbol"] == query["currency"] and one["amount_usd"] >= float(query["min_value"])
            if wanted and start < one["timestamp"] <= end:
                found.append(one)
            if len(found) == limit:
                break
        answer = {"result": "success", "cursor": f"c-{first}", "count": len(found), "transactions": found}
        return Reply(json.dumps(answer).encode())


def _error(status: int, message: str) -> Reply:
    return Reply(json.dumps({"result": "error", "message": message}).encode(), status)
