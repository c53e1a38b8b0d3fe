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
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import market_rows
import pandas as pd
from market_rows import STEPS_MS, kline_texts, made_bars

__all__ = ["DEPTH", "FUNDING", "KLINES", "LONG_SHORT", "OPEN_INTEREST", "TIME", "MarketServer", "made_bars"]

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
        self._payments = [] if funding is None else market_rows.payments(funding, symbol)
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
            return 200, market_rows.window(self._payments, asked, limit, self.now_ms, "fundingTime")
        if path == KLINES:
            if asked.get("interval") not in STEPS_MS:
                return 400, {"code": -1120, "msg": "Invalid interval."}
            rows = self._bars(asked["interval"], unfinished=fault not in ("late", "no successor"))
            if fault == "late":
                rows = rows[:-1]
            return 200, market_rows.window(rows, asked, limit, self.now_ms, 0)
        return 200, self._statistic(path, asked, limit)

    def _bars(self, interval: str, *, unfinished: bool) -> list[list[Any]]:
        with self._lock:
            if interval not in self._klines:
                self._klines[interval] = market_rows.longer(self._klines["15m"], STEPS_MS[interval])
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
        make = market_rows.ratio if path == LONG_SHORT else market_rows.interest
        return [make(stamp, self.symbol) for stamp in stamps[-limit:]]


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
            body = json.dumps(market_rows.spoil(answer, fault, int(asked.get("limit", 500)))).encode()
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
