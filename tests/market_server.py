"""Binance USDT-M's public market data on loopback, with its shapes, its limits and faults on order.

    with MarketServer(bars, funding=payments, now=at_us) as market:
        venue = Venue(ExchangeConfig(base_url=market.url))
        market.fault("/fapi/v1/klines", "late", "late", "html")   # one a request, used up in this order

The answers have the venue's exact shapes: prices and quantities as decimal text, stamps in milliseconds, the
unfinished bar last, newest rows where no start is given, `startTime`/`endTime` both inclusive, at most
`limit` rows, HTTP 400 with code -1121 for a symbol that is not served.

| path | from |
|---|---|
| /fapi/v1/klines | `bars` (15m), longer intervals resampled from them, the unfinished one included |
| /fapi/v1/fundingRate | `funding` |
| /futures/data/globalLongShortAccountRatio | a formula, every `period` |
| /futures/data/openInterestHist | a formula, every `period` |
| /fapi/v1/depth | `depth`, a decoded answer; else 20 levels around the last close, stamped now |
| /fapi/v1/time | `now` |

The market's clock is `now()` (microseconds): a number stands still until `market.now` is set, a callable is
asked on every request. Bars that open later do not exist yet. The last bar is unfinished while it runs.

Faults (a suffix after ":" is its argument):

| fault | what the answer is |
|---|---|
| late | as if the newest closed bar and the unfinished one were not there yet |
| no successor | the unfinished bar is not there yet |
| hole:K | the K-th row from the end is missing (1: the last) |
| double | the second row from the end comes twice |
| contradiction | the same, with another close |
| changed | the newest closed bar with another close and volume |
| disorder | newest first |
| future | one row more, a day ahead |
| nan, inf, text, negative, zero, high | the newest closed bar with that as its close (high: above its high) |
| nulls | [[None, None, ...]] |
| short | rows lack their last column |
| many | one row more than asked for |
| off grid | stamps one second late |
| body:TEXT | HTTP 200 with that body; empty | html | truncated: usual cases of it |
| huge | a body without end (8 MB of blanks) |
| cut | the connection ends in the middle of the body |
| drop | the connection ends before any answer |
| slow:S | S seconds before the answer |
| stall:S | headers, half the body, then nothing for S seconds |
| 429:S, 418:S | with Retry-After S (without S: no header) |
| 403, 404, 451, 500, 502, 503, 504 | that status; a web page |
| code:N | HTTP 400 with {"code": N, "msg": ...} |
| redirect:URL | 302 |
"""

import json
import math
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd

STEPS_MS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}
LIMITS = {"klines": (500, 1_500), "fundingRate": (100, 1_000), "depth": (500, 1_000)}
SERIES_LIMIT = (30, 500)
KLINES, FUNDING, DEPTH = "/fapi/v1/klines", "/fapi/v1/fundingRate", "/fapi/v1/depth"
LONG_SHORT, OPEN_INTEREST = "/futures/data/globalLongShortAccountRatio", "/futures/data/openInterestHist"
TIME = "/fapi/v1/time"
PAGE = "<!DOCTYPE html><html><body><h1>Sorry, we are down for maintenance</h1></body></html>"


class MarketServer:
    """Serves one symbol's market; use as a context manager. See the module's text for paths and faults.

    Parameters
    ----------
    bars : DataFrame
        15m: open_time (UTC), open high low close volume, any kline extras: the truth, the unfinished
        bar included.
    funding : DataFrame, optional
        event_time, funding_rate.
    now : int or callable
        The market's clock, microseconds.
    symbol : str
        Any other one is unknown.
    depth : dict, optional
        The answer of /fapi/v1/depth, cut to the limit asked for.

    Attributes
    ----------
    url : str
        http://127.0.0.1:port
    requests : list of (path, dict)
        What was asked, in order, with the last value of each parameter.
    hits : Counter
        Requests by path.
    busiest : int
        The most requests that ran at a time.
    """

    def __init__(
        self,
        bars: pd.DataFrame,
        *,
        funding: pd.DataFrame | None = None,
        now: int | Callable[[], int],
        symbol: str = "BTCUSDT",
        depth: dict[str, Any] | None = None,
    ) -> None:
        self.now, self.symbol, self.depth = now, symbol, depth
        self._klines = {"15m": kline_texts(bars)}
        self._payments = [] if funding is None else _payments(funding, symbol)
        self._faults: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.hits: Counter[str] = Counter()
        self.busiest = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Give the port back; for a server that was never entered."""
        self._stop.set()
        self._server.server_close()

    def fault(self, path: str, *faults: str) -> None:
        """Order faults for the next requests of a path (or "path?interval=1h"), one a request; "" is none."""
        with self._lock:
            self._faults.setdefault(path, []).extend(faults)

    def serve(self, bars: pd.DataFrame) -> None:
        """From now on, other 15m bars."""
        with self._lock:
            self._klines = {"15m": kline_texts(bars)}

    def reset(self) -> None:
        """Forget the requests so far and the faults that are left."""
        with self._lock:
            self.requests.clear()
            self.hits.clear()
            self._faults.clear()

    @property
    def now_ms(self) -> int:
        """The market's clock, milliseconds."""
        return (self.now() if callable(self.now) else self.now) // 1_000

    def next_fault(self, path: str, asked: dict[str, str]) -> str:
        """Count the request; the fault that is due."""
        with self._lock:
            self.requests.append((path, asked))
            self.hits[path] += 1
            for key in (f"{path}?interval={asked.get('interval')}", path):
                if self._faults.get(key):
                    return self._faults[key].pop(0)
        return ""

    def answer(self, path: str, asked: dict[str, str], fault: str) -> tuple[int, Any]:
        """Status and decoded body."""
        if path == TIME:
            return 200, {"serverTime": self.now_ms}
        if path not in (KLINES, FUNDING, DEPTH, LONG_SHORT, OPEN_INTEREST):
            return 404, {"code": -5000, "msg": f"Path {path}, Method GET is invalid"}
        if asked.get("symbol") != self.symbol:
            return 400, {"code": -1121, "msg": "Invalid symbol."}
        default, most = LIMITS.get(path.rsplit("/", 1)[-1], SERIES_LIMIT)
        limit = min(int(asked.get("limit", default)), most)
        if path == DEPTH:
            return 200, self._book(limit)
        if path == FUNDING:
            return 200, _window(self._payments, asked, limit, self.now_ms, "fundingTime")
        if path == KLINES:
            if asked.get("interval") not in STEPS_MS:
                return 400, {"code": -1120, "msg": "Invalid interval."}
            rows = self._bars(asked["interval"], unfinished=fault not in ("late", "no successor"))
            if fault == "late":
                rows = rows[:-1]
            return 200, _window(rows, asked, limit, self.now_ms, 0)
        return 200, self._statistic(path, asked, limit)

    def _bars(self, interval: str, *, unfinished: bool) -> list[list[Any]]:
        with self._lock:
            if interval not in self._klines:
                self._klines[interval] = _longer(self._klines["15m"], STEPS_MS[interval])
            rows = self._klines[interval]
        last = self.now_ms - (0 if unfinished else STEPS_MS[interval])
        return rows[: bisect_right(rows, last, key=itemgetter(0))]

    def _book(self, limit: int) -> dict[str, Any]:
        if self.depth is not None:
            return self.depth | {side: self.depth[side][:limit] for side in ("bids", "asks")}
        mid = float(self._bars("15m", unfinished=True)[-1][4])
        levels = range(1, limit + 1)
        return {
            "lastUpdateId": 1,
            "E": self.now_ms,
            "T": self.now_ms,
            "bids": [[f"{mid - 0.1 * i:.2f}", f"{0.5 + i % 7:.3f}"] for i in levels],
            "asks": [[f"{mid + 0.1 * i:.2f}", f"{0.4 + i % 5:.3f}"] for i in levels],
        }

    def _statistic(self, path: str, asked: dict[str, str], limit: int) -> list[dict[str, Any]]:
        step = STEPS_MS[asked["period"]]
        newest = self.now_ms // step * step
        first = max(int(asked.get("startTime", newest - (limit - 1) * step)), newest - 30 * 86_400_000)
        last = min(int(asked.get("endTime", newest)), newest)
        stamps = list(range(-(-first // step) * step, last + 1, step))
        make = _ratio if path == LONG_SHORT else _interest
        return [make(stamp, self.symbol) for stamp in stamps[-limit:]]


def made_bars(at: int, count: int, *, seed: int = 5) -> pd.DataFrame:
    """Bars of a made-up market with all kline columns; the last one opens at `at` (microseconds)."""
    random = np.random.default_rng(seed)
    close = (60_000 * np.exp(np.cumsum(random.normal(0.0, 0.002, count)))).round(1)
    opened = np.concatenate([[60_000.0], close[:-1]])
    reach = (np.abs(random.normal(0.0, 40.0, (2, count))) + 0.1).round(1)
    volume = random.lognormal(6.0, 0.6, count).round(3)
    stamps = at + (np.arange(count) - count + 1) * 900_000_000
    return pd.DataFrame(
        {
            "open_time": pd.to_datetime(stamps, unit="us", utc=True).as_unit("us"),
            "open": opened,
            "high": (np.maximum(opened, close) + reach[0]).round(1),
            "low": (np.minimum(opened, close) - reach[1]).round(1),
            "close": close,
            "volume": volume,
            "quote_volume": (volume * close).round(4),
            "trades": random.integers(900, 90_000, count),
            "taker_buy_volume": (volume * 0.49).round(3),
            "taker_buy_quote_volume": (volume * 0.49 * close).round(4),
        }
    )


def kline_texts(bars: pd.DataFrame) -> list[list[Any]]:
    """15m bars as the venue's rows of twelve: shortest decimals that give the same doubles."""
    rows = []
    for bar in bars.to_dict("records"):
        open_ms = (
            bar["open_time"].value // 1_000_000
            if bar["open_time"].unit == "ns"
            else int(bar["open_time"].timestamp() * 1_000)
        )
        volume = float(bar["volume"])
        quote = bar.get("quote_volume", volume * bar["close"])
        rows.append(
            [
                open_ms,
                *(_text(bar[name]) for name in ("open", "high", "low", "close", "volume")),
                open_ms + STEPS_MS["15m"] - 1,
                _text(quote),
                int(bar.get("trades", 100)),
                _text(bar.get("taker_buy_volume", volume / 2)),
                _text(bar.get("taker_buy_quote_volume", quote / 2)),
                "0",
            ]
        )
    return rows


def _text(value: float) -> str:
    text = repr(float(value))
    return f"{value:.10f}" if "e" in text else text


def _payments(funding: pd.DataFrame, symbol: str) -> list[dict[str, Any]]:
    return [
        {
            "symbol": symbol,
            "fundingTime": int(stamp.timestamp() * 1_000) + number % 3,  # the venue's jitter
            "fundingRate": f"{rate:.8f}",
            "markPrice": "",
        }
        for number, (stamp, rate) in enumerate(
            zip(funding["event_time"], funding["funding_rate"], strict=True)
        )
    ]


def _longer(rows: list[list[Any]], step_ms: int) -> list[list[Any]]:
    """Longer bars, as far as there are shorter ones: the last one is unfinished."""
    longer: dict[int, list[Any]] = {}
    for row in rows:
        first = row[0] // step_ms * step_ms
        bar = longer.setdefault(
            first, [first, row[1], row[2], row[3], row[4], 0.0, first + step_ms - 1, 0.0, 0, 0.0, 0.0, "0"]
        )
        bar[2], bar[3], bar[4] = max(bar[2], row[2], key=float), min(bar[3], row[3], key=float), row[4]
        bar[8] += row[8]
        for column in (5, 7, 9, 10):
            bar[column] += float(row[column])
    for bar in longer.values():
        for column in (5, 7, 9, 10):
            bar[column] = f"{bar[column]:.8f}"
    return list(longer.values())


def _window(rows: list[Any], asked: dict[str, str], limit: int, now_ms: int, key: Any) -> list[Any]:
    first, last = asked.get("startTime"), min(int(asked.get("endTime", now_ms)), now_ms)
    stop = bisect_right(rows, last, key=itemgetter(key))
    if first is None:
        return rows[max(0, stop - limit) : stop]
    start = bisect_left(rows, int(first), key=itemgetter(key))
    return rows[start : min(stop, start + limit)]


def _ratio(stamp: int, symbol: str) -> dict[str, Any]:
    long = round(0.55 + 0.1 * math.sin(stamp / 7.2e6), 4)
    return {
        "symbol": symbol,
        "longAccount": f"{long:.4f}",
        "longShortRatio": f"{long / (1 - long):.4f}",
        "shortAccount": f"{1 - long:.4f}",
        "timestamp": stamp,
    }


def _interest(stamp: int, symbol: str) -> dict[str, Any]:
    amount = 80_000 + 500 * math.sin(stamp / 3.6e7)
    return {
        "symbol": symbol,
        "sumOpenInterest": f"{amount:.8f}",
        "sumOpenInterestValue": f"{amount * 60_000:.8f}",
        "CMCCirculatingSupply": "19770000.00000000",
        "timestamp": stamp,
    }


def _spoil(rows: Any, fault: str, limit: int) -> Any:
    """The rows with a fault in them."""
    name, _, argument = fault.partition(":")
    if not isinstance(rows, list) or not rows:
        return rows
    rows = [list(row) if isinstance(row, list) else dict(row) for row in rows]
    newest = next((row for row in reversed(rows[:-1])), rows[-1])  # the newest closed bar
    if name == "hole":
        del rows[-int(argument)]
    elif name in ("double", "contradiction"):
        again = list(newest)
        if name == "contradiction":
            again[4] = again[3]
            newest[4] = newest[2]
        rows.insert(len(rows) - 1, again)
        rows = rows[-limit:]
    elif name == "changed":
        newest[4], newest[5] = newest[3], "1.5"
    elif name == "disorder":
        rows.reverse()
    elif name == "future":
        rows[-1] = [rows[-1][0] + 86_400_000, *rows[-1][1:6], rows[-1][6] + 86_400_000, *rows[-1][7:]]
    elif name in ("nan", "inf", "text", "negative", "zero", "high"):
        newest[4] = {"nan": "NaN", "inf": "1e999", "text": "12,5", "negative": "-1.0", "zero": "0"}.get(
            name, repr(2.0 * float(newest[2]))
        )
    elif name == "nulls":
        rows = [[None] * 12]
    elif name == "short":
        rows = [row[:-1] for row in rows]
    elif name == "many":
        rows = (rows * (limit + 1))[: limit + 1]
    elif name == "off grid":
        rows = [[row[0] + 1_000, *row[1:6], row[6] + 1_000, *row[7:]] for row in rows]
    return rows


def _handler(market: MarketServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionResetError):
                super().handle()

        def do_GET(self) -> None:
            with market._lock:
                market._open += 1
                market.busiest = max(market.busiest, market._open)
            try:
                self._answer()
            except (BrokenPipeError, ConnectionResetError):  # the client gave up: often the point of the test
                self.close_connection = True
            finally:
                with market._lock:
                    market._open -= 1

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            fault = market.next_fault(parts.path, asked)
            name, _, argument = fault.partition(":")
            if name == "slow":
                market._stop.wait(float(argument))
            if name == "drop":
                self.close_connection = True
                return
            if name.isdecimal():
                wait = {"Retry-After": argument} if argument else {}
                self._send(int(name), PAGE.encode(), "text/html", wait)
                return
            if name == "redirect":
                self._send(302, b"", "text/html", {"Location": argument})
                return
            if name == "code":
                self._json(400, {"code": int(argument), "msg": f"Refused with {argument}."})
                return
            status, answer = market.answer(parts.path, asked, fault)
            body = json.dumps(_spoil(answer, fault, int(asked.get("limit", 500)))).encode()
            bodies = {
                "empty": b"",
                "html": PAGE.encode(),
                "truncated": body[: len(body) // 2],
                "body": argument.encode(),
            }
            if name == "huge":
                self._send(200, b" " * 8_000_000, "application/json", {})
            elif name in ("cut", "stall"):
                self._half(body, float(argument or 0))
            else:
                self._send(status, bodies.get(name, body), "application/json", {})

        def _half(self, body: bytes, wait_s: float) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            market._stop.wait(wait_s)
            self.close_connection = True

        def _json(self, status: int, answer: Any) -> None:
            self._send(status, json.dumps(answer).encode(), "application/json", {})

        def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-MBX-USED-WEIGHT-1M", "12")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler
