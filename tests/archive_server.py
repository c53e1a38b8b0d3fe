"""The public archive on loopback: zips and checksums built from given bars, and faults on order."""

import hashlib
import io
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import pandas as pd

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)


class ArchiveServer:
    """Serves klines and funding in the layout of data.binance.vision. Use as a context manager.

    Parameters
    ----------
    candles : DataFrame
        open_time (UTC), open high low close volume: the truth.
    funding : DataFrame, optional
        event_time, funding_rate.
    lacking : set of str
        Periods ("2024-01", "2024-01-02") answered with 404 (daily files of a lacking month exist).
    month_without : set of str
        Days left out of their monthly file, as happens in the real archive.
    microseconds : bool
        Stamps as the venue writes them for spot since 2025.

    Attributes
    ----------
    faults : dict
        Path suffix to a list of faults, used up one a request: "500", "503", "cut", "corrupt", "stall".
    requests : Counter
        Path to the number of requests.
    """

    def __init__(
        self,
        candles: pd.DataFrame,
        funding: pd.DataFrame | None = None,
        *,
        lacking: set[str] | None = None,
        month_without: set[str] | None = None,
        microseconds: bool = False,
    ) -> None:
        self.candles, self.funding = candles, funding
        self.lacking, self.month_without = lacking or set(), month_without or set()
        self.microseconds = microseconds
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        self.busiest = 0
        self._open = 0
        self._lock = threading.Lock()
        self._built: dict[str, bytes | None] = {}
        self.release = threading.Event()

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def asked(self, part: str = "") -> int:
        """Requests whose path contains `part`."""
        return sum(count for path, count in self.requests.items() if part in path)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request: its fault where one is ordered, else the file or 404."""
        with self._lock:
            self.requests[request.path] += 1
            self._open += 1
            self.busiest = max(self.busiest, self._open)
            fault = next((f.pop(0) for end, f in self.faults.items() if request.path.endswith(end) and f), "")
            body = self._file(request.path)
        try:
            self._send(request, body, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client was killed: part of the tests
        finally:
            with self._lock:
                self._open -= 1

    def _send(self, request: BaseHTTPRequestHandler, body: bytes | None, fault: str) -> None:
        if fault in {"500", "503"}:
            request.send_error(int(fault))
            return
        if fault == "stall":
            self.release.wait(20)
            return
        if body is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if fault == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        request.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

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
        if symbol != "BTCUSDT":
            return None
        period = name.removesuffix(".zip").removeprefix(f"{symbol}-{parts[6] if kind == 'klines' else kind}-")
        if period in self.lacking:
            return None
        text = self._klines(span, period) if kind == "klines" else self._funding(period)
        if text is None:
            return None
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name.replace(".zip", ".csv"), text)
        return packed.getvalue()

    def _klines(self, span: str, period: str) -> str | None:
        start = pd.Timestamp(period, tz="UTC")
        end = start + (pd.offsets.MonthBegin(1) if span == "monthly" else pd.Timedelta(days=1))
        rows = self.candles[(self.candles["open_time"] >= start) & (self.candles["open_time"] < end)]
        if span == "monthly":
            rows = rows[~rows["open_time"].dt.strftime("%Y-%m-%d").isin(self.month_without)]
        if rows.empty:
            return None
        unit = "us" if self.microseconds else "ms"
        opened = (rows["open_time"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, unit)
        table = pd.DataFrame({"open_time": opened})
        for column in ("open", "high", "low", "close", "volume"):
            table[column] = rows[column].map(repr)
        table["close_time"] = opened + (899_999 if unit == "ms" else 899_999_999)
        table["quote_volume"] = (rows["volume"] * rows["close"]).round(2)
        table = table.assign(count=9, taker_buy_volume=1.0, taker_buy_quote_volume=2.0, ignore=0)
        body = table.to_csv(index=False, header=False, lineterminator="\n")
        return body if start < pd.Timestamp("2023-06-01", tz="UTC") else f"{HEADER}\n{body}"

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
                "funding_interval_hours": 8,
                "last_funding_rate": rows["funding_rate"].map(repr),
            }
        )
        return table.to_csv(index=False, lineterminator="\n")
