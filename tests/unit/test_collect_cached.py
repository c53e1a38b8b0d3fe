"""Sources behind a cache: fewer questions, the same rows, and no harm from a cache that fails."""

import logging

import pandas as pd
import pytest
from fake_sources import FakeSource, rows_of
from fakes import FakeCache, FakeClock

from acmf_core.collect.asking.cached import Cached
from acmf_core.errors import VenueUnavailable
from acmf_core.ports import Source

HOUR = 3_600
START = 1_700_000_000_000_000


def parts(name="macro", **plugs):
    clock = FakeClock(START)
    source = FakeSource(name, clock)
    cache = plugs.pop("cache", None) or FakeCache(clock)
    return clock, source, cache, Cached(source, cache, HOUR, **plugs)


@pytest.mark.parametrize("name", ["macro", "fear_greed", "onchain", "news", "funding", "book"])
async def test_an_answer_is_good_for_its_time_and_keeps_when_it_was_known(name):
    clock, source, _, cached = parts(name)
    first = await cached.collect(START)
    clock.time += 900_000_000
    again = await cached.collect(START)
    assert len(source.asked) == 1
    assert again["available_at"].tolist() == first["available_at"].tolist()
    for column in first.columns:
        assert again[column].tolist() == first[column].tolist()
    assert again["event_time"].dtype == "datetime64[us, UTC]"
    clock.time += 2_700_000_000
    await cached.collect(START)
    assert len(source.asked) == 2


async def test_symbols_do_not_share_their_answers():
    clock, source, cache, cached = parts("news", symbol="BTCUSDT")
    await cached.collect(START)
    other = FakeSource("news", clock, rows=rows_of("news", START).assign(symbol="ETHUSDT"))
    rows = await Cached(other, cache, HOUR, symbol="ETHUSDT").collect(START)
    assert rows["symbol"].tolist() == ["ETHUSDT"]
    assert len(other.asked) == len(source.asked) == 1


async def test_a_second_process_finds_the_answer_of_the_first():
    clock, _, cache, cached = parts()
    await cached.collect(START)
    other = FakeSource("macro", clock)
    assert len(await Cached(other, cache, HOUR).collect(START)) == 1
    assert other.asked == []


async def test_a_cache_that_is_down_is_said_once_and_asked_around(caplog):
    _, source, cache, cached = parts()
    cache.down = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert len(await cached.collect(START)) == 1
    assert len(source.asked) == 3
    assert caplog.text.count("out of reach") == 1
    cache.down = False
    await cached.collect(START)
    await cached.collect(START)
    assert len(source.asked) == 4


@pytest.mark.parametrize("spoil", [b"", b"garbage", "cut", "flipped", "other table"])
async def test_damaged_bytes_are_no_answer(spoil):
    clock, source, cache, cached = parts()
    await cached.collect(START)
    ((key, (expires, good)),) = cache.kept.items()
    if spoil == "other table":
        other = FakeCache(clock)
        await Cached(FakeSource("book", clock), other, HOUR).collect(START)
        ((_, spoil),) = other.kept.values()
    spoiled = {"cut": good[: len(good) // 2], "flipped": bytes(255 - b for b in good)}
    cache.kept[key] = (expires, spoiled.get(spoil, spoil))
    rows = await cached.collect(START)
    assert len(source.asked) == 2
    pd.testing.assert_series_equal(rows["vix"], rows_of("macro", START)["vix"])


async def test_a_failure_is_not_kept_and_neither_is_an_empty_answer():
    _, source, cache, cached = parts()
    source.mode = "unavailable"
    with pytest.raises(VenueUnavailable):
        await cached.collect(START)
    source.mode = "empty"
    assert len(await cached.collect(START)) == 0
    source.mode = "truncated"
    assert "available_at" not in (await cached.collect(START)).columns
    assert cache.kept == {}


def test_it_is_a_source_like_the_one_it_wraps():
    _, source, _, cached = parts()
    assert isinstance(cached, Source)
    assert (cached.name, cached.table) == (source.name, source.table)
