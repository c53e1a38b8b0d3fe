"""Every source failing in every way: a decision without candles never, without the others always, in time."""

import asyncio
import dataclasses
import json
import logging
import math
import threading
from time import perf_counter

import numpy as np
import pytest
from fake_sources import CANDLE_FAILURES, FAILURES, OPTIONAL, FakeCandles, quick_config, rows_of, sync_of
from fakes import FakeStore
from replaying import PARAMS, WARM, close_of, daemon, market

from acmf_core.domain import Health
from acmf_core.errors import AcmfError
from acmf_core.features import SCHEMA, build_features
from acmf_core.lake import Lake
from acmf_core.pipeline import run_cycle

AT = close_of(WARM)
BARS = market().candles
DEADLINE = quick_config().deadline_s
SLACK = 0.5  # a busy machine
SLOW_FEATURES = [name for source in OPTIONAL for name in SCHEMA.sources[source]]


def warmed(sync, bars=BARS):
    """The window as after a start that found all bars in the lake but the newest."""
    from acmf_core.lake.tables import candle_rows

    sync._window.take(candle_rows(bars.loc[: bars.index[WARM - 1]], "BTCUSDT"))
    return sync


async def finish(parts):
    """Let hanging threads go, so that the loop can close."""
    for name in OPTIONAL:
        if name in parts:
            parts[name].released.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """The kernels, once: a first run compiles them, and the tests here look at the time."""

    async def one():
        sync, parts = sync_of(BARS, AT)
        await decide(warmed(sync), parts)

    asyncio.run(one())


def failing(mode):
    return {name: mode for name in OPTIONAL}


async def decide(sync, parts, store=None):
    """One cycle of a daemon with a model, on this feed: (cycle, store, seconds)."""
    world = daemon(store).world
    world = dataclasses.replace(world, clock=parts["clock"], feed=sync, notifier=parts["notifier"])
    began = perf_counter()
    try:
        cycle = await run_cycle(world, AT)
    finally:
        seconds = perf_counter() - began
        await finish(parts)
    return cycle, world.store, seconds


@pytest.mark.parametrize("mode", [*FAILURES, "empty"])
async def test_a_cycle_is_decided_in_time_with_every_optional_source_failing(mode):
    sync, parts = sync_of(BARS, AT, modes=failing(mode))
    cycle, store, seconds = await decide(warmed(sync), parts)
    assert seconds < DEADLINE + 0.25 + SLACK
    assert cycle.at == AT
    assert all(math.isfinite(p) for p in cycle.probabilities)
    row = store.rows("cycles")[0]
    assert row["status"] == "done"
    said = {one["source"]: one for one in json.loads(row["health"])["sources"]}
    assert list(said) == ["candles", *sorted(OPTIONAL)]
    assert said["candles"]["status"] == "ok"
    wanted = "stale" if mode == "empty" else "failed"
    assert {said[name]["status"] for name in OPTIONAL} == {wanted}
    assert all(said[name]["reason"] for name in OPTIONAL)
    assert all(said[name]["age_s"] is None for name in OPTIONAL)


@pytest.mark.parametrize("mode", ["hang", "stubborn", "thread"])
async def test_asked_early_enough_nobody_waits_for_an_optional_source_beyond_the_close(mode):
    config = quick_config().model_copy(update={"early_s": 0.1, "deadline_s": 20.0})
    sync, parts = sync_of(BARS, AT, modes=failing(mode), lead_s=0.5, config=config)
    cycle, store, seconds = await decide(warmed(sync), parts)
    assert cycle.at == AT
    assert seconds < config.deadline_s / 4  # not the deadline; a first run compiles
    said = {one["source"]: one for one in json.loads(store.rows("cycles")[0]["health"])["sources"]}
    assert said["candles"]["status"] == "ok"
    assert {said[name]["status"] for name in OPTIONAL} == {"failed"}


async def test_an_interrupted_collection_leaves_no_unread_failure_behind():
    import gc

    said = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    sync, parts = sync_of(BARS, AT, modes=failing("refused"), lead_s=5.0)
    collecting = asyncio.ensure_future(warmed(sync).collect(AT))
    await asyncio.sleep(0.3)  # the sources have failed, the bar is waited for
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    await finish(parts)
    del collecting
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def test_what_failed_is_nan_in_the_features_and_nothing_else_is():
    sync, parts = sync_of(BARS, AT, modes=failing("unavailable") | {"book": "", "news": ""})
    snapshot = await warmed(sync).collect(AT)
    row = build_features(snapshot.market, last=192).tabular.iloc[-1]
    there = {*SCHEMA.sources["book"], *SCHEMA.sources["news"]}
    assert row[list(there)].notna().all()
    assert row[[name for name in SLOW_FEATURES if name not in there]].isna().all()
    assert snapshot.market.macro is None
    await finish(parts)


@pytest.mark.parametrize(
    ("name", "mode"), [(OPTIONAL[i % len(OPTIONAL)], mode) for i, mode in enumerate(FAILURES)]
)
async def test_one_failing_source_leaves_the_others_alone(name, mode):
    sync, parts = sync_of(BARS, AT, modes={name: mode}, lead_s=0.0)
    for other in OPTIONAL:
        parts[other].rows = rows_of(other, AT - 1_000_000)
    snapshot = await warmed(sync).collect(AT)
    health = {one.source: one for one in snapshot.health}
    assert health.pop(name).status is Health.FAILED
    assert {one.status for one in health.values()} == {Health.OK}
    assert getattr(snapshot.market, name) is None
    await finish(parts)


@pytest.mark.parametrize("mode", CANDLE_FAILURES)
async def test_without_candles_nothing_is_decided_and_the_reason_is_recorded(mode):
    sync, parts = sync_of(BARS, AT)
    parts["candles"].mode = mode
    store = FakeStore()
    began = perf_counter()
    with pytest.raises(AcmfError) as refused:
        await decide(warmed(sync), parts, store)
    assert perf_counter() - began < DEADLINE + 0.25 + SLACK
    row = store.rows("cycles")[0]
    assert (row["status"], row["stage"]) == ("failed", "collect")
    assert str(refused.value) in row["error"]
    assert store.rows("predictions") == []
    said = {one["source"]: one for one in json.loads(row["health"])["sources"]}
    assert said["candles"]["status"] == "failed"
    assert said["candles"]["reason"]
    assert {said[name]["status"] for name in OPTIONAL} == {"ok"}


async def test_candles_that_stay_away_are_named_with_the_sources_own_words():
    sync, parts = sync_of(BARS.iloc[:WARM], AT)
    with pytest.raises(AcmfError, match="the newest bar is not the expected one"):
        await warmed(sync).collect(AT)
    assert sync.health[0].status is Health.FAILED
    assert sync.health[0].age_s == 900.0
    assert len(parts["candles"].asked) >= 2
    await finish(parts)


async def test_a_bug_in_a_source_is_logged_with_its_place_but_never_with_its_text(caplog):
    sync, parts = sync_of(BARS, AT, modes={"onchain": "bug"})
    with caplog.at_level(logging.ERROR):
        snapshot = await warmed(sync).collect(AT)
    health = {one.source: one for one in snapshot.health}["onchain"]
    assert health.reason == "bug in source onchain: KeyError (the log says where)"
    assert "fake_sources.py" in caplog.text
    assert "hunter2" not in caplog.text + repr(sync.health) + repr(parts["notifier"].sent)


async def test_a_source_still_busy_is_not_asked_a_second_time():
    sync, parts = sync_of(BARS, AT, modes={"macro": "stubborn"}, lead_s=0.02)
    await warmed(sync).collect(AT)
    parts["macro"].mode = ""
    await sync.collect(AT)
    health = {one.source: one for one in sync.health}
    assert health["macro"].reason == "macro is still busy with an earlier question"
    assert len(parts["macro"].asked) == 1
    await finish(parts)


async def test_a_collection_that_is_cancelled_takes_its_questions_along():
    sync, parts = sync_of(BARS, AT, modes=failing("hang"), lead_s=0.01)
    collecting = asyncio.create_task(warmed(sync).collect(AT))
    await asyncio.sleep(0.05)
    collecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await collecting
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert parts["macro"].asked


@pytest.mark.parametrize("spoil", ["gap", "late", "doubled", "order", "changed"])
async def test_bars_that_come_wrong_end_as_the_data_page_says(spoil):
    """A gap or a double: no decision; late: waited for; order: sorted; changed: the held one stays."""
    sync, parts = sync_of(BARS, AT)
    candles = parts["candles"]
    if spoil == "gap":
        candles.bars = BARS.drop(BARS.index[WARM - 1])
        sync._window.take(_rows(BARS.iloc[: WARM - 1]))
    else:
        warmed(sync)
    if spoil == "late":
        candles.delay_s = 0.35
    if spoil in ("doubled", "order"):
        answer = candles._answer

        def spoiled(at, since):
            rows = answer(at, since).rows["15m"]
            doubled = {"doubled": [0, 0, 1, 2], "order": [2, 0, 1]}[spoil]
            return dataclasses.replace(answer(at, since), rows={"15m": rows.iloc[doubled]})

        candles._answer = spoiled
    if spoil == "changed":
        candles.bars = BARS.copy()
        candles.bars.iloc[WARM - 1, BARS.columns.get_loc("volume")] += 1.0
    if spoil in ("gap", "doubled"):
        with pytest.raises(AcmfError):
            await sync.collect(AT)
        return
    snapshot = await sync.collect(AT)
    np.testing.assert_array_equal(snapshot.market.candles.iloc[-3:], BARS.iloc[WARM - 2 : WARM + 1])
    told = [alert.text for alert in parts["notifier"].sent]
    assert bool(told) is (spoil == "changed")
    if told:
        assert "closed again with other values, the held one stays" in told[0]
        assert "volume" in snapshot.health[0].reason


def _rows(bars):
    from acmf_core.lake.tables import candle_rows

    return candle_rows(bars, "BTCUSDT")


async def test_an_unfinished_bar_is_left_out():
    sync, parts = sync_of(BARS, AT)
    parts["candles"].mode = "unfinished"
    snapshot = await warmed(sync).collect(AT)
    assert snapshot.market.candles.index[-1] == BARS.index[WARM]
    assert sync._window.newest == AT - 900_000_000


class StallingLake(Lake):
    """As on a disk or an object store that does not answer, until it is let go."""

    def __init__(self, uri):
        super().__init__(uri)
        self.stalls, self.released, self.asked = False, threading.Event(), 0

    def read(self, *args, **filters):
        self.asked += 1
        if self.stalls:
            self.released.wait(30.0)
        return super().read(*args, **filters)


async def test_a_lake_that_stalls_keeps_nobody_beyond_the_deadline(tmp_path):
    lake = StallingLake(tmp_path)
    sync, parts = sync_of(BARS, AT, lake=lake)
    parts["candles"].mode = "unavailable"
    with pytest.raises(AcmfError):
        await warmed(sync).collect(AT)
    lake.stalls, parts["candles"].mode = True, ""
    for name in OPTIONAL:
        parts[name].mode = "hang"
    parts["clock"].jump(AT + 1_000)
    began = perf_counter()
    snapshot = await sync.collect(AT)
    assert perf_counter() - began < DEADLINE + SLACK
    assert snapshot.health[0].status is Health.OK
    told = [alert.text for alert in parts["notifier"].sent if "lake" in alert.text]
    assert told == ["BTCUSDT: the lake cannot be read: no answer within 0.2 s"]
    lake.released.set()
    await sync.close()


async def test_what_a_slow_lake_says_too_late_is_there_for_the_next_collection(tmp_path):
    lake = StallingLake(tmp_path)
    remembered = BARS.iloc[WARM - 10 : WARM].copy()
    remembered.iloc[3, remembered.columns.get_loc("volume")] += 1.0
    lake.merge("candles", _rows(remembered))
    sync, parts = sync_of(BARS, AT, lake=lake, config=quick_config(deadline_s=4.0))
    parts["candles"].mode = "unavailable"
    lake.stalls = True
    for _ in range(2):
        with pytest.raises(AcmfError):
            await sync.collect(AT)
    lake.released.set()
    parts["candles"].mode = ""
    snapshot = await sync.collect(AT)
    assert lake.asked == 1
    kept = snapshot.market.candles["volume"]
    assert kept[remembered.index[3]] == remembered["volume"].iloc[3]
    told = [alert.text for alert in parts["notifier"].sent if "lake is read again" in alert.text]
    assert len(told) == 1
    await sync.close()


def test_the_failing_feed_leaves_a_daemon_that_goes_on():
    """A failed bar is met again by the next call, and told once however often it fails."""
    own = daemon()
    sync, parts = sync_of(BARS, AT)
    parts["candles"].mode = "unavailable"

    async def life():
        own.world = dataclasses.replace(own.world, clock=parts["clock"], feed=warmed(sync))
        for _ in range(3):
            assert await own.meet(AT) is None
        parts["candles"].mode = ""
        return await own.meet(AT)

    assert asyncio.run(life()) is not None
    told = [alert.text for alert in own.world.notifier.sent if "failed" in alert.text]
    assert len(told) == 1
    assert PARAMS.fingerprint == own.world.store.rows("cycles")[0]["params"]
    assert isinstance(parts["candles"], FakeCandles)
