"""Small files into large ones: what is gathered, what is left alone, and how the result lies on disk."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import ColumnProperties, WriterProperties, write_deltalake
from lake_rows import FIRST, every_table, rows

from acmf_core.lake import Lake
from acmf_core.lake.merging import to_arrow
from acmf_core.lake.tables import TABLES

STEP = pd.Timedelta(minutes=15)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def noisy(n: int, first: int, symbol: str = "BTCUSDT") -> pd.DataFrame:
    """Bars that do not compress: about 60 bytes each."""
    rng = np.random.default_rng(first)
    frame = rows(n, FIRST + first * STEP, symbol)
    for column in ("open", "high", "low", "close", "volume"):
        frame[column] = rng.uniform(1, 2, n)
    return frame


def spans(lake: Lake, name: str = "candles") -> list[tuple[int, int]]:
    """(first slot, last slot) of every live file, in order; each must be sorted by time."""
    found = []
    for file in lake.dataset(name).files:
        times = pq.read_table(Path(lake.uri) / name / file, columns=[TABLES[name].time]).column(0).to_pandas()
        assert times.is_monotonic_increasing
        found.append((int((times.iloc[0] - FIRST) // STEP), int((times.iloc[-1] - FIRST) // STEP)))
    return sorted(found)


def test_files_written_out_of_order_become_one_that_is_in_order(lake: Lake) -> None:
    for first in (60, 0, 20, 80, 40):
        lake.merge("candles", rows(20, FIRST + first * STEP))
    before = lake.read("candles")
    done = lake.compact().iloc[0]
    assert (done["files_before"], done["files_after"], done["version"]) == (5, 1, 6)
    assert spans(lake) == [(0, 99)]
    pd.testing.assert_frame_equal(lake.read("candles"), before)
    assert lake.history("candles")["note"].iloc[0] == "gathered 5 files of BTCUSDT 15m into one"


def test_files_that_overlap_in_time_no_longer_do(lake: Lake) -> None:
    whole = noisy(3_000, 0)
    for offset in range(3):
        lake.merge("candles", whole.iloc[offset::3])
    lake.merge("candles", noisy(500, 3_000))
    before = lake.read("candles")
    lake.compact(target_bytes=150_000)
    held = spans(lake)
    assert all(first[1] < second[0] for first, second in pairwise(held))
    pd.testing.assert_frame_equal(lake.read("candles"), before)


def test_a_partition_without_small_files_is_left_alone(lake: Lake) -> None:
    lake.merge("candles", noisy(3_000, 0))
    lake.merge("candles", noisy(3_000, 3_000))
    for part in range(3):
        lake.merge("candles", noisy(20, 20 * part, "ETHUSDT"))
    kept = {file for file in lake.dataset("candles").files if "BTCUSDT" in file}
    lake.compact(target_bytes=200_000)  # a file of each half: neighbours would not fit into one
    files = lake.dataset("candles").files
    assert kept < set(files)
    assert len(files) == 3
    assert lake.compact(target_bytes=200_000)["version"].tolist() == [lake.versions()["candles"]]


def test_a_large_file_waits_until_its_small_neighbours_have_grown(lake: Lake) -> None:
    lake.merge("candles", noisy(40_000, 0))  # some 2 MB
    for day in range(3):
        lake.merge("candles", noisy(96, 40_000 + 96 * day))
    lake.compact()
    assert spans(lake) == [(0, 39_999), (40_000, 40_287)]
    lake.merge("candles", noisy(20_000, 40_288))
    lake.compact()
    assert spans(lake) == [(0, 60_287)]


def test_rewriting_stays_within_a_few_times_what_was_written(lake: Lake) -> None:
    """A daemon's file a cycle, gathered daily: without the waiting each day would rewrite all days."""
    rewritten = 0
    for day in range(6):
        for part in range(3):
            lake.merge("candles", noisy(3_000, 9_000 * day + 3_000 * part))
        rewritten += int(lake.compact()["rewritten_bytes"].iloc[0])
    stored = sum((Path(lake.uri) / "candles" / file).stat().st_size for file in lake.dataset("candles").files)
    assert len(lake.dataset("candles").files) <= 4
    assert rewritten < 4 * stored


def test_every_table_can_be_gathered(lake: Lake) -> None:
    for name, frame in every_table(8).items():
        for first in (4, 0, 2, 6):
            lake.merge(name, frame.iloc[first : first + 2])
    before = {name: lake.read(name) for name in TABLES}
    done = lake.compact()
    assert done["table"].tolist() == list(TABLES)
    assert (done["files_after"] == 1).all()
    for name, frame in before.items():
        pd.testing.assert_frame_equal(lake.read(name), frame)
    assert (lake.compact()["rewritten_bytes"] == 0).all()


def test_an_empty_lake_has_nothing_to_gather(lake: Lake) -> None:
    assert lake.compact().empty
    assert not Path(lake.uri).exists()


NO_STATISTICS = {"configuration": {"delta.dataSkippingNumIndexedCols": "0"}}
NO_BOUNDS = {
    "writer_properties": WriterProperties(
        default_column_properties=ColumnProperties(statistics_enabled="NONE")
    )
}


@pytest.mark.parametrize("how", [NO_STATISTICS, NO_BOUNDS], ids=["no statistics", "no bounds"])
def test_files_of_a_writer_that_keeps_no_statistics_are_read_counted_and_left_alone(
    lake: Lake, how: dict[str, Any]
) -> None:
    spec = TABLES["candles"]
    for part in (rows(10), rows(10, FIRST + 12 * STEP).assign(bridged=True)):
        write_deltalake(
            f"{lake.uri}/candles",
            to_arrow(spec, part).cast(spec.schema),
            mode="append",
            partition_by=list(spec.partitions),
            **how,
        )
    status = lake.status().iloc[0]
    assert status[["rows", "missing", "bridged"]].tolist() == [20, 2, 10]
    assert len(lake.read("candles", symbol="BTCUSDT", start=FIRST, end=FIRST + 5 * STEP)) == 5
    assert len(lake.read("candles", known_by=FIRST + 5 * STEP)) == 5
    assert lake.sql("SELECT count(*) AS n FROM candles WHERE volume > 1")["n"].tolist() == [20]
    assert lake.merge("candles", rows(10)).changed is False
    assert lake.merge("candles", rows(22)).inserted == 2
    assert lake.merge("candles", rows(22)).changed is False
    assert len(lake.read("candles")) == 22
    assert lake.compact()["rewritten_bytes"].tolist() == [0]
    one = rows(1).assign(volume=11.0)
    assert lake.merge("candles", one, accept_corrections=True).corrected == 1
    assert len(lake.read("candles")) == 22
