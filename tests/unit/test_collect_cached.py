"""Sources behind a cache: fewer questions, the same rows, and no harm from a cache that fails."""

import hashlib
import logging
import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fake_sources import SYMBOL, FakeSource, rows_of
from fakes import FakeCache, FakeClock

from acmf_core.collect.asking.cached import Cached
from acmf_core.collect.asking.known import checked
from acmf_core.collect.asking.limits import LIMITS
from acmf_core.domain import BAR_US
from acmf_core.errors import DataError, VenueUnavailable
from acmf_core.lake.tables import STAMP, TABLES
from acmf_core.ports import Source

HOUR = 3_600
START = 1_700_000_000_000_000


def parts(name="macro", **plugs):
    clock = FakeClock(START)
    source = FakeSource(name, clock)
    cache = plugs.pop("cache", None) or FakeCache(clock)
    return clock, source, cache, Cached(source, cache, HOUR, clock, **({"symbol": SYMBOL} | plugs))


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
    rows = await Cached(other, cache, HOUR, clock, symbol="ETHUSDT").collect(START)
    assert rows["symbol"].tolist() == ["ETHUSDT"]
    assert len(other.asked) == len(source.asked) == 1


async def test_a_second_process_finds_the_answer_of_the_first():
    clock, _, cache, cached = parts()
    await cached.collect(START)
    other = FakeSource("macro", clock)
    assert len(await Cached(other, cache, HOUR, clock, symbol=SYMBOL).collect(START)) == 1
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
        await Cached(FakeSource("book", clock), other, HOUR, clock, symbol=SYMBOL).collect(START)
        ((_, spoil),) = other.kept.values()
    spoiled = {"cut": good[: len(good) // 2], "flipped": bytes(255 - b for b in good)}
    cache.kept[key] = (expires, spoiled.get(spoil, spoil))
    rows = await cached.collect(START)
    assert len(source.asked) == 2
    pd.testing.assert_series_equal(rows["vix"], rows_of("macro", START)["vix"])


async def test_no_flipped_byte_changes_what_is_answered_or_raises():
    _, source, cache, cached = parts("news")
    good = await cached.collect(START)
    ((key, (expires, held)),) = cache.kept.items()
    dice = random.Random(7)
    for asked in range(2, 152):
        spoiled = bytearray(held)
        spoiled[dice.randrange(len(held))] ^= 1 << dice.randrange(8)
        cache.kept[key] = (expires, bytes(spoiled))
        rows = await cached.collect(START)
        assert len(source.asked) == asked
        assert rows["score"].tolist() == good["score"].tolist()


def whole(rows):
    """A key and bytes that are whole, with rows in them that nobody would have kept."""
    columns = {
        name: pa.array(values.dt.tz_convert(None).to_numpy(), STAMP)
        if isinstance(values.dtype, pd.DatetimeTZDtype)
        else pa.array(values.to_list())
        for name, values in rows.items()
    }
    sink, content = pa.BufferOutputStream(), pa.table(columns)
    with pa.ipc.new_stream(sink, content.schema) as stream:
        stream.write_table(content)
    body = START.to_bytes(8, "big") + sink.getvalue().to_pybytes()
    key = "acmf:source:2:macro:BTCUSDT"
    return key, hashlib.sha256(hashlib.sha256(key.encode()).digest() + body).digest() + body


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.assign(vix=-5.0),
        lambda rows: rows.assign(vix=np.inf),
        lambda rows: rows.assign(event_time="yesterday"),
        lambda rows: rows.assign(available_at=rows["available_at"] + pd.Timedelta("1us")),
        lambda rows: rows.drop(columns="event_time"),
        lambda rows: pd.concat([rows, rows]),
    ],
    ids=["negative", "infinite", "text", "future", "no time", "doubled"],
)
async def test_whole_bytes_are_believed_no_more_than_an_answer_from_outside(spoil):
    _, source, cache, cached = parts()
    cache.put(*whole(rows_of("macro", START)), HOUR)
    await cached.collect(START)
    assert source.asked == []
    cache.put(*whole(spoil(rows_of("macro", START))), HOUR)
    await cached.collect(START)
    assert len(source.asked) == 1


@pytest.mark.parametrize("name", ["news", "macro"])
async def test_what_was_kept_by_a_clock_days_ahead_is_asked_anew_once_it_is_right(name):
    clock, source, _, cached = parts(name)
    source.rows = (
        rows_of(name, START - 1) if name == "macro" else None
    )  # known long ago: no row of the future
    clock.time += 3 * 86_400_000_000
    await cached.collect(START)
    clock.time = START
    source.rows = None
    rows = await cached.collect(START)
    assert len(source.asked) == 2
    assert rows["available_at"].iloc[0] == pd.Timestamp(START, unit="us", tz="UTC")


async def test_an_answer_that_cannot_be_is_not_kept():
    _, source, cache, cached = parts()
    source.rows = rows_of("macro", START).assign(vix=-5.0)
    await cached.collect(START)
    assert cache.kept == {}


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("fear_greed", "value", 100.5),
        ("fear_greed", "value", -1.0),
        ("macro", "vix", 0.0),
        ("macro", "gold", -2_000.0),
        ("news", "score", -77.0),
        ("news", "confidence", 1.5),
        ("news", "headlines", -1),
        ("long_short", "long_short_ratio", 0.0),
        ("funding", "funding_rate", 0.06),
        ("funding", "funding_rate", -np.inf),
        ("onchain", "whale_transfers", -1.0),
        ("book", "bid_px_20", -99.0),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_named(name, column, value):
    good = rows_of(name, START)
    assert len(checked(name, good, SYMBOL)) == 1
    with pytest.raises(DataError, match=rf"^{name} answered with .*{column}"):
        checked(name, good.assign(**{column: value}), SYMBOL)


def test_limits_are_of_columns_that_there_are():
    for name, limits in LIMITS.items():
        assert set(limits) <= set(TABLES[name].values)
        assert all(low < high for low, high in limits.values())


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


async def test_where_the_source_says_that_something_is_due_it_is_asked():
    _, source, _, cached = parts("funding")
    hour = START // (4 * BAR_US) * 4 * BAR_US
    assert (cached.due(hour), cached.due(hour + BAR_US)) == (True, False)
    for at in (hour + BAR_US, hour + 2 * BAR_US, hour, hour):
        await cached.collect(at)
    assert len(source.asked) == 3


def test_a_source_that_cannot_say_what_is_due_has_nothing_due():
    clock = FakeClock(START)
    plain = SimpleNamespace(name="news", table="news")
    assert not Cached(plain, FakeCache(clock), HOUR, clock).due(START // (4 * BAR_US) * 4 * BAR_US)
