"""What is wrong with stored or offered bars: gaps, doubles, off-grid stamps, impossible prices, jumps.

Pure functions on frames; they report and never repair. `bridge` makes the one repair there is, on request.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import MissingBars

MAX_BRIDGE_BARS: Final = 96  # a venue's outage lasts hours; a longer hole is data that was never fetched
LEAP_MULTIPLE: Final = 25.0
SEAM_MULTIPLE: Final = 10.0
USUAL_BARS: Final = 672  # seven days
FUNDING_MAX_AGE: Final = pd.Timedelta(hours=9)
FUNDING_CAP: Final = 0.003

Floats = npt.NDArray[np.float64]


def interval_step(interval: str) -> pd.Timedelta:
    """The length of one bar."""
    return pd.Timedelta(seconds=INTERVAL_SECONDS[interval])


def gaps(open_times: pd.Series | pd.DatetimeIndex, interval: str = "15m") -> pd.DataFrame:
    """Stretches of missing bars between the first and the last bar.

    Parameters
    ----------
    open_times : Series or DatetimeIndex
        Ascending opening times on the grid.

    Returns
    -------
    DataFrame
        `first` and `last` missing opening time, `bars` missing; one line per stretch, oldest first.
    """
    times = pd.DatetimeIndex(open_times).as_unit("us")
    step = interval_step(interval)
    if len(times) < 2:
        empty = times[:0]
        return pd.DataFrame({"first": empty, "last": empty, "bars": np.zeros(0, dtype="int64")})
    distance = (times[1:] - times[:-1]) // step
    holes = np.flatnonzero(distance > 1)
    return pd.DataFrame(
        {
            "first": times[holes] + step,
            "last": times[holes + 1] - step,
            "bars": distance[holes].astype("int64") - 1,
        }
    )


def missing_bars(found: pd.DataFrame, what: str, fix: str) -> MissingBars:
    """The error for gaps: the first missing bar, the count, and how to fill them."""
    first, stretches, count = found["first"].iloc[0], len(found), int(found["bars"].sum())
    return MissingBars(
        f"{what}: {count} bar(s) missing in {stretches} place(s), the first is {first:%Y-%m-%d %H:%M} UTC",
        fix,
    )


@dataclass(frozen=True)
class Quality:
    """What a check of one symbol and interval found.

    Attributes
    ----------
    findings : DataFrame
        finding, severity ("error" or "warning"), count, first (when), detail; empty where all is well.
    """

    symbol: str
    interval: str
    rows: int
    first: pd.Timestamp
    last: pd.Timestamp
    findings: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether the bars may be read: no error among the findings."""
        return bool((self.findings["severity"] != "error").all())


def check_candles(frame: pd.DataFrame, symbol: str, interval: str = "15m") -> Quality:
    """Everything that can be said about stored bars without a second source.

    Parameters
    ----------
    frame : DataFrame
        Rows of the candles table of one symbol and interval, by time; at least one.

    Returns
    -------
    Quality
        Errors: gaps, doubles, off-grid stamps, impossible bars. Warnings: zero volume, flat bars, price
        jumps, bridged bars.
    """
    times = pd.DatetimeIndex(frame["open_time"])
    o, h, low, c, v = (frame[name].to_numpy(float) for name in ("open", "high", "low", "close", "volume"))
    bridged = frame["bridged"].to_numpy(bool)
    broken = ~(np.isfinite(np.column_stack([o, h, low, c, v])).all(axis=1) & (low > 0) & (v >= 0))
    disorder = ~broken & ((h < low) | (o > h) | (o < low) | (c > h) | (c < low))
    off_grid = times.asi8 % (INTERVAL_SECONDS[interval] * 1_000_000) != 0
    seam, leap = _jumps(o, c, broken)
    findings = [
        *_gap_findings(gaps(times[~times.duplicated() & ~off_grid], interval)),
        *_finding("double stamps", "error", times.duplicated(), times),
        *_finding("off the grid", "error", off_grid, times),
        *_finding("no number, price <= 0 or volume < 0", "error", broken, times),
        *_finding("open or close outside low..high", "error", disorder, times),
        *_finding("zero volume", "warning", (v == 0) & ~bridged, times),
        *_finding("flat with volume", "warning", (h == low) & (v > 0), times),
        *_finding("bridged (no venue's bars)", "warning", bridged, times),
        *_finding(f"close moved > {LEAP_MULTIPLE:g} usual moves", "warning", leap, times, _largest(c, leap)),
        *_finding(f"open > {SEAM_MULTIPLE:g} usual moves from last close", "warning", seam, times),
    ]
    table = pd.DataFrame(findings, columns=["finding", "severity", "count", "first", "detail"])
    return Quality(symbol, interval, len(frame), times[0], times[-1], table)


def check_funding(frame: pd.DataFrame, symbol: str, until: pd.Timestamp | None = None) -> Quality:
    """Funding payments: missing ones and rates beyond the venue's cap are warnings; funding is optional.

    Parameters
    ----------
    frame : DataFrame
        Rows of the funding table of one symbol, by time; at least one.
    until : Timestamp, optional
        Where the candles end; funding that ends more than `FUNDING_MAX_AGE` before it is stale.
    """
    times = pd.DatetimeIndex(frame["event_time"])
    waits = times[1:] - times[:-1]
    late = np.concatenate([[False], waits > FUNDING_MAX_AGE])
    stale = np.zeros(len(times), dtype=bool)
    stale[-1] = until is not None and until - times[-1] > FUNDING_MAX_AGE
    high = np.abs(frame["funding_rate"].to_numpy(float)) > FUNDING_CAP
    findings = [
        *_finding("funding payments missing before", "warning", late, times),
        *_finding("stale: candles go on after the last payment", "warning", stale, times),
        *_finding(f"rate beyond {FUNDING_CAP:.2%}", "warning", high, times),
    ]
    table = pd.DataFrame(findings, columns=["finding", "severity", "count", "first", "detail"])
    return Quality(symbol, "funding", len(frame), times[0], times[-1], table)


def bridge(frame: pd.DataFrame, interval: str = "15m", limit: int = MAX_BRIDGE_BARS) -> pd.DataFrame:
    """Flat zero-volume bars at the last close for every outage of at most `limit` bars.

    Parameters
    ----------
    frame : DataFrame
        `open_time` as the index or a column, and `close`; ascending.
    interval : str
        Bar length.
    limit : int
        Longer gaps stay open: they are not an outage, they were never fetched.

    Returns
    -------
    DataFrame
        Only the new bars: open_time, open high low close, volume 0, bridged True.
    """
    rows = frame.reset_index() if "open_time" not in frame.columns else frame
    times = pd.DatetimeIndex(rows["open_time"]).as_unit("us")
    holes = gaps(times, interval)
    holes = holes[holes["bars"] <= limit]
    length = holes["bars"].to_numpy()
    step = INTERVAL_SECONDS[interval] * 1_000_000
    first = np.repeat(pd.DatetimeIndex(holes["first"]).asi8, length)
    offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    last_bar = np.searchsorted(times.asi8, first) - 1
    price = rows["close"].to_numpy(float)[last_bar]
    return pd.DataFrame(
        {
            "open_time": pd.to_datetime(first + offset * step, unit="us", utc=True),
            "open": price,
            "high": price,
            "low": price,
            "close": price,
            "volume": 0.0,
            "bridged": True,
        }
    )


def _gap_findings(found: pd.DataFrame) -> list[tuple[str, str, int, pd.Timestamp, str]]:
    if found.empty:
        return []
    longest = int(found["bars"].max())
    detail = f"in {len(found)} place(s), the longest {longest}"
    return [("missing bars", "error", int(found["bars"].sum()), found["first"].iloc[0], detail)]


def _finding(
    what: str, severity: str, where: npt.NDArray[np.bool_], times: pd.DatetimeIndex, detail: str = ""
) -> list[tuple[str, str, int, pd.Timestamp, str]]:
    hits = np.flatnonzero(where)
    return [(what, severity, len(hits), times[hits[0]], detail)] if len(hits) else []


def _jumps(
    opens: Floats, closes: Floats, broken: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where a bar opens far from the last close, and where it closes far from it, in usual moves.

    The usual move is the median absolute close-to-close log return of the USUAL_BARS before the bar.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_open, log_close = np.log(opens), np.log(closes)
    move = np.abs(np.diff(log_close, prepend=np.nan))
    gap = np.abs(log_open - np.concatenate([[np.nan], log_close[:-1]]))
    usual = pd.Series(move).rolling(USUAL_BARS, min_periods=20).median().shift(1).to_numpy()
    usual = np.maximum(usual, 1e-5)  # a dead market must not make every tick a jump
    with np.errstate(invalid="ignore"):
        return (gap > SEAM_MULTIPLE * usual) & ~broken, (move > LEAP_MULTIPLE * usual) & ~broken


def _largest(closes: Floats, where: npt.NDArray[np.bool_]) -> str:
    if not where.any():
        return ""
    change = np.diff(closes, prepend=np.nan) / np.concatenate([[np.nan], closes[:-1]])
    change = np.where(where, change, 0.0)
    return f"the largest {change[np.argmax(np.abs(change))]:+.1%}"
