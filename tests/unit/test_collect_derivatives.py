"""Funding, long/short ratio, open interest: rows of their tables, known when they could be."""

from collections.abc import AsyncIterator, Iterator

import pandas as pd
import pytest
import pytest_asyncio
from fakes import FakeClock
from market_server import FUNDING, LONG_SHORT, MarketServer, made_bars

from acmf_core.collect.derivatives import FundingSource, LongShortSource
from acmf_core.collect.venue.client import Venue
from acmf_core.config import ExchangeConfig
from acmf_core.domain import BAR_US
from acmf_core.errors import StaleData, VenueUnavailable
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import table
from acmf_core.ports import Source

AT = 1_718_668_800_000_000  # 2024-06-18 00:00 UTC
HOUR = 3_600_000_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(AT + 600_000)


@pytest.fixture
def market(clock: FakeClock) -> Iterator[MarketServer]:
    hours = pd.date_range(end="2024-06-18", periods=150, freq="8h", tz="UTC")
    payments = pd.DataFrame({"event_time": hours, "funding_rate": 0.0001})
    payments.loc[149, "funding_rate"] = -0.00375
    with MarketServer(made_bars(AT, 20), funding=payments, now=clock.now) as server:
        yield server


@pytest_asyncio.fixture
async def venue(market: MarketServer) -> AsyncIterator[Venue]:
    venue = Venue(ExchangeConfig(base_url=market.url))
    yield venue
    await venue.aclose()


async def test_funding_paid_at_the_close_is_known_at_the_close(venue: Venue, market: MarketServer) -> None:
    source = FundingSource(venue, "BTCUSDT")
    assert isinstance(source, Source)
    rows = await source.collect(AT)
    conform(table("funding"), rows)
    assert len(rows) == 100
    newest = rows.iloc[-1]
    assert newest["event_time"] == newest["available_at"] == pd.Timestamp(AT, unit="us", tz="UTC")
    assert newest["funding_rate"] == -0.00375
    assert newest["interval_hours"] == 8
    assert market.hits[FUNDING] == 1


async def test_a_payment_that_comes_late_is_known_since_it_came(venue: Venue, market: MarketServer) -> None:
    clock = FakeClock(AT - HOUR)
    market.now = AT - HOUR
    source = FundingSource(venue, "BTCUSDT", clock)
    before = await source.collect(AT - HOUR)
    assert (before["available_at"] == before["event_time"]).all()
    late = AT + 300_000_000
    market.now = clock.time = late
    after = await source.collect(AT)
    assert after["event_time"].iloc[-1] == pd.Timestamp(AT, unit="us", tz="UTC")
    assert after["available_at"].iloc[-1] == pd.Timestamp(late, unit="us", tz="UTC")
    assert (after["available_at"] == after["event_time"]).iloc[:-1].all()
    clock.time = late + HOUR
    again = await source.collect(AT)
    assert again["available_at"].tolist() == after["available_at"].tolist()


def test_funding_is_due_on_whole_hours() -> None:
    source = FundingSource(Venue(ExchangeConfig()), "BTCUSDT")
    assert [source.due(AT + n * BAR_US) for n in range(5)] == [True, False, False, False, True]


async def test_funding_of_the_future_is_refused_where_there_is_a_clock(
    venue: Venue, clock: FakeClock
) -> None:
    clock.time = AT + 600_000
    late = FakeClock(AT - HOUR)
    with pytest.raises(VenueUnavailable, match="clock"):
        await FundingSource(venue, "BTCUSDT", late).collect(AT)
    assert len(await FundingSource(venue, "BTCUSDT", clock).collect(AT)) == 100


async def test_a_symbol_without_payments_says_so(venue: Venue, market: MarketServer) -> None:
    market.fault(FUNDING, "body:[]")
    with pytest.raises(VenueUnavailable, match="no funding payment of BTCUSDT"):
        await FundingSource(venue, "BTCUSDT").collect(AT)


async def test_ratios_are_known_since_they_were_received(
    venue: Venue,
    market: MarketServer,
    clock: FakeClock,
) -> None:
    source = LongShortSource(venue, "BTCUSDT", clock)
    assert isinstance(source, Source)
    ticks = iter([clock.time, clock.time + 250_000])
    clock.now = lambda: next(ticks)  # type: ignore[method-assign]
    market.now = AT + 600_000
    rows = await source.collect(AT)
    conform(table(source.table), rows)
    stamps = pd.DatetimeIndex(rows["event_time"]).asi8
    assert stamps.tolist() == [AT - n * BAR_US for n in (4, 3, 2, 1, 0)]
    assert (rows["available_at"] == pd.Timestamp(AT + 850_000, unit="us", tz="UTC")).all()
    assert (rows["interval"] == "15m").all()
    assert sum(market.hits.values()) == 1


async def test_statistics_that_stand_still_are_stale(
    venue: Venue,
    market: MarketServer,
    clock: FakeClock,
) -> None:
    market.now = AT - HOUR
    with pytest.raises(StaleData, match="is 60 minutes old"):
        await LongShortSource(venue, "BTCUSDT", clock).collect(AT)
    market.now = AT - HOUR + BAR_US
    assert len(await LongShortSource(venue, "BTCUSDT", clock).collect(AT)) == 5


async def test_no_statistics_at_all_is_unavailable(
    venue: Venue,
    market: MarketServer,
    clock: FakeClock,
) -> None:
    market.fault(LONG_SHORT, "body:[]")
    with pytest.raises(VenueUnavailable, match="the venue has no"):
        await LongShortSource(venue, "BTCUSDT", clock).collect(AT)
