"""Bars: joining market and features, funding events, order and gaps."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from trading_market import NAN, NOON, flat, market

from acmf_core.domain import BAR_US
from acmf_core.errors import BadCandle, DataError, MissingBars
from acmf_core.trading import trading_bars
from acmf_core.trading.bars import funding_at_open, microseconds, time_index

TABULAR = [
    *("adx_14", "ema_21", "atr_14", "atr_ratio", "vol_regime", "volume_sma_ratio"),
    *("funding_rate", "book_imbalance", "book_spread_bps"),
]


def joined(n=4, funding=None, candles=None, **columns):
    index = time_index(NOON + BAR_US * np.arange(n))
    values = {name: np.full(n, 1.0) for name in TABULAR} | {
        k: np.asarray(v, float) for k, v in columns.items()
    }
    tabular = pd.DataFrame(values, index=index)
    prices = pd.DataFrame(
        candles or {k: np.full(n, 100.0) for k in ("open", "high", "low", "close")}, index=index
    )
    features = SimpleNamespace(tabular=tabular, sequence=tabular[["adx_14", "ema_21", "atr_14"]])
    return trading_bars(SimpleNamespace(candles=prices, funding=funding), features)


def test_the_atr_is_in_price_units_and_the_distance_in_atrs():
    bars = joined(atr_14=[2.0] * 4, ema_21=[-0.5] * 4)
    assert bars.atr[0] == 2.0  # 2 % of 100
    assert bars.ema_distance[0] == 0.25  # the average is 0.5 % below the close: 0.5 / 2


def test_a_market_that_never_moved_has_no_distance():
    assert np.isnan(joined(atr_14=[0.0] * 4, ema_21=[0.0, 1.0, 0.0, 0.0]).ema_distance).all()


def test_data_are_ok_where_candle_and_sequence_are_finite():
    assert list(joined(atr_14=[1.0, NAN, 1.0, np.inf]).data_ok) == [True, False, True, False]
    assert joined(book_imbalance=[NAN] * 4, funding_rate=[NAN] * 4).data_ok.all()


def test_a_candle_that_contradicts_itself_is_refused():
    candles = {
        "open": [100.0] * 4,
        "high": [100.0] * 4,
        "low": [100.0, 101.0, 100.0, 100.0],
        "close": [100.0] * 4,
    }
    with pytest.raises(BadCandle, match="low 101"):
        joined(candles=candles)


def events(*minutes, rates=None):
    stamps = [pd.Timestamp(NOON * 1000, tz="UTC") + pd.Timedelta(minutes=m) for m in minutes]
    return pd.DataFrame({"event_time": stamps, "funding_rate": rates or [1e-4] * len(minutes)})


def test_a_funding_event_belongs_to_the_bar_that_holds_it():
    bars = joined(funding=events(0, 15 - 1e-3 / 60, 30.00001, rates=[1e-4, 2e-4, 4e-4]))
    assert bars.funding_event == pytest.approx([3e-4, 0.0, 4e-4, 0.0], abs=1e-15)


def test_events_before_the_first_and_after_the_last_bar_belong_to_none():
    assert not joined(funding=events(-1, 60, 61)).funding_event.any()
    assert joined(funding=events(59.99)).funding_event[3] == 1e-4


def test_an_event_in_a_gap_is_booked_at_the_next_open():
    times = NOON + BAR_US * np.array([0, 1, 4, 5])
    assert list(funding_at_open(times, events(35, 45, rates=[1.0, 2.0]))) == [0.0, 0.0, 3.0, 0.0]


def test_an_event_without_a_rate_is_no_event():
    assert not joined(funding=events(0, rates=[NAN])).funding_event.any()
    assert not joined(funding=events()).funding_event.any()


def test_time_stamps_of_any_unit_are_microseconds_and_naive_ones_are_refused():
    stamp = pd.Timestamp("2024-01-01 12:00", tz="UTC")
    for unit in ("s", "ms", "us", "ns"):
        assert microseconds(pd.DatetimeIndex([stamp]).as_unit(unit))[0] == NOON
    with pytest.raises(DataError, match="without a time zone"):
        microseconds(pd.DatetimeIndex(["2024-01-01"]))


def test_a_gap_is_refused_with_the_two_bars_beside_it():
    bars = market(flat(4))
    bars.open_time[2:] += BAR_US
    with pytest.raises(MissingBars, match="the bar after 2024-01-01 12:15 is 2024-01-01 12:45"):
        bars.checked()


def test_columns_of_different_length_are_refused():
    with pytest.raises(DataError, match="differ in length"):
        market(flat(4))._replace(adx=np.zeros(3)).checked()


def test_read_only_and_strided_columns_are_taken_in():
    bars = market(flat(4))
    frozen = np.array(bars.close)
    frozen.flags.writeable = False
    odd = np.repeat(bars.open, 2)[::2]
    assert bars._replace(close=frozen, open=odd).checked().close.flags.writeable


def test_bars_are_cut_and_read_one_by_one():
    bars = market(flat(4))
    assert bars.slice(1, 3).n == 2
    assert bars.bar(2).open_time == NOON + 2 * BAR_US
    assert str(bars.times[0]) == "2024-01-01 12:00:00+00:00"
