"""Two recorded years out of a loopback archive: bit for bit, once, and the same after twenty kills."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from archive_server import ArchiveServer

from acmf_core.collect.files.importer import read_candles, read_funding
from acmf_core.lake import Lake
from acmf_core.lake.tables import OHLCV

KILLS = 20
PULL = ["--from", "2023-01-01", "--to", "2025-01-01", "--only", "candles", "--only", "funding", "--no-tail"]
BARS = {"15m": 70_176, "1h": 17_544, "4h": 4_386, "1d": 731}

# The parent imports once and never touches delta-rs (its runtime does not survive a fork). Every child is a
# whole `acmf data pull` and is killed at a random moment: of its downloads (d), of the parsing and merging
# after a series' last download (m), or right after a commit (c).
KILLED_PULLS = """
import json, os, random, signal, sys, time
from pathlib import Path
import acmf_cli.data, acmf_cli.data_pull, acmf_cli.progress
import acmf_core.collect.pull.backfill, acmf_core.lake.lake
from acmf_cli.main import main

folder, pull = Path(sys.argv[1]), json.loads(sys.argv[2])
random.seed(20)

def files(): return len(list((folder / "state/archive").glob("*.zip")))
def commits(): return len(list((folder / "data_lake/store").glob("*/_delta_log/*.json")))

def begin():
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(folder)
        try:
            main(["data", "pull", *pull])
        except SystemExit as left:
            os._exit(left.code)
    return child

def wait(until, longest):
    end = time.monotonic() + longest
    while time.monotonic() < end and not until():
        time.sleep(0.002)

for number, stage in enumerate("ddddmmmmmc" "ddmmc" "dmc" "dm"):  # 15m, 1h, 4h, 1d; funding is left
    before, have = commits(), files()
    child = begin()
    if stage == "d":
        wait(lambda: files() != have, 1)
        wait(lambda: False, random.uniform(0.0, 0.03))
    elif stage == "m":
        wait(lambda: files() == 24, 1)
        wait(lambda: commits() > max(1, before), random.uniform(0.0, 0.5 if number < 10 else 0.1))
    else:
        wait(lambda: commits() > max(1, before), 5)
        wait(lambda: False, random.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(json.dumps([stage, os.WIFSIGNALED(status), files(), commits()]), flush=True)
_, status = os.waitpid(begin(), 0)
print(json.dumps(["finish", False, files(), os.waitstatus_to_exitcode(status)]))
"""


@pytest.fixture(scope="module")
def recorded(real_data: Path) -> pd.DataFrame:
    """70,176 recorded bars."""
    return read_candles(real_data / "BTCUSDT_perp_15m_2023_2024.parquet").frame.reset_index()


@pytest.fixture(scope="module")
def server(recorded: pd.DataFrame, real_data: Path) -> Iterator[ArchiveServer]:
    """The archive of these two years."""
    paid = read_funding(real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet").frame
    with ArchiveServer(recorded, paid) as archive:
        yield archive


def settings(server: ArchiveServer) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACMF__")}
    root = str(Path(__file__).resolve().parents[2])
    return kept | {"ACMF__SOURCES__ARCHIVE_BASE_URL": f'"{server.url}"', "PYTHONPATH": root}


def is_whole(lake: Lake, recorded: pd.DataFrame) -> None:
    columns = ["open_time", *OHLCV]
    held = lake.read("candles", symbol="BTCUSDT", interval="15m")
    assert len(held) == 70_176
    assert held[columns].equals(recorded[columns])  # float64: every bit
    everything = lake.read("candles", columns=["interval", "open_time"])
    assert everything["interval"].value_counts().to_dict() == BARS
    assert not everything.duplicated().any()
    assert len(lake.read("funding")) == 2_193


def test_the_recorded_years_come_out_as_they_went_in_and_again_change_nothing(
    server: ArchiveServer, recorded: pd.DataFrame, tmp_path: Path
) -> None:
    command = "import sys; from acmf_cli.main import main; main(sys.argv[1:])"
    pull = [sys.executable, "-c", command, "data", "pull", *PULL, "--json"]
    server.requests.clear()
    first = subprocess.run(
        pull, cwd=tmp_path, env=settings(server), capture_output=True, text=True, check=True, timeout=120
    )
    lake = Lake(tmp_path / "data_lake/store")
    is_whole(lake, recorded)
    brought = {one["series"]: one for one in json.loads(first.stdout)["series"]}
    assert [one["missing"] for one in brought.values()] == [0] * 5
    assert lake.versions() == {"candles": 4, "funding": 1}  # one commit a series
    assert server.asked() == 5 * 24 * 2  # every file and its checksum, once

    server.requests.clear()
    again = subprocess.run(
        pull, cwd=tmp_path, env=settings(server), capture_output=True, text=True, check=True, timeout=120
    )
    assert [one["inserted"] for one in json.loads(again.stdout)["series"]] == [0] * 5
    assert lake.versions() == {"candles": 4, "funding": 1}
    assert server.asked() == 0
    assert not (tmp_path / "state/archive").exists()


def test_a_pull_killed_twenty_times_and_then_finished_gives_the_same_table(
    server: ArchiveServer, recorded: pd.DataFrame, tmp_path: Path
) -> None:
    server.delay_s = 0.01
    try:
        run = subprocess.run(
            [sys.executable, "-c", KILLED_PULLS, str(tmp_path), json.dumps(PULL)],
            env=settings(server),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    finally:
        server.delay_s = 0.0
    *kills, (_, _, left, code) = [json.loads(line) for line in run.stdout.splitlines()]
    assert sum(killed for _, killed, _, _ in kills) == KILLS
    assert any(0 < files < 24 for _, _, files, _ in kills)  # some landed among the downloads,
    assert any(files == 24 and commits <= 1 for _, _, files, commits in kills)  # some before any row was in,
    assert len({commits for *_, commits in kills}) > 2  # and some after one or another
    assert (left, code) == (0, 0)
    lake = Lake(tmp_path / "data_lake/store")
    is_whole(lake, recorded)
    for version in range(lake.versions()["candles"] + 1):  # every version ever seen is whole
        held = lake.read("candles", version=version, columns=["interval"])["interval"].value_counts()
        assert held.to_dict().items() <= BARS.items()
    assert not (tmp_path / "state/archive").exists()
