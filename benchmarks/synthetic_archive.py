"""An archive of bars that never were: the layout of data.binance.vision on loopback, made when asked for.

Every month of every symbol is made from its own seed, so nothing is kept: no more than a few zips are in
memory, however many years and symbols there are. `python -m benchmarks.synthetic_archive` serves it in a
process of its own, says its URL on the first line and ends when its standard input does.
"""

import hashlib
import io
import json
import re
import sys
import threading
import time
import zipfile
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from acmf_core.domain import INTERVAL_SECONDS

SYMBOL: Final = re.compile(r"SYNTHETIC-(\d{2})")  # no venue lists it
_FIRST_MONTH: Final = pd.Period("2000-01", "M")
_MONTHS: Final = 600
_KEPT: Final = 16  # zips between the request for their checksum and the one for themselves
_MINUTE_SIGMA: Final = 0.0006
_MONTH_SIGMA: Final = 0.12
_PATH: Final = re.compile(
    r"/data/futures/um/monthly/klines/(?P<symbol>SYNTHETIC-\d{2})/(?P<interval>\w+)/"
    r"(?P=symbol)-(?P=interval)-(?P<month>\d{4}-\d{2})\.zip"
)


def symbol(number: int) -> str:
    """The name of one market."""
    return f"SYNTHETIC-{number:02d}"


def month_of_bars(name: str, month: str, interval: str = "1m") -> pa.Table:
    """One month of klines in the columns of the archive; the same arguments give the same bits.

    The close of a month is the next one's open: both ends are pinned by a walk over months (seeded by the
    symbol), between them runs a bridge (seeded by symbol and month).
    """
    number = int(name.removeprefix("SYNTHETIC-"))
    period = pd.Period(month, "M")
    at = (period - _FIRST_MONTH).n
    levels = np.random.default_rng([7, number]).normal(0.0, _MONTH_SIGMA, _MONTHS).cumsum()
    opened = np.arange(
        period.start_time.value // 1_000_000,
        (period + 1).start_time.value // 1_000_000,
        INTERVAL_SECONDS[interval] * 1_000,
        dtype=np.int64,
    )
    n = len(opened)
    rng = np.random.default_rng([7, number, at])
    walk = rng.normal(0.0, _MINUTE_SIGMA * np.sqrt(INTERVAL_SECONDS[interval] / 60), n).cumsum()
    share = np.arange(1, n + 1) / n
    path = levels[at] + walk - share * walk[-1] + share * (levels[at + 1] - levels[at])
    edges = np.round(1_000.0 * (number + 1) * np.exp(np.concatenate(([levels[at]], path))), 2)
    opens, closes = edges[:-1], edges[1:]
    reach = np.abs(rng.normal(0.0, 0.0003, (2, n)))
    volume = np.round(rng.lognormal(2.0, 1.0, n), 3)
    columns = {
        "open_time": opened,
        "open": opens,
        "high": np.round(np.maximum(opens, closes) * (1.0 + reach[0]), 2),
        "low": np.round(np.minimum(opens, closes) * (1.0 - reach[1]), 2),
        "close": closes,
        "volume": volume,
        "close_time": opened + INTERVAL_SECONDS[interval] * 1_000 - 1,
        "quote_volume": np.round(volume * closes, 2),
        "count": rng.integers(1, 2_000, n),
        "taker_buy_volume": np.round(volume / 2, 3),
        "taker_buy_quote_volume": np.round(volume * closes / 2, 2),
        "ignore": np.zeros(n, dtype=np.int64),
    }
    return pa.table(columns)


def month_zip(name: str, month: str, interval: str) -> bytes:
    """The same as the archive's zip of one CSV with a header."""
    bars, text = month_of_bars(name, month, interval), io.BytesIO()
    text.write(f"{','.join(bars.column_names)}\n".encode())
    pacsv.write_csv(bars, text, pacsv.WriteOptions(include_header=False, quoting_style="none"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        member = zipfile.ZipInfo(f"{name}-{interval}-{month}.csv", date_time=(2000, 1, 1, 0, 0, 0))
        archive.writestr(member, text.getvalue(), zipfile.ZIP_DEFLATED, 1)
    return packed.getvalue()


class SyntheticArchive:
    """Months and their checksums by path; counts what making them cost.

    Parameters
    ----------
    first, last : str
        The months ("2020-01") that it has; others are not found.
    """

    def __init__(self, first: str, last: str) -> None:
        self._span = first, last
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.files = 0
        self.bytes = 0
        self.cpu_s = 0.0

    def answer(self, path: str) -> bytes | None:
        """The body for a path, None where there is nothing."""
        if path == "/cost":
            return json.dumps({"files": self.files, "bytes": self.bytes, "cpu_s": self.cpu_s}).encode()
        found = _PATH.fullmatch(path.removesuffix(".CHECKSUM"))
        if found is None or not self._span[0] <= found["month"] <= self._span[1]:
            return None
        body = self._zip(found["symbol"], found["month"], found["interval"])
        if not path.endswith(".CHECKSUM"):
            return body
        file = path.rsplit("/", 1)[-1].removesuffix(".CHECKSUM")
        return f"{hashlib.sha256(body).hexdigest()}  {file}\n".encode()

    def _zip(self, name: str, month: str, interval: str) -> bytes:
        key = f"{name} {month} {interval}"
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        began = time.thread_time()
        body = month_zip(name, month, interval)
        with self._lock:
            self.cpu_s += time.thread_time() - began
            self.files += 1
            self.bytes += len(body)
            self._kept[key] = body
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return body


def serve(archive: SyntheticArchive) -> ThreadingHTTPServer:
    """The archive on a free port of loopback; `serve_forever` starts it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = archive.answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


def main() -> None:
    """Serve the months FIRST to LAST until standard input ends."""
    server = serve(SyntheticArchive(*sys.argv[1:3]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
