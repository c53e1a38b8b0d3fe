"""Gaps, flat bars and bars without volume: defined answers, no exception, no infinity."""

import numpy as np
import pandas as pd
import pytest

from acmf_core.features import SCHEMA, MarketData, build_features

BLOCK = 768  # bars of a block
CANDLES = [f.name for f in SCHEMA.features if f.source == "candles"]
BY_TIMEFRAME = {t: [f.name for f in SCHEMA.features if f.timeframe == t] for t in ("15m", "1h", "4h", "1d")}
# Blocks whose window holds a bar of block b: b itself and as many as the warm-up is long.
HELD = {"15m": 2, "1h": 3, "4h": 7, "1d": 17}
START = pd.Timestamp("2023-01-03", tz="UTC")  # the first day of a block


def walk(blocks, seed=0, start=START):
    """A random walk of whole blocks."""
    rng = np.random.default_rng(seed)
    n = blocks * BLOCK
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.002, n)))
    open_ = np.concatenate(([20_000], close[:-1]))
    high, low = (edge(open_, close) for edge in (np.maximum, np.minimum))
    frame = pd.DataFrame({"open": open_, "high": high * 1.001, "low": low * 0.999, "close": close})
    frame["volume"] = rng.gamma(2.0, 50.0, n)
    frame.index = pd.date_range(start, periods=n, freq="15min", unit="us", name="open_time")
    return frame


@pytest.fixture(scope="module")
def candles():
    return walk(36)


@pytest.fixture(scope="module")
def whole(candles):
    return build_features(MarketData.from_candles(candles)).tabular


def test_the_sample_begins_with_a_block():
    assert (START - pd.Timestamp(0, tz="UTC")) % pd.Timedelta(days=8) == pd.Timedelta(0)


@pytest.mark.parametrize("row", [17 * BLOCK + 100, 17 * BLOCK, 18 * BLOCK - 1])
def test_a_missing_bar_silences_each_timeframe_to_the_end_of_the_last_window_that_holds_it(
    candles, whole, row
):
    block = row // BLOCK
    features = build_features(MarketData(candles.drop(candles.index[row]))).tabular
    for timeframe, columns in BY_TIMEFRAME.items():
        silent = candles.index[row + 1 : (block + HELD[timeframe]) * BLOCK]
        assert features.loc[silent, columns].isna().all().all(), timeframe
        before, after = candles.index[:row], candles.index[(block + HELD[timeframe]) * BLOCK :]
        for rows in (before, after):
            pd.testing.assert_frame_equal(
                features.loc[rows, columns], whole.loc[rows, columns], check_exact=True, check_freq=False
            )
        assert features.loc[after, columns].notna().all().all(), timeframe


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_a_bar_that_is_as_good_as_missing_counts_as_missing(candles, column, value):
    row = 18 * BLOCK + 5
    absent = build_features(MarketData(candles.drop(candles.index[row]))).tabular
    broken = candles.copy()
    broken.loc[broken.index[row], column] = value
    features = build_features(MarketData(broken)).tabular
    assert features.loc[candles.index[row], CANDLES].isna().all()
    pd.testing.assert_frame_equal(
        features.drop(candles.index[row]), absent, check_exact=True, check_freq=False
    )


def test_a_price_of_zero_is_a_missing_bar_and_a_volume_of_zero_is_not(candles):
    row = 18 * BLOCK + 5
    for column in ("open", "high", "low", "close", "volume"):
        changed = candles.copy()
        changed.loc[changed.index[row], column] = 0.0
        answer = build_features(MarketData(changed)).tabular.loc[changed.index[row], "rsi_14"]
        assert np.isfinite(answer) == (column == "volume")


def test_real_outages_silence_what_the_page_says_and_nothing_else(real_data):
    bars = pd.read_parquet(real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet")
    market = MarketData.from_candles(bars)
    grid = pd.date_range(market.candles.index[0], market.candles.index[-1], freq="15min")
    missing = grid.difference(market.candles.index)
    assert len(missing) == 23
    features = build_features(market).tabular
    epoch, block = pd.Timestamp(0, tz="UTC"), pd.Timedelta(days=8)
    for timeframe, warmup in (("15m", 8), ("1h", 16), ("4h", 48)):
        starts = epoch + (features.index - epoch) // block * block - pd.Timedelta(days=warmup)
        # Of the bars from each row's window to the row, how many should there be, and how many are there?
        wanted = (features.index - starts) // pd.Timedelta(minutes=15) + 1
        there = np.arange(len(features)) - features.index.searchsorted(starts) + 1
        answered = features[BY_TIMEFRAME[timeframe]].notna().all(axis=1)
        assert (answered == (wanted == there)).all()
        assert answered.any()
        assert (features[BY_TIMEFRAME[timeframe]].notna().any(axis=1) == answered).all()


def test_a_market_that_never_moves_has_an_answer_for_everything():
    frame = walk(20)
    frame[["open", "high", "low", "close"]] = 20_000.1
    last = build_features(MarketData.from_candles(frame)).tabular.iloc[-1]
    assert np.isfinite(last[CANDLES]).all()
    expected = {
        "rsi_7": 50.0,
        "rsi_14_4h": 50.0,
        "adx_14": 0.0,
        "atr_ratio": 1.0,
        "vol_regime": 0.5,
        "range_position_96": 0.5,
    }
    for name, value in expected.items():
        assert last[name] == value, name
    prices = [
        n for n in CANDLES if "volume" not in n and n not in expected and not n.startswith(("rsi", "obv"))
    ]
    assert last[prices].abs().max() < 1e-9


def test_bars_without_any_volume_have_an_answer_for_everything():
    frame = walk(20)
    frame["volume"] = 0.0
    features = build_features(MarketData.from_candles(frame)).tabular
    last = features.iloc[-1]
    assert np.isfinite(last[CANDLES]).all()
    silent = ["volume_sma_ratio", "volume_sma_ratio_lag_1", "obv", "obv_slope", "vwap", "close_vs_vwap"]
    assert (last[[*silent, "volume_zscore_96"]] == 0.0).all()


def test_a_hole_of_flat_bars_without_volume_brings_no_infinity():
    frame = walk(20)
    hole = frame.index[-60:-30]
    frame.loc[hole, ["open", "high", "low", "close"]] = frame.loc[hole[0] - pd.Timedelta("15min"), "close"]
    frame.loc[hole, "volume"] = 0.0
    features = build_features(MarketData.from_candles(frame)).tabular.iloc[-100:]
    assert np.isfinite(features[CANDLES].to_numpy()).all()
    after_20 = features.loc[hole[20:]]
    assert (after_20["realized_vol_15m"] == 0.0).all()
    assert (after_20["volume_sma_ratio"] == 0.0).all()
    assert (after_20["garman_klass_vol"] == 0.0).all()


def test_nothing_or_next_to_nothing_loaded_gives_empty_or_nan_rows(candles):
    for count in (0, 1, 2, 100, BLOCK):
        features = build_features(MarketData(candles.iloc[:count]))
        assert features.tabular.shape == (count, 66)
        assert features.sequence.shape == (count, 22)
        assert features.tabular.isna().all().all()
        assert features.windows()[0].shape == (0, 192, 22)


def test_a_row_never_waits_for_a_longer_timeframe(candles, whole):
    """With two blocks loaded the 15m part is there, though no higher timeframe is."""
    features = build_features(MarketData(candles.iloc[: 2 * BLOCK])).tabular
    assert features[BY_TIMEFRAME["15m"]].iloc[BLOCK:].notna().all().all()
    assert features[BY_TIMEFRAME["1h"]].isna().all().all()
    first = {name: whole[columns].notna().all(axis=1).argmax() for name, columns in BY_TIMEFRAME.items()}
    assert first == {name: (held - 1) * BLOCK for name, held in HELD.items()}
