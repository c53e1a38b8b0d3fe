"""When a stored row was first known, and what a correction says of itself."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_rows import FIRST, every_table, rows

from acmf_core.lake import Lake
from acmf_core.lake.tables import TABLES

HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def macro(hours: float = 0.0, **values: float) -> pd.DataFrame:
    """One row, known so many hours after it happened."""
    return pd.DataFrame(
        {"event_time": [FIRST], "available_at": [FIRST + hours * HOUR]} | {k: [v] for k, v in values.items()}
    )


def test_a_row_that_comes_again_later_or_earlier_keeps_its_first_moment(lake: Lake) -> None:
    lake.merge("macro", macro(3, vix=20.0))
    for hours in (1, 3, 9):
        report = lake.merge("macro", macro(hours, vix=20.0))
        assert (report.unchanged, report.changed, report.version) == (1, False, 1)
    assert lake.merge("macro", macro(9, vix=20.0), accept_corrections=True).changed is False
    assert lake.read("macro")["available_at"].tolist() == [FIRST + 3 * HOUR]


def test_a_corrected_row_is_known_from_the_correction_on_and_the_history_says_so(lake: Lake) -> None:
    lake.merge("macro", macro(3, vix=20.0, gold=2_000.0))
    refused = lake.merge("macro", macro(9, vix=21.0))
    assert refused.conflicts[["column", "stored", "offered"]].to_numpy().tolist() == [["vix", 20.0, 21.0]]
    report = lake.merge("macro", macro(9, vix=21.0), accept_corrections=True, source="the venue")
    stored = lake.read("macro").iloc[0]
    assert (report.corrected, report.conflict()) == (1, None)
    assert (stored["vix"], stored["gold"], stored["available_at"]) == (21.0, 2_000.0, FIRST + 9 * HOUR)
    last = lake.history("macro").iloc[0]
    assert last["source"] == "the venue"
    assert last["note"] == "corrected 1 row(s): 2024-01-01 00:00 UTC vix 20.0 -> 21.0"
    assert lake.history("macro")["note"].iloc[1:].tolist() == ["", ""]


def test_a_correction_with_an_early_moment_does_not_reach_back_behind_the_row_it_corrects(lake: Lake) -> None:
    lake.merge("macro", macro(48, vix=20.0))
    assert lake.merge("macro", macro(0, vix=21.0), accept_corrections=True).corrected == 1
    stored = lake.read("macro").iloc[0]
    assert (stored["vix"], stored["available_at"]) == (21.0, FIRST + 48 * HOUR)


def test_a_note_counts_what_it_does_not_list(lake: Lake) -> None:
    lake.merge("candles", rows(10))
    offered = rows(10)
    offered.loc[2:4, ["high", "close"]] = [200.0, 150.0]
    assert lake.merge("candles", offered, accept_corrections=True).corrected == 3
    note = lake.history("candles")["note"].iloc[0]
    assert note == "corrected 3 row(s): 2024-01-01 00:30 UTC high 104.0 -> 200.0 and 5 more value(s)"


def test_a_row_is_filled_only_by_what_was_known_at_the_same_moment(lake: Lake) -> None:
    lake.merge("macro", macro(3, vix=20.0))
    for hours in (1, 5):
        report = lake.merge("macro", macro(hours, vix=20.0, gold=2_000.0))
        assert (report.unchanged, report.changed) == (1, False)
    assert lake.read("macro")["gold"].isna().all()
    assert lake.merge("macro", macro(3, vix=20.0, sp500=5_000.0)).filled == 1
    stored = lake.read("macro").iloc[0]
    assert (stored["sp500"], stored["available_at"]) == (5_000.0, FIRST + 3 * HOUR)


def test_a_row_that_a_person_lets_become_fuller_is_known_when_all_of_it_was(lake: Lake) -> None:
    lake.merge("macro", macro(3, vix=20.0))
    accepted = {"accept_corrections": True}
    assert lake.merge("macro", macro(5, vix=20.0, gold=2_000.0), **accepted).filled == 1
    assert lake.read("macro")["available_at"].tolist() == [FIRST + 5 * HOUR]
    assert lake.merge("macro", macro(4, dxy=104.0), **accepted).filled == 1
    stored = lake.read("macro").iloc[0]
    assert stored[["vix", "gold", "dxy"]].tolist() == [20.0, 2_000.0, 104.0]
    assert stored["available_at"] == FIRST + 5 * HOUR


def test_known_by_holds_its_own_moment_and_nothing_after_it(lake: Lake) -> None:
    frame = pd.concat([macro(h).assign(event_time=FIRST + h * HOUR, vix=float(h)) for h in range(5)])
    lake.merge("macro", frame)
    assert lake.read("macro", known_by=FIRST + 2 * HOUR)["vix"].tolist() == [0.0, 1.0, 2.0]
    before = FIRST + 2 * HOUR - pd.Timedelta(1, "us")
    assert lake.read("macro", known_by=before)["vix"].tolist() == [0.0, 1.0]
    assert len(next(lake.scan("macro", known_by=before, start=FIRST + HOUR))) == 1


def test_text_and_whole_numbers_conflict_and_fill_like_prices(lake: Lake) -> None:
    news = every_table(3)["news"]
    lake.merge("news", news.assign(drivers=pd.array([None] * 3, dtype="str")))
    assert lake.merge("news", news.assign(drivers='["ETF"]')).filled == 3
    other = news.assign(drivers='["ETF"]', headlines=news["headlines"] + 1, model="another")
    conflicts = lake.merge("news", other).conflicts
    assert conflicts["column"].tolist() == ["headlines", "model"] * 3
    assert lake.merge("news", other, accept_corrections=True).corrected == 3
    stored = lake.read("news")
    assert stored["model"].tolist() == ["another"] * 3
    assert stored["drivers"].tolist() == ['["ETF"]'] * 3
    assert stored["headlines"].tolist() == other["headlines"].tolist()


def test_rows_of_one_millisecond_in_several_files_stay_apart_and_whole(lake: Lake) -> None:
    """The log rounds bounds to milliseconds; neither a window, a merge nor a compaction may trip over it."""
    offsets = [100, 400, 700, 1_000, 1_300, 1_999]
    frame = pd.concat(
        [macro(1, vix=float(us)).assign(event_time=FIRST + pd.Timedelta(us, "us")) for us in offsets]
    )
    for place in (0, 3, 1, 5, 2, 4):
        lake.merge("macro", frame.iloc[[place]])
    for us in offsets:
        at = FIRST + pd.Timedelta(us, "us")
        assert lake.read("macro", start=at)["vix"].iloc[0] == us
        assert lake.read("macro", end=at)["vix"].tolist() == [float(o) for o in offsets if o < us]
    assert lake.merge("macro", frame).changed is False
    fuller = frame.assign(gold=1.0).iloc[[1, 4]]
    assert lake.merge("macro", fuller).filled == 2
    lake.compact()
    assert lake.read("macro")["vix"].tolist() == [float(us) for us in offsets]
    assert lake.read("macro")["gold"].notna().tolist() == [False, True, False, False, True, False]


def test_a_merge_reads_only_the_files_beside_its_window(lake: Lake) -> None:
    for day in range(6):
        lake.merge("candles", rows(96, FIRST + day * 96 * HOUR / 4))
    files = sorted(Path(lake.uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    for file in files[:-1]:
        file.write_bytes(b"not parquet any more")
    last = FIRST + 5 * 96 * HOUR / 4
    assert lake.merge("candles", rows(96, last).assign(trades=5)).filled == 96
    assert lake.merge("candles", rows(10, last + 24 * HOUR)).inserted == 10
    assert len(lake.read("candles", start=last)) == 106
    assert lake.status()["rows"].tolist() == [6 * 96 + 10]  # from the log alone
    with pytest.raises(OSError, match="the lake's table cannot be used"):
        lake.read("candles")


def test_a_merge_does_not_read_what_lies_between_rows_far_apart(lake: Lake) -> None:
    year = [rows(96, FIRST + month * 35 * 24 * HOUR) for month in range(4)]
    for part in year:
        lake.merge("candles", part)
    files = sorted(Path(lake.uri).rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    for file in files[1:-1]:
        file.write_bytes(b"not parquet any more")
    ends = pd.concat([year[0].iloc[:2], year[-1].iloc[-2:]])
    assert lake.merge("candles", ends).unchanged == 4
    assert lake.merge("candles", ends.assign(close=0.5)).conflicting_rows == 4


def test_status_counts_what_a_mode_and_a_five_minute_series_hold(lake: Lake) -> None:
    tables = every_table(4)
    lake.merge("cycles", pd.concat([tables["cycles"], tables["cycles"].assign(mode="live")]))
    five = pd.date_range(FIRST, periods=4, freq="5min", unit="us").delete(2)
    ratio = pd.DataFrame({"symbol": "BTCUSDT", "interval": "5m", "event_time": five, "long_short_ratio": 1.0})
    lake.merge("long_short", ratio.assign(available_at=five))
    status = lake.status().set_index(["table", "interval"])
    assert status["rows"].to_dict() == {
        ("cycles", "live"): 4,
        ("cycles", "paper"): 4,
        ("long_short", "5m"): 3,
    }
    assert status["missing"].tolist() == [1, 0, 0]
    assert len(lake.read("cycles", mode="live", symbol="BTCUSDT")) == 4
    assert status["first"].max() - FIRST < HOUR


def test_status_misses_nothing_where_rows_are_denser_than_their_grid(lake: Lake) -> None:
    minutes = pd.date_range(FIRST, periods=11, freq="1min", unit="us")
    ratio = pd.DataFrame({"symbol": "BTCUSDT", "interval": "5m", "event_time": minutes})
    lake.merge("long_short", ratio.assign(long_short_ratio=1.0, available_at=minutes))
    assert lake.status()[["rows", "missing"]].to_numpy().tolist() == [[11, 0]]


def test_chunks_are_one_commit_each_and_one_report(lake: Lake) -> None:
    parts = [rows(10), rows(20), rows(20)]
    report = lake.merge_chunks("candles", iter(parts), source="three parts")
    assert (report.inserted, report.unchanged, report.version) == (20, 30, 2)
    assert lake.merge_chunks("candles", iter(parts)).changed is False
    assert lake.merge_chunks("macro", []).version is None
    assert lake.versions() == {"candles": 2}


# Deliveries that agree: for each slot one true row, of which a delivery knows the optional columns or not.
deliveries = st.lists(
    st.dictionaries(st.integers(0, 15), st.booleans(), min_size=1, max_size=10), min_size=1, max_size=5
)


@settings(max_examples=15, deadline=None)
@given(deliveries, st.randoms(use_true_random=False), st.sampled_from(["candles", "macro"]))
def test_overlapping_deliveries_that_agree_make_the_same_table_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list, shuffler: object, name: str
) -> None:
    spec, whole = TABLES[name], every_table(16)[name]
    whole = whole.assign(**{column: 1 for column in spec.optional})
    frames = []
    for delivery in given_rows:
        slots = sorted(delivery)
        frame = whole.iloc[slots].reset_index(drop=True)
        poor = [not delivery[slot] for slot in slots]
        for column in spec.optional:
            frame[column] = frame[column].astype("Float64").mask(poor)
        frames.append(frame)
    tables = []
    for _ in range(2):
        lake = Lake(tmp_path_factory.mktemp("lake"))
        assert all(lake.merge(name, frame).conflicts.empty for frame in frames)
        tables.append(lake.read(name))
        if len(frames) > 2:
            lake.compact()
            pd.testing.assert_frame_equal(lake.read(name), tables[-1])
        shuffler.shuffle(frames)  # type: ignore[attr-defined]
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0]) == len(set().union(*given_rows))
