"""Binance's market data through raw endpoints: every decimal kept, only what was asked for, only closed."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from market_server import FUNDING, KLINES, LONG_SHORT, TIME, MarketServer, made_bars

from acmf_core.collect.venue.client import Venue
from acmf_core.config import ExchangeConfig
from acmf_core.domain import BAR_US
from acmf_core.errors import ConfigError
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import KLINE_EXTRAS, OHLCV, table

AT = 1_718_668_800_000_000  # 2024-06-18 00:00 UTC
NOW = AT + 700_000


@pytest.fixture
def market() -> Iterator[MarketServer]:
    """Three days of bars up to the one that runs at NOW, and the payments in them."""
    bars = made_bars(AT, 300)
    hours = pd.date_range(end="2024-06-18", periods=40, freq="8h", tz="UTC")
    payments = pd.DataFrame({"event_time": hours, "funding_rate": np.linspace(-0.0003, 0.0008, 40).round(8)})
    with MarketServer(bars, funding=payments, now=NOW) as server:
        yield server


@pytest_asyncio.fixture
async def venue(market: MarketServer) -> AsyncIterator[Venue]:
    venue = Venue(ExchangeConfig(base_url=market.url), timeout_s=5.0)
    yield venue
    await venue.aclose()


async def test_klines_are_rows_of_the_candles_table_without_the_unfinished_bar(venue: Venue) -> None:
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, limit=10)
    assert len(rows) == 9, "the tenth runs"
    assert rows["open_time"].iloc[-1] == pd.Timestamp(AT - BAR_US, unit="us", tz="UTC")
    assert conform(table("candles"), rows).notna().all(axis=None)
    known = made_bars(AT, 300).iloc[-10:-1].reset_index(drop=True)
    for name in (*OHLCV, *KLINE_EXTRAS):
        assert (rows[name].to_numpy() == known[name].to_numpy()).all(), name


async def test_klines_page_from_start_to_end_and_ask_no_more_than_it_takes(
    venue: Venue, market: MarketServer
) -> None:
    start, end = AT - 200 * BAR_US, AT - 10 * BAR_US
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, start=start, end=end, limit=50)
    stamps = pd.DatetimeIndex(rows["open_time"]).asi8
    assert (stamps == np.arange(start, end, BAR_US)).all()
    asked = [int(parameters["startTime"]) * 1_000 for _, parameters in market.requests]
    assert asked == [start + n * 49 * BAR_US for n in range(4)], "each last bar once more, with its successor"
    assert market.hits[TIME] == 0


async def test_a_start_between_two_bars_begins_with_the_later_one(venue: Venue) -> None:
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, start=AT - 3 * BAR_US + 1, limit=50)
    assert pd.DatetimeIndex(rows["open_time"]).asi8.tolist() == [AT - 2 * BAR_US, AT - BAR_US]


async def test_a_span_without_bars_has_none(venue: Venue, market: MarketServer) -> None:
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, start=AT - BAR_US, end=AT - BAR_US)
    assert rows.empty
    assert market.hits[KLINES] == 0
    early = AT - 5_000 * BAR_US
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, start=early, end=early + 9 * BAR_US)
    assert rows.empty
    conform(table("candles"), rows)


async def test_longer_candles_are_there_too(venue: Venue) -> None:
    rows = await venue.klines("BTCUSDT", "4h", now=NOW, limit=3)
    assert [str(stamp) for stamp in rows["open_time"]] == [
        "2024-06-17 16:00:00+00:00",
        "2024-06-17 20:00:00+00:00",
    ]
    assert (rows["available_at"] - rows["open_time"] == pd.Timedelta(hours=4)).all()


async def test_a_fast_clock_here_does_not_close_a_bar_that_the_venue_still_trades(
    venue: Venue, market: MarketServer
) -> None:
    market.now = AT - 400_000  # the venue is at 23:59:59.6 while we are past midnight
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, start=AT - 4 * BAR_US)
    assert pd.DatetimeIndex(rows["open_time"]).asi8[-1] == AT - 2 * BAR_US
    assert market.hits[TIME] == 1, "it was asked what time it is there"


async def test_a_closed_bar_without_a_successor_is_asked_for_again_after_its_close(
    venue: Venue, market: MarketServer
) -> None:
    market.fault(KLINES, "no successor", "no successor", "")
    rows = await venue.klines("BTCUSDT", "15m", now=NOW, start=AT - 4 * BAR_US)
    assert pd.DatetimeIndex(rows["open_time"]).asi8[-1] == AT - BAR_US
    assert [path for path, _ in market.requests] == [KLINES, KLINES, TIME, KLINES]


async def test_out_of_order_bars_are_sorted_and_equal_doubles_dropped(
    venue: Venue, market: MarketServer
) -> None:
    right = await venue.klines("BTCUSDT", "15m", now=NOW, limit=20)
    market.fault(KLINES, "disorder", "double")
    for _ in range(2):
        rows = await venue.klines("BTCUSDT", "15m", now=NOW, limit=20)
        pd.testing.assert_frame_equal(rows.tail(18), right.tail(18).set_axis(rows.tail(18).index))


async def test_funding_has_floored_stamps_and_the_interval_since_the_payment_before(
    venue: Venue, market: MarketServer
) -> None:
    start = AT - 5 * 86_400_000_000
    rows = await venue.funding("BTCUSDT", start=start, limit=7)
    assert len(rows) == 16
    assert market.hits[FUNDING] == 3, "pages of seven, the last one short"
    assert (rows["event_time"] == rows["event_time"].dt.floor("8h")).all(), "the jitter is gone"
    assert (rows["available_at"] == rows["event_time"]).all()
    assert pd.isna(rows["interval_hours"].iloc[0])
    assert (rows["interval_hours"].iloc[1:] == 8).all()
    conform(table("funding"), rows)


async def test_the_interval_after_a_missing_payment_is_not_known(market: MarketServer, venue: Venue) -> None:
    market.fault(FUNDING, "hole:3")
    rows = await venue.funding("BTCUSDT", limit=10)
    assert rows["interval_hours"].isna().tolist() == [True] + 6 * [False] + [True, False]


async def test_long_short_is_asked_in_windows_and_known_when_received(
    venue: Venue, market: MarketServer
) -> None:
    rows = await venue.long_short("BTCUSDT", now=NOW, start=AT - 96 * BAR_US, limit=40)
    assert pd.DatetimeIndex(rows["event_time"]).asi8.tolist() == list(range(AT - 96 * BAR_US, AT + 1, BAR_US))
    assert market.hits[LONG_SHORT] == 3
    assert (rows["available_at"] == pd.Timestamp(NOW, unit="us", tz="UTC")).all()
    assert (rows["interval"] == "15m").all()
    conform(table("long_short"), rows)
    none = await venue.long_short("BTCUSDT", now=NOW, start=NOW + 1)
    assert none.empty
    conform(table("long_short"), none)
    newest = await venue.long_short("BTCUSDT", now=NOW, limit=3)
    assert newest["long_short_ratio"].tolist() == rows["long_short_ratio"].tolist()[-3:]


async def test_open_interest_comes_in_base_and_quote_units(venue: Venue) -> None:
    rows = await venue.open_interest("BTCUSDT", now=NOW, limit=4)
    conform(table("open_interest"), rows)
    assert (rows["open_interest_value"] / rows["open_interest"]).to_numpy() == pytest.approx(60_000)


async def test_the_server_time_is_in_microseconds(venue: Venue) -> None:
    assert await venue.server_time() == NOW // 1_000 * 1_000


async def test_an_unknown_symbol_is_named(venue: Venue) -> None:
    with pytest.raises(ConfigError, match="NOPEUSDT"):
        await venue.klines("NOPEUSDT", "15m", now=NOW)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://127.0.0.1", "http://127.0.0.1/fapi"])
def test_a_base_url_that_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        Venue(ExchangeConfig(base_url=url))


@pytest.mark.parametrize(("interval", "limit"), [("2h", 10), ("15m", 1), ("15m", 5_000)])
async def test_klines_that_the_venue_does_not_serve_are_refused(
    venue: Venue, market: MarketServer, interval: str, limit: int
) -> None:
    with pytest.raises(ConfigError, match="klines"):
        await venue.klines("BTCUSDT", interval, now=NOW, limit=limit)
    assert not market.requests


async def test_a_closed_venue_opens_again_and_closing_twice_is_fine(venue: Venue) -> None:
    await venue.server_time()
    await venue.aclose()
    await venue.aclose()
    assert await venue.server_time() == NOW // 1_000 * 1_000


_OUTSIDE: list[str] = []
_WATCHING: list[bool] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _WATCHING and event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", b"127.0.0.1"):
            _OUTSIDE.append(f"{event} {address!r}")


async def test_no_request_leaves_loopback(venue: Venue, market: MarketServer) -> None:
    sys.addaudithook(_watch)  # sees every connection of this process; cannot be taken off, so it has a switch
    _WATCHING.append(True)
    try:
        await venue.klines("BTCUSDT", "15m", now=NOW, start=AT - 4 * BAR_US)
        await venue.funding("BTCUSDT", limit=2)
        await venue.long_short("BTCUSDT", now=NOW, limit=2)
        await venue.open_interest("BTCUSDT", now=NOW, limit=2)
        await venue.book("BTCUSDT", now_us=lambda: NOW)
        await venue.server_time()
    finally:
        _WATCHING.clear()
    assert _OUTSIDE == []
    assert len(market.requests) == 6
    urls = venue._exchange.urls["api"]
    assert len(urls) > 20
    assert all(url.startswith(market.url + "/") for url in urls.values()), "no key of ccxt's is left out"


async def test_without_a_base_url_the_venues_own_hosts_are_asked() -> None:
    venue = Venue(ExchangeConfig())
    venue._open()
    exchange = venue._exchange
    urls = exchange.urls["api"]
    assert urls["fapiPublic"] == "https://fapi.binance.com/fapi/v1"
    assert urls["fapiData"] == "https://fapi.binance.com/futures/data"
    assert exchange.enableRateLimit
    assert not exchange.apiKey
    await venue.aclose()


async def _served(bars: pd.DataFrame, limit: int) -> pd.DataFrame:
    now = int(bars["open_time"].iloc[-1].timestamp()) * 1_000_000 + 1
    start = int(bars["open_time"].iloc[0].timestamp()) * 1_000_000
    with MarketServer(bars, now=now) as market:
        venue = Venue(ExchangeConfig(base_url=market.url))
        try:
            return await venue.klines("BTCUSDT", "15m", now=now, start=start, limit=limit)
        finally:
            await venue.aclose()


def _same_to_the_bit(rows: pd.DataFrame, bars: pd.DataFrame, columns: tuple[str, ...]) -> None:
    closed = bars.iloc[:-1].reset_index(drop=True)
    assert len(rows) == len(closed)
    assert (rows["open_time"].array == closed["open_time"].dt.as_unit("us").array).all()
    for name in columns:
        ours, theirs = (frame[name].to_numpy("float64").view("int64") for frame in (rows, closed))
        assert (ours == theirs).all(), name


async def test_real_bars_with_all_columns_come_back_to_the_bit(real_data: Path) -> None:
    bars = pd.read_parquet(real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet").tail(3_000)
    rows = await _served(bars, 1_000)
    _same_to_the_bit(rows, bars, (*OHLCV, "quote_volume", "trades", "taker_buy_volume"))


async def test_two_years_of_real_payments_come_back_to_the_bit(real_data: Path) -> None:
    paid = pd.read_parquet(real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet")
    paid = paid.rename(columns={"funding_time": "event_time"})
    now = int(paid["event_time"].iloc[-1].timestamp()) * 1_000_000 + 1_000_000
    with MarketServer(made_bars(AT, 2), funding=paid, now=now) as market:
        venue = Venue(ExchangeConfig(base_url=market.url))
        rows = await venue.funding("BTCUSDT", start=int(paid["event_time"].iloc[0].timestamp()) * 1_000_000)
        await venue.aclose()
    assert (rows["event_time"].array == paid["event_time"].dt.as_unit("us").array).all()
    assert (rows["funding_rate"].to_numpy() == paid["funding_rate"].to_numpy()).all()
    assert (rows["interval_hours"].iloc[1:] == 8).all()


@pytest.mark.slow  # a polite client takes a quarter of a minute for seventy pages
async def test_two_years_of_real_bars_come_back_to_the_bit(real_data: Path) -> None:
    bars = pd.read_parquet(real_data / "BTCUSDT_perp_15m_2023_2024.parquet")
    _same_to_the_bit(await _served(bars, 1_000), bars, OHLCV)


def test_decimal_text_becomes_the_double_that_the_archives_csv_gives(tmp_path: Path) -> None:
    from acmf_core.collect.venue.answers import decimal

    texts = ["61800.20", "0.1", "2.909", "9007199254740993", "0.00000001", "123456789.123456789", "1.005"]
    file = tmp_path / "klines.csv"
    file.write_text("\n".join(texts))
    read = pd.read_csv(file, header=None)[0]
    assert [decimal(text, "it") for text in texts] == read.tolist()
