"""What is wrong with stored or offered bars: gaps, doubles, off-grid stamps, impossible prices, jumps, leaks.

Checks read frames and report; they never repair. `CandleCheck` takes a long series window by window, so that
years of 1m bars never lie in memory together.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.lake.findings import ERROR, WARNING, Findings, Quality
from acmf_core.lake.gaps import MAX_BRIDGE_BARS, bridge, gaps, interval_step, missing_bars
from acmf_core.lake.outliers import (
    CONTEXT_BARS,
    DROUGHT_DEVIATIONS,
    FLOOD_DEVIATIONS,
    LEAP_MULTIPLE,
    SEAM_MULTIPLE,
    Outliers,
    outliers,
)
from acmf_core.lake.slow_quality import check_funding
from acmf_core.lake.tables import AVAILABLE, OHLCV

__all__ = [
    "MANDATORY",
    "MAX_BRIDGE_BARS",
    "MOVE_EDGES",
    "CandleCheck",
    "CandleSurvey",
    "Quality",
    "bridge",
    "check_candles",
    "check_funding",
    "gaps",
    "interval_step",
    "missing_bars",
]

MANDATORY: Final = "15m"  # the bars that everything is made of; a fault in others is a warning
MOVE_EDGES: Final = np.linspace(
    -40.0, 40.0, 161
)  # usual moves; what lies beyond counts in the outermost bins
MOST_MARKED: Final = 2_000

_MEAN_PRICE_TOLERANCE: Final = 1e-6

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CandleSurvey:
    """What a check saw of one series of bars: its word, and what a picture of it needs.

    Attributes
    ----------
    days : DataFrame
        One row a day from first to last, by date: `slots` (bars that the day should have), `missing`,
        `bridged`, `zero` (zero volume, not bridged), and low, high, close (NaN where there is none).
    marked : DataFrame
        Bars that stand out: open_time, close, change, moves (see `Outliers`), kind ("price" or "volume"); at
        most MOST_MARKED, the largest moves.
    moves : array of int, (len(MOVE_EDGES) - 1,)
        Histogram of the close-to-close moves in usual moves.
    """

    quality: Quality
    days: pd.DataFrame
    marked: pd.DataFrame
    moves: npt.NDArray[np.int64]


def check_candles(frame: pd.DataFrame, symbol: str, interval: str = "15m") -> Quality:
    """Everything that can be said about stored bars without a second source.

    Parameters
    ----------
    frame : DataFrame
        Rows of the candles table of one symbol and interval, by time; at least one.

    Returns
    -------
    Quality
        Errors (of 15m bars; else warnings): gaps, doubles, disorder, off-grid stamps, impossible bars. Always
        an error: a bar known before its close. Warnings: zero volume, flat bars, outliers of price and
        volume, extras that contradict the bar, bridged bars.
    """
    check = CandleCheck(symbol, interval)
    check.see(frame)
    return check.survey().quality


class CandleCheck:
    """A check of one series of bars that is given in windows, oldest first."""

    def __init__(self, symbol: str, interval: str = "15m") -> None:
        self._symbol, self._interval = symbol, interval
        self._severity = ERROR if interval == MANDATORY else WARNING
        self._step_us = INTERVAL_SECONDS[interval] * 1_000_000
        self._findings = Findings()
        self.rows = 0
        self._last_us: int | None = None
        self._span: list[pd.Timestamp] = []
        self._context = pd.DataFrame()
        self._days: list[pd.DataFrame] = []
        self._marked: list[pd.DataFrame] = []
        self._moves = np.zeros(len(MOVE_EDGES) - 1, dtype=np.int64)
        self._longest_hole, self._holes = 0, 0

    def see(self, frame: pd.DataFrame) -> None:
        """The next window: rows of the candles table."""
        if frame.empty:
            return
        frame = self._ordered(frame)
        times = pd.DatetimeIndex(frame["open_time"]).as_unit("us")
        self.rows += len(frame)
        self._span = [self._span[0] if self._span else times[0], times[-1]]
        distinct = self._check_stamps(frame, times)
        usable = self._check_bars(frame, times)
        self._check_extras(frame, times, usable)
        self._check_outliers(frame, times, usable)
        self._days.append(_by_day(frame, times, distinct, usable))
        self._last_us = int(times.asi8[-1])

    def survey(self) -> CandleSurvey:
        """The verdict on everything seen; at least one row must have been."""
        first, last = self._span
        quality = Quality(self._symbol, self._interval, self.rows, first, last, self._findings.table())
        marked = _largest(pd.concat(self._marked, ignore_index=True))
        return CandleSurvey(quality, self._whole_days(), marked, self._moves)

    def _ordered(self, frame: pd.DataFrame) -> pd.DataFrame:
        times = pd.DatetimeIndex(frame["open_time"])
        back = np.diff(times.asi8, prepend=times.asi8[0]) < 0
        self._findings.note("out of time order", self._severity, back, times)
        return frame.sort_values("open_time", kind="stable") if back.any() else frame

    def _check_stamps(self, frame: pd.DataFrame, times: pd.DatetimeIndex) -> Booleans:
        """Gaps, doubles, the grid, the leak; returns which rows are the first of their stamp, on the grid."""
        stamps = times.asi8
        before = np.concatenate([[-1 if self._last_us is None else self._last_us], stamps[:-1]])
        doubled, off_grid = stamps == before, stamps % self._step_us != 0
        distinct = ~doubled & ~off_grid
        found = gaps(self._joined(times[distinct]), self._interval)
        self._holes += len(found)
        self._longest_hole = max(self._longest_hole, int(found["bars"].max()) if len(found) else 0)
        self._findings.count(
            "missing bars",
            self._severity,
            int(found["bars"].sum()),
            found["first"].iloc[0] if len(found) else None,
            f"in {self._holes} place(s), the longest {self._longest_hole:,}",
            size=self._holes,
        )
        self._findings.note("double stamps", self._severity, doubled, times)
        self._findings.note("off the grid", self._severity, off_grid, times)
        if AVAILABLE in frame.columns:
            known = pd.DatetimeIndex(frame[AVAILABLE]).as_unit("us").asi8
            self._findings.note(
                "known before its close (a leak)", ERROR, known < stamps + self._step_us, times
            )
        return np.asarray(distinct)

    def _joined(self, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """With the last bar of the window before, so that a hole between two windows is one."""
        if self._last_us is None or self._last_us % self._step_us:
            return times
        return times.insert(0, pd.Timestamp(self._last_us, unit="us", tz="UTC"))

    def _check_bars(self, frame: pd.DataFrame, times: pd.DatetimeIndex) -> Booleans:
        o, h, low, c, v = (frame[name].to_numpy(float) for name in OHLCV)
        bridged = frame["bridged"].to_numpy(bool)
        broken = ~(np.isfinite(np.column_stack([o, h, low, c, v])).all(axis=1) & (low > 0) & (v >= 0))
        disorder = ~broken & ((h < low) | (o > h) | (o < low) | (c > h) | (c < low))
        note = self._findings.note
        note("no number, price <= 0 or volume < 0", self._severity, broken, times)
        note("open or close outside low..high", self._severity, disorder, times)
        note("zero volume", WARNING, (v == 0) & ~bridged, times)
        note("flat with volume", WARNING, (h == low) & (v > 0), times)
        note("bridged (no venue's bars)", WARNING, bridged, times)
        return np.asarray(~broken & ~disorder)

    def _check_extras(self, frame: pd.DataFrame, times: pd.DatetimeIndex, usable: Booleans) -> None:
        """The venue's own sums must fit the bar that they belong to."""
        volume = frame["volume"].to_numpy(float)
        if "taker_buy_volume" in frame.columns:
            taken = frame["taker_buy_volume"].to_numpy(float, na_value=np.nan)
            outside = (taken < 0) | (taken > volume * (1 + _MEAN_PRICE_TOLERANCE))
            self._findings.note("taker volume outside 0..volume", WARNING, usable & outside, times)
        if "quote_volume" in frame.columns:
            paid = frame["quote_volume"].to_numpy(float, na_value=np.nan)
            mean = np.divide(paid, volume, out=np.full(len(frame), np.nan), where=volume > 0)
            low, high = frame["low"].to_numpy(float), frame["high"].to_numpy(float)
            outside = (mean < low * (1 - _MEAN_PRICE_TOLERANCE)) | (mean > high * (1 + _MEAN_PRICE_TOLERANCE))
            self._findings.note("mean price outside low..high", WARNING, usable & outside, times)

    def _check_outliers(self, frame: pd.DataFrame, times: pd.DatetimeIndex, usable: Booleans) -> None:
        own = frame[["open", "close", "volume"]].assign(usable=usable)
        both = pd.concat([self._context, own], ignore_index=True) if len(self._context) else own
        opens, closes, volumes = (both[name].to_numpy(float) for name in ("open", "close", "volume"))
        found = outliers(opens, closes, volumes, both["usable"].to_numpy(bool))
        new = found.since(len(both) - len(own))
        self._context = both.tail(CONTEXT_BARS).reset_index(drop=True)
        self._note_outliers(new, times)
        finite = new.moves[np.isfinite(new.moves)]
        self._moves += np.histogram(np.clip(finite, MOVE_EDGES[0], MOVE_EDGES[-1]), MOVE_EDGES)[0]
        self._marked.append(_marked(new, times, frame["close"].to_numpy(float)))

    def _note_outliers(self, new: Outliers, times: pd.DatetimeIndex) -> None:
        size, detail = 0.0, ""
        if new.leap.any():
            bar = int(np.argmax(np.where(new.leap, np.abs(new.change), 0.0)))
            size = float(abs(new.change[bar]))
            detail = f"the largest {new.change[bar]:+.1%} at {times[bar]:%Y-%m-%d %H:%M}"
        note = self._findings.note
        note(f"close moved > {LEAP_MULTIPLE:g} usual moves", WARNING, new.leap, times, detail, size=size)
        note(f"open > {SEAM_MULTIPLE:g} usual moves from last close", WARNING, new.seam, times)
        note(f"volume > {FLOOD_DEVIATIONS:g} deviations above its week", WARNING, new.flood, times)
        note(f"volume > {DROUGHT_DEVIATIONS:g} deviations below its week", WARNING, new.drought, times)

    def _whole_days(self) -> pd.DataFrame:
        seen = pd.concat(self._days)
        merged = seen.groupby(level=0).agg(
            {"present": "sum", "bridged": "sum", "zero": "sum", "low": "min", "high": "max", "close": "last"}
        )
        first, last = pd.DatetimeIndex(self._span).as_unit("us").asi8
        every = pd.date_range(self._span[0].floor("D"), self._span[1].floor("D"), freq="D")
        opening = every.as_unit("us").asi8
        day_us = 86_400_000_000
        slots = _slots(np.minimum(opening + day_us - 1, last), self._step_us) - _slots(
            np.maximum(opening, first) - 1, self._step_us
        )
        days = merged.reindex(every)
        counts = ["present", "bridged", "zero"]
        days[counts] = days[counts].fillna(0).astype("int64")
        days.insert(0, "slots", slots)
        days.insert(1, "missing", np.maximum(slots - days.pop("present").to_numpy(), 0))
        return days


def _slots(stamps: npt.NDArray[np.int64], step_us: int) -> npt.NDArray[np.int64]:
    """Grid points up to and with each stamp."""
    return np.asarray(stamps // step_us + 1)


def _by_day(
    frame: pd.DataFrame, times: pd.DatetimeIndex, distinct: Booleans, usable: Booleans
) -> pd.DataFrame:
    bridged = frame["bridged"].to_numpy(bool)
    table = pd.DataFrame(
        {
            "present": distinct,
            "bridged": bridged,
            "zero": (frame["volume"].to_numpy(float) == 0) & ~bridged,
            **{
                name: np.where(usable, frame[name].to_numpy(float), np.nan)
                for name in ("low", "high", "close")
            },
        }
    )
    groups = table.groupby(times.floor("D"))
    return groups.agg(
        {"present": "sum", "bridged": "sum", "zero": "sum", "low": "min", "high": "max", "close": "last"}
    )


def _marked(new: Outliers, times: pd.DatetimeIndex, closes: npt.NDArray[np.float64]) -> pd.DataFrame:
    price, volume = new.leap | new.seam, new.flood | new.drought
    hits = np.flatnonzero(price | volume)
    table = pd.DataFrame(
        {
            "open_time": times[hits],
            "close": closes[hits],
            "change": new.change[hits],
            "moves": new.moves[hits],
            "kind": np.where(price[hits], "price", "volume"),
        }
    )
    return _largest(table)


def _largest(marked: pd.DataFrame) -> pd.DataFrame:
    if len(marked) <= MOST_MARKED:
        return marked
    kept = marked["moves"].abs().nlargest(MOST_MARKED).index.sort_values()
    return marked.loc[kept].reset_index(drop=True)
