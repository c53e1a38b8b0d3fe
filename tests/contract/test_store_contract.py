"""What every Store must do: SQLite, a real PostgreSQL, and the fake."""

import math
import threading
from pathlib import Path

import pytest
from fakes import FakeStore

from acmf_core.domain import BAR_US
from acmf_core.ports import Store
from acmf_core.store.sql import SqlStore

AT = 1_704_067_200_000_000  # 2024-01-01T00:00Z
AWKWARD = (0.1, 1 / 3, 2.2250738585072014e-308, 12345678.90123456, -0.0, 5e-324, 1.7976931348623157e308)


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "fake":
        yield FakeStore()
        return
    where = tmp_path / "acmf.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgresql")
    with SqlStore.open(where) as opened:
        yield opened


def cycle(number, **changes):
    return {
        "cycle_id": f"BTCUSDT:{number}",
        "symbol": "BTCUSDT",
        "mode": "paper",
        "at": AT + number * BAR_US,
        "status": "done",
        "equity": 10_000.0 + number / 3,
        "state": f'{{"bar":{number}}}',
        "recorded_at": AT + number * BAR_US,
    } | changes


def rows(number, **changes):
    own = {"cycle_id": f"BTCUSDT:{number}", "at": AT + number * BAR_US}
    prediction = own | {
        "p_long": 1 / 3,
        "p_short": 1 / 7,
        "p_neutral": math.nan,
        "side": 0,
        "confidence": 0.1,
        "regime": 1,
        "score_trending": 0.5,
        "score_ranging": 2,
        "score_high_volatility": 0.0,
        "gates": 4095,
        "stopped": False,
    }
    fill = own | {
        "client_id": f"acmf-{number}",
        "open_time": own["at"] - BAR_US,
        "lot": 3,
        "side": 1,
        "quantity": 0.001,
        "price": 42_000.1,
        "fee": 0.021,
        "purpose": "entry",
        "reason": "entry",
    }
    return {"predictions": [prediction], "fills": [fill | {"position": i} for i in range(2)]} | changes


def test_it_is_a_store(store):
    assert isinstance(store, Store)


def test_an_empty_store_knows_no_cycle(store):
    assert store.last_cycle("BTCUSDT") is None
    assert store.rows("cycles") == []
    assert store.verify_journal().verdict is True


def test_the_last_cycle_is_the_newest_of_its_symbol_whatever_the_order_of_writing(store):
    for number in (2, 3, 1):
        store.record_cycle(cycle(number), {})
    store.record_cycle(cycle(9, cycle_id="ETHUSDT:9", symbol="ETHUSDT"), {})
    assert store.last_cycle("BTCUSDT")["state"] == '{"bar":3}'
    assert store.last_cycle("ETHUSDT")["cycle_id"] == "ETHUSDT:9"
    assert [row["at"] for row in store.rows("cycles", symbol="BTCUSDT")] == [
        AT + i * BAR_US for i in (1, 2, 3)
    ]


def test_recording_a_cycle_again_changes_nothing(store):
    store.record_cycle(cycle(1), rows(1))
    store.record_cycle(cycle(1, equity=5.0, state="other"), rows(1))
    assert store.last_cycle("BTCUSDT")["equity"] == 10_000.0 + 1 / 3
    assert len(store.rows("fills")) == 2
    assert len(store.rows("system_events")) == 1


def test_a_failed_cycle_is_no_last_cycle_and_may_be_completed(store):
    store.record_cycle(cycle(1), {})
    store.record_cycle(cycle(2, status="failed", state=None, stage="predict", error="no model"), {})
    assert store.last_cycle("BTCUSDT")["cycle_id"] == "BTCUSDT:1"
    store.record_cycle(cycle(2), rows(2))
    assert store.last_cycle("BTCUSDT")["cycle_id"] == "BTCUSDT:2"
    assert [e["kind"] for e in store.rows("system_events")] == ["decision", "failure", "decision"]
    assert "no model" in store.rows("system_events", kind="failure")[0]["payload"]
    assert store.verify_journal().verdict is True


def test_a_cycle_is_recorded_whole_or_not_at_all(store):
    with pytest.raises(KeyError):
        store.record_cycle(cycle(1), {"fills": [{"cycle_id": "BTCUSDT:1", "colour": "red"}]})
    assert store.last_cycle("BTCUSDT") is None
    assert store.rows("system_events") == []


def test_every_number_comes_back_as_it_went_in(store):
    store.record_cycle(cycle(1), rows(1))
    for position, value in enumerate(AWKWARD):
        own = rows(1)["fills"][0] | {
            "cycle_id": f"BTCUSDT:{position + 2}",
            "at": AT + (position + 2) * BAR_US,
        }
        fill = own | {"price": value, "position": 0}
        store.record_cycle(cycle(position + 2), {"fills": [fill]})
        back = store.rows("fills", cycle_id=f"BTCUSDT:{position + 2}")[0]
        assert back["price"] == value
        assert back["open_time"] == AT
    prediction = store.rows("predictions")[0]
    assert prediction["p_long"] == 1 / 3
    assert prediction["p_neutral"] is None  # NaN: no number
    assert prediction["stopped"] is False
    assert store.verify_journal().verdict is True


def test_columns_are_read_in_a_closed_stretch_of_time(store):
    for number in range(1, 6):
        store.record_cycle(cycle(number), rows(number))
    found = store.columns("fills", ["at", "position", "price"], start=AT + 2 * BAR_US, end=AT + 4 * BAR_US)
    assert found == [(AT + i * BAR_US, p, 42_000.1) for i in (2, 3, 4) for p in (0, 1)]


def test_a_table_or_column_that_does_not_exist_is_an_error(store):
    with pytest.raises(KeyError):
        store.rows("diaries")
    with pytest.raises(KeyError):
        store.record_cycle(cycle(1, colour="red"), {})
    with pytest.raises(KeyError):
        store.record_cycle(cycle(1), {"diaries": [{}]})


def test_the_journal_chains_decisions_and_commands(store):
    store.record_cycle(cycle(1), rows(1))
    head = store.record_event("kill", {"reason": "drill"}, at=AT + 2 * BAR_US, actor="operator")
    store.record_cycle(cycle(2), rows(2))
    events = store.rows("system_events")
    assert [e["kind"] for e in events] == ["decision", "kill", "decision"]
    assert events[0]["previous"] == "0" * 64
    assert events[1]["hash"] == head
    assert events[2]["previous"] == head
    check = store.verify_journal()
    assert check.verdict is True
    assert check.figure == "3 rows hold"


def test_a_deployment_is_a_row_and_a_line_in_the_journal(store):
    store.record_deployment(
        "champion", "3", "ab" * 32, at=AT, actor="operator", reason="drill", evidence={"dsr": 0.96}
    )
    row = store.rows("model_registry", alias="champion")[0]
    assert (row["version"], row["bundle"], row["actor"], row["reason"]) == (
        "3",
        "ab" * 32,
        "operator",
        "drill",
    )
    assert row["evidence"] == '{"dsr":0.96}'
    assert store.rows("system_events")[0]["kind"] == "deployment"
    assert store.verify_journal().verdict is True


def test_equal_histories_have_equal_journals(store):
    """Timings of a run mean nothing; everything else is in the chain."""
    other = FakeStore()
    for number in (1, 2):
        store.record_cycle(cycle(number, timings='{"predict":0.01}'), rows(number))
        other.record_cycle(cycle(number, timings='{"predict":0.02}'), rows(number))
    assert store.rows("system_events")[-1]["hash"] == other.rows("system_events")[-1]["hash"]


def test_two_writers_keep_one_chain(empty_postgresql, tmp_path):
    for where in (tmp_path / "shared.db", empty_postgresql):
        stores = [SqlStore.open(where), SqlStore.open(where)]

        def write(own, first):
            for number in range(first, 40, 2):
                own.record_cycle(cycle(number), rows(number))

        threads = [threading.Thread(target=write, args=(own, i)) for i, own in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check = stores[0].verify_journal()
        for own in stores:
            own.close()
        assert (check.verdict, check.figure) == (True, "40 rows hold"), check.detail


def test_a_path_with_spaces_and_percent_signs_opens(tmp_path: Path):
    with SqlStore.open(tmp_path / "50 % off" / "a store.db") as opened:
        assert opened.rows("cycles") == []
    assert (tmp_path / "50 % off" / "a store.db").is_file()
