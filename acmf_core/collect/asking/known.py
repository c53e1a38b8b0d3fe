"""The slow rows that the features of coming closes can depend on, in memory, one frame a source."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.collect.asking.limits import refuse_impossible
from acmf_core.domain import BAR_US, BARS_PER_DAY
from acmf_core.errors import DataError
from acmf_core.features import SCHEMA
from acmf_core.features.market import COLUMNS
from acmf_core.features.sources import needed
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import AVAILABLE, table

MAX_ROWS: Final = 10_000  # of one answer: more is no answer to what was asked
DEFAULT_FUNDING_HOURS: Final = 8.0  # where no payment says its interval
MAX_AGE_S: Final[dict[str, int]] = {
    source: max(int(f.parameters["max_age_s"]) for f in SCHEMA.features if f.source == source)
    for source in COLUMNS
}
_TIMES: Final = ("event_time", AVAILABLE)


def checked(name: str, answer: object, symbol: str) -> pd.DataFrame:
    """What a source answered, as rows of the table `name`.

    Raises
    ------
    DataError
        No rows of that table: columns, types, empty or impossible values, doubles, another symbol's.
    """
    if not isinstance(answer, pd.DataFrame):
        raise DataError(f"{name} answered with {type(answer).__name__}, not with rows")
    if len(answer) > MAX_ROWS:
        raise DataError(f"{name} answered with {len(answer):,} rows, more than {MAX_ROWS:,}")
    rows = conform(table(name), answer)
    refuse_impossible(name, rows)
    if "symbol" in rows.columns and (rows["symbol"] != symbol).any():
        raise DataError(f"{name} answered with rows of another symbol than {symbol}")
    return rows


class KnownRows:
    """Rows of one slow source by event time; the first that came of each stays.

    Parameters
    ----------
    source : str
        A field of `MarketData`.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        beside = ("interval_hours",) if source == "funding" else ()
        self._columns = [*COLUMNS[source], *beside]
        # Plain arrays, ascending by event time: pandas takes 20 ms to bring in one order book.
        self._event = np.empty(0, np.int64)
        self._available = np.empty(0, np.int64)
        self._values = np.empty((0, len(self._columns)))

    def __len__(self) -> int:
        return len(self._event)

    def take(self, rows: pd.DataFrame) -> None:
        """Bring rows of the source's table in; a value once known is not changed."""
        event, available = (pd.DatetimeIndex(rows[name]).as_unit("us").asi8 for name in _TIMES)
        values = rows[self._columns].to_numpy(np.float64, na_value=np.nan)
        order = np.lexsort((available, event))
        order = order[np.unique(event[order], return_index=True)[1]]
        event, available, values = event[order], available[order], values[order]
        place = np.searchsorted(self._event, event)
        again = np.zeros(len(event), bool)
        inside = place < len(self._event)
        again[inside] = self._event[place[inside]] == event[inside]
        # As in the lake: a row is filled only by one known at the same moment that contradicts none of it.
        held, told = self._values[place[again]], values[again]
        fills = self._available[place[again]] == available[again]
        fills &= ((held == told) | np.isnan(held) | np.isnan(told)).all(axis=1)
        self._values[place[again]] = np.where(np.isnan(held) & fills[:, None], told, held)
        if not again.all():
            self._event = np.concatenate([self._event, event[~again]])
            self._available = np.concatenate([self._available, available[~again]])
            self._values = np.concatenate([self._values, values[~again]])
            self._keep(np.argsort(self._event, kind="stable"))
        if self.source == "funding":  # REST does not say the interval: it is the one last said
            hours = pd.Series(self._values[:, -1])
            self._values[:, -1] = hours.ffill().to_numpy()

    def until(self, at: int) -> pd.DataFrame | None:
        """The rows known at the close `at` (microseconds) as in `MarketData`; None where there are none."""
        known = np.flatnonzero(self._available <= at)
        if not len(known):
            return None
        known = known[np.lexsort((self._event[known], self._available[known]))]
        frame = pd.DataFrame(self._values[known], columns=self._columns)
        for name, stamps in zip(_TIMES, (self._event, self._available), strict=True):
            frame[name] = pd.to_datetime(stamps[known], unit="us", utc=True).as_unit("us")
        return frame

    def forget(self, at: int) -> None:
        """Drop what no close from `at` on can depend on; a day's closes before it may be met again."""
        order = np.lexsort((self._event, self._available))
        frame = pd.DataFrame(self._values[order], columns=self._columns)
        frame[AVAILABLE] = pd.to_datetime(self._available[order], unit="us", utc=True)
        kept = needed(self.source, frame, at - BARS_PER_DAY * BAR_US)
        if not kept.all():
            self._keep(np.sort(order[kept]))

    def age_s(self, at: int) -> float:
        """Seconds from when the newest row known at `at` became known; NaN where there is none."""
        known = self._available[self._available <= at]
        return (at - int(known.max())) / 1e6 if len(known) else math.nan

    def payment_due(self, at: int) -> bool:
        """Whether a payment must have happened at `at` by the last one's interval (funding only)."""
        if not len(self._event):
            return False
        hours = self._values[-1, -1]
        hours = DEFAULT_FUNDING_HOURS if math.isnan(hours) else float(hours)
        return int(self._event[-1]) + hours * 3_600e6 <= at

    def _keep(self, places: npt.NDArray[np.int64]) -> None:
        self._event, self._available = self._event[places], self._available[places]
        self._values = self._values[places]
