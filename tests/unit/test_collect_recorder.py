"""What goes into the lake beside the decisions, and what happens when the lake refuses."""

import asyncio
import dataclasses
import json
import time
from itertools import pairwise

import pytest
from fake_sources import RunningClock, rows_of
from fakes import FakeClock, FakeNotifier
from replaying import WARM, close_of, daemon, meet

from acmf_core.collect.recorder import FlightRecorder, LakeRecorder
from acmf_core.lake import Lake
from acmf_core.store import schema

AT = close_of(WARM)


class SlowLake(Lake):
    """A lake far away: every merge takes its time, and may be refused."""

    seconds = 0.0
    refuse = False
    breaks_on = ""

    def merge(self, name, frame, **how):
        time.sleep(self.seconds)
        if name == self.breaks_on:
            raise ZeroDivisionError("of an unknown kind")
        if self.refuse:
            raise OSError(28, "No space left on device")
        return super().merge(name, frame, **how)


def recorder(tmp_path, **plugs):
    lake, notifier = SlowLake(tmp_path), FakeNotifier()
    return lake, notifier, LakeRecorder(lake, "BTCUSDT", FakeClock(AT), notifier, **plugs)


async def test_a_slow_lake_holds_nobody_up(tmp_path):
    lake, _, own = recorder(tmp_path)
    lake.seconds = 0.4
    began = time.perf_counter()
    own.write("macro", rows_of("macro", AT))
    await own.settle(0.05)
    assert time.perf_counter() - began < 0.3
    await own.close()
    assert len(lake.read("macro")) == 1


async def test_what_waited_is_one_commit(tmp_path):
    lake, _, own = recorder(tmp_path)
    lake.refuse = True
    for i in range(5):
        own.write("book", rows_of("book", AT + i))
        await own.settle(10)
    lake.refuse = False
    own.write("book", rows_of("book", AT + 5))
    await own.close()
    assert len(lake.read("book")) == 6
    # Two: the table and its first rows. Merging six rows one by one would take seven.
    assert lake.versions()["book"] <= 1


async def test_a_full_disk_is_told_once_an_outage_and_loses_nothing(tmp_path):
    lake, notifier, own = recorder(tmp_path)
    for outage in range(2):
        lake.refuse = True
        for i in range(3):
            own.write("macro", rows_of("macro", AT + 100, AT + 10 * outage + i))
            await own.settle(10)
        lake.refuse = False
        own.write("macro", rows_of("macro", AT + 100, AT + 10 * outage + 3))
        await own.settle(10)
    await own.close()
    assert [alert.level for alert in notifier.sent] == ["warning", "info"] * 2
    assert "No space left on device" in notifier.sent[0].text
    assert len(lake.read("macro")) == 8


async def test_rows_that_do_not_fit_do_not_hold_up_the_others(tmp_path):
    lake, notifier, own = recorder(tmp_path)
    own.write("macro", rows_of("macro", AT).drop(columns="available_at"))
    own.write("news", rows_of("news", AT))
    await own.close()
    assert len(lake.read("news")) == 1
    assert "rows of macro do not fit the lake" in notifier.sent[0].text


async def test_rows_that_break_the_lake_in_an_unknown_way_do_not_hold_up_the_others(tmp_path, caplog):
    lake, notifier, own = recorder(tmp_path)
    lake.breaks_on = "macro"
    for i in range(2):
        own.write("macro", rows_of("macro", AT + i))
        own.write("news", rows_of("news", AT + i))
        await own.settle(10)
    lake.breaks_on = ""
    own.write("macro", rows_of("macro", AT + 2))
    await own.close()
    assert len(lake.read("news")) == 2
    assert len(lake.read("macro")) == 1
    assert [alert.text for alert in notifier.sent] == [
        "BTCUSDT: rows of macro are lost: ZeroDivisionError while they were written (see the log)",
        "BTCUSDT: rows of macro are written again after 0 s",
    ]
    assert "of an unknown kind" in caplog.text


async def test_rows_that_do_not_fit_are_told_once_an_outage_too(tmp_path):
    _, notifier, own = recorder(tmp_path)
    for step in range(8):
        rows = rows_of("macro", AT + step)
        own.write("macro", rows if step % 4 == 3 else rows.drop(columns="available_at"))
        await own.settle(10)
    await own.close()
    assert [alert.level for alert in notifier.sent] == ["warning", "info"] * 2
    assert "rows of macro are written again" in notifier.sent[1].text


async def test_the_same_rows_are_handed_in_once(tmp_path):
    lake, _, own = recorder(tmp_path)
    for _ in range(3):
        own.write("macro", rows_of("macro", AT))
        await own.settle(10)
    before = lake.versions()
    again = LakeRecorder(lake, "BTCUSDT", FakeClock(AT), FakeNotifier())
    again.write("macro", rows_of("macro", AT))
    await again.close()
    await own.close()
    assert lake.versions() == before


async def test_a_conflict_is_kept_out_and_told(tmp_path):
    lake, notifier, own = recorder(tmp_path)
    own.write("macro", rows_of("macro", AT))
    await own.settle(10)
    own.write("macro", rows_of("macro", AT).assign(vix=99.0))
    await own.close()
    assert lake.read("macro")["vix"].tolist() == [15.0]
    assert "came again with other values and stayed out" in notifier.sent[0].text


def flown(tmp_path, bars, **plugs):
    """A daemon with a flight recorder that has met some bars."""
    own = daemon()
    lake = Lake(tmp_path)

    async def fly():
        flight = FlightRecorder(lake, "BTCUSDT", RunningClock(AT), FakeNotifier())
        own.world = dataclasses.replace(own.world, recorder=flight, **plugs)
        for bar in bars:
            own.world.clock.advance_to(close_of(bar))
            await own.meet(close_of(bar))
        await flight.close()

    asyncio.run(fly())
    return own, lake.read("cycles")


def test_every_cycle_leaves_one_row_in_the_lake(tmp_path):
    own, rows = flown(tmp_path, range(WARM, WARM + 12))
    cycles = own.world.store.rows("cycles")
    assert rows["cycle_id"].tolist() == [cycle["cycle_id"] for cycle in cycles]
    assert [stamp.value // 1_000 for stamp in rows["event_time"]] == [cycle["at"] for cycle in cycles]
    assert rows["state"].tolist() == [cycle["state"] for cycle in cycles]
    said = own.world.store.rows("predictions")
    assert rows["p_long"].tolist() == [row["p_long"] for row in said]
    assert rows["gates"].tolist() == [row["gates"] for row in said]
    fills = [json.loads(text) for text in rows["fills"]]
    assert sum(map(len, fills)) == len(own.world.store.rows("fills")) > 0
    features = json.loads(rows["features"].iloc[-1])
    assert (len(features["tabular"]), len(features["sequence"])) == (66, 22)
    assert (rows["error"] == "").all()
    assert set(json.loads(rows["timings"].iloc[0])) >= {"collect", "features"}


class FailsOnce:
    def __init__(self, feed, error):
        self.feed, self.error = feed, error
        self.health, self.clock_offset_s = (), 0.0

    async def collect(self, at):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return await self.feed.collect(at)


def test_a_cycle_that_failed_and_was_met_again_is_one_row_without_an_error(tmp_path):
    feed = FailsOnce(daemon().world.feed, OSError("the network is gone"))
    own, rows = flown(tmp_path, [WARM, WARM], feed=feed)
    assert len(rows) == 1
    assert rows[["status", "error"]].iloc[0].tolist() == [schema.DONE, ""]
    assert len(own.world.store.rows("cycles")) == 1


def test_a_replay_has_no_flight_recorder():
    own = daemon()
    meet(own, WARM)
    assert own.world.recorder is None


@pytest.mark.parametrize("failures", [3])
async def test_a_circuit_counts_its_rest_from_the_last_failure(failures):
    from acmf_core.collect.asking.policy import Circuit

    clock = FakeClock(AT)
    circuit = Circuit(failures, 60.0, clock)
    rests = []
    for _ in range(failures + 2):
        circuit.fail()
        rests.append(circuit.resting_s)
        clock.time += 60_000_000
    assert rests == [0.0, 0.0, 60.0, 60.0, 60.0]
    assert circuit.resting_s == 0.0
    circuit.succeed()
    assert circuit.failures == 0
    assert all(a <= b for a, b in pairwise(rests))
