"""What the archive and the machine do to a pull: each fault has its one result."""

import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archive_server import HEADER, METRICS_HEADER, ArchiveServer, metrics_lines

from acmf_core.collect.archive.client import Archive
from acmf_core.collect.archive.files import ArchiveFile
from acmf_core.collect.archive.metrics import pull_metrics
from acmf_core.collect.archive.rows import klines_of
from acmf_core.collect.files.intake import import_slow
from acmf_core.collect.pull.series import pull_candles, pull_funding
from acmf_core.collect.synthetic import synthetic_market
from acmf_core.errors import ConfigError, DataError, VenueUnavailable
from acmf_core.lake import Lake

WINDOW = (pd.Timestamp("2023-05-10", tz="UTC"), pd.Timestamp("2023-08-06", tz="UTC"))


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    """Made-up bars from 2023-05-10 to 2023-08-06."""
    return synthetic_market(88 * 96, 3, start="2023-05-10").candles.reset_index()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def client(server: ArchiveServer, tmp_path: Path, timeout_s: float = 5.0, connections: int = 4) -> Archive:
    return Archive(
        server.url, tmp_path / "cache", backoff_s=0.002, timeout_s=timeout_s, connections=connections
    )


# -- a server that asks for patience, or refuses ---------------------------------------------------------


@pytest.mark.parametrize("fault", ["429:1", "503:1", "429:date:2"])
def test_retry_after_holds_back_every_connection(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame, fault: str
) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path, connections=2) as archive:
        server.faults["2023-05.zip.CHECKSUM"] = [fault]
        report = pull_candles(lake, archive, "BTCUSDT", *WINDOW)
        rests = np.diff(server.when)
        assert rests.max() > 0.8  # nobody asked anything while the server rested
        assert len(server.when) == 9  # four files with their checksums, and the one asked again
    assert (report.merged.inserted, report.missing) == (88 * 96, 0)


def test_too_many_requests_without_a_word_on_when_are_waited_for(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        server.faults["2023-05.zip"] = ["429", "429:soon", "429"]
        assert pull_candles(lake, archive, "BTCUSDT", *WINDOW).merged.inserted == 88 * 96


def test_a_server_that_asks_for_more_patience_than_a_person_has_is_quoted(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        server.faults["2023-05.zip.CHECKSUM"] = ["429:3600"]
        with pytest.raises(VenueUnavailable, match=r"asks to come back in 3600 s \(HTTP 429\)"):
            pull_candles(lake, archive, "BTCUSDT", *WINDOW)


@pytest.mark.parametrize("status", ["403", "451"])
def test_a_refusal_is_final_and_says_so(lake: Lake, tmp_path: Path, truth: pd.DataFrame, status: str) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path, connections=1) as archive:
        server.faults[".CHECKSUM"] = [status] * 50
        said = rf"refuses this address or region \(HTTP {status}\)"
        with pytest.raises(VenueUnavailable, match=said):
            pull_candles(lake, archive, "BTCUSDT", *WINDOW)
        with pytest.raises(VenueUnavailable, match=said):
            pull_funding(lake, archive, "BTCUSDT", *WINDOW)
        assert server.asked() == 1
    assert lake.versions() == {}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("body:", "holds no SHA-256"),
        ("body:" + "x" * 9_000, "holds no SHA-256"),
        ("body:a" * 20, "no SHA-256"),
    ],
)
def test_a_checksum_that_is_none_is_named(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame, fault: str, said: str
) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        server.faults["2023-05.zip.CHECKSUM"] = [fault] * 9
        with pytest.raises(VenueUnavailable, match=said):
            pull_candles(lake, archive, "BTCUSDT", *WINDOW)


def test_a_url_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no URL.*sources.archive_base_url"):
        Archive("http://ar\x01chive", tmp_path)


# -- an interrupt, and what was left behind --------------------------------------------------------------


@pytest.mark.parametrize("fault", ["stall", "freeze"])
def test_closing_ends_a_stalled_download_at_once(tmp_path: Path, truth: pd.DataFrame, fault: str) -> None:
    with ArchiveServer(truth) as server:
        server.faults["2023-06.zip"] = [fault]
        archive = client(server, tmp_path, timeout_s=60.0)
        batch = archive.start([ArchiveFile("klines", "BTCUSDT", "2023-06", "15m")])
        while server.asked("2023-06.zip") < 2:
            time.sleep(0.01)
        time.sleep(0.1)
        begun = time.perf_counter()
        archive.close()
        assert time.perf_counter() - begun < 1.0
        assert batch.futures[0].cancelled()
    assert not list((tmp_path / "cache").iterdir())  # the half file is gone
    assert not [thread for thread in threading.enumerate() if thread.name == "archive"]


def test_files_that_a_killed_pull_left_after_its_commit_are_swept(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        pull_candles(lake, archive, "BTCUSDT", *WINDOW)
        (tmp_path / "cache").mkdir()
        for name in ("BTCUSDT-15m-2023-06.zip", "BTCUSDT-15m-2023-07.part"):
            (tmp_path / "cache" / name).write_bytes(b"left")
        pull_candles(lake, archive, "BTCUSDT", *WINDOW)
        assert not (tmp_path / "cache").exists()


def test_two_pulls_do_not_share_a_cache(lake: Lake, tmp_path: Path, truth: pd.DataFrame) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path) as one, client(server, tmp_path) as two:
        one.fetch([ArchiveFile("klines", "BTCUSDT", "2023-06", "15m")])
        with pytest.raises(ConfigError, match="another pull is at work in"):
            two.fetch([ArchiveFile("klines", "BTCUSDT", "2023-06", "15m")])
        one.close()
        assert two.fetch([ArchiveFile("klines", "BTCUSDT", "2023-06", "15m")])[0].path is not None


# -- bounded ---------------------------------------------------------------------------------------------


def test_a_long_pull_is_merged_and_forgotten_chunk_by_chunk(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    waiting: list[int] = []

    def look(*_: object) -> None:
        cache = tmp_path / "cache"
        waiting.append(len(list(cache.glob("*.zip"))) if cache.is_dir() else 0)

    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        report = pull_candles(lake, archive, "BTCUSDT", *WINDOW, chunk_rows=3_000, progress=look)
    assert (report.files, report.merged.inserted, report.missing) == (4, 88 * 96, 0)
    assert lake.versions() == {"candles": 4}  # one commit a month
    assert max(waiting) <= 2  # the chunk at hand, and the next one's file
    stored = lake.read("candles")
    assert stored["close"].tolist() == truth["close"].tolist()


def test_a_chunk_that_failed_leaves_the_ones_before_it(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        server.faults["2023-07.zip"] = ["500"] * 4
        with pytest.raises(VenueUnavailable, match=r"2023-07.zip: HTTP 500"):
            pull_candles(lake, archive, "BTCUSDT", *WINDOW, chunk_rows=3_000)
        assert len(lake.read("candles")) == (22 + 30) * 96
        server.requests.clear()
        assert pull_candles(lake, archive, "BTCUSDT", *WINDOW, chunk_rows=3_000).missing == 0
        assert server.asked("2023-05") == server.asked("2023-06") == 0
    assert lake.read("candles")["open"].tolist() == truth["open"].tolist()


# -- metrics ---------------------------------------------------------------------------------------------


def test_metrics_become_two_tables_and_a_second_pull_asks_for_nothing(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    days = (WINDOW[0], pd.Timestamp("2023-05-14", tz="UTC"))
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        reports = pull_metrics(lake, archive, "BTCUSDT", *days)
        assert {name: one.merged.inserted for name, one in reports.items()} == {
            "long_short": 4 * 288,
            "open_interest": 4 * 288,
        }
        server.requests.clear()
        before = lake.versions()
        assert not any(one.merged.changed for one in pull_metrics(lake, archive, "BTCUSDT", *days).values())
        assert (lake.versions(), server.asked()) == (before, 0)
    held = lake.read("long_short", symbol="BTCUSDT", interval="5m")
    assert (held["available_at"] - held["event_time"]).unique().tolist() == [pd.Timedelta(minutes=5)]
    first = metrics_lines("2023-05-10")[0].split(",")
    assert held["long_short_ratio"].iloc[0] == float(first[6])
    assert not (tmp_path / "cache").exists()


def test_metrics_long_before_the_listing_are_not_asked_for_day_by_day(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    window = (pd.Timestamp("2022-12-01", tz="UTC"), WINDOW[1])
    with ArchiveServer(truth, lacking={"2023-05-17"}) as server, client(server, tmp_path) as archive:
        report = pull_metrics(lake, archive, "BTCUSDT", *window)["long_short"]
        assert report.merged.inserted == 87 * 288  # 2023-05-17 is one of the days that are sampled
        assert report.notes == ("147 day(s) before 2023-04-27 left out: the archive has no file near them",)
        server.requests.clear()
        again = pull_metrics(lake, archive, "BTCUSDT", *window)["long_short"]
        assert not again.merged.changed
        assert "2023-05-17" in again.absent
        assert server.asked() < 50  # of 161 days without a row


def test_a_few_imported_rows_do_not_stand_for_a_day_of_metrics(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    brought = tmp_path / "ours.csv"
    brought.write_text("timestamp,open_interest\n2023-05-10 01:02:00,80000\n")
    import_slow(lake, brought, "open_interest", "BTCUSDT")
    days = (WINDOW[0], pd.Timestamp("2023-05-11", tz="UTC"))
    with ArchiveServer(truth) as server, client(server, tmp_path) as archive:
        reports = pull_metrics(lake, archive, "BTCUSDT", *days)
    assert [one.merged.inserted for one in reports.values()] == [288, 288]


def test_a_metrics_day_whose_checksum_never_fits_is_left_out_and_named(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame
) -> None:
    days = (WINDOW[0], pd.Timestamp("2023-05-13", tz="UTC"))
    rough = "\n".join([METRICS_HEADER, "2023-05-12 00:05:00,ETHUSDT,1,1,1,1,1,1"])
    with ArchiveServer(truth, metrics={"2023-05-12": rough}) as server, client(server, tmp_path) as archive:
        server.faults["metrics-2023-05-11.zip"] = ["corrupt"] * 9
        report = pull_metrics(lake, archive, "BTCUSDT", *days)["open_interest"]
    assert report.damaged == ("BTCUSDT-metrics-2023-05-11.zip", "BTCUSDT-metrics-2023-05-12.zip")
    assert report.merged.inserted == 288


@pytest.mark.parametrize("at_once", [True, False], ids=["in one pull", "in two"])
def test_two_files_that_differ_on_the_midnight_between_them_give_the_first_ones_value(
    lake: Lake, tmp_path: Path, truth: pd.DataFrame, at_once: bool
) -> None:
    days = (WINDOW[0], pd.Timestamp("2023-05-12", tz="UTC"))
    second = [METRICS_HEADER, "2023-05-11 00:00:01,BTCUSDT,9,9,9,9,9,9", *metrics_lines("2023-05-11")]
    with (
        ArchiveServer(truth, metrics={"2023-05-11": "\n".join(second)}) as server,
        client(server, tmp_path) as archive,
    ):
        if not at_once:
            pull_metrics(lake, archive, "BTCUSDT", WINDOW[0], pd.Timestamp("2023-05-11", tz="UTC"))
        report = pull_metrics(lake, archive, "BTCUSDT", *days)["long_short"]
    assert report.merged.conflicts.empty
    assert report.notes == ("1 midnight(s) in two files with other values, the first kept",)
    held = lake.read("long_short", start="2023-05-11", end="2023-05-11T00:01")
    assert held["long_short_ratio"].tolist() == [float(metrics_lines("2023-05-10")[-1].split(",")[6])]


# -- files that lie --------------------------------------------------------------------------------------

FILE = ArchiveFile("klines", "BTCUSDT", "2024-01-02", "15m")
BAR = "1704153600000,10.1,11,9,10.3,5.25,1704154499999,53.1,7,2,20.5,0"


def zipped(tmp_path: Path, *members: str) -> Path:
    path = tmp_path / FILE.name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, text in enumerate(members):
            archive.writestr(f"{number}.csv", text)
    return path


def test_every_kline_column_is_the_nearest_double(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    cells = [[f"{x:.8f}" for x in rng.uniform(1e-3, 1e9, 5)] for _ in range(96)]
    lines = [
        f"{1704153600000 + 900_000 * i},{a},{c},{a},{a},{b},0,{c},{i},{d},{e},0"
        for i, (a, c, b, d, e) in enumerate([[x, f"{float(x) + 1:.8f}", *rest] for x, _, *rest in cells])
    ]
    frame = klines_of(zipped(tmp_path, "\n".join([HEADER, *lines])), FILE)
    split = [line.split(",") for line in lines]
    for name, column in {"open": 1, "high": 2, "volume": 5, "quote_volume": 7, "taker_buy_volume": 9}.items():
        assert frame[name].tolist() == [float(row[column]) for row in split]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([BAR, BAR], "holds 2 files instead of one"),
        ([], "holds 0 files"),
        ([""], "has 1 columns instead of 12"),
        ([BAR.replace("10.3", "ten")], "cannot be read"),
        ([BAR + "\n" + BAR.replace("5.25", "5,25")], "do not have 12 columns"),
        ([BAR + "\n" + BAR.replace("10.3", "10.4")], "two different rows of 2024-01-02 00:00"),
        ([BAR.replace("1704153600000", "1704153660000")], "off the 15m grid: 2024-01-02 00:01:00"),
        ([BAR.replace("1704153600000", "1704240000000")], "holds a row of 2024-01-03 00:00:00"),
        ([BAR.replace("1704153600000", "17041536")], "no epoch time"),
        ([BAR.replace(",9,", ",,")], "empty or infinite price"),
        ([HEADER.replace("quote_volume", "quotes") + "\n" + BAR], "has other columns"),
    ],
)
def test_a_kline_file_that_lies_is_refused_whole(tmp_path: Path, members: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        klines_of(zipped(tmp_path, *members), FILE)


def test_a_zip_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path, "0" * (257 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="unpacks to 257 MB"):
        klines_of(path, FILE)


def test_bytes_that_are_no_zip_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path, BAR)
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    with pytest.raises(DataError, match="cannot be unpacked"):
        klines_of(path, FILE)


def test_a_bar_twice_is_one_bar_and_order_does_not_matter(tmp_path: Path) -> None:
    later = BAR.replace("1704153600000", "1704154500000")
    frame = klines_of(zipped(tmp_path, "\n".join([later, BAR, BAR])), FILE)
    assert frame["open_time"].is_monotonic_increasing
    assert len(frame) == 2
