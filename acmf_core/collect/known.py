"""The slow rows that the features of coming closes can depend on, in memory, one frame a source."""

import math
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.domain import BAR_US
from acmf_core.errors import DataError
from acmf_core.features import SCHEMA
from acmf_core.features.market import COLUMNS
from acmf_core.features.sources import needed
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import AVAILABLE, table

MAX_ROWS: Final = 10_000  # of one answer: more is no answer to what was asked
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
        No rows of that table: columns, types, empty or infinite values, doubles, another symbol's.
    """
    if not isinstance(answer, pd.DataFrame):
        raise DataError(f"{name} answered with {type(answer).__name__}, not with rows")
    if len(answer) > MAX_ROWS:
        raise DataError(f"{name} answered with {len(answer):,} rows, more than {MAX_ROWS:,}")
    rows = conform(table(name), answer)
    numbers = rows.select_dtypes("float64")
    infinite = np.isinf(numbers.to_numpy()).any(axis=0)
    if infinite.any():
        raise DataError(f"{name} answered with an infinite {numbers.columns[int(np.argmax(infinite))]}")
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
        self._columns = [*_TIMES, *COLUMNS[source], *beside]
        self._rows: pd.DataFrame | None = None

    def take(self, rows: pd.DataFrame) -> None:
        """Bring rows of the source's table in; a value that was empty is filled, none is changed."""
        fresh = rows[self._columns].astype(dict.fromkeys(self._columns[2:], float))
        if fresh.empty:
            return
        fresh = fresh.sort_values(["event_time", AVAILABLE]).drop_duplicates("event_time")
        if self._rows is not None:
            held = self._rows.set_index("event_time")
            joined = held.combine_first(fresh.set_index("event_time"))
            fresh = joined.rename_axis("event_time").reset_index()[self._columns]
        fresh = fresh.sort_values([AVAILABLE, "event_time"], ignore_index=True)
        if self.source == "funding":  # REST does not say the interval: it is the one last said
            fresh["interval_hours"] = fresh["interval_hours"].ffill()
        self._rows = fresh

    def until(self, at: int) -> pd.DataFrame | None:
        """The rows known at the close `at` (microseconds); None where there are none."""
        if self._rows is None:
            return None
        known = self._rows[self._rows[AVAILABLE] <= _stamp(at)]
        return known if len(known) else None

    def forget(self, at: int) -> None:
        """Drop what no close from `at` on can depend on; a day's closes before it may be met again."""
        if self._rows is not None:
            kept = needed(self.source, self._rows, at - 96 * BAR_US)
            self._rows = self._rows[kept].reset_index(drop=True)

    def age_s(self, at: int) -> float:
        """Seconds from when the newest row known at `at` became known; NaN where there is none."""
        known = self.until(at)
        return math.nan if known is None else (_stamp(at) - known[AVAILABLE].iloc[-1]).total_seconds()

    def payment_due(self, at: int) -> bool:
        """Whether a payment must have happened at `at` by the last one's interval (funding only)."""
        if self._rows is None or self._rows.empty:
            return False
        last = self._rows.iloc[-1]
        hours = 8.0 if math.isnan(last["interval_hours"]) else float(last["interval_hours"])
        return bool(last["event_time"] + pd.Timedelta(hours=hours) <= _stamp(at))


def _stamp(at: int) -> pd.Timestamp:
    return pd.Timestamp(at, unit="us", tz="UTC")
