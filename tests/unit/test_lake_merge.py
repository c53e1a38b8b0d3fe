"""The lake's promises: idempotent, atomic, point in time, and nothing overwritten in silence."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_rows import FIRST, bars, rows

from acmf_core.domain import BAR_US
from acmf_core.errors import ConflictingBar, DataError
from acmf_core.lake import Lake, commits
from acmf_core.lake.tables import TABLES, candle_rows, funding_rows

STEP = pd.Timedelta(minutes=15)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_an_empty_lake_reads_empty_and_creates_nothing(lake: Lake) -> None:
    assert lake.read("candles").empty
    assert list(lake.read("candles").columns) == TABLES["candles"].schema.names
    assert lake.versions() == {}
    assert lake.status().empty
    assert lake.history("candles").empty
    assert not Path(lake.uri).exists()


def test_what_was_merged_is_read_back_bit_for_bit(lake: Lake) -> None:
    offered = rows(50, price=0.1)
    report = lake.merge("candles", offered, source="test")
    stored = lake.read("candles", symbol="BTCUSDT", interval="15m")
    assert (report.inserted, report.unchanged, report.changed) == (50, 0, True)
    for column in offered.columns:
        assert (stored[column] == offered[column]).all(), column
    assert str(stored["open_time"].dtype) == "datetime64[us, UTC]"
    assert lake.history("candles")["source"].iloc[0] == "test"


def test_a_bar_is_known_when_it_closes_and_funding_when_it_is_paid() -> None:
    known = candle_rows(bars(1), "BTCUSDT", "15m")["available_at"].iloc[0]
    assert known == FIRST + STEP
    jittered = pd.DataFrame({"event_time": [FIRST + pd.Timedelta(milliseconds=7)], "funding_rate": [0.0001]})
    paid = funding_rows(jittered, "BTCUSDT")
    assert paid["event_time"].iloc[0] == paid["available_at"].iloc[0] == FIRST


def test_the_same_rows_twice_make_no_new_version(lake: Lake) -> None:
    lake.merge("candles", rows(50))
    before = sorted(p for p in Path(lake.uri).rglob("*") if p.is_file())
    report = lake.merge("candles", rows(50))
    assert (report.inserted, report.unchanged, report.changed, report.version) == (0, 50, False, 1)
    assert sorted(p for p in Path(lake.uri).rglob("*") if p.is_file()) == before


def test_overlapping_rows_insert_only_what_is_new(lake: Lake) -> None:
    lake.merge("candles", rows(50))
    report = lake.merge("candles", rows(60))
    assert (report.inserted, report.unchanged) == (10, 50)
    assert len(lake.read("candles")) == 60


def test_a_pinned_version_never_changes(lake: Lake) -> None:
    lake.merge("candles", rows(10))
    first = lake.versions()["candles"]
    lake.merge("candles", rows(20))
    wrong = rows(20)
    wrong.loc[3, "close"] += 0.5
    lake.merge("candles", wrong, accept_corrections=True)
    pinned = lake.read("candles", version=first)
    assert len(pinned) == 10
    assert pinned["close"].iloc[3] == rows(10)["close"].iloc[3]
    with pytest.raises(DataError, match=r"has no version 99; it has versions 0 to 3"):
        lake.read("candles", version=99)


def test_pinned_versions_do_not_expire(lake: Lake) -> None:
    lake.merge("candles", rows(3))
    log = Path(lake.uri) / "candles" / "_delta_log" / "00000000000000000000.json"
    meta = next(json.loads(line)["metaData"] for line in log.read_text().splitlines() if "metaData" in line)
    assert meta["configuration"]["delta.enableExpiredLogCleanup"] == "false"
    assert meta["configuration"]["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_a_closed_bar_with_other_values_is_kept_out_and_named(lake: Lake) -> None:
    lake.merge("candles", rows(10))
    offered = rows(12)
    offered.loc[4, ["high", "close"]] = [300.0, 299.0]
    report = lake.merge("candles", offered)
    assert (report.inserted, report.unchanged, report.corrected) == (2, 9, 0)
    assert report.conflicting_rows == 1
    assert report.conflicts[["column", "stored", "offered"]].to_numpy().tolist() == [
        ["high", 106.0, 300.0],
        ["close", 105.0, 299.0],
    ]
    assert lake.read("candles")["close"].iloc[4] == 105.0
    error = report.conflict()
    assert isinstance(error, ConflictingBar)
    assert "1 closed row(s)" in str(error)
    assert "2024-01-01 01:00" in str(error)


def test_accepted_corrections_replace_and_are_counted(lake: Lake) -> None:
    lake.merge("candles", rows(10))
    offered = rows(10)
    offered.loc[4, "close"] = 105.5
    report = lake.merge("candles", offered, accept_corrections=True)
    assert (report.corrected, report.unchanged, report.conflict()) == (1, 9, None)
    assert lake.read("candles")["close"].iloc[4] == 105.5
    assert len(lake.read("candles")) == 10


def test_optional_values_fill_in_and_are_never_lost(lake: Lake) -> None:
    lake.merge("candles", rows(5))
    fuller = rows(5).assign(quote_volume=1_000.0, trades=7)
    assert lake.merge("candles", fuller).filled == 5
    stored = lake.read("candles")
    assert stored["trades"].tolist() == [7] * 5
    poorer = lake.merge("candles", rows(5))
    assert (poorer.unchanged, poorer.changed) == (5, False)
    corrected = rows(5)
    corrected.loc[0, "volume"] = 11.0
    lake.merge("candles", corrected, accept_corrections=True)
    assert lake.read("candles")[["volume", "trades"]].iloc[0].tolist() == [11.0, 7]


def test_a_real_bar_takes_the_place_of_a_bridged_one_but_not_the_reverse(lake: Lake) -> None:
    stand_in = rows(3).assign(volume=0.0, bridged=True)
    lake.merge("candles", stand_in)
    report = lake.merge("candles", rows(3))
    assert (report.filled, report.conflict()) == (3, None)
    assert not lake.read("candles")["bridged"].any()
    held = lake.read("candles")
    for accept in (False, True):
        back = lake.merge("candles", stand_in.assign(trades=0), accept_corrections=accept)
        assert (back.unchanged, back.changed, back.conflict()) == (3, False, None)
    pd.testing.assert_frame_equal(lake.read("candles"), held)


def test_symbols_live_apart_and_one_merge_is_one_commit(lake: Lake) -> None:
    both = pd.concat([rows(5), rows(5, symbol="ETHUSDT", price=50.0)])
    assert lake.merge("candles", both).version == 1
    assert lake.read("candles", symbol="ETHUSDT")["open"].iloc[0] == 50.0
    assert len(lake.read("candles", symbol="BTCUSDT")) == 5


def test_a_read_touches_only_its_own_symbol(lake: Lake) -> None:
    lake.merge("candles", pd.concat([rows(5), rows(5, symbol="ETHUSDT")]))
    for file in (Path(lake.uri) / "candles" / "symbol=ETHUSDT").rglob("*.parquet"):
        file.write_bytes(b"not parquet any more")
    assert len(lake.read("candles", symbol="BTCUSDT")) == 5
    assert lake.merge("candles", rows(6)).inserted == 1


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-01-01 00:30", "2024-01-01T01:00"),
        (FIRST + 2 * STEP, FIRST + 4 * STEP),
        ((FIRST + 2 * STEP).value // 1_000, FIRST.value // 1_000 + 4 * BAR_US),
        ("2024-01-01 01:30+01:00", "2024-01-01 02:00+01:00"),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(lake: Lake, start: object, end: object) -> None:
    lake.merge("candles", rows(10))
    window = lake.read("candles", start=start, end=end)  # type: ignore[arg-type]
    assert window["open_time"].tolist() == [FIRST + 2 * STEP, FIRST + 3 * STEP]


def test_naive_and_senseless_times_are_refused(lake: Lake) -> None:
    lake.merge("candles", rows(3))
    with pytest.raises(DataError, match="no time zone"):
        lake.read("candles", start=pd.Timestamp("2024-01-01"))
    with pytest.raises(DataError, match='"yesterday-ish" is not a date'):
        lake.read("candles", start="yesterday-ish")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r.drop(columns="close"), "lack close"),
        (lambda r: r.assign(colour="red"), "carry colour"),
        (lambda r: r.assign(close=float("nan")), "empty values in close"),
        (lambda r: r.assign(close="much"), "candles.close is not double"),
        (lambda r: pd.concat([r, r.tail(1)]), "come twice, the first at 2024-01-01 00:30 UTC"),
        (lambda r: r.assign(open_time=r["open_time"].dt.tz_localize(None)), "no time zone"),
        (lambda r: r.assign(symbol=["BTCUSDT", "", ""]), "empty values in symbol"),
        (lambda r: r.assign(trades=[1, 2, 2**64]), "candles.trades is not int64"),
        (
            lambda r: r.assign(available_at=r["open_time"] - pd.to_timedelta([-1, 1, 1], unit="us")),
            r"2 row\(s\) for candles are known before they happened, the first at 2024-01-01 00:15 UTC",
        ),
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused_before_anything_is_written(
    lake: Lake, spoil: object, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        lake.merge("candles", spoil(rows(3)))  # type: ignore[operator]
    assert lake.versions() == {}


def test_unknown_tables_and_keys_are_named(lake: Lake) -> None:
    with pytest.raises(DataError, match='no table "candels"; tables: candles, funding'):
        lake.read("candels")
    lake.merge(
        "funding", funding_rows(pd.DataFrame({"event_time": [FIRST], "funding_rate": [0.0]}), "BTCUSDT")
    )
    with pytest.raises(DataError, match="funding has no interval"):
        lake.read("funding", interval="15m")
    with pytest.raises(DataError, match="has no candles yet; acmf data pull"):
        lake.read("candles", version=3)


def test_nothing_offered_changes_nothing(lake: Lake) -> None:
    report = lake.merge("candles", rows(3).iloc[:0])
    assert (report.changed, report.version) == (False, None)
    assert not Path(lake.uri).exists()


def test_status_counts_rows_gaps_and_bridged_bars(lake: Lake) -> None:
    holed = rows(10).drop(index=[4, 5])
    holed.loc[0, "bridged"] = True
    lake.merge("candles", pd.concat([holed, rows(3, symbol="ETHUSDT")]))
    lake.merge(
        "funding", funding_rows(pd.DataFrame({"event_time": [FIRST], "funding_rate": [0.0]}), "BTCUSDT")
    )
    status = lake.status().set_index(["table", "symbol"])
    assert status.loc[("candles", "BTCUSDT"), ["rows", "missing", "bridged"]].tolist() == [8, 2, 1]
    assert status.loc[("candles", "ETHUSDT"), ["rows", "missing"]].tolist() == [3, 0]
    assert status.loc[("funding", "BTCUSDT"), "first"] == FIRST
    assert lake.versions() == {"candles": 1, "funding": 1}


def test_sql_sees_every_table_at_the_version_asked_for(lake: Lake) -> None:
    lake.merge("candles", rows(4))
    lake.merge("candles", rows(8))
    count = "SELECT count(*) AS n, max(open_time) AS last FROM candles"
    assert lake.sql(count, {"candles": 1})["n"].iloc[0] == 4
    assert lake.sql(count)["last"].iloc[0] == FIRST + 7 * STEP
    with pytest.raises(DataError, match="the query failed"):
        lake.sql("SELECT nothing FROM nowhere")


class Contested(Lake):
    """A lake in which another writer is first, again and again."""

    lost = 0

    def _commit(self, *how: Any) -> int:
        if self.lost:
            self.lost -= 1
            Lake(self.uri).merge("candles", rows(1, FIRST + (100 + self.lost) * STEP))
        return super()._commit(*how)


def test_a_writer_that_loses_many_times_to_a_hot_one_is_not_starved(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "give_way", lambda attempt: None)
    contested = Contested(lake.uri)
    contested.lost = 30
    assert contested.merge("candles", rows(5)).inserted == 5
    assert len(lake.read("candles")) == 35


row_values = st.tuples(st.integers(0, 11), st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([None, 5.0]))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.lists(row_values, min_size=1, max_size=8), st.booleans()), min_size=1, max_size=4)
)
def test_any_sequence_of_merges_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, merges: list
) -> None:
    """The slow twin: first value wins, corrections win when accepted, optional values fill in."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    model: dict[int, list[float | None]] = {}
    for offered, accept in merges:
        unique = {slot: (close, quote) for slot, close, quote in offered}
        frame = rows(12).iloc[sorted(unique)].reset_index(drop=True)
        frame["close"] = [unique[s][0] for s in sorted(unique)]
        frame["quote_volume"] = pd.array([unique[s][1] for s in sorted(unique)], dtype="Float64")
        before = {slot: list(values) for slot, values in model.items()}
        for slot, (close, quote) in unique.items():
            held = model.get(slot)
            if held is None:
                model[slot] = [close, quote]
            elif accept or (held[0] == close and (None in (held[1], quote) or held[1] == quote)):
                model[slot] = [close, quote if quote is not None else held[1]]
        version = lake.versions().get("candles")
        report = lake.merge("candles", frame, accept_corrections=accept)
        assert report.changed == (model != before)
        assert (lake.versions().get("candles") == version) == (model == before)
    stored = lake.read("candles")
    slots = ((stored["open_time"] - FIRST) // STEP).tolist()
    quotes = [None if pd.isna(q) else q for q in stored["quote_volume"]]
    assert dict(zip(slots, map(list, zip(stored["close"], quotes, strict=True)), strict=True)) == model
