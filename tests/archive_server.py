"""The public archive on loopback: zips and checksums built from given bars when asked for, faults on order.

Bars have the text that `market_server` gives them, so that archive and REST agree to the last digit.

| fault | what the answer is |
|---|---|
| 403, 404, 451, 500 .. | that status |
| 429:S, 503:S | with Retry-After S (without S: no header); "429:date:S" gives it as a date |
| cut | half the body |
| corrupt | one bit of the body is another |
| stall | nothing, until the server is released |
| freeze | half the body, then nothing |
| body:TEXT | that body |
"""

import hashlib
import io
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pandas as pd
from loopback import Loopback
from market_rows import STEPS_MS, kline_texts
from market_rows import longer as longer_texts

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate"
METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)


class ArchiveServer(Loopback):
    """Serves klines, funding and metrics in the layout of data.binance.vision. Use as a context manager.

    Parameters
    ----------
    candles : DataFrame, or dict of symbol to DataFrame
        open_time (UTC), open high low close volume, any kline extras: the truth, of BTCUSDT where no symbol
        is said. Longer intervals are resampled from it.
    funding : DataFrame, optional
        event_time, funding_rate (of every symbol), interval_hours where it is not 8.
    lacking : set of str
        Periods ("2024-01", "2024-01-02") answered with 404 (daily files of a lacking month exist).
    month_without : set of str
        Days left out of their monthly file, as happens in the real archive.
    bare : set of str
        Periods whose files of klines and funding hold a header and nothing else.
    microseconds : bool
        Stamps as the venue writes them for spot since 2025.
    metrics : dict, optional
        Day to the text of its metrics file; a day that is not there has the rows of `metrics_lines`.
    delay_s, piece_s : float
        A wait before every answer, and one after every 8 kB of it: time for a kill to land in.

    Attributes
    ----------
    faults : dict
        Path suffix to a list of faults, used up one a request.
    requests : Counter
        Path to the number of requests.
    """

    def __init__(
        self,
        candles: pd.DataFrame | dict[str, pd.DataFrame],
        funding: pd.DataFrame | None = None,
        *,
        lacking: set[str] | None = None,
        month_without: set[str] | None = None,
        bare: set[str] | None = None,
        microseconds: bool = False,
        metrics: dict[str, str] | None = None,
        delay_s: float = 0.0,
        piece_s: float = 0.0,
    ) -> None:
        self.candles = candles if isinstance(candles, dict) else {"BTCUSDT": candles}
        self.funding = funding
        self.lacking, self.month_without = lacking or set(), month_without or set()
        self.bare = bare or set()
        self.microseconds = microseconds
        self.metrics = metrics or {}
        self.delay_s, self.piece_s = delay_s, piece_s
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        self.when: list[float] = []
        self.busiest = 0
        self._open = 0
        self._lock = threading.Lock()
        self._built: dict[str, bytes | None] = {}
        self._texts: dict[tuple[str, str], list[list[Any]]] = {}

    def asked(self, part: str = "") -> int:
        """Requests whose path contains `part`."""
        return sum(count for path, count in self.requests.items() if part in path)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request: its fault where one is ordered, else the file or 404."""
        with self._lock:
            self.requests[request.path] += 1
            self.when.append(time.perf_counter())
            self._open += 1
            self.busiest = max(self.busiest, self._open)
            fault = next((f.pop(0) for end, f in self.faults.items() if request.path.endswith(end) and f), "")
            body = self._file(request.path)
        left = threading.Event()

        def leave() -> None:
            """No longer open: before the last byte, for the client may ask again as soon as it has that."""
            with self._lock:
                self._open -= not left.is_set()
                left.set()

        try:
            self._send(request, body, fault, leave)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client was killed: part of the tests
        finally:
            leave()

    def _send(
        self, request: BaseHTTPRequestHandler, body: bytes | None, fault: str, leave: Callable[[], None]
    ) -> None:
        if self.delay_s:
            time.sleep(self.delay_s)
        name, _, argument = fault.partition(":")
        if name == "stall":
            self.closing.wait(20)
            return
        if body is None or name.isdecimal():
            leave()
            self._refuse(request, int(name) if name.isdecimal() else 404, argument)
            return
        if name == "body":
            body = argument.encode()
        elif name == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        sent = len(body) // 2 if name in {"cut", "freeze"} else len(body)
        for start in range(0, sent, 8_192):
            if start + 8_192 >= len(body):
                leave()
            request.wfile.write(body[start : min(start + 8_192, sent)])
            if self.piece_s:
                time.sleep(self.piece_s)
        if name == "freeze":
            request.wfile.flush()
            self.closing.wait(20)

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, wait: str) -> None:
        request.send_response(status)
        if wait.startswith("date:"):
            moment = time.time() + float(wait.removeprefix("date:"))  # send_response has sent Date already
            request.send_header("Retry-After", request.date_time_string(moment))
        elif wait:
            request.send_header("Retry-After", wait)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _file(self, path: str) -> bytes | None:
        if path.endswith(".CHECKSUM"):
            inner = self._file(path.removesuffix(".CHECKSUM"))
            name = path.rsplit("/", 1)[-1].removesuffix(".CHECKSUM")
            return None if inner is None else f"{hashlib.sha256(inner).hexdigest()}  {name}\n".encode()
        if path not in self._built:
            self._built[path] = self._zip(path)
        return self._built[path]

    def _zip(self, path: str) -> bytes | None:
        parts = path.strip("/").split("/")
        if parts[:3] != ["data", "futures", "um"]:
            return None
        span, kind, symbol, name = parts[3], parts[4], parts[5], parts[-1]
        if symbol not in self.candles:
            return None
        interval = parts[6] if kind == "klines" else ""
        period = name.removesuffix(".zip").removeprefix(f"{symbol}-{interval or kind}-")
        if period in self.lacking:
            return None
        if period in self.bare and kind != "metrics":
            text = f"{HEADER if kind == 'klines' else FUNDING_HEADER}\n"
        elif kind == "klines":
            text = self._klines(symbol, interval, span, period)
        else:
            text = self._funding(period) if kind == "fundingRate" else self._metrics(symbol, period)
        if text is None:
            return None
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name.replace(".zip", ".csv"), text)
        return packed.getvalue()

    def _klines(self, symbol: str, interval: str, span: str, period: str) -> str | None:
        bars = self.candles[symbol]
        start = pd.Timestamp(period, tz="UTC")
        end = start + (pd.offsets.MonthBegin(1) if span == "monthly" else pd.Timedelta(days=1))
        first, last = bars["open_time"].searchsorted(start), bars["open_time"].searchsorted(end)
        rows = bars.iloc[first:last]
        if span == "monthly" and self.month_without:
            rows = rows[~rows["open_time"].dt.strftime("%Y-%m-%d").isin(self.month_without)]
        base_ms = int(bars["open_time"].diff().min() / pd.Timedelta(1, "ms"))
        if rows.empty or STEPS_MS[interval] < base_ms:
            return None
        key = (symbol, period)  # the texts of the shortest bars serve every interval
        if key not in self._texts:
            self._texts[key] = kline_texts(rows)
        texts = [list(row) for row in self._texts[key]]
        if STEPS_MS[interval] > base_ms:
            texts = longer_texts(texts, STEPS_MS[interval])
        for row in texts:
            row[6] = row[0] + STEPS_MS[interval] - 1
            if self.microseconds:
                row[0], row[6] = 1_000 * row[0], 1_000 * row[6] + 999
        body = "\n".join(",".join(map(str, row)) for row in texts) + "\n"
        return body if start < pd.Timestamp("2023-06-01", tz="UTC") else f"{HEADER}\n{body}"

    def _metrics(self, symbol: str, period: str) -> str | None:
        if period in self.metrics:
            return self.metrics[period]
        day, times = pd.Timestamp(period, tz="UTC"), self.candles[symbol]["open_time"]
        if len(period) != len("2024-01-02") or not times.iloc[0].floor("D") <= day <= times.iloc[-1]:
            return None
        return "\n".join([METRICS_HEADER, *metrics_lines(period, symbol)]) + "\n"

    def _funding(self, period: str) -> str | None:
        if self.funding is None:
            return None
        month = self.funding["event_time"].dt.strftime("%Y-%m") == period
        rows = self.funding[month]
        if rows.empty:
            return None
        stamps = (rows["event_time"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(
            1, "ms"
        ) + 3  # the venue's jitter
        table = pd.DataFrame(
            {
                "calc_time": stamps,
                "funding_interval_hours": rows.get("interval_hours", 8),
                "last_funding_rate": rows["funding_rate"].map(repr),
            }
        )
        return table.to_csv(index=False, lineterminator="\n")


def metrics_lines(day: str, symbol: str = "BTCUSDT") -> list[str]:
    """A faultless day: 288 lines, the first at 00:05, the last at the next midnight."""
    times = pd.date_range(pd.Timestamp(day) + pd.Timedelta(minutes=5), periods=288, freq="5min")
    wave = np.sin(times.as_unit("s").asi8 / 40_000)
    return [
        f"{stamp:%Y-%m-%d %H:%M:%S},{symbol},{80_000 + 500 * w:.10f},{4.8e9 + 3e7 * w:.8f},"
        f"{1.4 + 0.1 * w:.8f},{1.2 + 0.1 * w:.8f},{1.3 + 0.2 * w:.8f},{1.0 + 0.3 * w:.8f}"
        for stamp, w in zip(times, wave, strict=True)
    ]
