"""The last step of a column: from the series of unrolled windows to the rows of the output.

`at` says where each window's answered rows lie in the series and in the output (`blocks.Layout`).
"""

import math

from acmf_core.features.blocks import Layout, Spans
from acmf_core.features.compiled import FloatArray, IntArray, compiled


@compiled
def plain(values: FloatArray, at: Layout, lag: int, out: FloatArray) -> None:
    """The value `lag` bars earlier in the row's own window."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(at.offsets[k + 1] - first):
            out[row + i] = values[first - lag + i]


@compiled
def share(part: FloatArray, whole: FloatArray, at: Layout, out: FloatArray) -> None:
    """part / whole * 100."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(at.offsets[k + 1] - first):
            out[row + i] = part[first + i] / whole[first + i] * 100.0


@compiled
def relative(price: FloatArray, base: FloatArray, at: Layout, out: FloatArray) -> None:
    """(price - base) / base * 100."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(at.offsets[k + 1] - first):
            level = base[first + i]
            out[row + i] = (price[first + i] - level) / level * 100.0


@compiled
def log_return(close: FloatArray, at: Layout, bars: int, lag: int, out: FloatArray) -> None:
    """100 ln(C_t / C_{t - bars}), `lag` bars earlier."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k] - lag, at.rows[k]
        for i in range(first, at.offsets[k + 1] - lag):
            out[row + i - first] = 100.0 * math.log(close[i] / close[i - bars])


@compiled
def ratio(
    part: FloatArray, whole: FloatArray, at: Layout, lag: int, undefined: float, out: FloatArray
) -> None:
    """part / whole, `lag` bars earlier; `undefined` where the whole is 0."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k] - lag, at.rows[k]
        for i in range(at.offsets[k + 1] - lag - first):
            whole_i = whole[first + i]
            out[row + i] = part[first + i] / whole_i if whole_i != 0.0 else undefined


@compiled
def band(
    mean: FloatArray, variance: FloatArray, close: FloatArray, at: Layout, sigmas: float, out: FloatArray
) -> None:
    """Bollinger band relative to the close, percent: mean + sigmas * population sigma."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            level = mean[i] + sigmas * math.sqrt(variance[i])
            out[row + i - first] = (level - close[i]) / close[i] * 100.0


@compiled
def vwap_distance(
    money: FloatArray, traded: FloatArray, close: FloatArray, at: Layout, out: FloatArray
) -> None:
    """(close - V) / V * 100 with V = money / traded; 0 without volume, where V is the close."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            vwap = money[i] / traded[i] if traded[i] > 0.0 else close[i]
            out[row + i - first] = (close[i] - vwap) / vwap * 100.0


@compiled
def volatility(total: FloatArray, at: Layout, n: int, out: FloatArray) -> None:
    """Percent volatility from the sum of n variances of log prices, their mean floored at 0."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            mean = total[i] / n
            out[row + i - first] = math.sqrt(mean) * 100.0 if mean > 0.0 else 0.0


@compiled
def autocorrelation(
    products: FloatArray, variance: FloatArray, still: float, at: Layout, n: int, out: FloatArray
) -> None:
    """Sum of neighbouring products over the sum of squares; 0 where the variance is below `still`."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            out[row + i - first] = products[i] / (variance[i] * n) if variance[i] >= still else 0.0


@compiled
def skew(third: FloatArray, variance: FloatArray, still: float, at: Layout, out: FloatArray) -> None:
    """m3 / m2^1.5; 0 where the variance is below `still`."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            v = variance[i]
            out[row + i - first] = third[i] / (v * math.sqrt(v)) if v >= still else 0.0


@compiled
def excess_kurtosis(
    fourth: FloatArray, variance: FloatArray, still: float, at: Layout, out: FloatArray
) -> None:
    """m4 / m2^2 - 3; 0 where the variance is below `still`."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            v = variance[i]
            out[row + i - first] = fourth[i] / (v * v) - 3.0 if v >= still else 0.0


@compiled
def range_position(close: FloatArray, high: FloatArray, low: FloatArray, at: Layout, out: FloatArray) -> None:
    """Where the close lies between a lowest low (0) and a highest high (1); 0.5 where they are one."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            height = high[i] - low[i]
            out[row + i - first] = (close[i] - low[i]) / height if height != 0.0 else 0.5


@compiled
def zscore(
    x: FloatArray, mean: FloatArray, variance: FloatArray, still: float, at: Layout, out: FloatArray
) -> None:
    """Distance from the mean in standard deviations; 0 where variance <= still * mean square."""
    for k in range(len(at.heads)):
        first, row = at.offsets[k] + at.heads[k], at.rows[k]
        for i in range(first, at.offsets[k + 1]):
            v = variance[i]
            moved = v > still * (v + mean[i] * mean[i])  # the mean square is variance + mean^2
            out[row + i - first] = (x[i] - mean[i]) / math.sqrt(v) if moved else 0.0


@compiled
def closed(
    values: FloatArray, offsets: IntArray, spans: Spans, bars: int, shift: int, out: FloatArray
) -> None:
    """The value of the last candle (of `bars` 15m bars) closed by the row's close; row 0 is bar `shift`."""
    for k in range(len(spans.start)):
        seen = spans.first[k] - spans.start[k] + 1  # bars of the window, the first answered one included
        newest, phase = offsets[k] + seen // bars - 1, seen % bars
        for i in range(spans.first[k], spans.stop[k]):
            out[i - shift] = values[newest]
            phase += 1
            if phase == bars:
                newest, phase = newest + 1, 0


@compiled
def closed_relative(
    price: FloatArray,
    close: FloatArray,
    offsets: IntArray,
    spans: Spans,
    bars: int,
    shift: int,
    out: FloatArray,
) -> None:
    """(price of the last closed candle - the row's own 15m close) / that close * 100."""
    for k in range(len(spans.start)):
        seen = spans.first[k] - spans.start[k] + 1
        newest, phase = offsets[k] + seen // bars - 1, seen % bars
        for i in range(spans.first[k], spans.stop[k]):
            out[i - shift] = (price[newest] - close[i]) / close[i] * 100.0
            phase += 1
            if phase == bars:
                newest, phase = newest + 1, 0
