"""Disks that are full, read-only or lost power: said in a line, and nothing lost."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST, rows

from acmf_core.errors import DataError
from acmf_core.lake import Lake

TESTS = Path(__file__).resolve().parent.parent
STEP = pd.Timedelta(minutes=15)


def script(text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Every file may grow to 12 kB: what the kernel does to a writer whose disk is full, within one process.
FULL = """
import resource, sys
from lake_rows import FIRST, rows
from acmf_core.lake import Lake

lake = Lake(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
for attempt in (lambda: lake.merge("candles", rows(3_000)), lake.compact):
    try:
        attempt()
    except OSError as error:
        print(error.strerror)
print(lake.merge("candles", rows(35)).inserted)
"""


def test_a_disk_that_takes_no_more_loses_nothing_and_goes_on_when_it_does(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    noisy = rows(3_000)
    for part in range(4):
        spread = noisy["open"] * (1.0 + part / 7.0)
        later = noisy["open_time"] + (3_000 * (part + 1)) * STEP
        lake.merge(
            "candles",
            rows(30)
            if part == 0
            else noisy.assign(
                open=spread,
                high=spread + 1,
                low=spread - 1,
                close=spread,
                open_time=later,
                available_at=later + STEP,
            ),
        )
    before, versions = lake.read("candles"), lake.versions()
    run = script(FULL, lake.uri)
    said = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    assert len(said) == 3
    assert all("File too large" in line and "\n" not in line for line in said[:2])
    assert said[2] == "5"
    assert lake.versions() == {"candles": versions["candles"] + 1}
    pd.testing.assert_frame_equal(lake.read("candles", version=versions["candles"]), before)
    assert lake.merge("candles", rows(3_000)).inserted == 2_965
    lake.compact()
    assert len(lake.read("candles")) == 12_000


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that another user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


READ_ONLY = """
import os, sys
from lake_rows import rows
from acmf_core.lake import Lake

lake = Lake(sys.argv[1])
lake.read("candles")  # whatever is imported late may lie where the other user cannot read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(len(lake.read("candles")), lake.status()["rows"].tolist(), lake.merge("candles", rows(30)).changed)
for attempt in (lambda: lake.merge("candles", rows(40)), lake.compact):
    try:
        attempt()
    except PermissionError as error:
        print(error.strerror)
"""


def test_a_lake_that_may_only_be_read_is_read_and_says_so_when_written(shared: Path) -> None:
    lake = Lake(shared / "lake")
    lake.merge("candles", rows(20))
    lake.merge("candles", rows(30))
    parts = [shared / "lake", *(shared / "lake").rglob("*")]
    for part in parts:
        part.chmod(0o555 if part.is_dir() else 0o444)
    run = script(READ_ONLY, lake.uri)
    for part in parts:
        part.chmod(0o755 if part.is_dir() else 0o644)
    assert run.stdout.splitlines() == ["30 [30] False", *["no permission to write"] * 2], run.stderr
    assert run.stderr == ""
    assert lake.versions() == {"candles": 2}


@pytest.mark.parametrize("left", [0, 40, 300])
def test_a_log_entry_torn_by_a_power_cut_is_named_and_costs_only_itself(tmp_path: Path, left: int) -> None:
    lake = Lake(tmp_path / "lake")
    for count in (10, 20, 30):
        lake.merge("candles", rows(count))
    entry = tmp_path / "lake" / "candles" / "_delta_log" / f"{3:020}.json"
    entry.write_bytes(entry.read_bytes()[:left])
    for attempt in (lake.versions, lambda: lake.read("candles"), lambda: lake.merge("candles", rows(40))):
        with pytest.raises(OSError, match="newest entry of its log is torn"):
            attempt()
    assert len(lake.read("candles", version=2)) == 20
    entry.rename(tmp_path / "torn.json")
    assert lake.merge("candles", rows(30)).inserted == 10
    assert lake.read("candles")["open_time"].tolist() == rows(30)["open_time"].tolist()


def test_a_data_file_that_is_gone_is_an_error_of_the_disk_and_other_windows_stay_readable(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    lake.merge("candles", rows(96))
    lost = next(Path(lake.uri).rglob("*.parquet"))
    lake.merge("candles", rows(96, FIRST + 96 * STEP))
    lost.unlink()
    with pytest.raises(OSError, match=r"No such file|cannot be used"):
        lake.read("candles")
    assert len(lake.read("candles", start=FIRST + 96 * STEP)) == 96
    with pytest.raises(DataError, match="has no version 9; it has versions 0 to 2"):
        lake.read("candles", version=9)


def test_leftovers_of_killed_writers_are_no_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.merge("candles", rows(20))
    whole = next(Path(lake.uri).rglob("*.parquet"))
    whole.with_name("part-00000-never-committed.parquet").write_bytes(whole.read_bytes())
    (tmp_path / "lake" / "candles" / "_delta_log" / "_commit_0c1d.json.tmp").write_bytes(b"{")
    os.utime(whole, (time.time() + 60, time.time() + 60))
    assert len(lake.read("candles")) == 20
    assert lake.merge("candles", rows(20)).changed is False
