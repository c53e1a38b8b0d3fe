"""What the lake holds of a symbol, read beside the event loop and within a limit."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pandas as pd

from acmf_core.collect.asking.window import SLACK_BARS
from acmf_core.collect.slow_rows import slow_frames
from acmf_core.domain import BAR_US
from acmf_core.features import SCHEMA
from acmf_core.lake import Lake


class LakeMemory:
    """Reads the rows that coming closes can depend on, in a thread of its own.

    A disk or an object store that stalls keeps that one thread, and nobody waits for it longer than he wants
    to: what was asked for goes on, and the next question of that kind meets its answer.

    Parameters
    ----------
    lake : Lake
        Where to read.
    symbol : str
        Whose rows.
    """

    def __init__(self, lake: Lake, symbol: str) -> None:
        self._lake = lake
        self._symbol = symbol
        self._thread: ThreadPoolExecutor | None = None
        self._reading: dict[str, asyncio.Future[Any]] = {}

    async def bars(self, at: int, seconds: float) -> pd.DataFrame:
        """The 15m candles that a decision at the close `at` (microseconds) needs, and a few before.

        Raises
        ------
        OSError, DataError
            The lake cannot be read. TimeoutError: not within so many seconds.
        """
        start = at - (SCHEMA.history + SLACK_BARS) * BAR_US
        read = partial(self._lake.read, "candles", symbol=self._symbol, interval="15m", start=start)
        rows: pd.DataFrame = await self._read("bars", read, seconds)
        return rows

    async def slow(self, at: int, seconds: float) -> dict[str, pd.DataFrame | None]:
        """Rows of the slow sources by name, as `slow_frames` has them; raises as `bars` does."""
        first, last = (
            pd.Timestamp(moment, unit="us", tz="UTC") for moment in (at - SLACK_BARS * BAR_US, at + BAR_US)
        )
        read = partial(slow_frames, self._lake, self._symbol, first, last)
        frames: dict[str, pd.DataFrame | None] = await self._read("slow", read, seconds)
        return frames

    def close(self) -> None:
        """Let go of the thread; a read that is still at it is not waited for."""
        self._reading.clear()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    async def _read(self, what: str, read: Callable[[], Any], seconds: float) -> Any:
        reading = self._reading.get(what)
        if reading is None:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, f"lake-memory-{self._symbol}")
            reading = asyncio.get_running_loop().run_in_executor(self._thread, read)
            reading.add_done_callback(_seen)
            self._reading[what] = reading
        await asyncio.wait([reading], timeout=seconds)
        if not reading.done():
            raise TimeoutError(f"no answer within {seconds:.1f} s")
        del self._reading[what]
        return reading.result()


def _seen(reading: "asyncio.Future[Any]") -> None:
    """Look at an error that perhaps nobody comes for, so that asyncio does not complain."""
    if not reading.cancelled():
        reading.exception()
