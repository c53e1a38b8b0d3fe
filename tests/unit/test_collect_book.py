"""The order book: what the venue sent, when it was so, when we knew, and the features' own summaries."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from fakes import FakeClock
from market_server import DEPTH, MarketServer, made_bars

from acmf_core.collect.book import BookSource
from acmf_core.collect.venue.client import Venue
from acmf_core.config import ExchangeConfig
from acmf_core.domain import BAR_US
from acmf_core.errors import StaleData
from acmf_core.features import MarketData, build_features
from acmf_core.features.sources import book_summaries
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import table
from acmf_core.ports import Source

AT = 1_718_668_800_000_000  # 2024-06-18 00:00 UTC
SUMMARIES = ("imbalance", "spread_bps", "microprice_bps")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(AT - 1_500_000)


@pytest.fixture
def market(clock: FakeClock) -> Iterator[MarketServer]:
    with MarketServer(made_bars(AT, 20), now=clock.now) as server:
        yield server


@pytest_asyncio.fixture
async def source(market: MarketServer, clock: FakeClock) -> AsyncIterator[BookSource]:
    venue = Venue(ExchangeConfig(base_url=market.url))
    yield BookSource(venue, "BTCUSDT", clock)
    await venue.aclose()


async def _collect(market: MarketServer, source: BookSource, **depth: Any) -> pd.Series:
    market.depth = {"lastUpdateId": 1, "E": AT // 1_000 - 1_700, "T": AT // 1_000 - 1_750} | depth
    rows = await source.collect(AT)
    assert len(rows) == 1
    conform(table("book"), rows)
    return rows.iloc[0]


async def test_a_row_has_the_engines_stamp_and_the_moment_of_receipt(
    market: MarketServer, source: BookSource
) -> None:
    assert isinstance(source, Source)
    row = await _collect(market, source, bids=[["99.0", "3"], ["98.0", "1"]], asks=[["101.0", "1"]])
    assert row["event_time"] == pd.Timestamp(AT - 1_750_000, unit="us", tz="UTC")
    assert row["available_at"] == pd.Timestamp(AT - 1_500_000, unit="us", tz="UTC")
    assert row["bid_px_1"] == 99.0
    assert row["bid_qty_2"] == 1.0
    assert pd.isna(row["bid_px_3"])
    assert pd.isna(row["ask_qty_2"])
    assert row["imbalance"] == pytest.approx((4 - 1) / 5)
    assert row["spread_bps"] == pytest.approx(200.0)
    assert row["microprice_bps"] == pytest.approx(((99 * 1 + 101 * 3) / 4 - 100) / 100 * 1e4)
    assert market.requests[-1] == (DEPTH, {"symbol": "BTCUSDT", "limit": "20"})


async def test_without_the_engines_stamp_the_messages_counts(
    market: MarketServer, source: BookSource
) -> None:
    market.depth = {"E": AT // 1_000 - 1_700, "bids": [["99.0", "3"]], "asks": [["101.0", "1"]]}
    rows = await source.collect(AT)
    assert rows["event_time"].iloc[0] == pd.Timestamp(AT - 1_700_000, unit="us", tz="UTC")


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([], []),
        ([], [["101.0", "1"]]),
        ([["99.0", "1"]], []),
        ([["102.0", "1"]], [["101.0", "1"]]),
    ],
    ids=["empty", "no bids", "no asks", "crossed"],
)
async def test_an_empty_or_crossed_book_is_recorded_without_summaries(
    market: MarketServer, source: BookSource, bids: list[list[str]], asks: list[list[str]]
) -> None:
    row = await _collect(market, source, bids=bids, asks=asks)
    assert row[list(SUMMARIES)].isna().all()
    assert pd.isna(row["bid_px_1"]) == (not bids)
    assert pd.isna(row["ask_px_1"]) == (not asks)


async def test_a_book_whose_stamp_is_over_a_minute_old_is_stale(
    market: MarketServer, source: BookSource, clock: FakeClock
) -> None:
    levels = {"bids": [["99.0", "3"]], "asks": [["101.0", "1"]]}
    await _collect(market, source, T=clock.time // 1_000 - 60_000, **levels)
    with pytest.raises(StaleData, match="61 s before it was received"):
        await _collect(market, source, T=clock.time // 1_000 - 61_000, **levels)


@pytest.mark.parametrize("ahead_ms", [50, 59_000])
async def test_a_stamp_of_a_clock_ahead_of_ours_is_the_moment_of_receipt(
    market: MarketServer, source: BookSource, clock: FakeClock, ahead_ms: int
) -> None:
    levels = {"bids": [["99.0", "3"]], "asks": [["101.0", "1"]]}
    row = await _collect(market, source, T=clock.time // 1_000 + ahead_ms, **levels)
    assert row["event_time"] == row["available_at"] == pd.Timestamp(clock.time, unit="us", tz="UTC")


async def test_a_recorded_answer_of_the_venue_becomes_its_row(
    real_data: Path, market: MarketServer, source: BookSource, clock: FakeClock
) -> None:
    market.depth = json.loads((real_data / "recorded" / "fapi_depth_BTCUSDT_20240808.json").read_text())
    clock.time = 1_000 * market.depth["E"] + 40_000
    (row,) = (await source.collect(AT)).to_dict("records")
    conform(table("book"), pd.DataFrame([row]))
    assert row["event_time"] == pd.Timestamp(market.depth["T"], unit="ms", tz="UTC")
    for side, name in (("bids", "bid"), ("asks", "ask")):
        for level, (price, quantity) in enumerate(market.depth[side][:20], start=1):
            assert row[f"{name}_px_{level}"] == float(price)
            assert row[f"{name}_qty_{level}"] == float(quantity)
    assert row["spread_bps"] == pytest.approx(0.1 / 61_800.25 * 1e4, rel=1e-6)
    assert -1.0 < row["imbalance"] < 1.0


def test_the_summaries_are_what_the_features_say_of_the_same_rows(real_data: Path) -> None:
    books = pd.read_parquet(real_data / "BTCUSDT_perp_L2_top20_250ms_3sessions.parquet")
    books = books.iloc[::60].reset_index(drop=True)
    closes = AT + np.arange(len(books)) * BAR_US
    books["available_at"] = pd.to_datetime(closes, unit="us", utc=True)
    books.loc[3, [c for c in books.columns if c.startswith("ask_")]] = np.nan
    books.loc[5, "bid_px_1"] = books.loc[5, "ask_px_1"] + 1.0
    bars = made_bars(int(closes[-1]) - BAR_US, len(books))
    features = build_features(MarketData.from_candles(bars, book=books)).tabular
    summaries = book_summaries(books)
    for name, feature in zip(
        SUMMARIES, ("book_imbalance", "book_spread_bps", "book_microprice_bps"), strict=True
    ):
        np.testing.assert_array_equal(summaries[name].to_numpy(), features[feature].to_numpy())
        assert summaries[name].isna().sum() == 2
