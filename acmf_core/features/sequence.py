"""The definitions of the 22 sequence channels: each writes its rows into one column of the output.

A function is called with the parameters that `schema.py` declares for a feature.
"""

from acmf_core.features import answers, indicators, rolling
from acmf_core.features.compiled import FloatArray
from acmf_core.features.windows import LONGEST_LAG, BarWindows


def rsi(w: BarWindows, out: FloatArray, *, period: int, lag: int = 0) -> None:
    answers.plain(w.rsi(period), w.at, lag, out)


def ema(w: BarWindows, out: FloatArray, *, period: int) -> None:
    answers.relative(w.ema(period), w.close, w.at, out)


def atr(w: BarWindows, out: FloatArray, *, period: int) -> None:
    answers.share(w.atr(period), w.close, w.at, out)


def bollinger(w: BarWindows, out: FloatArray, *, period: int, sigmas: float) -> None:
    answers.band(w.mean("close", period), w.variance("close", period), w.close, w.at, sigmas, out)


def macd(
    w: BarWindows, out: FloatArray, *, fast: int, slow: int, signal: int, output: str, scale: str
) -> None:
    if output == "line":
        values = w.macd(fast, slow)
    elif output == "signal":
        values = w.macd_signal(fast, slow, signal)
    else:
        values = w.macd(fast, slow) - w.macd_signal(fast, slow, signal)
    if scale == "percent":
        answers.share(values, w.close, w.at, out)
    else:
        answers.plain(values, w.at, 0, out)


def anchored_vwap(w: BarWindows, out: FloatArray, *, anchor_bars: int) -> None:
    vwap = w.scratch()
    indicators.anchored_vwap(w.high, w.low, w.close, w.volume, w.at.offsets, anchor_bars, vwap)
    answers.relative(vwap, w.close, w.at, out)


def volume_ratio(w: BarWindows, out: FloatArray, *, period: int, lag: int = 0) -> None:
    answers.ratio(w.volume, w.mean("volume", period, back=LONGEST_LAG), w.at, lag, 0.0, out)


def vwap_distance(w: BarWindows, out: FloatArray, *, period: int) -> None:
    money, sums, traded = w.scratch(), w.scratch(), w.scratch()
    indicators.traded_money(w.high, w.low, w.close, w.volume, money)
    rolling.total(money, w.at, 0, period, sums)
    rolling.total(w.volume, w.at, 0, period, traded)
    answers.vwap_distance(sums, traded, w.close, w.at, out)


def adx(w: BarWindows, out: FloatArray, *, period: int, lag: int = 0) -> None:
    answers.plain(w.adx(period), w.at, lag, out)


def obv_change(w: BarWindows, out: FloatArray, *, volume_period: int) -> None:
    mean = w.mean("volume", volume_period, back=LONGEST_LAG)
    answers.ratio(w.signed_volume(), mean, w.at, 0, 0.0, out)


def obv_slope(w: BarWindows, out: FloatArray, *, period: int, volume_period: int) -> None:
    slope, mean = w.scratch(), w.mean("volume", volume_period, back=LONGEST_LAG)
    rolling.slope(w.signed_volume(), w.at, period, slope)
    answers.ratio(slope, mean, w.at, 0, 0.0, out)


def return_std(w: BarWindows, out: FloatArray, *, period: int) -> None:
    answers.plain(w.deviation(period), w.at, 0, out)


def garman_klass(w: BarWindows, out: FloatArray, *, period: int) -> None:
    variance, total = w.scratch(), w.scratch()
    indicators.garman_klass_variance(w.open, w.high, w.low, w.close, w.at, period - 1, variance)
    rolling.total(variance, w.at, 0, period, total)
    answers.volatility(total, w.at, period, out)


def atr_ratio(w: BarWindows, out: FloatArray, *, period: int, mean_period: int) -> None:
    mean = w.scratch()
    rolling.mean(w.atr(period), w.at, 0, mean_period, mean)
    answers.ratio(w.atr(period), mean, w.at, 0, 1.0, out)


def volatility_rank(w: BarWindows, out: FloatArray, *, period: int, volatility_period: int) -> None:
    rank = w.scratch()
    rolling.percentile_rank(w.deviation(volatility_period, back=period - 1), w.at, period, rank)
    answers.plain(rank, w.at, 0, out)
