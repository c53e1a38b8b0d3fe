"""The bars of one close: the expected one or a named reason; longer candles check and never decide."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from fakes import FakeClock
from market_server import KLINES, MarketServer, made_bars

from acmf_core.collect.candles import CandleSource, disagreements
from acmf_core.collect.venue.client import Venue
from acmf_core.config import ExchangeConfig
from acmf_core.domain import BAR_US
from acmf_core.errors import ConfigError, MissingBars, StaleData, VenueUnavailable
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import OHLCV, candle_rows, table

AT = 1_718_668_800_000_000  # 2024-06-18 00:00 UTC
HOUR = f"{KLINES}?interval=1h"
FIFTEEN = f"{KLINES}?interval=15m"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(AT + 700_000)


@pytest.fixture
def market(clock: FakeClock) -> Iterator[MarketServer]:
    with MarketServer(made_bars(AT, 400), now=clock.now) as server:
        yield server


@pytest_asyncio.fixture
async def source(market: MarketServer, clock: FakeClock) -> AsyncIterator[CandleSource]:
    venue = Venue(ExchangeConfig(base_url=market.url), timeout_s=5.0)
    yield CandleSource(venue, "BTCUSDT", clock)
    await venue.aclose()


def _opened(rows: pd.DataFrame) -> list[int]:
    return [int(stamp) for stamp in pd.DatetimeIndex(rows["open_time"]).asi8]


async def test_the_bars_since_the_last_known_one_come_with_the_longer_candles(
    source: CandleSource, market: MarketServer
) -> None:
    answer = await source.collect(AT, since=AT - 4 * BAR_US)
    assert _opened(answer.rows["15m"]) == [AT - 3 * BAR_US, AT - 2 * BAR_US, AT - BAR_US]
    assert {name: len(rows) for name, rows in answer.rows.items()} == {"15m": 3, "1h": 3, "4h": 2, "1d": 2}
    for name, rows in answer.rows.items():
        conform(table("candles"), rows)
        assert (rows["interval"] == name).all()
        assert int(pd.DatetimeIndex(rows["available_at"]).asi8[-1]) == AT, "all four closed at midnight"
    assert answer.notes == ()
    assert market.hits[KLINES] == 4, "one request each"


async def test_all_four_are_asked_at_once(source: CandleSource, market: MarketServer) -> None:
    await source.collect(AT, since=AT - 4 * BAR_US)  # connections and throttle are warm
    for interval in ("15m", "1h", "4h", "1d"):
        market.fault(f"{KLINES}?interval={interval}", "slow:0.5")
    began = time.perf_counter()
    answer = await source.collect(AT, since=AT - 4 * BAR_US)
    assert len(answer.rows) == 4
    assert time.perf_counter() - began < 1.5, "not 2 s, one after the other"
    assert market.busiest == 4


async def test_the_expected_bar_that_is_late_is_stale_until_it_is_there(
    source: CandleSource, market: MarketServer
) -> None:
    market.fault(FIFTEEN, "late", "late", "")
    with pytest.raises(
        StaleData, match=r"opened 2024-06-17 23:45 UTC is not there yet: the newest is of .*23:30"
    ):
        await source.collect(AT, since=AT - 4 * BAR_US)
    answer = await source.collect(AT, since=AT - 4 * BAR_US)
    assert _opened(answer.rows["15m"])[-1] == AT - BAR_US


async def test_before_the_close_the_bar_is_not_there_either(source: CandleSource, clock: FakeClock) -> None:
    clock.time = AT - 300_000
    with pytest.raises(StaleData):
        await source.collect(AT, since=AT - 4 * BAR_US)


async def test_a_clock_ahead_of_the_venue_takes_no_unfinished_bar(
    source: CandleSource, market: MarketServer
) -> None:
    market.now = AT - 300_000
    with pytest.raises(StaleData):
        await source.collect(AT, since=AT - 4 * BAR_US)
    market.now = AT + 100_000
    answer = await source.collect(AT, since=AT - 4 * BAR_US)
    assert _opened(answer.rows["15m"])[-1] == AT - BAR_US


async def test_a_bar_that_closes_later_is_never_taken(source: CandleSource, clock: FakeClock) -> None:
    clock.time = AT + 700_000
    answer = await source.collect(AT - 5 * BAR_US, since=AT - 9 * BAR_US)
    for rows in answer.rows.values():
        assert int(pd.DatetimeIndex(rows["available_at"]).asi8[-1]) <= AT - 5 * BAR_US
    assert _opened(answer.rows["15m"])[-1] == AT - 6 * BAR_US


async def test_a_hole_is_named_with_its_first_bar_and_the_count(
    source: CandleSource, market: MarketServer
) -> None:
    bars = made_bars(AT, 400)
    market.serve(bars.drop(index=[390, 391, 394]))
    with pytest.raises(
        MissingBars, match="3 15m bars of BTCUSDT are missing, the first of 2024-06-17 21:45 UTC"
    ):
        await source.collect(AT, since=AT - 30 * BAR_US)
    answer = await source.collect(AT, since=AT - 5 * BAR_US)
    assert len(answer.rows["15m"]) == 4, "a hole before what was asked for is another question"


async def test_a_double_is_dropped_and_a_double_that_differs_refused(
    source: CandleSource, market: MarketServer
) -> None:
    since = AT - 3 * BAR_US
    right = (await source.collect(AT, since=since)).rows["15m"]
    market.fault(FIFTEEN, "disorder", "contradiction")
    pd.testing.assert_frame_equal((await source.collect(AT, since=since)).rows["15m"], right)
    with pytest.raises(VenueUnavailable, match="came twice with different values"):
        await source.collect(AT, since=since)


async def test_a_bar_that_changes_after_its_close_comes_as_it_is_now(
    source: CandleSource, market: MarketServer
) -> None:
    before = (await source.collect(AT, since=AT - 3 * BAR_US)).rows["15m"]
    market.fault(FIFTEEN, "changed")
    after = (await source.collect(AT, since=AT - 3 * BAR_US)).rows["15m"]
    key = ["symbol", "interval", "open_time", "available_at"]
    pd.testing.assert_frame_equal(before[key], after[key])
    assert before["close"].iloc[-1] != after["close"].iloc[-1], "whoever remembers sees the conflict"


@pytest.mark.parametrize(
    "fault", ["html", "500", "nan", "nulls", "code:-1000", "451", "cut", "contradiction"]
)
async def test_a_longer_interval_that_fails_is_a_note(
    source: CandleSource, market: MarketServer, fault: str
) -> None:
    market.fault(HOUR, fault)
    answer = await source.collect(AT, since=AT - 4 * BAR_US)
    assert sorted(answer.rows) == ["15m", "1d", "4h"]
    assert len(answer.notes) == 1
    assert answer.notes[0].startswith("1h candles: ")


async def test_a_longer_interval_that_hangs_delays_the_bars_by_a_second_at_most(
    source: CandleSource, market: MarketServer
) -> None:
    await source.collect(AT, since=AT - 4 * BAR_US)
    market.fault(HOUR, "stall:9")
    began = time.perf_counter()
    answer = await source.collect(AT, since=AT - 4 * BAR_US)
    assert time.perf_counter() - began < 2.5
    assert "1h" not in answer.rows
    assert answer.notes == ("1h candles: no answer within 1 s of the 15m bars",)


@pytest.mark.parametrize(("fault", "error"), [("html", VenueUnavailable), ("code:-1121", ConfigError)])
async def test_the_15m_bars_failing_is_an_error_and_leaves_nothing_running(
    source: CandleSource, market: MarketServer, fault: str, error: type[Exception]
) -> None:
    market.fault(FIFTEEN, fault)
    market.fault(HOUR, "stall:9")
    with pytest.raises(error):
        await source.collect(AT, since=AT - 4 * BAR_US)
    await asyncio.sleep(0.3)  # the throttle lays down its queue
    assert len(asyncio.all_tasks()) == 1, "only this test"


async def test_a_longer_candle_that_differs_from_its_bars_is_a_note(
    source: CandleSource, market: MarketServer
) -> None:
    market.fault(HOUR, "changed")
    answer = await source.collect(AT, since=AT - 20 * BAR_US)
    assert "1h" in answer.rows
    assert len(answer.notes) == 1
    assert answer.notes[0].startswith("1h candle of 2024-06-17 23:00 UTC differs from its 15m bars: close ")


async def test_a_cold_start_brings_a_page_of_bars_in_one_request(clock: FakeClock) -> None:
    with MarketServer(made_bars(AT, 1_100), now=clock.now) as market:
        venue = Venue(ExchangeConfig(base_url=market.url))
        answer = await CandleSource(venue, "BTCUSDT", clock).collect(AT, since=AT - 1_000 * BAR_US)
        await venue.aclose()
        assert len(answer.rows["15m"]) == 999
        assert market.hits[KLINES] == 4


def _rows(count: int) -> pd.DataFrame:
    return candle_rows(made_bars(AT, count), "BTCUSDT")


def _hours(fifteen: pd.DataFrame) -> pd.DataFrame:
    hour = fifteen["open_time"].dt.floor("1h")
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    whole = fifteen.groupby(hour).filter(lambda part: len(part) == 4)
    made = whole.groupby(whole["open_time"].dt.floor("1h"))[list(OHLCV)].agg(how).reset_index()
    return candle_rows(made, "BTCUSDT", "1h")


def test_candles_of_the_same_bars_agree_within_the_rounding_of_volumes() -> None:
    fifteen = _rows(100)
    hours = _hours(fifteen)
    assert len(hours) == 24
    assert disagreements(fifteen, hours, "1h") == []
    assert disagreements(fifteen, hours.assign(volume=hours["volume"] * (1 + 1e-12)), "1h") == []
    assert len(disagreements(fifteen, hours.assign(volume=hours["volume"] * 1.001), "1h")) == 4


@pytest.mark.parametrize("column", OHLCV)
def test_a_disagreement_in_any_column_is_named(column: str) -> None:
    fifteen = _rows(100)
    hours = _hours(fifteen)
    hours.loc[5, column] *= 1.0001
    (note,) = disagreements(fifteen, hours, "1h")
    assert f"differs from its 15m bars: {column} " in note
    assert f"{hours['open_time'][5]:%Y-%m-%d %H:%M}" in note


def test_candles_whose_bars_are_not_all_there_are_not_compared() -> None:
    fifteen = _rows(100)
    hours = _hours(fifteen)
    hours.loc[5, "close"] *= 1.5
    inside = fifteen["open_time"].dt.floor("1h") == hours["open_time"][5]
    one_lacking = fifteen.drop(index=np.flatnonzero(inside)[1])
    assert disagreements(one_lacking, hours, "1h") == []
    assert disagreements(fifteen.iloc[:0], hours, "1h") == []
    assert disagreements(fifteen, hours.iloc[:0], "1h") == []
