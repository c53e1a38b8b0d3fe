"""The public archive, on loopback: whole, verified, resumable, and honest about what it could not bring."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archive_server import ArchiveServer

from acmf_core.collect.archive.client import Archive
from acmf_core.collect.files.importer import read_candles, read_funding
from acmf_core.collect.history import load_market
from acmf_core.collect.pull.series import PullReport, pull_candles, pull_funding
from acmf_core.collect.synthetic import synthetic_market
from acmf_core.errors import DataError, VenueUnavailable
from acmf_core.lake import Lake
from acmf_core.lake.tables import OHLCV


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.fixture(scope="module")
def truth() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up bars and funding from 2023-05-10 to 2023-08-06."""
    market = synthetic_market(88 * 96, 3, start="2023-05-10")
    assert market.funding is not None
    return market.candles.reset_index(), market.funding


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def archive(server: ArchiveServer, tmp_path: Path, **options: float) -> Archive:
    return Archive(server.url, tmp_path / "cache", backoff_s=0.002, timeout_s=options.pop("timeout_s", 5.0))


def pull(
    lake: Lake,
    server: ArchiveServer,
    tmp_path: Path,
    start: str = "2023-05-10",
    end: str = "2023-08-06",
    **options: float,
) -> PullReport:
    with archive(server, tmp_path, **options) as client:
        return pull_candles(lake, client, "BTCUSDT", utc(start), utc(end))


def same(lake: Lake, truth: pd.DataFrame, start: str = "2023-05-10", end: str = "2023-08-06") -> bool:
    stored = lake.read("candles", symbol="BTCUSDT", interval="15m")
    want = truth[(truth["open_time"] >= utc(start)) & (truth["open_time"] < utc(end))]
    columns = ["open_time", *OHLCV]
    return bool(stored[columns].equals(want[columns].reset_index(drop=True)))


def test_a_pull_gives_exactly_the_archives_bars_and_the_second_changes_nothing(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    said: list[tuple[str, int, int]] = []
    with ArchiveServer(*truth) as server, archive(server, tmp_path) as client:
        window = (utc("2023-05-10"), utc("2023-08-06"))
        report = pull_candles(lake, client, "BTCUSDT", *window, progress=lambda *step: said.append(step))
        paid = pull_funding(lake, client, "BTCUSDT", *window)
        assert same(lake, truth[0])
        assert (report.files, report.missing, report.absent, report.damaged) == (4, 0, (), ())
        assert said[-1] == ("BTCUSDT 15m", 5, 5)  # four files and the commit
        assert paid.merged.inserted == len(truth[1])
        stored = lake.read("funding")
        assert stored["funding_rate"].tolist() == truth[1]["funding_rate"].tolist()
        assert stored["event_time"].tolist() == truth[1]["event_time"].tolist()  # jitter floored away
        assert lake.read("candles")["trades"].tolist() == [100] * len(truth[0])

        before = lake.versions()
        server.requests.clear()
        assert not pull_candles(lake, client, "BTCUSDT", *window).merged.changed
        assert not pull_funding(lake, client, "BTCUSDT", *window).merged.changed
        assert lake.versions() == before
        assert server.asked("klines") == 0  # what the lake has is not asked for again
    assert not (tmp_path / "cache").exists()


def test_stamps_in_microseconds_and_missing_headers_are_seen(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0], microseconds=True) as server:
        pull(lake, server, tmp_path)
    assert same(lake, truth[0])


def test_the_running_month_and_days_missing_from_a_month_come_from_daily_files(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(
        truth[0], lacking={"2023-08", "2023-08-05"}, month_without={"2023-06-03", "2023-06-04"}
    ) as server:
        report = pull(lake, server, tmp_path)
        assert server.asked("/daily/klines/BTCUSDT/15m/BTCUSDT-15m-2023-06-03.zip") == 2
        assert server.asked("2023-06-05") == 0
    assert same(lake, truth[0], end="2023-08-05")
    assert report.absent == ("2023-08", "2023-08-05")
    assert report.missing == 0


def test_a_few_days_are_fetched_one_by_one(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0]) as server:
        pull(lake, server, tmp_path, "2023-06-10", "2023-06-12")
        assert server.asked("monthly") == 0
    assert same(lake, truth[0], "2023-06-10", "2023-06-12")


def test_months_before_the_listing_are_not_asked_day_by_day(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0]) as server:
        pull(lake, server, tmp_path, "2021-01-01", "2023-08-06")
        assert server.asked("daily") == server.asked("daily/klines/BTCUSDT/15m/BTCUSDT-15m-2023-05") == 9
    assert same(lake, truth[0])


@pytest.mark.parametrize("held", [True, False], ids=["June is stored", "an empty lake"])
@pytest.mark.parametrize("chunk_rows", [500_000, 1])
def test_a_month_whose_file_is_not_out_yet_comes_day_by_day_whatever_is_stored_after_it(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame], held: bool, chunk_rows: int
) -> None:
    with (
        ArchiveServer(truth[0], lacking={"2023-05", "2023-06"}) as server,
        archive(server, tmp_path) as client,
    ):
        if held:
            pull_candles(lake, client, "BTCUSDT", utc("2023-06-01"), utc("2023-06-03"))
        pull_candles(lake, client, "BTCUSDT", utc("2023-05-08"), utc("2023-06-03"), chunk_rows=chunk_rows)
    assert same(lake, truth[0], end="2023-06-03")


def test_an_unknown_symbol_is_named(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(*truth) as server, archive(server, tmp_path) as client:
        with pytest.raises(DataError, match="has no 15m klines of BTCUSTD from 2023-05-10 to 2023-08-06"):
            pull_candles(lake, client, "BTCUSTD", utc("2023-05-10"), utc("2023-08-06"))
        assert not pull_funding(lake, client, "BTCUSTD", utc("2023-05-10"), utc("2023-08-06")).merged.changed
    assert lake.versions() == {}


@pytest.mark.parametrize("fault", ["500", "503", "cut", "corrupt", "stall"])
@pytest.mark.parametrize("file", ["2023-06.zip", "2023-06.zip.CHECKSUM"])
def test_a_passing_fault_is_retried_and_leaves_no_trace(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame], fault: str, file: str
) -> None:
    with ArchiveServer(truth[0]) as server:
        server.faults[file] = [fault, fault]
        report = pull(lake, server, tmp_path, timeout_s=0.6 if fault == "stall" else 15.0)
        assert server.asked(file) > 1
    assert same(lake, truth[0])
    assert report.damaged == ()


def test_a_month_whose_checksum_never_fits_is_brought_day_by_day(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0]) as server:
        server.faults["15m-2023-06.zip"] = ["corrupt"] * 9
        report = pull(lake, server, tmp_path)
    assert same(lake, truth[0])
    assert report.damaged == ("BTCUSDT-15m-2023-06.zip",)


def test_a_damaged_day_stays_missing_and_is_named(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0], month_without={"2023-06-03"}) as server:
        server.faults["15m-2023-06-03.zip"] = ["corrupt"] * 9
        report = pull(lake, server, tmp_path)
    assert report.damaged == ("BTCUSDT-15m-2023-06-03.zip",)
    assert report.missing == 96


def test_a_file_of_a_header_and_nothing_else_is_one_without_bars(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with (
        ArchiveServer(*truth, bare={"2023-06", "2023-06-03", "2023-07"}) as server,
        archive(server, tmp_path) as client,
    ):
        report = pull_candles(lake, client, "BTCUSDT", utc("2023-05-10"), utc("2023-07-01"))
        paid = pull_funding(lake, client, "BTCUSDT", utc("2023-05-10"), utc("2023-07-01"))
        assert not pull_funding(lake, client, "BTCUSDT", utc("2023-07-01"), utc("2023-08-01")).merged.changed
    assert (report.missing, report.damaged, report.merged.inserted) == (96, (), 51 * 96)
    assert (paid.damaged, paid.merged.inserted) == ((), 22 * 3)


def test_a_window_of_files_without_bars_is_named(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with (
        ArchiveServer(truth[0], bare={"2023-06-03"}) as server,
        pytest.raises(DataError, match="has no 15m klines of BTCUSDT from 2023-06-03 to 2023-06-04"),
    ):
        pull(lake, server, tmp_path, "2023-06-03", "2023-06-04")


def test_an_impossible_bar_in_the_archive_is_not_taken(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    wrong = truth[0].copy()
    wrong.loc[2_400, "high"] = 1.0
    with ArchiveServer(wrong) as server:
        report = pull(lake, server, tmp_path)
    assert len(report.damaged) == 2  # the month and then the day
    assert report.missing == 96


def test_a_dead_archive_is_unavailable_and_what_was_fetched_waits(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0]) as server:
        server.faults["2023-08.zip"] = ["503"] * 99
        with pytest.raises(
            VenueUnavailable, match=r"failed 4 times for BTCUSDT-15m-2023-08\.zip: HTTP 503"
        ) as e:
            pull(lake, server, tmp_path)
        assert e.value.exit_code == 3
        assert lake.versions() == {}
        cached = {file.name for file in (tmp_path / "cache").glob("*.zip")}
        assert cached
        server.faults.clear()
        server.requests.clear()
        pull(lake, server, tmp_path)
        asked_again = {path.rsplit("/", 1)[-1] for path in server.requests if path.endswith(".zip")}
        assert not asked_again & cached
    assert same(lake, truth[0])


def test_no_network_is_one_clear_error(lake: Lake, tmp_path: Path) -> None:
    client = Archive("http://127.0.0.1:9", tmp_path / "cache", backoff_s=0.002)
    with (
        client,
        pytest.raises(VenueUnavailable, match=r"ConnectError.*; check the network.*acmf data import FILE"),
    ):
        pull_candles(lake, client, "BTCUSDT", utc("2023-05-10"), utc("2023-05-11"))


def test_a_spoiled_file_in_the_cache_is_fetched_anew(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "BTCUSDT-15m-2023-06.zip").write_bytes(b"half a file")
    (tmp_path / "cache" / "BTCUSDT-15m-2023-06.77-1.part").write_bytes(b"torn")
    with ArchiveServer(truth[0]) as server:
        pull(lake, server, tmp_path)
    assert same(lake, truth[0])
    assert not (tmp_path / "cache").exists()


def test_connections_are_few(lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    with ArchiveServer(truth[0]) as server:
        client = Archive(server.url, tmp_path / "cache", connections=2)
        with client:
            pull_candles(lake, client, "BTCUSDT", utc("2023-05-10"), utc("2023-08-06"))
        assert server.busiest <= 2


def test_a_changed_bar_in_the_archive_is_kept_out_and_reported(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with ArchiveServer(truth[0]) as server:
        pull(lake, server, tmp_path, "2023-05-10", "2023-06-20")
    changed = truth[0].copy()
    changed.loc[3_000, "volume"] += 1.0  # 2023-06-10
    with ArchiveServer(changed) as server:
        report = pull(lake, server, tmp_path)
    assert report.merged.conflicting_rows == 1
    assert same(lake, truth[0])


def test_a_pull_killed_at_random_goes_on_to_the_same_table(
    lake: Lake, tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    script = (
        "import sys, pandas as pd; from pathlib import Path\n"
        "from acmf_core.collect.archive.client import Archive\n"
        "from acmf_core.collect.pull.series import pull_candles\n"
        "from acmf_core.lake import Lake\n"
        "print('ready', flush=True)\n"
        "with Archive(sys.argv[1], Path(sys.argv[2]) / 'cache', connections=1) as a:\n"
        "    pull_candles(Lake(sys.argv[2] + '/lake'), a, 'BTCUSDT',\n"
        "                 pd.Timestamp('2023-05-10', tz='UTC'), pd.Timestamp('2023-08-06', tz='UTC'))\n"
    )
    rng = np.random.default_rng(5)
    with ArchiveServer(truth[0], lacking={"2023-07", "2023-08"}) as server:
        for _ in range(3):
            child = subprocess.Popen(
                [sys.executable, "-c", script, server.url, str(tmp_path)], stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            with child.stdout:
                child.stdout.readline()
                time.sleep(rng.uniform(0.02, 0.25))
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
        with archive(server, tmp_path) as client:
            pull_candles(lake, client, "BTCUSDT", utc("2023-05-10"), utc("2023-08-06"))
    assert same(lake, truth[0])
    assert lake.versions() == {"candles": 1}


@pytest.mark.parametrize("fault", ["stall", "freeze"])
def test_ctrl_c_stops_a_pull_soon_and_leaves_the_lake_alone(
    tmp_path: Path, truth: tuple[pd.DataFrame, pd.DataFrame], fault: str
) -> None:
    command = "import sys; from acmf_cli.main import main; main(sys.argv[1:])"
    with ArchiveServer(truth[0]) as server:
        server.faults["2023-06.zip"] = [fault]
        settings = {
            "ACMF__SOURCES__ARCHIVE_BASE_URL": f'"{server.url}"',
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        child = subprocess.Popen(
            [sys.executable, "-c", command, "data", "pull", "--from", "2023-05-10", "--to", "2023-08-06"],
            cwd=tmp_path,
            env=settings,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(400):
            if server.asked("2023-06.zip") == 2 and server.asked("2023-08.zip") == 2:
                break
            time.sleep(0.05)
        time.sleep(0.1)
        begun = time.perf_counter()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=10)
        assert time.perf_counter() - begun < 6.0  # about 0.3; a read may take 30
    assert child.returncode == 130
    assert "acmf: interrupted; nothing is half-written, the same command goes on or starts over" in said
    assert not (tmp_path / "data_lake").exists()
    assert not list((tmp_path / "state/archive").glob("*.part"))
    assert len(list((tmp_path / "state/archive").glob("*.zip"))) == 3  # the same command goes on with these


def test_the_real_months_come_out_of_the_archive_as_they_went_in(
    lake: Lake, tmp_path: Path, real_data: Path
) -> None:
    bars = read_candles(real_data / "BTCUSDT_perp_15m_2023_2024.parquet").frame.reset_index()
    paid = read_funding(real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet").frame
    with ArchiveServer(bars, paid) as server, archive(server, tmp_path) as client:
        pull_candles(lake, client, "BTCUSDT", utc("2024-10-01"), utc("2025-01-01"))
        pull_funding(lake, client, "BTCUSDT", utc("2024-10-01"), utc("2025-01-01"))
    assert same(lake, bars, "2024-10-01", "2025-01-01")
    market = load_market(lake, "BTCUSDT", "2024-10-01", "2025-01-01")
    assert market.funding is not None
    assert len(market.funding) == 92 * 3
