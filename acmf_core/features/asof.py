"""What was known when: the one as-of join of slow sources onto bars.

A slow row is known from its `available_at` on, to the very microsecond, and is forgotten when it is older
than the source's maximum age. Kernels, not DuckDB: features stay pure, a live join is instant (ADR 020).
"""

import math

import numpy as np

from acmf_core.features.compiled import FloatArray, IntArray, compiled


@compiled
def _last_known(available_at: IntArray, closes: IntArray, max_age_us: int, out: IntArray) -> None:
    j = np.searchsorted(available_at, closes[0], side="right") - 1 if len(closes) > 0 else -1
    for i in range(len(closes)):
        while j + 1 < len(available_at) and available_at[j + 1] <= closes[i]:
            j += 1
        out[i] = j if j >= 0 and closes[i] - available_at[j] <= max_age_us else -1


def last_known(available_at: IntArray, closes: IntArray, max_age_us: int) -> IntArray:
    """For each close the position of the last row known by then, -1 where there is none or it is too old.

    Parameters
    ----------
    available_at : ndarray of int64
        Microseconds, ascending; of rows with the same stamp the last one counts.
    closes : ndarray of int64
        Microseconds, ascending.
    max_age_us : int
        A row exactly this old is still known.
    """
    out = np.empty(len(closes), dtype=np.int64)
    _last_known(available_at, closes, max_age_us, out)
    return out


@compiled
def take(values: FloatArray, positions: IntArray, out: FloatArray) -> None:
    """out = values at `positions`, NaN where a position is -1."""
    for i in range(len(positions)):
        out[i] = values[positions[i]] if positions[i] >= 0 else np.nan


@compiled
def logarithms(values: FloatArray, out: FloatArray) -> None:
    """Natural logarithms, by the same library that the candle columns use."""
    for i in range(len(values)):
        out[i] = math.log(values[i])


@compiled
def trailing_zscores(
    available_at: IntArray,
    x: FloatArray,
    wanted: IntArray,
    span_us: int,
    min_rows: int,
    still: float,
    out: FloatArray,
) -> None:
    """z-score of the wanted rows among the rows available in (a - span, a], themselves included (ddof 0).

    0 where the variance is at most `still` of the mean square; NaN with fewer than `min_rows` rows, and NaN
    unless a row at or before a - span is loaded: else the value would depend on how much was loaded.
    """
    for w in range(len(wanted)):
        last = wanted[w]
        oldest = available_at[last] - span_us
        first = np.searchsorted(available_at, oldest, side="right")
        n = last - first + 1
        if first == 0 or n < min_rows:
            out[last] = np.nan
            continue
        mean, square, variance = 0.0, 0.0, 0.0
        for i in range(first, last + 1):
            mean += x[i]
            square += x[i] * x[i]
        mean /= n
        for i in range(first, last + 1):
            d = x[i] - mean
            variance += d * d
        variance /= n
        out[last] = (x[last] - mean) / np.sqrt(variance) if variance > still * (square / n) else 0.0
