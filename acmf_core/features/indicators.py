"""Recursive indicators, seeded at the start of each window as TA-Lib seeds them.

A window is the stretch `offsets[k]:offsets[k + 1]` of arrays in which all windows lie one after another
(see `blocks.py`). Each kernel fills `out` of the same length; values before an indicator exists are NaN.
Zero tests are exact, divisions follow the textbook's order: multiplying all prices by a power of two changes
no bit of RSI and ADX, and scales EMA and ATR exactly.
"""

import math

import numpy as np

from acmf_core.features.blocks import Layout
from acmf_core.features.compiled import FloatArray, IntArray, compiled


@compiled
def ema(x: FloatArray, offsets: IntArray, period: int, out: FloatArray) -> None:
    """Exponential mean, alpha 2 / (period + 1), starting at the window's first value."""
    alpha = 2.0 / (period + 1.0)
    for k in range(len(offsets) - 1):
        level = x[offsets[k]]
        out[offsets[k]] = level
        for i in range(offsets[k] + 1, offsets[k + 1]):
            level = (x[i] - level) * alpha + level
            out[i] = level


@compiled
def rsi(close: FloatArray, offsets: IntArray, period: int, out: FloatArray) -> None:
    """Wilder's relative strength index in [0, 100]; 50 where nothing has moved."""
    for k in range(len(offsets) - 1):
        begin, end = offsets[k], offsets[k + 1]
        gain, loss = 0.0, 0.0
        seeded = min(begin + period, end - 1)
        out[begin:seeded] = np.nan
        for i in range(begin + 1, seeded + 1):
            change = close[i] - close[i - 1]
            if change < 0.0:
                loss -= change
            else:
                gain += change
        gain /= period
        loss /= period
        moved = gain + loss
        out[seeded] = 100.0 * (gain / moved) if moved != 0.0 else 50.0
        for i in range(seeded + 1, end):
            change = close[i] - close[i - 1]
            up = change if change > 0.0 else 0.0
            down = -change if change < 0.0 else 0.0
            gain = (gain * (period - 1) + up) / period
            loss = (loss * (period - 1) + down) / period
            moved = gain + loss
            out[i] = 100.0 * (gain / moved) if moved != 0.0 else 50.0


@compiled
def atr(
    high: FloatArray, low: FloatArray, close: FloatArray, offsets: IntArray, period: int, out: FloatArray
) -> None:
    """Wilder's average true range in price units; the seed is the mean of the true ranges 1..period."""
    for k in range(len(offsets) - 1):
        begin, end = offsets[k], offsets[k + 1]
        seeded = min(begin + period, end - 1)
        out[begin:seeded] = np.nan
        average = 0.0
        for i in range(begin + 1, end):
            before = close[i - 1]
            true_range = max(high[i] - low[i], abs(high[i] - before), abs(low[i] - before))
            if i <= seeded:
                average += true_range
                if i == seeded:
                    average /= period
            else:
                average = (average * (period - 1) + true_range) / period
            if i >= seeded:
                out[i] = average


@compiled
def adx(
    high: FloatArray, low: FloatArray, close: FloatArray, offsets: IntArray, period: int, out: FloatArray
) -> None:
    """Wilder's average directional index in [0, 100].

    Directional movement and true range are summed over period - 1 bars and then smoothed; the first value is
    the mean of `period` DX, an undefined DX counting 0. Later an undefined DX leaves the index as it is.
    """
    for k in range(len(offsets) - 1):
        begin, end = offsets[k], offsets[k + 1]
        plus, minus, ranges, total, index = 0.0, 0.0, 0.0, 0.0, np.nan
        summed, seeded = begin + period - 1, begin + 2 * period - 1
        out[begin : min(seeded, end)] = np.nan
        for i in range(begin + 1, end):
            up, down, before = high[i] - high[i - 1], low[i - 1] - low[i], close[i - 1]
            true_range = max(high[i] - low[i], abs(high[i] - before), abs(low[i] - before))
            if i > summed:
                plus -= plus / period
                minus -= minus / period
                ranges -= ranges / period
            if up > 0.0 and up > down:
                plus += up
            elif down > 0.0 and down > up:
                minus += down
            ranges += true_range
            if i <= summed:
                continue
            dx, defined = 0.0, False
            if ranges != 0.0:
                plus_di, minus_di = 100.0 * (plus / ranges), 100.0 * (minus / ranges)
                if plus_di + minus_di != 0.0:
                    dx, defined = 100.0 * (abs(minus_di - plus_di) / (minus_di + plus_di)), True
            if i <= seeded:
                total += dx
                if i == seeded:
                    index = total / period
            elif defined:
                index = (index * (period - 1) + dx) / period
            if i >= seeded:
                out[i] = index


@compiled
def anchored_vwap(
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    offsets: IntArray,
    anchor_bars: int,
    out: FloatArray,
) -> None:
    """Volume-weighted typical price since the window's last multiple of `anchor_bars`; no volume: the close.

    Windows begin at 00:00 UTC, so a multiple of 96 bars is the start of a day.
    """
    for k in range(len(offsets) - 1):
        money, traded = 0.0, 0.0
        for i in range(offsets[k], offsets[k + 1]):
            if (i - offsets[k]) % anchor_bars == 0:
                money, traded = 0.0, 0.0
            money += (high[i] + low[i] + close[i]) / 3.0 * volume[i]
            traded += volume[i]
            out[i] = money / traded if traded > 0.0 else close[i]


@compiled
def log_return(close: FloatArray, offsets: IntArray, bars: int, out: FloatArray) -> None:
    """100 ln(C_t / C_{t - bars}); NaN for a window's first `bars` values."""
    for k in range(len(offsets) - 1):
        begin, end = offsets[k], offsets[k + 1]
        out[begin : min(begin + bars, end)] = np.nan
        for i in range(begin + bars, end):
            out[i] = 100.0 * math.log(close[i] / close[i - bars])


@compiled
def signed_volume(close: FloatArray, volume: FloatArray, offsets: IntArray, out: FloatArray) -> None:
    """First difference of on-balance volume: the volume with the sign of the close's change."""
    for k in range(len(offsets) - 1):
        out[offsets[k]] = np.nan
        for i in range(offsets[k] + 1, offsets[k + 1]):
            change = close[i] - close[i - 1]
            out[i] = volume[i] if change > 0.0 else (-volume[i] if change < 0.0 else 0.0)


@compiled
def garman_klass_variance(
    open_: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    at: Layout,
    back: int,
    out: FloatArray,
) -> None:
    """Each bar's variance of log prices, 0.5 ln(H/L)^2 - (2 ln 2 - 1) ln(C/O)^2 (Garman and Klass, 1980).

    For the answered rows and `back` bars before each window's first one.
    """
    weight = 2.0 * math.log(2.0) - 1.0
    for k in range(len(at.heads)):
        for i in range(at.offsets[k] + at.heads[k] - back, at.offsets[k + 1]):
            span, body = math.log(high[i] / low[i]), math.log(close[i] / open_[i])
            out[i] = 0.5 * (span * span) - weight * (body * body)


@compiled
def traded_money(
    high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, out: FloatArray
) -> None:
    """Typical price (H + L + C) / 3 times volume."""
    for i in range(len(close)):
        out[i] = (high[i] + low[i] + close[i]) / 3.0 * volume[i]
