"""Closed candles for one close: the 15m bars that a decision needs, and longer ones to check them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.collect.venue.client import Venue
from acmf_core.domain import BAR_US, INTERVAL_SECONDS
from acmf_core.errors import AcmfError, MissingBars, StaleData
from acmf_core.lake import resample
from acmf_core.lake.tables import OHLCV
from acmf_core.ports import Clock

INTERVAL: Final = "15m"
OTHERS: Final = {"1h": 3, "4h": 2, "1d": 2}  # how many closed candles of each are asked for
OTHERS_WAIT_S: Final = 1.0  # for them, once the 15m bars are there: no decision waits for a check
_PAGE: Final = 1_000
_SHOWN: Final = 3


@dataclass(frozen=True)
class CandleAnswer:
    """What one collection brought.

    Attributes
    ----------
    rows : dict
        Interval to rows of the table `candles`; 15m is always there, a longer one where it answered.
    notes : tuple of str
        What a person should know: a longer interval that failed or disagrees with the 15m bars.
    """

    rows: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class CandleSource:
    """Candles through a venue. It asks once and keeps no memory: DataSync asks again and compares.

    Parameters
    ----------
    venue : Venue
        Asked for 15m first: its throttle serves in order.
    symbol : str
        The venue's name.
    clock : Clock
        What counts as closed.
    """

    def __init__(self, venue: Venue, symbol: str, clock: Clock) -> None:
        self._venue = venue
        self._symbol = symbol
        self._clock = clock

    async def collect(self, at: int, *, since: int) -> CandleAnswer:
        """15m bars that opened after `since` and closed by `at`, and the last closed 1h, 4h and 1d candles.

        Parameters
        ----------
        at : int
            A close (microseconds): the bar that opened 15 minutes before must be the newest.
        since : int
            Open time (microseconds) of the last bar that is known already.

        Raises
        ------
        StaleData
            The expected bar is not there yet.
        MissingBars
            It is, but bars before it are not.
        VenueUnavailable, ConfigError, DataError
            As `Venue`, of the 15m bars; any other interval that fails is a note.
        """
        bars = asyncio.ensure_future(self._bars(at, since))
        others = {name: asyncio.ensure_future(self._others(name, at)) for name in OTHERS}
        try:
            rows = {INTERVAL: await bars}
            await asyncio.wait(others.values(), timeout=OTHERS_WAIT_S)
        finally:
            await _end((bars, *others.values()))
        notes = []
        for name, task in others.items():
            if task.cancelled():
                notes.append(f"{name} candles: no answer within {OTHERS_WAIT_S:g} s of the 15m bars")
            elif isinstance(error := task.exception(), AcmfError):
                notes.append(f"{name} candles: {error.cause}")
            else:
                rows[name] = task.result()
                notes += disagreements(rows[INTERVAL], rows[name], name)
        return CandleAnswer(rows, tuple(notes))

    async def _bars(self, at: int, since: int) -> pd.DataFrame:
        first = min(since, at - 2 * BAR_US) // BAR_US * BAR_US + BAR_US
        limit = min(_PAGE, (at - first) // BAR_US + 1)  # the running bar too: it shows that ours is final
        rows = await self._ask(INTERVAL, first, at, limit)
        opened = pd.DatetimeIndex(rows["open_time"]).asi8
        _refuse_gaps(opened, first, at, self._symbol)
        return rows

    async def _others(self, interval: str, at: int) -> pd.DataFrame:
        step = INTERVAL_SECONDS[interval] * 1_000_000
        first = at // step * step - OTHERS[interval] * step
        return await self._ask(interval, first, at, OTHERS[interval] + 1)

    async def _ask(self, interval: str, first: int, at: int, limit: int) -> pd.DataFrame:
        """Candles from `first` on that closed by `at`; the next one is asked for, too, and left out."""
        step = INTERVAL_SECONDS[interval] * 1_000_000
        rows = await self._venue.klines(
            self._symbol, interval, now=self._clock.now(), start=first, end=at + step, limit=max(2, limit)
        )
        closed = pd.DatetimeIndex(rows["available_at"]).asi8 <= at
        return rows[closed].reset_index(drop=True)


def disagreements(fifteen: pd.DataFrame, other: pd.DataFrame, interval: str) -> list[str]:
    """Where longer candles differ from those made of the 15m bars, one line each candle, the first three.

    Only candles all of whose 15m bars are there are compared: prices exactly, volumes within rounding.

    Parameters
    ----------
    fifteen, other : DataFrame
        Rows of the table `candles`.
    interval : str
        Of `other`.
    """
    columns = ["open_time", *OHLCV, "bridged"]
    found = resample.disagreements(fifteen[columns], other[columns], interval)
    notes = []
    for stamp, rows in found.groupby("open_time", sort=True):
        differs = ", ".join(
            f"{row.column} {row.stored:.10g} instead of {row.resampled:.10g}" for row in rows.itertuples()
        )
        notes.append(f"{interval} candle of {stamp:%Y-%m-%d %H:%M} UTC differs from its 15m bars: {differs}")
    more = len(notes) - _SHOWN
    return notes[:_SHOWN] + ([f"{interval}: {more} more candles differ"] if more > 0 else [])


def _refuse_gaps(
    opened: "np.ndarray[tuple[int], np.dtype[np.int64]]", first: int, at: int, symbol: str
) -> None:
    expected = np.arange(first, at, BAR_US)
    missing = expected[~np.isin(expected, opened)]
    if not len(missing):
        return
    name = f"{_when(int(missing[0]))} UTC"
    if missing[-1] == expected[-1]:
        newest = f"the newest is of {_when(int(opened[-1]))}" if len(opened) else "none came"
        raise StaleData(
            f"the 15m bar of {symbol} that opened {_when(at - BAR_US)} UTC is not there yet: {newest}",
            "it is asked for again until the deadline",
        )
    raise MissingBars(
        f"{len(missing)} 15m bars of {symbol} are missing, the first of {name}",
        "the venue may not have them: acmf data check says, acmf data check --bridge fills what nobody has",
    )


def _when(stamp: int) -> str:
    return f"{pd.Timestamp(stamp, unit='us'):%Y-%m-%d %H:%M}"


async def _end(tasks: "tuple[asyncio.Future[pd.DataFrame], ...]") -> None:
    """Cancel what still runs and wait for it: no request outlives its collection."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
