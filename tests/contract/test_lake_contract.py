"""The same promises wherever the tables lie: a folder, a URI, or a bucket of an object store."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST, every_table, rows
from s3_server import S3Server, s3_server

from acmf_core.collect.history import load_market
from acmf_core.lake import Lake
from acmf_core.lake.tables import TABLES

TESTS = Path(__file__).resolve().parent.parent
Place = tuple[str, dict[str, str]]
STEP = pd.Timedelta(minutes=15)


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A URI and its storage options."""
    if request.param == "s3":
        server = request.getfixturevalue("store")
        return f"{server.bucket()}/lake", server.options
    return str(tmp_path / "lake"), {}


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(*place)


def test_the_promises_of_the_lake_hold(lake: Lake) -> None:
    assert lake.versions() == {}
    assert lake.read("candles").empty
    assert lake.merge("candles", rows(30)).version == 1
    assert lake.merge("candles", rows(30)).version == 1
    assert lake.merge("candles", rows(40)).version == 2
    wrong = rows(40)
    wrong.loc[0, "volume"] = 11.0
    assert lake.merge("candles", wrong).conflicting_rows == 1
    assert lake.merge("candles", wrong, accept_corrections=True).corrected == 1
    assert lake.versions() == {"candles": 3}
    assert len(lake.read("candles", version=1)) == 30
    assert lake.read("candles", start=FIRST, end=FIRST + STEP)["volume"].tolist() == [11.0]
    assert lake.status()["rows"].tolist() == [40]
    assert lake.sql("SELECT sum(volume) AS volume FROM candles")["volume"].iloc[0] == 401.0
    assert lake.history("candles")["note"].iloc[0].startswith("corrected 1 row(s): 2024-01-01 00:00")
    assert len(load_market(lake, "BTCUSDT").candles) == 40


def test_another_lake_on_the_same_place_sees_the_same_tables(place: Place) -> None:
    uri, options = place
    Lake(uri, options).merge("candles", rows(30))
    assert len(Lake(uri + "/", options).read("candles")) == 30


def test_a_folder_may_be_named_by_its_uri(tmp_path: Path) -> None:
    named = Lake((tmp_path / "a lake").as_uri())
    assert named.merge("candles", rows(30)).version == 1
    assert named.merge("candles", rows(30)).changed is False
    assert len(Lake(tmp_path / "a lake").read("candles")) == 30


@pytest.mark.parametrize("name", TABLES)
def test_every_table_keeps_its_rows_its_types_and_its_first_moment(lake: Lake, name: str) -> None:
    offered = every_table()[name]
    report = lake.merge(name, offered)
    assert (report.inserted, report.version) == (len(offered), 1)
    later = offered.assign(available_at=offered["available_at"] + pd.Timedelta(hours=5))
    again = lake.merge(name, later)
    assert (again.unchanged, again.changed, again.version) == (len(offered), False, 1)
    stored = lake.read(name)
    keys = list(TABLES[name].keys)
    expected = offered.sort_values(keys, ignore_index=True)
    for column in offered.columns:
        assert stored[column].isna().tolist() == expected[column].isna().tolist(), column
        assert stored[column].dropna().tolist() == expected[column].dropna().tolist(), column
    assert int(lake.status()["rows"].sum()) == len(offered)
    assert int(lake.sql(f"SELECT count(*) AS n FROM {name}")["n"].iloc[0]) == len(offered)
    known = lake.read(name, known_by=offered["available_at"].min())
    assert len(known) == (offered["available_at"] == offered["available_at"].min()).sum()


def test_compaction_moves_no_row_and_every_version_stays(lake: Lake) -> None:
    for part in range(6):
        lake.merge("candles", rows(10, FIRST + part * 10 * STEP, price=100.0 + 10 * part))
    before = lake.read("candles")
    done = lake.compact("candles").iloc[0]
    assert (done["files_before"], done["files_after"], done["version"]) == (6, 1, 7)
    pd.testing.assert_frame_equal(lake.read("candles"), before)
    assert [len(lake.read("candles", version=v)) for v in range(1, 8)] == [10, 20, 30, 40, 50, 60, 60]
    assert lake.compact()["version"].tolist() == [7]
    assert lake.merge("candles", rows(60)).changed is False


def test_batches_are_the_rows_of_a_read_in_order(lake: Lake) -> None:
    lake.merge("candles", pd.concat([rows(25), rows(13, symbol="ETHUSDT")]))
    lake.merge("candles", rows(31))
    batches = list(lake.scan("candles", batch_rows=10, columns=["symbol", "open_time", "close"]))
    assert [len(batch) for batch in batches] == [10, 10, 10, 1, 10, 3]
    whole = lake.read("candles", columns=["symbol", "open_time", "close"])
    pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), whole)


def test_batches_of_a_table_without_partitions_hold_every_row_once(lake: Lake) -> None:
    offered = every_table(9)["fear_greed"]
    assert list(lake.scan("fear_greed")) == []
    for part in (offered.iloc[:4], offered.iloc[4:6], offered.iloc[6:]):
        lake.merge("fear_greed", part)
    batches = list(lake.scan("fear_greed", batch_rows=5))
    assert [len(batch) for batch in batches] == [5, 4]
    pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), lake.read("fear_greed"))


WRITER = """
import json, sys
import pandas as pd
from lake_rows import FIRST, rows
from acmf_core.lake import Lake

lake = Lake(sys.argv[1], json.loads(sys.argv[2]) or None)
first = int(sys.argv[3])
for part in range(6):
    lake.merge("candles", rows(12 * (part + 1)))
    lake.merge("candles", rows(5, FIRST + (1_000 + first + 5 * part) * pd.Timedelta(minutes=15)))
    if part % 3 == 2:
        lake.compact()
print("done")
"""


def test_writers_and_compactions_that_meet_lose_and_double_nothing(place: Place, lake: Lake) -> None:
    said = json.dumps(place[1])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, lake.uri, said, str(first)],
            env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in (0, 100)
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert out == "done\n", err
    held = lake.read("candles")
    slots = ((held["open_time"] - FIRST) // STEP).tolist()
    assert slots == [*range(72), *range(1_000, 1_030), *range(1_100, 1_130)]
    commits = lake.history("candles")["version"].tolist()
    assert commits == list(range(len(commits)))[::-1]
