"""What `MarketData` accepts, what it makes of it, and what it refuses."""

import numpy as np
import pandas as pd
import pytest

from acmf_core.errors import BadCandle, DataError
from acmf_core.features import MarketData

COLUMNS = ["open", "high", "low", "close", "volume"]


def bars(count=8, start="2024-01-01"):
    index = pd.date_range(start, periods=count, freq="15min", tz="UTC", name="open_time", unit="us")
    close = 100.0 + np.arange(count)
    return pd.DataFrame(
        {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}, index=index
    )


def funding(*stamps):
    times = pd.to_datetime(list(stamps), utc=True, format="ISO8601")
    return pd.DataFrame({"event_time": times, "available_at": times, "funding_rate": 1e-4})


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("as_column", [True, False])
def test_open_time_may_come_in_any_unit_zone_and_place(unit, zone, as_column):
    frame = bars()
    times = frame.index.as_unit(unit)
    times = times.tz_localize(None) if zone is None else times.tz_convert(zone)
    given = frame.set_axis(times)
    given = given.reset_index(names="open_time") if as_column else given
    market = MarketData.from_candles(given)
    assert market.candles.index.dtype == "datetime64[us, UTC]"
    pd.testing.assert_frame_equal(market.candles, frame, check_freq=False)


def test_whole_numbers_become_floats_and_other_columns_are_dropped():
    frame = bars().round().astype(int).assign(trades=3, taker="x")
    frame["open"] = frame["close"]
    market = MarketData.from_candles(frame)
    assert list(market.candles.columns) == COLUMNS
    assert (market.candles.dtypes == "float64").all()


def test_bars_out_of_order_are_refused_and_not_sorted():
    with pytest.raises(BadCandle, match=r"bar 2024-01-01 00:15:00\+00:00 comes after 2024-01-01 00:30:00"):
        MarketData.from_candles(bars().iloc[[0, 2, 1, 3]])


def test_a_bar_that_is_there_twice_is_named():
    with pytest.raises(BadCandle, match=r"bar 2024-01-01 00:30:00\+00:00 is there twice"):
        MarketData.from_candles(bars().iloc[[0, 1, 2, 2, 3]])


def test_a_bar_off_the_grid_is_named():
    frame = bars()
    with pytest.raises(BadCandle, match=r"00:45:00.001000\+00:00 does not open on a quarter of an hour"):
        MarketData.from_candles(frame.set_axis(frame.index[:3].append(frame.index[3:] + pd.Timedelta("1ms"))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"high": 90.0}, "high 90.0 below low 101.0"),
        ({"open": 110.0}, "open 110.0 outside low 101.0 to high 103.0"),
        ({"close": 100.5}, "close 100.5 outside low 101.0 to high 103.0"),
    ],
)
def test_a_bar_that_contradicts_itself_is_named(change, words):
    frame = bars()
    frame.loc[frame.index[2], list(change)] = list(change.values())
    with pytest.raises(BadCandle, match=r"bar 2024-01-01 00:30:00\+00:00: " + words):
        MarketData.from_candles(frame)


def test_a_gap_is_no_error():
    market = MarketData.from_candles(bars().drop(bars().index[3]))
    assert len(market) == 7
    assert "1 bars missing" in market._repr_html_()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_bar_that_is_as_good_as_missing_is_no_error(column, value):
    frame = bars()
    frame.loc[frame.index[2], column] = value
    assert len(MarketData.from_candles(frame)) == 8


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match='the candles lack the column "volume"'):
        MarketData.from_candles(bars().drop(columns="volume"))
    with pytest.raises(DataError, match='the rows of macro lack the column "vix" and 3 more'):
        MarketData(bars(), macro=pd.DataFrame({"available_at": bars().index}))
    with pytest.raises(DataError, match="funding has no column available_at"):
        MarketData(bars(), funding=pd.DataFrame({"funding_rate": [1e-4]}))


def test_words_instead_of_numbers_are_refused():
    with pytest.raises(DataError, match="the candles: could not convert string to float"):
        MarketData.from_candles(bars().astype(object).replace(5.0, "five"))


def test_numbers_instead_of_times_are_refused_with_the_way_out():
    frame = bars()
    with pytest.raises(
        DataError, match=r"open_time of the candles is int64, not a time; .*pandas.to_datetime"
    ):
        MarketData.from_candles(frame.set_axis(frame.index.asi8))
    with pytest.raises(DataError, match="available_at of news is"):
        MarketData(frame, news=pd.DataFrame({"available_at": [1, 2], "score": [0.1, 0.2]}))


def test_a_row_without_a_time_is_refused():
    frame = bars()
    with pytest.raises(BadCandle, match="bar 1 has no open_time"):
        MarketData.from_candles(frame.set_axis(frame.index.where(np.arange(8) != 1)))
    news = pd.DataFrame({"available_at": pd.to_datetime([None, "2024-01-01"], utc=True), "score": [0.1, 0.2]})
    with pytest.raises(DataError, match="1 rows of news have no available_at"):
        MarketData(frame, news=news)


def test_a_column_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match="the candles have a column twice"):
        MarketData.from_candles(pd.concat([bars(), bars()[["close"]]], axis=1))


def test_slow_rows_are_ordered_by_the_time_they_were_known_and_then_by_the_event():
    times = pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-02"], utc=True)
    events = pd.to_datetime(["2024-01-02", "2024-01-01", "2023-12-31"], utc=True)
    news = pd.DataFrame({"available_at": times, "event_time": events, "score": [1.0, 2.0, 3.0]})
    assert MarketData(bars(), news=news).news["score"].tolist() == [2.0, 3.0, 1.0]


def test_funding_stamps_are_floored_to_the_second():
    market = MarketData(bars(), funding=funding("2024-01-01T08:00:00.007", "2024-01-01T16:00:00"))
    expected = pd.to_datetime(["2024-01-01T08:00:00", "2024-01-01T16:00:00"], utc=True)
    assert market.funding["event_time"].tolist() == list(expected)
    assert market.funding["available_at"].tolist() == list(expected)


def test_what_was_given_is_left_as_it_was():
    frame, rows = bars(), funding("2024-01-01T08:00:00.007", "2024-01-01T00:00:00")
    before, rows_before = frame.copy(), rows.copy()
    market = MarketData(frame, funding=rows)
    market.candles.iloc[0, 0] = 7.0
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(rows, rows_before)


def test_between_keeps_the_bars_asked_for_and_everything_known_by_the_end():
    rows = funding("2023-12-01T00:00", "2024-01-01T01:00", "2024-01-01T01:00:01")
    market = MarketData(bars(), funding=rows)
    part = market.between("2024-01-01 00:30", "2024-01-01 01:00")
    assert [f"{time:%H:%M}" for time in part.candles.index] == ["00:30", "00:45"]
    assert len(part.funding) == 2
    assert len(market.between(None, None)) == 8
    end = pd.Timestamp("2024-01-01 01:00", tz="Europe/Berlin")
    assert len(market.between(None, end)) == 0
    third = market.candles.index.asi8[2]
    assert len(market.between(third)) == len(market.between(int(third))) == 6


def test_it_says_what_it_holds():
    market = MarketData(bars(), funding=funding("2024-01-01T08:00:00"))
    assert repr(market) == (
        "MarketData(8 bars of 15m 2024-01-01 00:00 to 2024-01-01 01:45 UTC; candles, funding)"
    )
    page = market._repr_html_()
    assert "0 bars missing" in page
    assert "not there: its features are NaN" in page
    assert len(page) < 1_500
    assert "MarketData(0 bars of 15m" in repr(market.between("2025-01-01"))
    assert "candles" in market.between("2025-01-01")._repr_html_()
