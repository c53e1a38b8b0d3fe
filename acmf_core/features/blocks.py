"""Aligned blocks: why a row has the same bits whatever history was loaded.

Recursive indicators remember everything since their seed. Time is therefore cut into blocks of 8 days,
aligned to the epoch; all rows of a block are computed from one window, the block and its warm-up, seeded at
the window's first bar. Anyone who has loaded that window gets the same bits, whatever else he has loaded.

A window *stands* up to the first missing bar: `Spans` lists, for one timeframe, the windows and the rows they
answer. `unroll` lays the windows one after another, so that kernels see plain stretches of bars; `Layout`
says where each lies, and the kernels of `answers.py` bring the results back to their rows.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from acmf_core.domain import BAR_US, BARS_PER_DAY, DAY_US
from acmf_core.features.compiled import FloatArray, IntArray, compiled
from acmf_core.features.schema import BLOCK_DAYS

BLOCK_US: Final = BLOCK_DAYS * DAY_US
BLOCK_BARS: Final = BLOCK_DAYS * BARS_PER_DAY


class Spans(NamedTuple):
    """Windows of one timeframe as positions of 15m bars: equal-length integer arrays.

    The bars start:stop are the window, of which the rows first:stop are answered.
    """

    start: IntArray
    first: IntArray
    stop: IntArray

    def chunks(self, windows: int) -> Iterator["Spans"]:
        """At most so many windows at a time."""
        for i in range(0, len(self.start), windows):
            yield Spans(self.start[i : i + windows], self.first[i : i + windows], self.stop[i : i + windows])

    def since(self, row: int) -> "Spans":
        """The same windows, answering only the rows from `row` on."""
        kept = self.stop > row
        return Spans(self.start[kept], np.maximum(self.first[kept], row), self.stop[kept])


class Layout(NamedTuple):
    """Where windows lie once unrolled, one integer array each.

    Window k is offsets[k]:offsets[k + 1]; its first answered row lies at offsets[k] + heads[k] and is row
    rows[k] of the output.
    """

    offsets: IntArray
    heads: IntArray
    rows: IntArray

    @classmethod
    def of(cls, spans: Spans, shift: int) -> "Layout":
        """The layout of 15m windows, where row 0 of the output is bar `shift`."""
        ends = np.cumsum(spans.stop - spans.start)
        return cls(np.concatenate(([0], ends)), spans.first - spans.start, spans.first - shift)


@compiled
def run_lengths(
    open_time: IntArray,
    ohlcv: FloatArray,
    bar_us: int,
    out: IntArray,
) -> None:
    """How many bars without a missing one end at each bar; 0 at a bar that is itself as good as missing.

    Missing is a bar with a number that is not finite, a price <= 0 or a negative volume.
    """
    open_, high, low, close, volume = ohlcv[0], ohlcv[1], ohlcv[2], ohlcv[3], ohlcv[4]
    run = 0
    for i in range(len(open_time)):
        present = (
            (open_[i] > 0.0)
            and (high[i] > 0.0)
            and (low[i] > 0.0)
            and (close[i] > 0.0)
            and (volume[i] >= 0.0)
            and np.isfinite(open_[i] + high[i] + low[i] + close[i])
            and np.isfinite(volume[i])
        )
        follows = i > 0 and open_time[i] - open_time[i - 1] == bar_us
        if not present:
            run = 0
        elif follows:
            run += 1
        else:
            run = 1
        out[i] = run


@compiled
def _standing(
    open_time: IntArray, runs: IntArray, warmup: int, block_us: int, bar_us: int, spans: IntArray
) -> int:
    count = 0
    i, n = 0, len(open_time)
    while i < n:
        block = open_time[i] // block_us
        phase = (open_time[i] - block * block_us) // bar_us
        stop = i
        # A window stands at its block's first bar or not at all.
        if phase == 0:
            while stop < n and runs[stop] > warmup + stop - i and stop - i < block_us // bar_us:
                stop += 1
        if stop > i:
            spans[0, count], spans[1, count], spans[2, count] = i - warmup, i, stop
            count += 1
        i = max(i + 1, stop)
        while i < n and open_time[i] < (block + 1) * block_us:
            i += 1
    return count


def block_spans(open_time: IntArray, runs: IntArray, warmup_bars: int) -> Spans:
    """The windows that stand, for a warm-up of so many 15m bars before each block."""
    spans = np.empty((3, len(open_time)), dtype=np.int64)
    count = _standing(open_time, runs, warmup_bars, BLOCK_US, BAR_US, spans)
    return Spans(spans[0, :count].copy(), spans[1, :count].copy(), spans[2, :count].copy())


@compiled
def unroll(x: FloatArray, start: IntArray, offsets: IntArray, out: FloatArray) -> None:
    """Copy the windows beginning at `start` one after another into `out`."""
    for k in range(len(start)):
        begin, length = start[k], offsets[k + 1] - offsets[k]
        out[offsets[k] : offsets[k + 1]] = x[begin : begin + length]


class Candles(NamedTuple):
    """Complete candles of a higher timeframe, oldest first; `last_bar` is each one's newest 15m bar."""

    last_bar: IntArray
    high: FloatArray
    low: FloatArray
    close: FloatArray


@compiled
def _complete(
    open_time: IntArray,
    runs: IntArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    bar_us: int,
    bars: int,
    last_bar: IntArray,
    ohlc: FloatArray,
) -> int:
    count = 0
    length_us = bars * bar_us
    i = 0
    while i < len(open_time):
        left = length_us - open_time[i] % length_us  # to the candle's close
        newest = i + left // bar_us - 1
        if newest >= len(open_time) or open_time[newest] - open_time[i] != left - bar_us:
            i += 1
            continue
        if runs[newest] >= bars:
            top, bottom = high[newest], low[newest]
            for j in range(newest - bars + 1, newest):
                top = high[j] if high[j] > top else top
                bottom = low[j] if low[j] < bottom else bottom
            last_bar[count] = newest
            ohlc[0, count], ohlc[1, count], ohlc[2, count] = top, bottom, close[newest]
            count += 1
        i = newest + 1
    return count


def complete_candles(
    open_time: IntArray, runs: IntArray, high: FloatArray, low: FloatArray, close: FloatArray, bars: int
) -> Candles:
    """Candles of `bars` 15m bars each, only those all of whose bars are there."""
    most = len(open_time) // bars
    last_bar, ohlc = np.empty(most, dtype=np.int64), np.empty((3, most))
    count = _complete(open_time, runs, high, low, close, BAR_US, bars, last_bar, ohlc)
    return Candles(last_bar[:count], ohlc[0, :count], ohlc[1, :count], ohlc[2, :count])
