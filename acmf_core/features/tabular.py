"""The definitions of the tabular features that are not channels and are made of candles.

First those of the 15m windows, then those of the higher timeframes, whose candles are always the resample of
the 15m bars. A function is called with the parameters that `schema.py` declares for a feature.
"""

from typing import NamedTuple

import numpy as np

from acmf_core.features import answers, indicators, rolling
from acmf_core.features.blocks import Candles, Spans, unroll
from acmf_core.features.compiled import FloatArray, IntArray
from acmf_core.features.windows import STILL, BarWindows


def log_return(w: BarWindows, out: FloatArray, *, bars: int, lag: int = 0) -> None:
    if bars == 1:  # a series that other columns need, too
        answers.plain(w.log_return(), w.at, lag, out)
    else:
        answers.log_return(w.close, w.at, bars, lag, out)


def return_autocorrelation(w: BarWindows, out: FloatArray, *, period: int) -> None:
    mean, variance = w.mean("return", period), w.variance("return", period)
    products = w.scratch()
    rolling.neighbour_products(w.log_return(), mean, w.at, period, products)
    answers.autocorrelation(products, variance, STILL, w.at, period, out)


def range_position(w: BarWindows, out: FloatArray, *, period: int) -> None:
    highest, lowest = w.scratch(), w.scratch()
    rolling.highest(w.high, w.at, period, highest)
    rolling.lowest(w.low, w.at, period, lowest)
    answers.range_position(w.close, highest, lowest, w.at, out)


def return_skew(w: BarWindows, out: FloatArray, *, period: int) -> None:
    third, _ = w.higher_moments(period)
    answers.skew(third, w.variance("return", period), STILL, w.at, out)


def return_kurtosis(w: BarWindows, out: FloatArray, *, period: int) -> None:
    _, fourth = w.higher_moments(period)
    answers.excess_kurtosis(fourth, w.variance("return", period), STILL, w.at, out)


def zscore(w: BarWindows, out: FloatArray, *, of: str, period: int) -> None:
    answers.zscore(w.series(of), w.mean(of, period), w.variance(of, period), STILL, w.at, out)


class HigherWindows(NamedTuple):
    """Windows of a higher timeframe: its candles one after another, and the rows that they answer.

    bars: 15m bars per candle. bar_close: 15m closes, by bar. Row 0 of the output is bar `shift`.
    """

    bars: int
    offsets: IntArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    spans: Spans
    bar_close: FloatArray
    shift: int

    @classmethod
    def of(
        cls, candles: Candles, bars: int, spans: Spans, bar_close: FloatArray, shift: int
    ) -> "HigherWindows":
        """The candles of the windows that stand: complete, because no bar of such a window is missing."""
        start = np.searchsorted(candles.last_bar, spans.start + (bars - 1))
        offsets = np.concatenate(([0], np.cumsum((spans.stop - spans.start) // bars)))
        unrolled = np.empty((3, offsets[-1]))
        for column, out in zip((candles.high, candles.low, candles.close), unrolled, strict=True):
            unroll(column, start, offsets, out)
        high, low, close = unrolled
        return cls(bars, offsets, high, low, close, spans, bar_close, shift)

    def answer(self, values: FloatArray, out: FloatArray) -> None:
        answers.closed(values, self.offsets, self.spans, self.bars, self.shift, out)


def higher_rsi(w: HigherWindows, out: FloatArray, *, period: int) -> None:
    values = np.empty_like(w.close)
    indicators.rsi(w.close, w.offsets, period, values)
    w.answer(values, out)


def higher_ema(w: HigherWindows, out: FloatArray, *, period: int) -> None:
    levels = np.empty_like(w.close)
    indicators.ema(w.close, w.offsets, period, levels)
    answers.closed_relative(levels, w.bar_close, w.offsets, w.spans, w.bars, w.shift, out)


def higher_atr(w: HigherWindows, out: FloatArray, *, period: int) -> None:
    values = np.empty_like(w.close)
    indicators.atr(w.high, w.low, w.close, w.offsets, period, values)
    w.answer(values / w.close * 100.0, out)


def higher_adx(w: HigherWindows, out: FloatArray, *, period: int) -> None:
    values = np.empty_like(w.close)
    indicators.adx(w.high, w.low, w.close, w.offsets, period, values)
    w.answer(values, out)


def higher_macd(
    w: HigherWindows, out: FloatArray, *, fast: int, slow: int, signal: int, output: str, scale: str
) -> None:
    quick, calm, smooth = np.empty_like(w.close), np.empty_like(w.close), np.empty_like(w.close)
    indicators.ema(w.close, w.offsets, fast, quick)
    indicators.ema(w.close, w.offsets, slow, calm)
    line = quick - calm
    indicators.ema(line, w.offsets, signal, smooth)
    values = {"line": line, "signal": smooth, "hist": line - smooth}[output]
    w.answer(values / w.close * 100.0 if scale == "percent" else values, out)


def higher_log_return(w: HigherWindows, out: FloatArray, *, bars: int) -> None:
    values = np.empty_like(w.close)
    indicators.log_return(w.close, w.offsets, bars, values)
    w.answer(values, out)
