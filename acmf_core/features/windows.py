"""The windows of some blocks, unrolled, with the series that several columns share."""

from collections.abc import Callable
from typing import Final

import numpy as np

from acmf_core.features import indicators, rolling
from acmf_core.features.blocks import Layout, Spans, unroll
from acmf_core.features.compiled import FloatArray

# Variance below which percent returns have not moved at all; of levels, as a share of their mean square.
# An argument of the kernels, not a constant in them: numba's cache would not see it change.
STILL: Final = 1e-24
LONGEST_LAG: Final = 4  # bars before a window's first answered row that a lagged column reads


class BarWindows:
    """15m windows one after another (arrays of equal length), and series made of them, each computed once.

    Recursive series (`ema`, `rsi`, `atr`, `adx`, `macd*`) and returns cover whole windows; `mean` and
    `variance` cover the answered rows and `back` bars before each window's first one.

    Parameters
    ----------
    ohlcv : ndarray (5, n)
        open, high, low, close, volume of all bars.
    spans : Spans
        The windows.
    shift : int
        Row 0 of the output is bar `shift`.
    """

    def __init__(self, ohlcv: FloatArray, spans: Spans, shift: int) -> None:
        self.at = Layout.of(spans, shift)
        self._bars = int(self.at.offsets[-1])
        self._known: dict[tuple[object, ...], FloatArray] = {}
        unrolled = np.empty((5, self._bars))
        for column, out in zip(ohlcv, unrolled, strict=True):
            unroll(column, spans.start, self.at.offsets, out)
        self.open, self.high, self.low, self.close, self.volume = unrolled

    def once(self, *key: object, fill: Callable[[FloatArray], None], count: int = 1) -> FloatArray:
        """The series named `key`, or `count` of them; `fill` computes it the first time it is asked for."""
        known = self._known.get(key)
        if known is None:
            known = np.empty(self._bars if count == 1 else (count, self._bars))
            fill(known)
            self._known[key] = known
        return known

    def scratch(self) -> FloatArray:
        """An uninitialised series."""
        return np.empty(self._bars)

    def ema(self, period: int) -> FloatArray:
        offsets = self.at.offsets
        return self.once("ema", period, fill=lambda out: indicators.ema(self.close, offsets, period, out))

    def rsi(self, period: int) -> FloatArray:
        offsets = self.at.offsets
        return self.once("rsi", period, fill=lambda out: indicators.rsi(self.close, offsets, period, out))

    def atr(self, period: int) -> FloatArray:
        bars = (self.high, self.low, self.close, self.at.offsets)
        return self.once("atr", period, fill=lambda out: indicators.atr(*bars, period, out))

    def adx(self, period: int) -> FloatArray:
        bars = (self.high, self.low, self.close, self.at.offsets)
        return self.once("adx", period, fill=lambda out: indicators.adx(*bars, period, out))

    def macd(self, fast: int, slow: int) -> FloatArray:
        def fill(out: FloatArray) -> None:
            np.subtract(self.ema(fast), self.ema(slow), out=out)

        return self.once("macd", fast, slow, fill=fill)

    def macd_signal(self, fast: int, slow: int, signal: int) -> FloatArray:
        def fill(out: FloatArray) -> None:
            indicators.ema(self.macd(fast, slow), self.at.offsets, signal, out)

        return self.once("macd_signal", fast, slow, signal, fill=fill)

    def log_return(self) -> FloatArray:
        """One-bar returns, percent."""
        offsets = self.at.offsets
        return self.once("return", fill=lambda out: indicators.log_return(self.close, offsets, 1, out))

    def signed_volume(self) -> FloatArray:
        bars = (self.close, self.volume, self.at.offsets)
        return self.once("signed_volume", fill=lambda out: indicators.signed_volume(*bars, out))

    def mean(self, of: str, period: int, *, back: int = 0) -> FloatArray:
        x = self.series(of)
        key = ("mean", of, period, back)
        return self.once(*key, fill=lambda out: rolling.mean(x, self.at, back, period, out))

    def variance(self, of: str, period: int, *, back: int = 0) -> FloatArray:
        x, mean = self.series(of), self.mean(of, period, back=back)
        key = ("variance", of, period, back)
        return self.once(*key, fill=lambda out: rolling.variance(x, mean, self.at, back, period, out))

    def deviation(self, period: int, *, back: int = 0) -> FloatArray:
        """Standard deviation of the last `period` one-bar returns, percent."""
        variance = self.variance("return", period, back=back)
        key = ("deviation", period, back)
        return self.once(*key, fill=lambda out: rolling.deviation(variance, STILL, self.at, back, out))

    def higher_moments(self, period: int) -> FloatArray:
        """Third and fourth central moments of the last `period` one-bar returns, (2, bars)."""
        x, mean = self.log_return(), self.mean("return", period)

        def fill(out: FloatArray) -> None:
            rolling.higher_moments(x, mean, self.at, period, out[0], out[1])

        return self.once("higher_moments", period, fill=fill, count=2)

    def series(self, of: str) -> FloatArray:
        """The close, the volume or the one-bar return, by name."""
        if of == "return":
            return self.log_return()
        return self.close if of == "close" else self.volume
