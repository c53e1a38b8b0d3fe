"""DataSync: what counts for a close, what is kept, what is told."""

import asyncio
import math
from time import thread_time

import numpy as np
import pandas as pd
import pytest
from fake_sources import OPTIONAL, SYMBOL, FakeCandles, RunningClock, quick_config, rows_of, stamp, sync_of
from replaying import WARM, close_of, market

from acmf_core.config import ExchangeConfig
from acmf_core.domain import BAR_US, DAY_US, Health
from acmf_core.errors import AcmfError, VenueUnavailable
from acmf_core.features import SCHEMA, build_features
from acmf_core.lake import Lake
from acmf_core.lake.tables import candle_rows
from acmf_core.monitoring.metrics import SourceMetrics

AT = close_of(WARM)
BARS = market().candles
RECENT = BARS.iloc[WARM - 10 : WARM]  # a short window, where features do not matter
SECOND = 1_000_000


def held(sync, bars=RECENT):
    sync._window.take(candle_rows(bars, SYMBOL))
    return sync


def by_name(health):
    return {one.source: one for one in health}


def told(parts, word):
    return [alert for alert in parts["notifier"].sent if word in alert.text]


class SteppingClock:
    """Stands still until it is moved."""

    def __init__(self, time):
        self.time = time

    def now(self):
        return self.time


async def collections(sync, parts, closes):
    """One collection a close, the clock standing at it: every source's row is known one second before."""
    found = []
    for at in closes:
        parts["clock"].time = at
        for name in OPTIONAL:
            if name in parts:
                parts[name].rows = rows_of(name, at - SECOND)
        found.append(await sync.collect(at))
    return found


def standing(**plugs):
    return sync_of(BARS, AT, clock=SteppingClock(AT), **plugs)


# --- what counts for a close ----------------------------------------------------------------------


async def test_a_book_taken_before_the_close_counts_for_it_and_one_taken_after_does_not():
    sync, _ = sync_of(BARS, AT)
    snapshot = await held(sync).collect(AT)
    assert len(snapshot.market.book) == 1
    assert snapshot.market.book["available_at"].iloc[0] <= stamp(AT)
    late, _ = sync_of(BARS, AT, lead_s=-2.0)
    snapshot = await held(late).collect(AT)
    assert snapshot.market.book is None
    health = by_name(snapshot.health)["book"]
    assert (health.status, math.isnan(health.age_s)) == (Health.STALE, True)
    assert health.reason == "it answered, but nothing of it was known by then"


async def test_what_came_after_a_close_counts_for_the_next_one():
    sync, parts = standing()
    parts["fear_greed"].rows = rows_of("fear_greed", AT + SECOND)
    first = await held(sync).collect(AT)
    assert first.market.fear_greed is None
    parts["clock"].time = AT + BAR_US
    second = await sync.collect(AT + BAR_US)
    assert second.market.fear_greed["value"].tolist() == [55.0]


async def test_a_payment_at_the_close_is_known_at_it_though_it_is_asked_for_later():
    at = next(close_of(b) for b in range(WARM, WARM + 8) if close_of(b) % (4 * BAR_US) == 0)
    place = BARS.index.get_loc(stamp(at - BAR_US))
    sync, parts = sync_of(BARS, at)
    parts["funding"].rows = rows_of("funding", at)
    snapshot = await held(sync, BARS.iloc[place - 10 : place]).collect(at)
    assert parts["funding"].asked[0] >= at
    assert snapshot.market.funding["event_time"].tolist() == [stamp(at)]


async def test_a_payment_that_is_due_is_asked_for_until_it_is_there():
    at = next(close_of(b) for b in range(WARM, WARM + 8) if close_of(b) % (4 * BAR_US) == 0)
    place = BARS.index.get_loc(stamp(at - BAR_US))
    sync, parts = sync_of(BARS, at, lead_s=0.0, config=quick_config(deadline_s=2.0))
    before = rows_of("funding", at - 8 * 4 * BAR_US)
    sync._optional.known["funding"].take(before.assign(interval_hours=8.0))
    source, good = parts["funding"], rows_of("funding", at)

    async def late(close):
        source.asked.append(close)
        return before if len(source.asked) < 2 else good

    source.collect = late
    snapshot = await held(sync, BARS.iloc[place - 10 : place]).collect(at)
    assert len(source.asked) == 2
    assert snapshot.market.funding["event_time"].iloc[-1] == stamp(at)
    assert by_name(snapshot.health)["funding"].reason == ""


async def test_a_payment_that_does_not_come_is_waited_for_no_longer_than_the_deadline():
    at = next(close_of(b) for b in range(WARM, WARM + 8) if close_of(b) % (4 * BAR_US) == 0)
    place = BARS.index.get_loc(stamp(at - BAR_US))
    sync, parts = sync_of(BARS, at, lead_s=0.0, config=quick_config(deadline_s=1.2))
    parts["funding"].rows = rows_of("funding", at - 8 * 4 * BAR_US)
    sync._optional.known["funding"].take(parts["funding"].rows.assign(interval_hours=8.0))
    snapshot = await held(sync, BARS.iloc[place - 10 : place]).collect(at)
    assert 2 <= len(parts["funding"].asked) <= 3
    assert parts["clock"].now() - at < 2 * SECOND
    health = by_name(snapshot.health)["funding"]
    assert (health.status, health.reason) == (Health.OK, "a payment that is due is not there yet")
    assert len(snapshot.market.funding) == 1


async def test_off_the_payment_hours_nobody_waits_for_funding():
    sync, parts = standing()
    parts["funding"].rows = rows_of("funding", AT - 8 * 3_600 * SECOND)
    await held(sync).collect(AT)
    assert len(parts["funding"].asked) == 1


async def test_candles_wait_for_the_close_and_the_others_do_not():
    sync, parts = sync_of(BARS, AT, lead_s=0.3)
    await held(sync).collect(AT)
    assert all(parts[name].asked[0] < AT for name in OPTIONAL if name != "funding")
    assert [at for at, _ in parts["candles"].asked] == [AT]
    assert parts["clock"].now() >= AT


async def test_a_close_of_long_ago_asks_for_bars_and_payments_only():
    sync, parts = standing()
    parts["clock"].time = AT + 4 * BAR_US
    snapshot = await held(sync).collect(AT)
    health = by_name(snapshot.health)
    assert health["book"].status is Health.OFF
    assert health["book"].reason.startswith("not asked")
    assert parts["book"].asked == []
    assert len(parts["funding"].asked) == 1
    assert told(parts, "book") == []


async def test_old_rows_are_stale_by_the_features_own_limits():
    sync, parts = standing()
    for name in OPTIONAL:
        limit = max(f.parameters["max_age_s"] for f in SCHEMA.features if f.source == name)
        parts[name].rows = rows_of(name, AT - limit * SECOND - (name == "macro"))
    health = by_name((await held(sync).collect(AT)).health)
    assert {name for name in OPTIONAL if health[name].status is Health.STALE} == {"macro"}
    assert "more than 4.0 days" in health["macro"].reason


async def test_a_value_once_known_is_not_changed_by_a_later_answer():
    sync, parts = standing()
    parts["macro"].rows = rows_of("macro", AT - SECOND, AT - DAY_US)
    await held(sync).collect(AT)
    parts["macro"].rows = rows_of("macro", AT, AT - DAY_US).assign(vix=99.0)
    snapshot = await sync.collect(AT)
    assert snapshot.market.macro["vix"].tolist() == [15.0]
    assert snapshot.market.macro["available_at"].tolist() == [stamp(AT - SECOND)]


# --- bars -----------------------------------------------------------------------------------------


async def test_a_hole_is_filled_from_the_last_good_bar_on():
    sync, parts = standing()
    held(sync, BARS.iloc[WARM - 40 : WARM - 20])
    held(sync, BARS.iloc[WARM - 17 : WARM])
    snapshot = await sync.collect(AT)
    assert (np.diff(snapshot.market.candles.index.asi8) == BAR_US).all()
    assert len(snapshot.market.candles) == 41
    assert parts["candles"].asked[1] == (close_of(WARM - 17) - BAR_US, close_of(WARM - 21) - BAR_US)


async def test_a_hole_that_nobody_can_fill_leaves_the_newest_bars():
    sync, parts = standing()
    parts["candles"].bars = BARS.drop(BARS.index[WARM - 20])
    held(sync, BARS.iloc[WARM - 40 : WARM - 20])
    held(sync, BARS.iloc[WARM - 19 : WARM])
    snapshot = await sync.collect(AT)
    assert snapshot.market.candles.index[-1] == BARS.index[WARM]
    assert snapshot.health[0].status is Health.OK


async def test_a_bridged_bar_gives_way_to_the_real_one():
    sync, _ = standing()
    flat = RECENT.copy()
    flat.iloc[-1] = flat["close"].iloc[-2]
    held(sync, flat.assign(bridged=np.arange(len(flat)) == len(flat) - 1))
    snapshot = await sync.collect(AT)
    np.testing.assert_array_equal(snapshot.market.candles.loc[RECENT.index[-1]], RECENT.iloc[-1])
    assert snapshot.health[0].reason == ""


async def test_a_bar_that_changed_is_told_once_and_stays_as_it_was():
    sync, parts = standing()
    parts["candles"].bars = BARS.copy()
    parts["candles"].bars.iloc[WARM - 1, 4] *= 1.001
    found = await collections(held(sync), parts, [AT, AT + BAR_US])
    for snapshot in found:
        np.testing.assert_array_equal(snapshot.market.candles.loc[RECENT.index[-1]], RECENT.iloc[-1])
        assert "the held one stays" in snapshot.health[0].reason
        assert snapshot.health[0].status is Health.OK
    assert len(told(parts, "the held one stays")) == 1


async def test_an_hour_that_is_not_its_quarters_is_a_quality_event():
    sync, parts = standing()
    hour = next(b for b in range(WARM - 9, WARM) if close_of(b) % (4 * BAR_US) == BAR_US)
    part = BARS.iloc[hour : hour + 4]
    row = {"open": part["open"].iloc[0], "high": part["high"].max(), "low": part["low"].min()}
    row |= {"close": part["close"].iloc[-1] + 1e-6, "volume": part["volume"].sum()}
    row["high"] = max(row["high"], row["close"])
    bar = pd.DataFrame([row], index=pd.DatetimeIndex([part.index[0]], name="open_time"))
    parts["candles"].longer = {"1h": candle_rows(bar, SYMBOL, "1h")}
    snapshot = await held(sync).collect(AT)
    assert "1h close" in snapshot.health[0].reason
    assert len(told(parts, "differs from its 15m bars")) == 1


async def test_a_restart_fills_the_window_from_the_exchange_where_the_lake_has_little(tmp_path):
    lake = Lake(tmp_path)
    lake.merge("candles", candle_rows(BARS.iloc[WARM - 100 : WARM - 20], SYMBOL))
    sync, _ = sync_of(BARS, AT, lake=lake, clock=SteppingClock(AT))
    await sync.start()
    snapshot = await sync.collect(AT)
    await sync.close()
    assert len(snapshot.market.candles) > 900
    assert (np.diff(snapshot.market.candles.index.asi8) == BAR_US).all()
    assert snapshot.market.candles.index[0] < BARS.index[WARM - 100]
    assert lake.read("candles", symbol=SYMBOL)["open_time"].iloc[-1] == BARS.index[WARM]


# --- memory of slow rows --------------------------------------------------------------------------


async def test_a_restart_knows_what_was_collected_before(tmp_path):
    closes = [AT + i * BAR_US for i in range(3)]
    whole, parts = standing()
    alive = (await collections(held(whole), parts, [*closes, AT + 3 * BAR_US]))[-1]
    first, parts = standing(lake=Lake(tmp_path))
    await collections(held(first), parts, closes)
    await first.close()
    again, parts = standing(lake=Lake(tmp_path))
    parts["clock"].time = closes[-1]
    await again.start()
    restarted = (await collections(again, parts, [AT + 3 * BAR_US]))[-1]
    await again.close()
    for name in OPTIONAL:
        mine, theirs = getattr(restarted.market, name), getattr(alive.market, name)
        pd.testing.assert_frame_equal(mine, theirs, check_like=True)
    versions = Lake(tmp_path).versions()
    assert set(OPTIONAL) < set(versions)
    assert len(Lake(tmp_path).read("book")) == 4


async def test_the_same_answers_again_make_no_new_version_of_the_lake(tmp_path):
    sync, parts = standing(lake=Lake(tmp_path))
    await collections(held(sync), parts, [AT])
    await sync._recorder.settle(10)
    before = Lake(tmp_path).versions()
    await collections(sync, parts, [AT])
    await sync.close()
    again, parts = standing(lake=Lake(tmp_path))
    await collections(held(again), parts, [AT])
    await again.close()
    assert Lake(tmp_path).versions() == before


async def test_z_scores_of_chain_data_need_a_month_and_get_it_from_the_lake(tmp_path):
    rows = pd.concat(
        [rows_of("onchain", AT - i * DAY_US - SECOND).assign(whale_transfers=float(i)) for i in range(1, 33)]
    )
    lake = Lake(tmp_path)
    lake.merge("onchain", rows)
    sync, parts = standing(lake=lake)
    await sync.start()
    (snapshot,) = await collections(held(sync), parts, [AT])
    await sync.close()
    value = build_features(snapshot.market, last=1).tabular["whale_transfers_zscore"].iloc[-1]
    assert math.isfinite(value)
    sync._optional.known["onchain"].forget(AT)
    assert len(sync._optional.known["onchain"].until(AT)) < 40


async def test_a_lake_that_cannot_be_read_or_written_is_told_once_and_stops_nothing(tmp_path):
    (tmp_path / "lake").write_text("a file where the folder should be")
    sync, parts = standing(lake=Lake(tmp_path / "lake"))
    await sync.start()
    found = await collections(held(sync), parts, [AT, AT + BAR_US, AT + 2 * BAR_US])
    assert [snapshot.health[0].status for snapshot in found] == [Health.OK] * 3
    await sync._recorder.settle(10)
    assert len(told(parts, "the lake cannot be")) <= 2
    (tmp_path / "lake").unlink()
    await collections(sync, parts, [AT + 3 * BAR_US])
    await sync.close()
    assert len(Lake(tmp_path / "lake").read("book")) == 4
    assert len(told(parts, "the lake is written again")) == 1


# --- what people hear -----------------------------------------------------------------------------


async def test_one_message_as_an_outage_begins_and_one_as_it_ends():
    sync, parts = standing(config=quick_config(circuit_failures=100))
    held(sync)
    for step, mode in enumerate(["", "unavailable", "unavailable", "refused", "", "", "", "", ""]):
        parts["macro"].mode = mode
        await collections(sync, parts, [AT + step * BAR_US])
    warnings, news = told(parts, "macro is failed"), told(parts, "macro is back")
    assert [alert.level for alert in warnings] == ["warning"]
    assert "macro answered 503" in warnings[0].text
    assert [alert.level for alert in news] == ["info"]
    assert news[0].text == "BTCUSDT: macro is back after 45 min"
    assert len(parts["notifier"].sent) == 2


async def test_a_source_that_fails_every_now_and_then_is_told_once_until_it_is_steady():
    sync, parts = standing()
    held(sync)
    for step in range(24):
        parts["macro"].mode = "refused" if step % 4 == 0 and step < 16 else ""
        await collections(sync, parts, [AT + step * BAR_US])
        assert len(told(parts, "macro is back")) == int(step >= 16)
    assert len(told(parts, "macro is failed")) == 1
    assert told(parts, "macro is back")[0].text == "BTCUSDT: macro is back after 3.2 h"
    parts["macro"].mode = "refused"
    await collections(sync, parts, [AT + 24 * BAR_US])
    assert len(told(parts, "macro is failed")) == 2


async def test_sources_that_are_off_are_said_once_at_the_start():
    sync, parts = standing(modes={"news": "off", "onchain": "off"})
    await held(sync).start()
    found = await collections(sync, parts, [AT, AT + BAR_US])
    said = told(parts, "sources that are off")
    assert [alert.level for alert in said] == ["info"]
    assert "news: no key; set its key" in said[0].text
    health = by_name(found[-1].health)["news"]
    assert (health.status, health.reason) == (Health.OFF, "no key; set its key")
    assert len(parts["notifier"].sent) == 1


async def test_a_source_that_fails_again_and_again_is_left_alone_then_tried_once():
    config = quick_config(circuit_failures=2, circuit_rest_s=2_700.0)
    sync, parts = standing(config=config, modes={"news": "refused"})
    await collections(held(sync), parts, [AT + i * BAR_US for i in range(6)])
    # Failed at 0 and 1, rests for three bars, one trial at 4, rests again.
    assert len(parts["news"].asked) == 3
    resting = by_name(sync.health)["news"]
    assert resting.status is Health.FAILED
    assert resting.reason.startswith(
        "left alone for another 30 min after 3 failures in a row; the last: news"
    )
    parts["news"].mode = ""
    await collections(sync, parts, [AT + 7 * BAR_US])
    assert by_name(sync.health)["news"].status is Health.OK


async def test_an_unavailable_source_is_asked_again_within_one_collection_a_refusing_one_is_not():
    sync, parts = standing(modes={"book": "unavailable", "macro": "refused", "news": "bug"})
    await held(sync).collect(AT)
    assert [len(parts[name].asked) for name in ("book", "macro", "news")] == [2, 1, 1]


async def test_every_source_is_observed_in_every_collection():
    metrics = SourceMetrics()
    sync, parts = standing(modes={"macro": "refused", "news": "off"}, observe=metrics.observe)
    await collections(held(sync), parts, [AT, AT + BAR_US])
    value = metrics.registry.get_sample_value
    assert value("acmf_source_up", {"source": "book"}) == 1.0
    assert value("acmf_source_up", {"source": "macro"}) == 0.0
    assert value("acmf_source_up", {"source": "news"}) is None
    assert value("acmf_source_failures_total", {"source": "macro"}) == 2.0
    assert value("acmf_source_failures_total", {"source": "book"}) == 0.0
    assert value("acmf_source_age_seconds", {"source": "book"}) == 1.0
    assert value("acmf_source_collections_total", {"source": "candles", "status": "ok"}) == 2.0


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "levels"), [(0.9, []), (-1.2, ["warning"]), (6.0, ["critical"]), (math.nan, [])]
)
async def test_the_clock_is_held_against_the_exchanges(offset, levels):
    async def server_time():
        if math.isnan(offset):
            raise VenueUnavailable("no time")
        return int(parts["clock"].now() + offset * 1e6)

    sync, parts = standing(server_time=server_time)
    found = await collections(held(sync), parts, [AT, AT + BAR_US])
    assert found[-1].clock_offset_s == pytest.approx(offset, nan_ok=True)
    assert [alert.level for alert in told(parts, "clock")] == levels
    assert ExchangeConfig().max_clock_offset_s == 5.0


@pytest.mark.parametrize("offset_s", [40.0, -40.0])
async def test_rows_stamped_by_a_wrong_clock_stay_out_of_the_lake_and_that_is_said_once(tmp_path, offset_s):
    async def server_time():
        if math.isnan(offset_s):
            raise VenueUnavailable("no time")
        return int(parts["clock"].now() + offset_s * 1e6)

    sync, parts = standing(server_time=server_time, lake=Lake(tmp_path))
    await collections(held(sync), parts, [AT, AT + BAR_US])
    offset_s = math.nan  # not measured: as wrong as it was
    await collections(sync, parts, [AT + 2 * BAR_US])
    await sync._recorder.settle(10)
    assert len(Lake(tmp_path).read("candles")) > 0
    for name in OPTIONAL:
        assert Lake(tmp_path).read(name).empty
    assert len(told(parts, "the lake keeps no rows of optional sources")) == 1
    offset_s = 0.0
    await collections(sync, parts, [AT + 3 * BAR_US])
    await sync.close()
    assert {len(Lake(tmp_path).read(name)) for name in OPTIONAL} == {1}
    assert len(told(parts, "the clock is right again")) == 1


async def test_a_clock_set_back_makes_no_rest_longer():
    config = quick_config(circuit_failures=1, circuit_rest_s=2_700.0)
    sync, parts = standing(config=config, modes={"news": "refused"})
    await collections(held(sync), parts, [AT])
    parts["clock"].time = AT - DAY_US
    assert sync._optional.why_not("news", AT) == ""
    await collections(sync, parts, [AT + BAR_US])
    assert len(parts["news"].asked) == 1  # set right again: the rest goes on


async def test_half_of_the_round_trip_is_taken_off():
    async def server_time():
        said = parts["clock"].time + 100_000
        parts["clock"].time += 200_000
        return said

    sync, parts = standing(server_time=server_time)
    assert (await held(sync).collect(AT)).clock_offset_s == pytest.approx(0.0)


# --- time -----------------------------------------------------------------------------------------


async def test_the_event_loop_is_never_held_up(tmp_path):
    """A heartbeat beside whole collections with a lake and a full window, in seconds of this thread's CPU.

    The wall clock would measure whatever else runs on the machine.
    """
    lake = Lake(tmp_path)
    sync, parts = standing(lake=lake)
    held(sync, BARS.iloc[:WARM])
    await collections(sync, parts, [AT, AT + BAR_US])  # compiled and imported
    await sync._recorder.settle(10)
    gaps, beating = [], True

    async def heart():
        last = thread_time()
        while beating:
            await asyncio.sleep(0.001)
            gaps.append(thread_time() - last)
            last += gaps[-1]

    pulse = asyncio.create_task(heart())
    await collections(sync, parts, [AT + i * BAR_US for i in range(2, 5)])
    await sync.close()
    beating = False
    await pulse
    assert max(gaps) < 0.05


async def test_two_collections_do_not_run_at_once():
    sync, parts = standing()
    await asyncio.gather(held(sync).collect(AT), sync.collect(AT))
    assert len(parts["candles"].asked) == 1


def test_without_a_window_the_newest_bars_are_asked_for():
    clock = RunningClock(AT)
    candles = FakeCandles(BARS, clock)
    sync, _ = sync_of(BARS, AT, clock=clock, candles=candles)
    snapshot = asyncio.run(sync.collect(AT))
    assert len(snapshot.market.candles) > 900


async def test_the_reason_for_no_candles_can_be_read_afterwards():
    sync, parts = standing()
    parts["candles"].mode = "unavailable"
    with pytest.raises(AcmfError, match="502"):
        await held(sync).collect(AT)
    assert by_name(sync.health)["candles"].reason == "the exchange answered 502"
    assert told(parts, "candles is failed")
