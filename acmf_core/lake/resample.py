"""Longer candles out of shorter ones, and where the venue's own candles say otherwise.

A candle exists only where every one of its bars does: the same rule by which features make theirs. A bar with
a number that is not finite, a price <= 0 or a negative volume is as good as missing, and so is a doubled one.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import ConfigError
from acmf_core.lake.tables import KLINE_EXTRAS, OHLCV

# Prices are picked, never added: they must agree to the last bit. Sums of decimals differ by their rounding.
EXACT: Final = ("open", "high", "low", "close", "trades")
SUM_TOLERANCE: Final = 1e-9

_SUMS: Final = ("volume", *KLINE_EXTRAS)

Booleans = npt.NDArray[np.bool_]


def resample(bars: pd.DataFrame, interval: str, *, source: str = "15m") -> pd.DataFrame:
    """Candles of `interval`, only those all of whose bars are there.

    Parameters
    ----------
    bars : DataFrame
        `open_time` (UTC) as a column or as the index, ascending; open high low close volume, any of the kline
        extras, and `bridged` where some bars stand in for an outage.
    interval : str
        "15m", "1h", "4h" or "1d"; days begin at 00:00 UTC.
    source : str
        What `bars` are.

    Returns
    -------
    DataFrame
        `open_time` and the columns that `bars` has, oldest first. An extra that one bar lacks is missing in
        the candle; `bridged` where any of the bars is.

    Raises
    ------
    ConfigError
        The interval is no multiple of the source.
    """
    count = _bars_a_candle(interval, source)
    rows = bars.reset_index() if "open_time" not in bars.columns else bars
    stamps = pd.DatetimeIndex(rows["open_time"]).as_unit("us").asi8
    first = _complete(stamps, _present(rows), INTERVAL_SECONDS[source] * 1_000_000, count)
    taken = (first[:, None] + np.arange(count)).ravel()
    candles: dict[str, npt.ArrayLike] = {"open_time": pd.to_datetime(stamps[first], unit="us", utc=True)}
    for name in (*OHLCV, *KLINE_EXTRAS, "bridged"):
        if name in rows.columns:
            candles[name] = _together(name, rows[name], taken, count)
    return pd.DataFrame(candles)


def cascade(bars: pd.DataFrame, intervals: Iterable[str], *, source: str = "15m") -> dict[str, pd.DataFrame]:
    """`resample` to several intervals, each out of the one before it: far fewer rows to go through.

    Parameters
    ----------
    bars : DataFrame
        As for `resample`.
    intervals : iterable of str
        In any order; each must be a multiple of the next shorter one.
    """
    ladder = [source, *sorted(intervals, key=INTERVAL_SECONDS.__getitem__)]
    made = {source: bars}
    for shorter, longer in pairwise(ladder):
        made[longer] = resample(made[shorter], longer, source=shorter)
    return {interval: made[interval] for interval in ladder[1:]}


def disagreements(
    fine: pd.DataFrame, coarse: pd.DataFrame, interval: str, *, source: str = "15m"
) -> pd.DataFrame:
    """Where the venue's candles differ from those made of its shorter bars.

    Prices and trade counts must be equal, volumes within rounding. Only candles that both sides have are
    compared, and none with a bridged bar: an outage's stand-ins are not the venue's word.

    Parameters
    ----------
    fine : DataFrame
        Bars of `source`, as for `resample`.
    coarse : DataFrame
        Candles of `interval`, the same columns.

    Returns
    -------
    DataFrame
        A row for each candle and column that differ, oldest first: open_time, column, resampled, stored,
        difference (relative, stored against resampled). Empty where all agree.
    """
    ours, theirs = _aligned(resample(fine, interval, source=source), coarse)
    parts = []
    for name in (*OHLCV, *KLINE_EXTRAS):
        if name in ours.columns and name in theirs.columns:
            a, b = ours[name].to_numpy(float, na_value=np.nan), theirs[name].to_numpy(float, na_value=np.nan)
            hit = np.flatnonzero(_differs(name, a, b))
            with np.errstate(divide="ignore", invalid="ignore"):
                change = b[hit] / a[hit] - 1.0
            parts.append(
                pd.DataFrame(
                    {
                        "open_time": ours.index[hit],
                        "column": name,
                        "resampled": a[hit],
                        "stored": b[hit],
                        "difference": change,
                    }
                )
            )
    found = pd.concat(parts, ignore_index=True)
    return found.sort_values("open_time", kind="stable", ignore_index=True)


def compared(fine: pd.DataFrame, coarse: pd.DataFrame, interval: str, *, source: str = "15m") -> pd.DataFrame:
    """The candles that `disagreements` looks at: `open_time` of each, oldest first."""
    ours, _ = _aligned(resample(fine, interval, source=source), coarse)
    return ours.index.to_frame(index=False)


def _bars_a_candle(interval: str, source: str) -> int:
    length, step = INTERVAL_SECONDS[interval], INTERVAL_SECONDS[source]
    if length % step or length <= step:
        raise ConfigError(
            f"{interval} candles cannot be made of {source} bars", "ask for a multiple of the bar"
        )
    return length // step


def _present(rows: pd.DataFrame) -> Booleans:
    """Bars that count as there: the rule of `acmf_core.features.blocks.run_lengths`."""
    values = rows[list(OHLCV)].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(
            np.isfinite(values).all(axis=1) & (values[:, :4] > 0.0).all(axis=1) & (values[:, 4] >= 0.0)
        )


def _complete(
    stamps: npt.NDArray[np.int64], present: Booleans, step: int, count: int
) -> npt.NDArray[np.int64]:
    """Positions of the first bar of every whole candle: `count` good bars in a row from its opening."""
    if len(stamps) < count:
        return np.zeros(0, dtype=np.int64)
    opening = np.flatnonzero(stamps % (step * count) == 0)
    opening = opening[opening + count <= len(stamps)]
    # Steps that are right from bar to bar, counted; a window of count bars has count - 1 of them.
    right = np.concatenate([[0], np.cumsum(np.diff(stamps) == step)])
    good = np.concatenate([[0], np.cumsum(present)])
    last = opening + count - 1
    whole = (right[last] - right[opening] == count - 1) & (good[last + 1] - good[opening] == count)
    doubled = np.diff(stamps, append=stamps[-1] - 1) == 0
    followed = doubled[last]  # the last bar comes again: which of the two is right?
    preceded = np.concatenate([[False], doubled[:-1]])[opening]
    return np.asarray(opening[whole & ~followed & ~preceded])


def _together(name: str, column: pd.Series, taken: npt.NDArray[np.int64], count: int) -> npt.ArrayLike:
    if name == "bridged":
        return np.asarray(column.to_numpy(dtype=bool)[taken].reshape(-1, count).any(axis=1))
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)[taken].reshape(-1, count)
    if name == "open":
        return values[:, 0]
    if name == "close":
        return values[:, -1]
    if name == "high":
        return np.asarray(values.max(axis=1))
    if name == "low":
        return np.asarray(values.min(axis=1))
    total = values.sum(axis=1)
    return pd.array(total, dtype="Int64") if name == "trades" else np.asarray(total)


def _aligned(ours: pd.DataFrame, coarse: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candles of both sides at the same opening times, without bridged ones."""
    theirs = coarse if "open_time" in coarse.columns else coarse.reset_index()
    sides = []
    for side in (ours, theirs):
        own = side[~side["bridged"].to_numpy(dtype=bool)] if "bridged" in side.columns else side
        own = own.drop_duplicates("open_time")
        sides.append(own.set_index(pd.DatetimeIndex(own["open_time"]).as_unit("us")))
    common = sides[0].index.intersection(sides[1].index)
    return sides[0].loc[common], sides[1].loc[common]


def _differs(name: str, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Booleans:
    """Values that contradict each other; one that is not there contradicts nothing, unless it must be."""
    unknown = np.isnan(a) | np.isnan(b)
    near = np.isclose(a, b, rtol=SUM_TOLERANCE, atol=SUM_TOLERANCE)
    differs = a != b if name in EXACT else ~near
    return np.asarray(differs & ~unknown if name in KLINE_EXTRAS else differs)
