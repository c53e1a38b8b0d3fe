"""`Features`: what it holds, and the windows it cuts for the encoder."""

import numpy as np
import pandas as pd
import pytest

from acmf_core.config import FeatureConfig
from acmf_core.errors import ConfigError
from acmf_core.features import SCHEMA, Features, MarketData, build_features, schema_for


def features_of(rows, index=None):
    """Features whose sequence is given, whatever the tabular part."""
    index = pd.date_range("2024-01-01", periods=len(rows), freq="15min", tz="UTC") if index is None else index
    index = index.as_unit("us")
    sequence = pd.DataFrame(rows, index=index, columns=list(SCHEMA.sequence))
    return Features(sequence, pd.DataFrame(np.nan, index=index, columns=list(SCHEMA.tabular)), SCHEMA)


def numbered(count):
    return np.arange(count * 22, dtype=float).reshape(count, 22)


def test_every_window_is_the_rows_that_end_at_its_time():
    f = features_of(numbered(10))
    windows, times = f.windows(4)
    assert windows.shape == (7, 4, 22)
    assert windows.dtype == np.float32
    assert list(times) == list(f.sequence.index[3:])
    for window, time in zip(windows, times, strict=True):
        np.testing.assert_array_equal(window, f.sequence.loc[:time].iloc[-4:].astype("float32"))


def test_windows_are_views_that_cannot_be_written_to():
    f = features_of(numbered(50))
    windows, _ = f.windows(8)
    assert windows.base is not None
    assert np.shares_memory(windows[0], windows[1])
    with pytest.raises(ValueError, match="read-only"):
        windows[0, 0, 0] = 1.0


def test_a_nan_in_any_channel_ends_every_window_that_holds_it():
    rows = numbered(12)
    rows[5, 21] = np.nan
    windows, times = features_of(rows).windows(3)
    ends = [2, 3, 4, 8, 9, 10, 11]
    assert list(times) == list(features_of(rows).sequence.index[ends])
    for window, end in zip(windows, ends, strict=True):
        np.testing.assert_array_equal(window, rows[end - 2 : end + 1].astype("float32"))


def test_an_infinity_counts_as_a_nan():
    rows = numbered(6)
    rows[5, 0] = np.inf
    assert len(features_of(rows).windows(3)[0]) == 3


def test_no_window_reaches_over_a_missing_bar():
    index = pd.date_range("2024-01-01", periods=9, freq="15min", tz="UTC").delete(4)
    windows, times = features_of(numbered(8), index).windows(3)
    assert list(times) == list(index[[2, 3, 6, 7]])
    assert windows.shape == (4, 3, 22)


def test_leading_rows_without_values_leave_a_view():
    rows = numbered(30)
    rows[:10] = np.nan
    windows, times = features_of(rows).windows(5)
    assert len(windows) == len(times) == 16
    assert np.shares_memory(windows[0], windows[1])


@pytest.mark.parametrize("length", [1, 8])
def test_window_ends_are_the_positions_of_the_windows_times(length):
    f = features_of(numbered(8))
    assert list(f.window_ends(length)) == list(range(length - 1, 8))
    assert list(f.sequence.index[f.window_ends(length)]) == list(f.windows(length)[1])


def test_too_few_rows_give_no_window_and_a_length_below_one_is_refused():
    assert features_of(numbered(3)).windows(4)[0].shape == (0, 4, 22)
    assert features_of(numbered(0)).windows(4)[0].shape == (0, 4, 22)
    with pytest.raises(ConfigError, match="a window of 0 bars"):
        features_of(numbered(3)).windows(0)


def small_market(count=3_000):
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, count)))
    frame = pd.DataFrame({"open": close, "high": close * 1.001, "low": close * 0.999, "close": close})
    frame.index = pd.date_range("2024-01-01", periods=count, freq="15min", tz="UTC", name="open_time")
    return MarketData.from_candles(frame.assign(volume=rng.gamma(2, 5, count)))


def test_the_sequence_is_the_first_part_of_the_tabular_features_and_both_are_read_only():
    f = build_features(small_market())
    assert tuple(f.sequence.columns) == SCHEMA.sequence
    assert tuple(f.tabular.columns) == SCHEMA.tabular
    assert f.sequence.index.dtype == f.tabular.index.dtype == "datetime64[us, UTC]"
    assert f.sequence.index.equals(f.tabular.index)
    assert (f.tabular.dtypes == "float64").all()
    pd.testing.assert_frame_equal(f.sequence, f.tabular[list(SCHEMA.sequence)])
    with pytest.raises(ValueError, match="read-only"):
        f.tabular.iloc[0, 0] = 1.0


def test_macd_may_be_asked_for_in_price_units_as_the_article_has_it():
    market = small_market()
    percent, price = build_features(market), build_features(market, FeatureConfig(macd="price"))
    assert price.schema.fingerprint == schema_for(FeatureConfig(macd="price")).fingerprint
    close = market.candles["close"]
    for name in SCHEMA.tabular:
        ours, theirs = percent.tabular[name], price.tabular[name]
        if name in ("macd_line", "macd_hist", "macd_signal"):
            np.testing.assert_allclose(theirs / close * 100, ours, rtol=1e-12)
        elif name.startswith("macd"):  # over the close of its own timeframe's last candle
            known = ours.dropna().index
            assert np.allclose((theirs / close * 100)[known], ours[known], rtol=0.1)
        else:
            pd.testing.assert_series_equal(theirs, ours, check_exact=True)


@pytest.mark.parametrize("last", [0, -5])
def test_fewer_than_one_last_row_is_refused(last):
    with pytest.raises(ConfigError, match=f"the last {last} bars were asked for"):
        build_features(small_market(10), last=last)


def test_less_than_one_thread_is_refused():
    with pytest.raises(ConfigError, match="0 threads"):
        build_features(small_market(10), threads=0)


def test_features_say_what_they_hold():
    f = build_features(small_market())
    assert repr(f).startswith("Features(3,000 bars, ")
    assert "never known: " in f._repr_html_()
    assert "book_imbalance" in f._repr_html_()
    assert len(f) == 3_000
