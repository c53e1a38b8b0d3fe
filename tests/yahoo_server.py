"""Yahoo Finance's daily chart on loopback, in the shape of its v8 answers, and faults on order."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
from answer_server import AnswerServer, Reply

ZONES = {
    "^VIX": ("America/Chicago", time(8, 30)),
    "^GSPC": ("America/New_York", time(9, 30)),
    "DX-Y.NYB": ("America/New_York", time(0)),
    "GC=F": ("America/New_York", time(0)),
}


@dataclass
class Chart:
    """What is served of one ticker: closes by day, and what Yahoo says of the running session.

    traded_at: seconds; price: of then; live_stamp: where set, a last row of that time at `price`.
    """

    closes: Mapping[date, float | None]
    traded_at: int | None = None
    price: float | None = None
    live_stamp: int | None = None


@dataclass
class YahooServer(AnswerServer):
    """Serves `charts` by ticker; `crumb` is what the crumb endpoint says."""

    charts: dict[str, Chart] = field(default_factory=dict)
    crumb: str = "crumb.1"

    def reply(self, request: BaseHTTPRequestHandler) -> Reply:
        asked = urlsplit(request.path)
        if asked.path == "/v1/test/getcrumb":
            return Reply(self.crumb.encode(), content_type="text/plain")
        ticker = unquote(asked.path.removeprefix("/v8/finance/chart/"))
        if not asked.path.startswith("/v8/finance/chart/"):
            return Reply(b"", status=404)  # as fc.yahoo.com
        if ticker not in self.charts:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return Reply(json.dumps({"chart": {"result": None, "error": error}}).encode(), status=404)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        return Reply(json.dumps(chart(ticker, self.charts[ticker], query)).encode())


def chart(ticker: str, served: Chart, query: Mapping[str, str]) -> dict[str, Any]:
    """The v8 answer: stamps in seconds at the exchange's opening, columns beside, null where nothing is."""
    zone, opening = ZONES[ticker]
    stamps, closes = [], []
    for day in sorted(served.closes):
        stamp = int(datetime.combine(day, opening, ZoneInfo(zone)).timestamp())
        if int(query.get("period1", 0)) <= stamp < int(query.get("period2", 1 << 60)):
            stamps.append(stamp)
            closes.append(served.closes[day])
    if served.live_stamp is not None:
        stamps.append(served.live_stamp)
        closes.append(None if served.price is None else float(np.float32(served.price)))
    meta: dict[str, Any] = {
        "currency": "USD",
        "symbol": ticker,
        "exchangeName": "SNP",
        "instrumentType": "FUTURE" if ticker == "GC=F" else "INDEX",
        "firstTradeDate": -1325583000,
        "gmtoffset": -18000,
        "timezone": "EST",
        "exchangeTimezoneName": zone,
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }
    if served.traded_at is not None:
        meta |= {"regularMarketTime": served.traded_at, "regularMarketPrice": served.price}
    quote = dict.fromkeys(("open", "high", "low", "close"), closes)
    quote |= {"volume": [None if close is None else 0 for close in closes]}
    adjusted = [None if close is None else close * 0.98 for close in closes]  # as if it paid dividends
    indicators = {"quote": [quote], "adjclose": [{"adjclose": adjusted}]}
    result = {"meta": meta, "timestamp": stamps, "indicators": indicators}
    return {"chart": {"result": [result], "error": None}}
