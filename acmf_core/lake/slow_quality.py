"""What is wrong with the slow tables: leaks, staleness, doubles, disorder, values that cannot be.

The optional sources are allowed to be absent, so nothing here is an error but a leak: a row that says it was
known before it happened would let a model see the future.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError
from acmf_core.lake.findings import ERROR, WARNING, Findings, Quality
from acmf_core.lake.tables import AVAILABLE, BOOK_LEVELS, table

FUNDING_MAX_AGE: Final = pd.Timedelta(hours=9)
FUNDING_CAP: Final = 0.003
BAR: Final = pd.Timedelta(seconds=INTERVAL_SECONDS["15m"])  # how often somebody asks what is known

# Wide enough for any market that was ever seen; outside is a wrong unit, a wrong column or a broken answer.
RANGES: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "funding": {"funding_rate": (-FUNDING_CAP, FUNDING_CAP)},
    "long_short": dict.fromkeys(
        ("long_short_ratio", "top_account_ratio", "top_position_ratio", "taker_volume_ratio"), (0.01, 100.0)
    ),
    "open_interest": {"open_interest": (0.0, np.inf), "open_interest_value": (0.0, np.inf)},
    "book": {"imbalance": (-1.0, 1.0), "spread_bps": (0.0, 1_000.0), "microprice_bps": (-1_000.0, 1_000.0)},
    "fear_greed": {"value": (0.0, 100.0)},
    "macro": {"vix": (5.0, 200.0), "dxy": (50.0, 200.0), "sp500": (300.0, 1e5), "gold": (100.0, 1e5)},
    "onchain": {
        "whale_transfers": (0.0, 1e6),
        "exchange_netflow": (-1e13, 1e13),
        "exchange_inflow": (0.0, 1e13),
        "exchange_outflow": (0.0, 1e13),
        "whale_volume": (0.0, 1e14),
    },
    "news": {"score": (-1.0, 1.0), "confidence": (0.0, 1.0), "headlines": (0.0, 1e5)},
}
CHECKED: Final = tuple(RANGES)

_LATE: Final = 1.5  # intervals after which a funding payment counts as missing
_NEIGHBOURS: Final = 21  # payments whose usual distance is the interval, where the row does not say it
_FLOW_TOLERANCE: Final = 1e-6
_US: Final = pd.Timedelta(1, "us")
_QUOTES: Final = tuple(f"{side}_px_1" for side in ("bid", "ask"))

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SlowSurvey:
    """What a check saw of one slow table: its word, and what a picture of it needs.

    Attributes
    ----------
    covered : Series
        By day from the first to the last close asked about: share of the 15m closes at which a value within
        its maximum age was known; all NaN where the table has no maximum age.
    """

    table: str
    quality: Quality
    max_age: pd.Timedelta | None
    covered: pd.Series


def check_funding(frame: pd.DataFrame, symbol: str, until: pd.Timestamp | None = None) -> Quality:
    """Funding payments: `check_slow` with funding's own maximum age.

    Parameters
    ----------
    frame : DataFrame
        Rows of the funding table of one symbol, by time; at least one.
    until : Timestamp, optional
        Where the candles end; funding that ends more than `FUNDING_MAX_AGE` before it is stale.
    """
    return check_slow(frame, "funding", symbol, max_age=FUNDING_MAX_AGE, until=until).quality


def check_slow(
    frame: pd.DataFrame,
    name: str,
    symbol: str = "",
    *,
    max_age: pd.Timedelta | None = None,
    since: pd.Timestamp | None = None,
    until: pd.Timestamp | None = None,
) -> SlowSurvey:
    """Everything that can be said about the rows of one slow table.

    Parameters
    ----------
    frame : DataFrame
        Rows of the table, of one symbol where it has one, by event time; at least one. Without `available_at`
        a row counts as known when it happened.
    max_age : Timedelta, optional
        How old a value may be at a bar's close and still be used; None asks nothing about age.
    since, until : Timestamp, optional
        The closes of the first and the last bar that would have used the table; the table's own span where
        not given.
    """
    check = SlowCheck(name, symbol, max_age=max_age)
    check.see(frame)
    return check.survey(since, until)


class SlowCheck:
    """A check of one slow table that is given in windows, oldest first."""

    def __init__(self, name: str, symbol: str = "", *, max_age: pd.Timedelta | None = None) -> None:
        if name not in RANGES:
            raise DataError(f'there is no check of the table "{name}"', f"known: {', '.join(CHECKED)}")
        self._name, self._symbol, self._max_age = name, symbol, max_age
        self._spec = table(name)
        self._findings = Findings()
        self.rows = 0
        self._known: list[Integers] = []
        self._last: dict[str, tuple[int, int]] = {}
        self._payments = pd.DataFrame()
        self._span: list[pd.Timestamp] = []

    def see(self, frame: pd.DataFrame) -> None:
        """The next window: rows of the table; a table kept by interval may bring several."""
        if frame.empty:
            return
        if AVAILABLE not in frame.columns:
            frame = frame.assign(**{AVAILABLE: frame["event_time"]})
        times = pd.DatetimeIndex(frame["event_time"]).as_unit("us")
        ends = [times.min(), times.max()]
        self._span = [min(self._span[0], ends[0]), max(self._span[1], ends[1])] if self._span else ends
        self.rows += len(frame)
        self._known.append(pd.DatetimeIndex(frame[AVAILABLE]).as_unit("us").asi8)
        self._check_times(frame)
        self._check_values(frame, times)
        if self._name == "funding":
            self._check_payments(frame)
        if self._name == "book":
            self._check_quotes(frame, times)
        if self._name == "onchain":
            self._check_flows(frame, times)

    def survey(self, since: pd.Timestamp | None = None, until: pd.Timestamp | None = None) -> SlowSurvey:
        """The verdict on everything seen, at the 15m closes from `since` to `until`; one row at least."""
        known = np.sort(np.concatenate(self._known))
        stamps = pd.to_datetime(known[[0, -1]], unit="us", utc=True)
        first = stamps[0] if since is None else since
        last = stamps[1] if until is None else until
        closes = pd.date_range(first.ceil(BAR), last, freq=BAR, unit="us")
        fresh = self._check_age(known, closes)
        covered = pd.Series(fresh, index=closes).groupby(closes.floor("D")).mean()
        begin, end = self._span
        quality = Quality(self._symbol, self._name, self.rows, begin, end, self._findings.table())
        return SlowSurvey(self._name, quality, self._max_age, covered)

    def _check_times(self, frame: pd.DataFrame) -> None:
        """Leaks in all rows; doubles and disorder among the rows of one interval."""
        happened = pd.DatetimeIndex(frame["event_time"]).as_unit("us")
        known = pd.DatetimeIndex(frame[AVAILABLE]).as_unit("us")
        self._findings.note("known before it happened (a leak)", ERROR, known < happened, happened)
        keys = frame["interval"].to_numpy(object) if "interval" in frame.columns else np.full(len(frame), "")
        for key in dict.fromkeys(keys):
            own = np.flatnonzero(keys == key)
            self._check_order(str(key), happened[own], known.asi8[own])

    def _check_order(self, key: str, times: pd.DatetimeIndex, known: Integers) -> None:
        before, known_before = self._last.get(key, (times.asi8[0] - 1, known[0]))
        steps = np.diff(times.asi8, prepend=before)
        self._findings.note("double stamps", WARNING, steps == 0, times)
        self._findings.note("out of time order", WARNING, steps < 0, times)
        earlier = np.diff(known, prepend=known_before) < 0
        self._findings.note("known before the row that it follows", WARNING, earlier & (steps > 0), times)
        self._last[key] = (int(times.asi8[-1]), int(known[-1]))

    def _check_values(self, frame: pd.DataFrame, times: pd.DatetimeIndex) -> None:
        for column, (low, high) in RANGES[self._name].items():
            if column not in frame.columns:
                continue
            values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
            odd = np.isinf(values) | (np.isnan(values) & (column not in self._spec.optional))
            self._findings.note(f"{column} is no number", WARNING, odd, times)
            outside = np.isfinite(values) & ((values < low) | (values > high))
            worst = values[outside][np.argmax(np.abs(values[outside]))] if outside.any() else 0.0
            self._findings.note(
                f"{column} outside {low:g}..{high:g}", WARNING, outside, times, f"the farthest {worst:.6g}",
                size=abs(worst),
            )  # fmt: skip

    def _check_payments(self, frame: pd.DataFrame) -> None:
        """Payments that should have come: by the interval that rows state, else by the usual distance."""
        columns = ["event_time", *(["interval_hours"] if "interval_hours" in frame.columns else [])]
        rows = pd.concat([self._payments.tail(1), frame[columns]], ignore_index=True)
        self._payments = pd.concat([self._payments, frame[columns]], ignore_index=True).tail(_NEIGHBOURS)
        times = pd.DatetimeIndex(rows["event_time"]).as_unit("us")
        if len(times) < 2:
            return
        waits = np.diff(times.asi8) / 3.6e9
        usual = pd.Series(waits).rolling(_NEIGHBOURS, center=True, min_periods=1).median().to_numpy()
        if "interval_hours" in rows.columns:
            stated = rows["interval_hours"].to_numpy(dtype=np.float64, na_value=np.nan)[1:]
            usual = np.where(stated > 0, stated, usual)
        late = waits > _LATE * usual
        gone = np.where(late, np.round(waits / usual) - 1, 0).astype(np.int64)
        first = times[1:][late][0] if late.any() else None
        detail = f"the longest wait {waits[late].max():g} h" if late.any() else ""
        size = float(waits[late].max()) if late.any() else 0.0
        self._findings.count("payments missing before", WARNING, int(gone.sum()), first, detail, size=size)

    def _check_quotes(self, frame: pd.DataFrame, times: pd.DatetimeIndex) -> None:
        """The best bid lies under the best ask, and levels get worse from the best on."""
        if not set(_QUOTES) <= set(frame.columns):
            return
        prices = {side: _levels(frame, side) for side in ("bid", "ask")}
        with np.errstate(invalid="ignore"):
            crossed = np.asarray(prices["bid"][:, 0] >= prices["ask"][:, 0])
            disorder = np.asarray((np.diff(prices["bid"], axis=1) >= 0).any(axis=1))
            disorder |= (np.diff(prices["ask"], axis=1) <= 0).any(axis=1)
        self._findings.note("best bid not under best ask", WARNING, crossed, times)
        self._findings.note("levels out of order", WARNING, disorder, times)

    def _check_flows(self, frame: pd.DataFrame, times: pd.DatetimeIndex) -> None:
        if not {"exchange_inflow", "exchange_outflow"} <= set(frame.columns):
            return
        net, inflow, outflow = (
            frame[f"exchange_{name}"].to_numpy(float) for name in ("netflow", "inflow", "outflow")
        )
        off = np.abs(net - (inflow - outflow)) > _FLOW_TOLERANCE * (np.abs(inflow) + np.abs(outflow)) + 1e-6
        self._findings.note("netflow is not inflow - outflow", WARNING, off, times)

    def _check_age(self, known: Integers, closes: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
        """At which closes a value young enough was known (1 or 0; NaN where no age is asked)."""
        if self._max_age is None:
            return np.full(len(closes), np.nan)
        max_age_us = self._max_age // _US
        at = closes.asi8
        newest = np.searchsorted(known, at, side="right") - 1
        age = at - known[np.maximum(newest, 0)]
        begun, last = newest >= 0, newest == len(known) - 1
        old = begun & (age > max_age_us)
        if self._name != "funding":  # its missing payments say it better
            self._note_old(old & ~last, closes, max_age_us)
        start = f"the first at {pd.Timestamp(known[0], unit='us'):%Y-%m-%d %H:%M}"
        self._findings.note("nothing known yet", WARNING, ~begun, closes, start)
        behind = _span(int(age[-1])) if len(age) else ""
        detail = f"{behind} old at the end, {_span(max_age_us)} is the most"
        self._findings.note("stale: candles go on after the last row", WARNING, old & last, closes, detail)
        return (begun & ~old).astype(np.float64)

    def _note_old(self, old: Booleans, closes: pd.DatetimeIndex, max_age_us: int) -> None:
        holes, longest = _stretches(np.flatnonzero(old))
        detail = (
            f"closes in {holes} place(s), the longest {_span(longest * (BAR // _US))}; "
            f"{_span(max_age_us)} is the most"
        )
        self._findings.note("no value young enough", WARNING, old, closes, detail)


def _levels(frame: pd.DataFrame, side: str) -> npt.NDArray[np.float64]:
    names = [f"{side}_px_{i}" for i in range(1, BOOK_LEVELS + 1)]
    return frame[[name for name in names if name in frame.columns]].to_numpy(dtype=np.float64)


def _stretches(positions: Integers) -> tuple[int, int]:
    """How many runs of neighbours, and the length of the longest."""
    if not len(positions):
        return 0, 0
    ends = np.flatnonzero(np.diff(positions, append=positions[-1] + 2) > 1)
    lengths = np.diff(ends, prepend=-1)
    return len(ends), int(lengths.max())


def _span(microseconds: int) -> str:
    """A length of time in the unit that suits it."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if microseconds >= 2 * length * 1_000_000:
            span = microseconds / length / 1e6
            return f"{span:,.0f} {unit}" if span >= 100 else f"{span:.3g} {unit}"
    return f"{microseconds / 1e6:.0f} s"
