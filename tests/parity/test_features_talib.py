"""Every indicator that TA-Lib has, against TA-Lib, on recorded data: raw values in price units after warm-up.

TA-Lib runs once over all bars; ours in blocks. Where TA-Lib seeds otherwise (its EMA starts from a mean, its
MACD aligns both EMAs), the difference has decayed after the warm-up, but for the daily EMA, whose window is
short: that one is compared on its own window, with TA-Lib made to seed as we do.
"""

import numpy as np
import pandas as pd
import pytest
import talib
from recorded_market import recorded_candles

from acmf_core.features import MarketData, build_features, indicators

SETTLED = 4_800  # rows until every timeframe but the day has its warm-up


@pytest.fixture(scope="module")
def recorded(real_data):
    market = MarketData.from_candles(recorded_candles(real_data))
    return market.candles, build_features(market).tabular


def assert_prices_agree(ours, theirs, close):
    ours, theirs, close = (np.asarray(x)[SETTLED:] for x in (ours, theirs, close))
    assert np.isfinite(theirs).all()
    np.testing.assert_array_less(np.abs(ours - theirs), 1e-6 * np.abs(theirs) + 1e-9 * close + 1e-300)


def price(feature, close):
    """A price from its distance to the close in percent."""
    return close * (1 + feature / 100)


@pytest.mark.parametrize("period", [7, 14])
def test_rsi_and_atr_agree(recorded, period):
    bars, f = recorded
    close = bars["close"]
    assert_prices_agree(f[f"rsi_{period}"], talib.RSI(close, period), close * 0 + 100)
    theirs = talib.ATR(bars["high"], bars["low"], close, period)
    assert_prices_agree(f[f"atr_{period}"] * close / 100, theirs, close)


@pytest.mark.parametrize("period", [9, 21])
def test_emas_agree(recorded, period):
    bars, f = recorded
    close = bars["close"]
    assert_prices_agree(price(f[f"ema_{period}"], close), talib.EMA(close, period), close)


def test_bollinger_bands_agree(recorded):
    bars, f = recorded
    close = bars["close"]
    bands = talib.BBANDS(close, timeperiod=10, nbdevup=2.0, nbdevdn=2.0)
    for name, theirs in zip(("bb_upper_10", "bb_mid_10", "bb_lower_10"), bands, strict=True):
        assert_prices_agree(price(f[name], close), theirs, close)


def test_macd_agrees(recorded):
    bars, f = recorded
    close = bars["close"]
    lines = talib.MACD(close, 12, 26, 9)
    for name, theirs in zip(("macd_line", "macd_signal", "macd_hist"), lines, strict=True):
        assert_prices_agree(f[name] * close / 100, theirs, close)


def test_adx_agrees(recorded):
    bars, f = recorded
    theirs = talib.ADX(bars["high"], bars["low"], bars["close"], 14)
    assert_prices_agree(f["adx_14"], theirs, np.full(len(bars), 100.0))
    assert_prices_agree(f["adx_14_lag_4"], theirs.shift(4), np.full(len(bars), 100.0))


def test_volume_and_volatility_agree(recorded):
    bars, f = recorded
    close, volume = bars["close"], bars["volume"]
    mean = talib.SMA(volume, 20)
    obv = talib.OBV(close, volume)
    one = np.ones(len(bars))
    assert_prices_agree(f["volume_sma_ratio"] * mean, volume, mean)
    assert_prices_agree(f["obv"] * mean, obv.diff(), mean)
    assert_prices_agree(f["obv_slope"] * mean, talib.LINEARREG_SLOPE(obv, 10), mean)
    returns = 100 * np.log(close / close.shift())
    assert_prices_agree(f["realized_vol_15m"], talib.STDDEV(returns, 20), one)
    atr = talib.ATR(bars["high"], bars["low"], close, 14)
    assert_prices_agree(f["atr_ratio"], atr / talib.SMA(atr, 96), one)


@pytest.mark.parametrize("timeframe", ["1h", "4h"])
def test_higher_timeframes_agree(recorded, timeframe):
    bars, f = recorded
    length = pd.Timedelta(timeframe)
    candles = bars.resample(length).agg({"high": "max", "low": "min", "close": "last"})
    close = candles["close"]
    ours = f.loc[f.index + pd.Timedelta("15min") == (f.index + pd.Timedelta("15min")).floor(length)]
    assert (ours.index + pd.Timedelta("15min") == candles.index + length).all()
    settled = slice(SETTLED // (length // pd.Timedelta("15min")), None)

    def agree(values, theirs, size):
        a, b, s = (np.asarray(x)[settled] for x in (values, theirs, size))
        np.testing.assert_array_less(np.abs(a - b), 1e-6 * np.abs(b) + 1e-9 * s + 1e-300)

    def own(name):
        return ours[f"{name}_{timeframe}"].set_axis(candles.index)

    hundred = close * 0 + 100
    agree(own("rsi_14"), talib.RSI(close, 14), hundred)
    agree(price(own("ema_21"), close), talib.EMA(close, 21), close)
    agree(own("atr_14") * close / 100, talib.ATR(candles["high"], candles["low"], close, 14), close)
    agree(own("macd_hist") * close / 100, talib.MACD(close, 12, 26, 9)[2], close)
    if timeframe == "4h":
        agree(own("adx_14"), talib.ADX(candles["high"], candles["low"], close, 14), hundred)


def test_the_daily_ema_agrees_on_its_window(recorded):
    bars, f = recorded
    daily = bars["close"].resample("1D").last()
    for row in f.index[[20_000, 45_000, 70_000]]:
        block = row - (row - pd.Timestamp(0, tz="UTC")) % pd.Timedelta(days=8)
        closed = daily[block - pd.Timedelta(days=128) : row - pd.Timedelta(days=1)].to_numpy()
        seeded = np.concatenate((np.full(19, closed[0]), closed))  # the mean of the first 20 is the first
        ours = price(f.at[row, "ema_20_1d"], bars.at[row, "close"])
        np.testing.assert_allclose(ours, talib.EMA(seeded, 20)[-1], rtol=1e-12)


def ticks(count, seed):
    """Bars on a tick of 0.5, exact in binary, with stretches in which nothing moves."""
    rng = np.random.default_rng(seed)
    moves = rng.integers(-6, 7, count) * (rng.random(count) > 0.3)
    moves[count // 2 : count // 2 + 12] = 0
    close = 200.0 + np.cumsum(moves) / 2
    wick = rng.integers(0, 4, (2, count)) / 2 * (moves != 0)
    before = np.concatenate(([200.0], close[:-1]))
    return np.maximum(close, before) + wick[0], np.minimum(close, before) - wick[1], close


@pytest.mark.parametrize("seed", range(5))
def test_every_window_is_seeded_as_talib_seeds_its_first_bars(seed):
    windows = [ticks(60, 10 * seed + i) for i in range(3)]
    high, low, close = (np.concatenate(columns) for columns in zip(*windows, strict=True))
    offsets = np.array([0, 60, 120, 180])
    ours = {name: np.empty(180) for name in ("rsi", "atr", "adx")}
    indicators.rsi(close, offsets, 14, ours["rsi"])
    indicators.atr(high, low, close, offsets, 14, ours["atr"])
    indicators.adx(high, low, close, offsets, 14, ours["adx"])
    for k, (h, l, c) in enumerate(windows):  # noqa: E741
        theirs = {"rsi": talib.RSI(c, 14), "atr": talib.ATR(h, l, c, 14), "adx": talib.ADX(h, l, c, 14)}
        for name, expected in theirs.items():
            window = ours[name][60 * k : 60 * (k + 1)]
            np.testing.assert_allclose(window, expected, rtol=1e-12, err_msg=name)


def test_where_nothing_moves_rsi_is_in_the_middle_and_adx_keeps_its_last_value():
    flat = np.full(12_000, 7.25)
    offsets, out = np.array([0, len(flat)]), np.empty(len(flat))
    indicators.rsi(flat, offsets, 14, out)
    assert (out[14:] == 50.0).all()
    indicators.adx(flat, flat, flat, offsets, 14, out)
    assert (out[27:] == 0.0).all()  # DX was never defined
    high = flat.copy()
    high[30] = 8.0  # one move; its memory decays until it is exactly nothing, and DX is undefined again
    indicators.adx(high, flat, flat, offsets, 14, out)
    assert np.isfinite(out[27:]).all()
    assert (out[-500:] == out[-1]).all()
    assert out[-1] > 99.0
