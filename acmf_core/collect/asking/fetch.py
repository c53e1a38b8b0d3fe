"""Bars for the window: the expected one is asked for until it is there, holes from the last good bar on."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import pandas as pd

from acmf_core.collect.asking.policy import ask
from acmf_core.collect.asking.window import CandleWindow
from acmf_core.config import SourceConfig
from acmf_core.domain import BAR_US, INTERVAL_SECONDS
from acmf_core.errors import AcmfError, DataError, MissingBars, StaleData
from acmf_core.features import SCHEMA
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import OHLCV, table

CHUNK_BARS: Final = 990  # of one question: with the overlap one page of the answer (1,000 rows)
OVERLAP_BARS: Final = 2  # asked for again, so that a bar that changed after its close is noticed
FIRST_WAIT_S: Final = 0.25
LONGEST_WAIT_S: Final = 2.0
LAST_TRY_S: Final = 0.3  # before the deadline: the last question is asked then, and none after it
Bars = tuple[dict[str, pd.DataFrame], list[str]]  # rows by interval, and what a person should know of them


class CandleAnswer(Protocol):
    """Rows of the candles table by interval, and what a person should know of them."""

    @property
    def rows(self) -> Mapping[str, pd.DataFrame]: ...

    @property
    def notes(self) -> Sequence[str]: ...


class Candles(Protocol):
    """Where bars come from (`candles.CandleSource`)."""

    async def collect(self, at: int, *, since: int) -> CandleAnswer:
        """Closed bars that opened after `since`, the one that closed at `at` being the newest."""
        ...


class Fetch:
    """Asks a candle source for what a window lacks.

    Parameters
    ----------
    candles : Candles
        The source.
    config : SourceConfig
        How one question is asked.

    Attributes
    ----------
    last_word : AcmfError or None
        Why the last question brought nothing: the reason to give where the time is over.
    """

    def __init__(self, candles: Candles, config: SourceConfig) -> None:
        self._candles = candles
        self._config = config
        self.last_word: AcmfError | None = None

    async def bars(self, window: CandleWindow, at: int, end: float) -> list[CandleAnswer]:
        """What the window lacks up to the close `at` (microseconds): the newest first, then its holes.

        Parameters
        ----------
        window : CandleWindow
            It is only read.
        end : float
            On the event loop's clock: then nothing more is asked.

        Raises
        ------
        StaleData, MissingBars, VenueUnavailable
            The newest bars cannot be had. Older ones that cannot are left out.
        """
        self.last_word = None
        answers, holes = [], window.holes()
        if not window.has(at - BAR_US):
            held, page = window.newest_before(at), at - (CHUNK_BARS + 1) * BAR_US
            since = page if held is None else max(held, page)
            answers.append(await self._newest(at, since, end))
            if held is not None and held < since:
                holes.append((held, since + BAR_US))
        for after, before in reversed(holes):
            answers += await self._older(after, before, end)
        return answers

    async def history(self, window: CandleWindow, at: int, end: float) -> list[CandleAnswer]:
        """The bars before the window's that one decision at `at` needs, as far as they can be had."""
        first, oldest = window.oldest, at - (SCHEMA.history + 1) * BAR_US
        return [] if first is None else await self._older(oldest, first, end)

    async def _newest(self, at: int, since: int, end: float) -> CandleAnswer:
        """The newest bars, asked for until the expected one is there or the time is over."""
        overlap, wait, loop = OVERLAP_BARS * BAR_US, FIRST_WAIT_S, asyncio.get_running_loop()
        while True:
            try:
                return await self._ask(at, since - overlap)
            except (StaleData, MissingBars) as error:
                if isinstance(error, MissingBars):
                    overlap = 0  # held bars may stand in for an outage: the exchange does not have those
                left = end - LAST_TRY_S - loop.time()
                if left <= 0:
                    raise
            await asyncio.sleep(min(wait * random.uniform(0.5, 1.0), left))
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _older(self, since: int, before: int, end: float) -> list[CandleAnswer]:
        """Bars with since < open time < before, newest chunk first, until one cannot be had."""
        answers: list[CandleAnswer] = []
        loop = asyncio.get_running_loop()
        while before - BAR_US > since and loop.time() < end - LAST_TRY_S:
            start = max(since, before - (CHUNK_BARS + 1) * BAR_US)
            try:
                answers.append(await self._ask(before, start))
            except AcmfError:
                break
            before = start + BAR_US
        return answers

    async def _ask(self, at: int, since: int) -> CandleAnswer:
        async def once() -> CandleAnswer:
            try:
                return await self._candles.collect(at, since=since)
            except AcmfError as error:
                self.last_word = error
                raise

        return await ask("candles", once, self._config)


def checked_bars(answers: Sequence[CandleAnswer], symbol: str, at: int) -> list[Bars]:
    """Rows by interval and notes of each answer; DataError where they are no closed candles."""
    return [
        (
            {name: checked_candles(rows, symbol, name, at) for name, rows in answer.rows.items()},
            list(answer.notes),
        )
        for answer in answers
    ]


def checked_candles(rows: object, symbol: str, interval: str, at: int) -> pd.DataFrame:
    """Closed candles as rows of their table; one that closes after `at` (microseconds) is left out.

    Raises
    ------
    DataError
        No candles of that symbol and interval, or some that contradict themselves.
    """
    if not isinstance(rows, pd.DataFrame):
        raise DataError(f"candles of {interval} came as {type(rows).__name__}, not as rows")
    checked = conform(table("candles"), rows)
    if ((checked["symbol"] != symbol) | (checked["interval"] != interval)).any():
        raise DataError(f"candles came for another series than {symbol} {interval}")
    step = INTERVAL_SECONDS[interval] * 1_000_000
    opened = pd.DatetimeIndex(checked["open_time"]).as_unit("us").asi8
    if (opened % step).any():
        raise DataError(f"candles of {interval} do not open on its grid")
    open_, high, low, close, volume = (checked[name].to_numpy() for name in OHLCV)
    whole = np.isfinite(checked[list(OHLCV)].to_numpy()).all(axis=1)
    whole &= (low > 0) & (volume >= 0) & (low <= np.minimum(open_, close))
    whole &= high >= np.maximum(open_, close)
    if not whole.all():
        bad = checked["open_time"].iloc[int(np.argmin(whole))]
        raise DataError(f"the {interval} candle of {bad:%Y-%m-%d %H:%M} UTC contradicts itself")
    return checked[opened + step <= at].reset_index(drop=True)
