"""What was collected and decided goes into the lake, beside the decision and never in its way."""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pandas as pd

from acmf_core.collect.asking.outages import Outages
from acmf_core.domain import Alert
from acmf_core.errors import DataError
from acmf_core.lake import Lake
from acmf_core.lake.merging import MergeReport, conform
from acmf_core.lake.tables import table
from acmf_core.ports import Clock, Notifier

_LOG: Final = logging.getLogger("acmf.collect")
MAX_WAITING: Final = 2_000  # frames kept for a lake that cannot be written; then the oldest are given up
CLOSING_S: Final = 60.0  # for the last rows
Part = tuple[str, pd.DataFrame]


class LakeRecorder:
    """Merges rows into the lake in a thread of its own, in the order in which they came.

    Rows that could not be written wait for the next time. Merging is idempotent: rows that a crash let in
    twice are there once. A lake that refuses is told once per outage.

    Parameters
    ----------
    lake : Lake
        Where the rows go.
    symbol, clock, notifier
        For the messages.
    accept_corrections : bool
        A row that comes again replaces the one that is there (a failed cycle that was met again).
    """

    def __init__(
        self, lake: Lake, symbol: str, clock: Clock, notifier: Notifier, *, accept_corrections: bool = False
    ) -> None:
        self._lake = lake
        self._symbol = symbol
        self._notifier = notifier
        self._accept = accept_corrections
        self._outages = Outages(symbol, clock, notifier)
        self._waiting: list[Part] = []
        self._last: dict[tuple[str, str], pd.DataFrame] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._writing: asyncio.Task[None] | None = None

    def write(self, name: str, rows: pd.DataFrame) -> None:
        """Have rows of one table written soon; must be called inside the event loop. Never raises."""
        kind = str(rows["interval"].iloc[0]) if "interval" in rows.columns and len(rows) else ""
        last = self._last.get((name, kind))
        if rows.empty or (last is not None and last.equals(rows)):
            return
        self._last[name, kind] = rows
        if len(self._waiting) >= MAX_WAITING:
            _LOG.warning("the lake has been out of reach for long: rows of %s are lost", self._waiting[0][0])
            del self._waiting[0]
        self._waiting.append((name, rows))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def settle(self, seconds: float) -> None:
        """Wait until everything handed in is written or refused, but no longer than so many seconds."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=seconds)

    async def close(self) -> None:
        """Write what still waits, then let go of the thread."""
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write())
        await self.settle(CLOSING_S)
        if self._waiting:
            _LOG.warning("%d frames could not be written into the lake", len(self._waiting))
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _write(self) -> None:
        await asyncio.sleep(0)  # what is handed in together is written together
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, f"lake-{self._symbol}")
        loop = asyncio.get_running_loop()
        while self._waiting:
            name = self._waiting[0][0]
            batch = [rows for table_name, rows in self._waiting if table_name == name]
            merging = loop.run_in_executor(self._thread, self._merge, name, batch)
            [outcome] = await asyncio.gather(merging, return_exceptions=True)
            if isinstance(outcome, OSError):
                self._outages.begin(
                    "lake", f"the lake cannot be written: {_plain(outcome)}; rows wait for it"
                )
                return
            # Written, or never to be written: others must not wait behind them.
            self._waiting = [part for part in self._waiting if not _among(part, name, batch)]
            if isinstance(outcome, BaseException):
                self._give_up(name, outcome)
            else:
                self._outages.end("lake", "the lake is written again")
                self._outages.end(f"lake-{name}", f"rows of {name} are written again")
                self._tell(outcome)

    def _give_up(self, name: str, error: BaseException) -> None:
        text = f"rows of {name} do not fit the lake: {error}"
        if not isinstance(error, DataError):
            _LOG.error("rows of %s are lost", name, exc_info=error)
            text = f"rows of {name} are lost: {type(error).__name__} while they were written (see the log)"
        self._outages.begin(f"lake-{name}", text)

    def _merge(self, name: str, batch: Sequence[pd.DataFrame]) -> MergeReport:
        """In the thread: one commit for all that waited."""
        spec = table(name)
        rows = pd.concat([conform(spec, part) for part in batch], ignore_index=True)
        rows = rows.drop_duplicates(list(spec.keys), keep="last" if self._accept else "first")
        return self._lake.merge(
            name, rows, accept_corrections=self._accept, source=f"daemon {self._symbol} ({os.getpid()})"
        )

    def _tell(self, report: MergeReport) -> None:
        conflict = report.conflict()
        if conflict is not None:
            text = f"{self._symbol}: {conflict}"
            self._notifier.send(Alert("warning", text, f"{self._symbol}-conflict-{report.table}"))


class FlightRecorder:
    """One row a cycle in the lake's table `cycles`: what was seen, decided and done.

    Parameters
    ----------
    lake, symbol, clock, notifier
        As for `LakeRecorder`.
    """

    def __init__(self, lake: Lake, symbol: str, clock: Clock, notifier: Notifier) -> None:
        self._recorder = LakeRecorder(lake, symbol, clock, notifier, accept_corrections=True)

    def record(self, row: Mapping[str, Any]) -> None:
        """Have one cycle written soon: columns of `cycles`, times in microseconds. Never raises."""
        frame = pd.DataFrame([dict(row)])
        for name in ("event_time", "available_at"):
            frame[name] = pd.to_datetime(frame[name], unit="us", utc=True).dt.as_unit("us")
        self._recorder.write("cycles", frame)

    async def close(self) -> None:
        """Write what still waits."""
        await self._recorder.close()


def _among(part: Part, name: str, batch: Sequence[pd.DataFrame]) -> bool:
    return part[0] == name and any(part[1] is rows for rows in batch)


def _plain(error: OSError) -> str:
    return " ".join(str(error.strerror or type(error).__name__).split())[:200]
