"""Missing bars: where they are, the error that names them, and the one repair there is, made on request."""

from typing import Final

import numpy as np
import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import MissingBars

MAX_BRIDGE_BARS: Final = 96  # a venue's outage lasts hours; a longer hole is data that was never fetched


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
