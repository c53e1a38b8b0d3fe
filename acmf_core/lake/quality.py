"""What is wrong with stored or offered bars: gaps, doubles, off-grid stamps, impossible prices, jumps.

Pure functions on frames; they report and never repair. `bridge` makes the one repair there is, on request.
"""

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
