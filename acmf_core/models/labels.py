"""What the model is asked to predict. The only file of this project that may look ahead.

A decision is taken when bar t closes; its entry is the open of bar t+1 (`t0`), and its label is known at
`t1`. The label reads bars t+1 to t+h (and the past, for volatility); everything is finite-window, so a
label does not depend on how much history was loaded.
"""

import logging
import math
from typing import Final

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from acmf_core.config import LabelConfig
from acmf_core.domain import BAR_US, Label
from acmf_core.errors import DataError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ATR_BARS: Final = 14
_PRICES: Final = ("open", "high", "low", "close", "volume")
_log = logging.getLogger(__name__)


def label(bars: pd.DataFrame, spec: LabelConfig, k: float | None = None) -> pd.DataFrame:
    """Label every bar whose outcome is known.

    Parameters
    ----------
    bars : DataFrame
        open, high, low, close, volume, indexed by open_time (UTC).
    spec : LabelConfig
        `volatility`: ret = ln(close[t+h] / open[t+1]), NEUTRAL when |ret| <= max(k sigma_t sqrt(h), c cost)
        with sigma_t the population deviation of the last 20 one-bar log returns.
        `triple_barrier`: LONG where a long trade reaches its target before its stop within h bars, SHORT
        where a short trade does, else NEUTRAL; stop and target in ATR (the mean true range of 14 bars); a
        bar that touches both counts as the stop.
        `fixed`: as `volatility` with the threshold `fixed_return`.
    k : float, optional
        Multiple of sigma, `volatility` only; None takes `neutral_multiple` of these very bars. Training
        sets it on its own block and hands it on.

    Returns
    -------
    DataFrame
        One row a labelled bar: y (int8, codes of `domain.Label`), t0 (entry, open of t+1) and t1 (when the
        label is known, close of the last bar read), ret (log return of the entry), touched ("target",
        "stop" or "time"). Bars without a full past or future, or beside a missing bar, have no row.
        `attrs["k"]` is the multiple used.

    Raises
    ------
    DataError
        On missing columns or bars that are not in order.
    """
    grid = _grid(bars)
    if spec.kind == "triple_barrier":
        y, ret, exit_bar, touched = _triple_barrier(grid, spec)
    else:
        ret = _forward_return(grid, spec.horizon_bars)
        threshold = np.full(len(ret), spec.fixed_return)
        if spec.kind == "volatility":
            k = neutral_multiple(bars, spec) if k is None else k
            floor = spec.cost_multiple * spec.cost
            threshold = np.maximum(k * _scale(grid, spec), floor)
        y = np.select([ret > threshold, ret < -threshold], [Label.LONG, Label.SHORT], Label.NEUTRAL)
        y = np.where(np.isfinite(ret) & np.isfinite(threshold), y, -1)
        exit_bar = np.arange(len(ret)) + spec.horizon_bars
        touched = np.full(len(ret), "time", dtype=object)
    open_us = _open_us(grid.index)
    frame = pd.DataFrame(
        {
            "y": y.astype(np.int8),
            "t0": _stamps(open_us + BAR_US),
            "t1": _stamps(open_us[0] + (exit_bar + 1) * BAR_US if len(open_us) else open_us),
            "ret": ret,
            "touched": touched,
        },
        index=grid.index,
    )
    frame = frame[y >= 0]
    frame.attrs["k"] = k
    return frame


def neutral_multiple(bars: pd.DataFrame, spec: LabelConfig) -> float:
    """The smallest k with which at least `neutral_share` of these bars are NEUTRAL.

    0.0, with a warning in the log, when the cost floor alone makes that many NEUTRAL.

    Raises
    ------
    DataError
        When no bar has an outcome.
    """
    grid = _grid(bars)
    ret = np.abs(_forward_return(grid, spec.horizon_bars))
    scale = _scale(grid, spec)
    known = np.isfinite(ret) & np.isfinite(scale)
    ret, scale = ret[known], scale[known]
    if len(ret) == 0:
        raise DataError(
            f"{len(bars)} bars hold no labelled bar: a label needs {spec.sigma_bars} returns before it and "
            f"{spec.horizon_bars} bars after it",
            "give more bars",
        )
    floor = spec.cost_multiple * spec.cost
    with np.errstate(divide="ignore"):
        needed = np.where(ret <= floor, 0.0, ret / scale)
    k = float(np.sort(needed)[math.ceil(spec.neutral_share * len(needed)) - 1])
    if k == 0.0:
        _log.warning(
            "the cost floor of %.4f alone makes %.1f %% of labels NEUTRAL (wanted %.1f %%): k = 0",
            floor, 100 * np.mean(ret <= floor), 100 * spec.neutral_share,
        )  # fmt: skip
    return k


def uniqueness(t0: IntArray, t1: IntArray, step: int = BAR_US) -> FloatArray:
    """Average uniqueness of each label: the mean over its span of 1 / (labels alive there).

    Lopez de Prado, Advances in Financial Machine Learning, 4.5. A span covers the bars from t0 up to, not
    including, t1, both multiples of `step` apart: [0, 3], [2, 4], [4, 6] with step 1 give 5/6, 3/4, 1.
    """
    if len(t0) == 0:
        return np.empty(0)
    origin = int(t0.min())
    first, last = (t0 - origin) // step, (t1 - origin) // step
    change = np.zeros(int(last.max()) + 1, dtype=np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last, -1)
    alive = np.cumsum(change)[:-1]
    shares = np.concatenate([[0.0], np.cumsum(1.0 / np.maximum(alive, 1))])
    return np.asarray((shares[last] - shares[first]) / (last - first))


def label_weights(labels: pd.DataFrame, bars: pd.DataFrame) -> FloatArray:
    """Sample weights (n,): uniqueness scaled to mean 1; a label whose entry bar had no volume weighs 0."""
    weight = uniqueness(micros(labels["t0"]), micros(labels["t1"]))
    volume = bars["volume"].reindex(pd.DatetimeIndex(labels["t0"])).to_numpy(np.float64)
    weight = np.where(volume > 0, weight, 0.0)
    mean = weight.mean() if len(weight) else 0.0
    return weight / mean if mean > 0 else weight


def micros(times: pd.Series | pd.DatetimeIndex) -> IntArray:
    """Microseconds since the epoch of UTC stamps of any unit."""
    return np.asarray(pd.DatetimeIndex(times).as_unit("us").asi8)


def _grid(bars: pd.DataFrame) -> pd.DataFrame:
    """The bars on a full 15-minute grid: a missing bar is a row of NaN, so nothing is read across it."""
    missing = [name for name in _PRICES if name not in bars.columns]
    if missing:
        raise DataError(f"labels need the columns {', '.join(_PRICES)}; {', '.join(missing)} missing", "")
    if not isinstance(bars.index, pd.DatetimeIndex) or bars.index.tz is None:
        raise DataError("labels need bars indexed by open_time in UTC", "see MarketData.from_candles")
    if not bars.index.is_monotonic_increasing or bars.index.has_duplicates:
        raise DataError("bars are not in strict order of time", "sort them and drop doubled bars")
    open_us = micros(bars.index)
    if len(open_us) == 0 or np.all(np.diff(open_us) == BAR_US):
        return bars[list(_PRICES)].set_axis(_stamps(open_us))
    return bars[list(_PRICES)].set_axis(_stamps(open_us)).reindex(
        _stamps(np.arange(open_us[0], open_us[-1] + 1, BAR_US))
    )  # fmt: skip


def _open_us(index: pd.Index) -> IntArray:
    return micros(pd.DatetimeIndex(index))


def _stamps(us: IntArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(us.astype("datetime64[us]"), tz="UTC", name="open_time")


def _ahead(values: FloatArray, bars: int) -> FloatArray:
    """values[t + bars] at t, NaN past the end."""
    out = np.full(len(values), np.nan)
    if bars < len(values):
        out[: len(values) - bars] = values[bars:]
    return out


def _forward_return(grid: pd.DataFrame, horizon: int) -> FloatArray:
    """ln(close[t+h] / open[t+1]); NaN where any bar from t to t+h is missing."""
    close, entry = grid["close"].to_numpy(np.float64), grid["open"].to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ret = np.log(_ahead(close, horizon) / _ahead(entry, 1))
    return np.where(_complete_ahead(close, horizon), ret, np.nan)


def _complete_ahead(close: FloatArray, horizon: int) -> NDArray[np.bool_]:
    """Whether bars t to t+horizon are all there."""
    complete = np.zeros(len(close), dtype=bool)
    if len(close) > horizon:
        complete[: len(close) - horizon] = np.isfinite(sliding_window_view(close, horizon + 1)).all(axis=1)
    return complete


def _scale(grid: pd.DataFrame, spec: LabelConfig) -> FloatArray:
    """sigma_t sqrt(h): the spread of h-bar returns if one-bar returns were independent."""
    close = grid["close"].to_numpy(np.float64)
    out = np.full(len(close), np.nan)
    n = spec.sigma_bars
    if len(close) > n:
        with np.errstate(divide="ignore", invalid="ignore"):
            returns = np.diff(np.log(close))
        out[n:] = sliding_window_view(returns, n).std(axis=1)
    return out * math.sqrt(spec.horizon_bars)


def _mean_true_range(grid: pd.DataFrame) -> FloatArray:
    """Mean true range of the last 14 bars, price units."""
    high, low, close = (grid[c].to_numpy(np.float64) for c in ("high", "low", "close"))
    out = np.full(len(close), np.nan)
    if len(close) > ATR_BARS:
        before = close[:-1]
        ranges = np.maximum(high[1:], before) - np.minimum(low[1:], before)
        out[ATR_BARS:] = sliding_window_view(ranges, ATR_BARS).mean(axis=1)
    return out


def _triple_barrier(
    grid: pd.DataFrame, spec: LabelConfig
) -> tuple[NDArray[np.int64], FloatArray, IntArray, NDArray[np.object_]]:
    """y, ret, last bar read, barrier touched; y = -1 where there is no label."""
    n, h = len(grid), spec.horizon_bars
    entry = _ahead(grid["open"].to_numpy(np.float64), 1)
    high, low, close = (grid[c].to_numpy(np.float64) for c in ("high", "low", "close"))
    reach = _mean_true_range(grid)
    known = np.isfinite(reach) & np.isfinite(entry) & _complete_ahead(close, h)
    target, stop = spec.target_atr * reach, spec.stop_atr * reach
    long_bar, long_won = _race(high, low, entry + target, entry - stop, h)
    short_bar, short_won = _race(-low, -high, -entry + target, -entry - stop, h)
    # with targets nearer than stops both trades can win: the first counts, a tie is nobody's
    goes_long, goes_short = long_won & (long_bar < short_bar), short_won & (short_bar < long_bar)
    goes_long |= long_won & ~short_won
    goes_short |= short_won & ~long_won
    y = np.select([goes_long, goes_short], [Label.LONG, Label.SHORT], Label.NEUTRAL).astype(np.int64)
    over = np.maximum(long_bar, short_bar)  # NEUTRAL is known when both trades are over
    bars = np.minimum(np.select([goes_long, goes_short], [long_bar, short_bar], over), h)
    touched = np.select([goes_long | goes_short, over <= h], ["target", "stop"], "time").astype(object)
    exit_bar = np.arange(n) + bars
    with np.errstate(divide="ignore", invalid="ignore"):
        ret = np.log(close[np.minimum(exit_bar, n - 1)] / entry) if n else close
        ret = np.where(goes_long, np.log1p(target / entry), ret)
        ret = np.where(goes_short, np.log1p(-target / entry), ret)
    return np.where(known, y, -1), np.where(known, ret, np.nan), exit_bar, touched


def _race(
    best: FloatArray, worst: FloatArray, target: FloatArray, stop: FloatArray, horizon: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Bars until the trade ends (horizon + 1: neither was touched), and whether it ended at its target."""
    bars = np.full(len(best), horizon + 1, dtype=np.int64)
    won = np.zeros(len(best), dtype=bool)
    for ahead in range(1, horizon + 1):
        running = bars > horizon
        at_stop = running & (_ahead(worst, ahead) <= stop)
        at_target = running & ~at_stop & (_ahead(best, ahead) >= target)
        bars[at_stop | at_target] = ahead
        won |= at_target
    return bars, won
