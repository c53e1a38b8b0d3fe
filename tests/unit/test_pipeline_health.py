"""What a cycle records of its data sources, and what a wrong clock does to it."""

import json
import math
import sqlite3

import pytest
from alembic import command
from fakes import FakeStore
from replaying import WARM, close_of, daemon, meet
from sqlalchemy import create_engine, text

from acmf_core.collect.snapshot import MarketSnapshot
from acmf_core.domain import Health, SourceHealth
from acmf_core.errors import StaleData
from acmf_core.store import journal, schema
from acmf_core.store.migrate import _config, upgrade
from acmf_core.store.sql import SqlStore

GATE_10 = 1 << 10
HEALTH = (
    SourceHealth("candles", Health.OK, 0.4, 0.0),
    SourceHealth("news", Health.FAILED, 2.0, math.nan, "no answer within 15 s"),
)


class LiveFeed:
    """A feed of past bars that has sources and a clock to compare with."""

    def __init__(self, feed, offset=0.1, error=None):
        self.feed, self.error = feed, error
        self.health, self.clock_offset_s = HEALTH, offset

    async def collect(self, at):
        if self.error is not None:
            raise self.error
        snapshot = await self.feed.collect(at)
        return MarketSnapshot(at, snapshot.market, self.health, self.clock_offset_s)


class KeptRows:
    """A recorder that keeps its rows."""

    def __init__(self):
        self.rows = []

    def record(self, row):
        self.rows.append(row)


def live(offset=0.1, error=None, **plugs):
    own = daemon()
    return daemon(own.world.store, feed=LiveFeed(own.world.feed, offset, error), **plugs)


def test_the_health_of_every_source_is_recorded_with_the_cycle():
    own = live()
    meet(own, WARM)
    said = json.loads(own.world.store.rows("cycles")[0]["health"])
    assert [one["source"] for one in said["sources"]] == ["candles", "news"]
    assert said["sources"][1] == {
        "source": "news",
        "status": "failed",
        "latency_s": 2.0,
        "age_s": None,
        "reason": "no answer within 15 s",
    }
    assert said["clock_offset_s"] == 0.1
    assert said["entries_blocked"] == []
    assert own.world.store.verify_journal().verdict is True


def test_a_replay_records_no_health():
    own = daemon()
    meet(own, WARM)
    assert own.world.store.rows("cycles")[0]["health"] == ""


def entering():
    own = daemon()
    return next(bar for bar in range(WARM, WARM + 40) if any(o.purpose == 1 for o in meet(own, bar).orders))


@pytest.mark.parametrize("offset", [5.1, -5.1])
def test_a_clock_more_than_five_seconds_off_enters_nothing_and_says_why(offset):
    bar = entering()
    right, wrong = live(5.0), live(offset)
    for own in (right, wrong):
        meet(own, *range(WARM, bar + 1))
    assert right.world.store.rows("orders", at=close_of(bar), purpose="entry")
    assert wrong.world.store.rows("orders", purpose="entry") == []
    assert not any(row["gates"] & GATE_10 for row in wrong.world.store.rows("predictions"))
    said = json.loads(wrong.world.store.rows("cycles")[-1]["health"])["entries_blocked"]
    assert said == [f"the venue's clock is {offset:+.1f} s off ours, more than 5 s"]


def test_an_offset_that_could_not_be_measured_blocks_nothing():
    own = live(math.nan)
    meet(own, WARM)
    assert own.world.store.rows("predictions")[0]["gates"] & GATE_10
    assert json.loads(own.world.store.rows("cycles")[0]["health"])["clock_offset_s"] is None


def test_without_candles_the_cycle_fails_in_collect_with_reason_and_health():
    recorder = KeptRows()
    own = live(error=StaleData("the newest bar is 15 min old"), recorder=recorder)
    assert meet(own, WARM) is None
    row = own.world.store.rows("cycles")[0]
    assert (row["status"], row["stage"]) == ("failed", "collect")
    assert row["error"] == "StaleData: the newest bar is 15 min old"
    assert json.loads(row["health"])["sources"][1]["reason"] == "no answer within 15 s"
    assert own.world.store.rows("predictions") == []
    assert own.world.store.rows("orders") == []
    assert recorder.rows[0]["error"] == "collect: StaleData: the newest bar is 15 min old"
    assert json.loads(recorder.rows[0]["features"]) == {}


def test_the_flight_recorder_gets_everything_that_was_seen_and_decided():
    recorder = KeptRows()
    own = live(recorder=recorder)
    meet(own, *range(WARM, entering() + 1))
    row, store = recorder.rows[-1], own.world.store
    cycle = store.rows("cycles")[-1]
    features = json.loads(row["features"])
    assert (len(features["tabular"]), len(features["sequence"])) == (66, 22)
    assert features["tabular"]["news_sentiment"] is None
    assert features["tabular"]["rsi_14"] == features["sequence"]["rsi_14"]
    assert row["features_hash"] == cycle["features"]
    assert row["state"] == cycle["state"]
    assert row["health"] == cycle["health"]
    assert row["error"] == ""
    said = store.rows("predictions")[-1]
    assert {name: row[name] for name in ("p_long", "side", "gates")} == {
        name: said[name] for name in ("p_long", "side", "gates")
    }
    assert json.loads(row["orders"])[0]["client_id"] == store.rows("orders")[-1]["client_id"]
    assert json.loads(row["bar"])["close"] == store.rows("ohlcv")[-1]["close"]


def test_the_journal_vouches_for_the_health():
    own = live()
    meet(own, WARM)
    cycle = own.world.store.tables["cycles"][0]
    cycle["health"] = cycle["health"].replace("failed", "ok")
    assert own.world.store.verify_journal().verdict is False


def test_cycles_recorded_before_there_was_a_health_column_still_verify():
    row = schema.complete("cycles", {"cycle_id": "a", "symbol": "BTCUSDT", "mode": "paper", "at": 1})
    before = {name: value for name, value in row.items() if name != "health"}
    assert row["health"] == ""
    assert journal.digest(row, {}) == journal.digest(before, {})


def test_a_database_with_cycles_is_brought_up_and_back_without_losing_a_row(tmp_path):
    """Rows refer to the migrated table: remaking it would take them along, or be refused."""
    file = tmp_path / "acmf.db"
    store = SqlStore.open(file)
    replayed = daemon(FakeStore())
    meet(replayed, WARM, WARM + 1)
    fake = replayed.world.store
    for cycle in fake.rows("cycles"):
        rows = {name: fake.rows(name, cycle_id=cycle["cycle_id"]) for name in schema.CYCLE_TABLES}
        store.record_cycle(cycle, rows)
    store.close()
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA foreign_keys = ON"))
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        connection.commit()
    with sqlite3.connect(file) as old:
        assert "health" not in [column[1] for column in old.execute("PRAGMA table_info(cycles)")]
    old.close()
    with engine.connect() as connection:
        upgrade(connection)
    engine.dispose()
    store = SqlStore.open(file)
    assert len(store.rows("cycles")) == 2
    assert len(store.rows("predictions")) == 2
    assert store.verify_journal().verdict is True
    store.close()
