"""`acmf data pull`: every series for itself, a table at the end, and an exit code that says how it went."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from archive_server import ArchiveServer
from fear_greed_server import FearGreedServer
from market_server import MarketServer

from acmf_cli.main import main
from acmf_core.collect.synthetic import synthetic_market
from acmf_core.execution.clock import ReplayClock
from acmf_core.lake import Lake

Run = Callable[..., tuple[int, str, str]]
NOW = pd.Timestamp("2023-06-20 10:07", tz="UTC")
NOW_US = int(NOW.timestamp()) * 1_000_000
PULL = ("--symbol", "BTC/USDT", "--from", "2023-05-10")
QUICK = ("--only", "candles", "--only", "funding")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`acmf data pull ...` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("ACMF__") or n == "LAKE_URI"]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("acmf_core.execution.clock.SystemClock", partial(ReplayClock, NOW_US))
    monkeypatch.setattr("acmf_core.collect.archive.client.BACKOFF_S", 0.001)
    monkeypatch.setattr("acmf_core.collect.pull.tail._BACKOFF_S", 0.001)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["data", "pull", *arguments])
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, captured.out, captured.err

    return command


@pytest.fixture(scope="module")
def market() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up bars and funding of 42 days."""
    made = synthetic_market(42 * 96, 3, start="2023-05-10")
    assert made.funding is not None
    return made.candles.reset_index(), made.funding


@pytest.fixture
def archive(
    market: tuple[pd.DataFrame, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ArchiveServer]:
    """An archive up to the day before yesterday: yesterday's files are late."""
    bars = market[0]
    published = bars[bars["open_time"] < pd.Timestamp("2023-06-19", tz="UTC")]
    with ArchiveServer(published, market[1], lacking={"2023-06"}) as server:
        monkeypatch.setenv("ACMF__SOURCES__ARCHIVE_BASE_URL", f'"{server.url}"')
        yield server


@pytest.fixture
def venue(
    market: tuple[pd.DataFrame, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MarketServer]:
    with MarketServer(market[0], funding=market[1], now=NOW_US) as server:
        monkeypatch.setenv("ACMF__EXCHANGE__BASE_URL", f'"{server.url}"')
        yield server


def series(out: str) -> dict[str, dict[str, object]]:
    return {one["series"]: one for one in json.loads(out)["series"]}


def test_a_pull_brings_every_bar_up_to_the_last_closed_one_and_again_nothing(
    run: Run, archive: ArchiveServer, venue: MarketServer, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    code, out, err = run(*PULL, *QUICK, "--json")
    assert code == 0, err
    assert json.loads(out)["ok"] is True
    brought = series(out)
    assert list(brought) == ["candles 15m", "candles 1h", "candles 4h", "candles 1d", "funding"]
    assert brought["candles 15m"]["last"] == "2023-06-20T09:45:00Z"
    assert brought["candles 1h"]["last"] == "2023-06-20T09:00:00Z"
    assert brought["candles 1d"]["last"] == "2023-06-19T00:00:00Z"
    assert brought["funding"]["last"] == "2023-06-20T08:00:00Z"
    assert {one["missing"] for one in brought.values()} == {0}
    lake = Lake("data_lake/store")
    held = lake.read("candles", interval="15m")
    want = market[0][market[0]["open_time"] < NOW.floor("15min")]  # the last closed one
    columns = ["open_time", "open", "high", "low", "close", "volume"]
    assert held[columns].equals(want[columns].reset_index(drop=True))

    before = lake.versions()
    archive.requests.clear()
    venue.hits.clear()
    code, out, _ = run(*PULL, *QUICK)
    assert code == 0
    assert out.count("nothing new") == 5
    assert lake.versions() == before
    assert archive.asked() == 0
    assert venue.hits.total() == 0
    assert not Path("state/archive").exists()


def test_the_table_says_what_came_and_from_where(
    run: Run, archive: ArchiveServer, venue: MarketServer
) -> None:
    code, out, _ = run(*PULL, "--only", "candles", "--interval", "15m")
    assert code == 0
    head, line = out.splitlines()[1:3]
    assert head.split() == ["series", "files", "new", "rows", "first", "last", "missing", "note"]
    assert line.split("  ")[1] == "candles 15m"
    assert "3,976" in line
    assert "2023-05-10 00:00  2023-06-20 09:45" in line
    assert line.endswith("136 from REST")


def test_whole_days_without_a_bar_at_the_beginning_are_counted(
    run: Run, archive: ArchiveServer, venue: MarketServer
) -> None:
    code, out, _ = run("--from", "2023-05-01", "--only", "candles", "--interval", "15m", "--json")
    assert (code, series(out)["candles 15m"]["missing"]) == (0, 0)
    assert series(out)["candles 15m"]["notes"] == ["136 from REST", "nothing in the first 9 day(s)"]


def test_without_a_tail_the_venue_is_left_alone(
    run: Run, archive: ArchiveServer, venue: MarketServer
) -> None:
    code, out, _ = run(*PULL, *QUICK, "--no-tail", "--json")
    assert code == 0
    assert series(out)["candles 15m"]["last"] == "2023-06-18T23:45:00Z"
    assert venue.hits.total() == 0


def test_a_venue_out_of_reach_is_said_once_and_the_archives_part_stays(
    run: Run, archive: ArchiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACMF__EXCHANGE__BASE_URL", '"http://127.0.0.1:9"')
    code, out, err = run(*PULL, *QUICK, "--json")
    assert code == 3
    assert err.count("acmf: ") == 1
    assert "candles 15m, candles 1h, candles 4h, candles 1d, funding: the tail from REST is left out" in err
    assert series(out)["candles 15m"]["inserted"] == 40 * 96
    assert json.loads(out)["ok"] is False


def test_one_series_that_fails_is_named_and_the_rest_goes_on(
    run: Run, archive: ArchiveServer, venue: MarketServer
) -> None:
    archive.faults["BTCUSDT-1h-2023-05.zip"] = ["500"] * 4
    code, out, err = run(*PULL, *QUICK)
    assert code == 3
    assert "acmf: candles 1h: the archive at" in err
    assert "failed 4 times for BTCUSDT-1h-2023-05.zip: HTTP 500" in err
    lines = {line[2:17].strip(): line for line in out.splitlines()[2:]}
    assert "FAILED" in lines["candles 1h"]
    assert not any("FAILED" in line for name, line in lines.items() if name != "candles 1h")
    assert run(*PULL, *QUICK)[0] == 0  # the same command goes on


def test_an_archive_that_refuses_is_asked_once(run: Run, archive: ArchiveServer, venue: MarketServer) -> None:
    archive.faults[".CHECKSUM"] = ["451"] * 50
    code, _, err = run(*PULL, *QUICK)
    assert code == 3
    assert "refuses this address or region (HTTP 451)" in err
    assert err.count("acmf: ") == 1
    assert archive.asked() <= 4  # the first series' connections, and no more


def test_an_unknown_symbol_is_wrong_usage(run: Run, archive: ArchiveServer, venue: MarketServer) -> None:
    code, _, err = run("--symbol", "BTCUSTD", "--from", "2023-05-10", "--to", "2023-06-10", *QUICK)
    assert code == 2
    assert "the archive at" in err
    assert "has no 15m klines of BTCUSTD from 2023-05-10 to 2023-06-10" in err


def test_a_window_without_a_moment_in_it_is_wrong_usage(run: Run) -> None:
    code, _, err = run("--from", "2023-05-10", "--to", "2023-05-10")
    assert code == 2
    assert "--from 2023-05-10 is not before 2023-05-10 00:00 UTC" in err


def test_damaged_days_come_from_the_venue(run: Run, archive: ArchiveServer, venue: MarketServer) -> None:
    archive.faults["15m-2023-06-03.zip"] = ["corrupt"] * 9
    code, out, err = run(*PULL, "--only", "candles", "--interval", "15m", "--json")
    assert code == 0, err
    only = series(out)["candles 15m"]
    assert (only["missing"], only["damaged"]) == (0, ["BTCUSDT-15m-2023-06-03.zip"])
    assert only["notes"] == ["232 from REST"]


def test_damaged_days_without_a_tail_are_a_failure(run: Run, archive: ArchiveServer) -> None:
    archive.faults["15m-2023-06-03.zip"] = ["corrupt"] * 9
    code, out, err = run(*PULL, "--only", "candles", "--interval", "15m", "--no-tail")
    assert code == 3
    assert "96 bar(s) of BTCUSDT are missing because 1 file(s) of the archive are damaged" in err
    assert "INCOMPLETE" in out


def test_a_bar_that_the_archive_tells_otherwise_than_the_venue_stays_out_until_accepted(
    run: Run, archive: ArchiveServer, venue: MarketServer, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    pull = ("--from", "2023-06-17", "--only", "candles", "--interval", "15m")
    told = market[0].copy()
    told.loc[39 * 96, "volume"] += 1.0  # the first bar of 2023-06-18
    archive.lacking.add("2023-06-18")
    venue.fault("/fapi/v1/klines", "hole:5")  # so that its day stays incomplete and comes again
    venue.serve(told[told["open_time"] < pd.Timestamp("2023-06-18 12:00", tz="UTC")])
    assert run(*pull, "--to", "2023-06-18 12:00")[0] == 0
    archive.lacking.discard("2023-06-18")

    code, out, err = run(*pull)
    assert code == 2
    assert "1 closed row(s) of candles came again with other values" in err
    assert "--accept-corrections takes the new values" in err
    assert "1 conflicting, kept out" in out
    code, out, _ = run(*pull, "--accept-corrections", "--json")
    assert (code, series(out)["candles 15m"]["corrected"]) == (0, 1)


def test_accepted_corrections_come_from_the_venue_for_days_that_the_archive_does_not_have_yet(
    run: Run, archive: ArchiveServer, venue: MarketServer, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    pull = ("--from", "2023-06-17", "--only", "candles", "--interval", "15m")
    told = market[0].copy()
    told.loc[[40 * 96 + 3, 41 * 96 + 3], "volume"] += 1.0  # yesterday and today
    venue.serve(told)
    assert run(*pull)[0] == 0
    venue.serve(market[0])
    venue.hits.clear()
    code, out, _ = run(*pull, "--json")
    assert (code, series(out)["candles 15m"]["corrected"], venue.hits.total()) == (0, 0, 0)
    code, out, _ = run(*pull, "--accept-corrections", "--json")
    assert (code, series(out)["candles 15m"]["corrected"]) == (0, 2)
    held = Lake("data_lake/store").read("candles")
    assert held["volume"].tolist() == market[0]["volume"].iloc[38 * 96 : 41 * 96 + 40].tolist()


def test_sentiment_comes_for_the_window_and_macro_that_fails_stops_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = {int(day.timestamp()): 40 for day in pd.date_range("2023-05-01", "2023-06-20", tz="UTC")}
    monkeypatch.setenv("ACMF__SOURCES__MACRO__BASE_URL", '"http://127.0.0.1:9"')
    monkeypatch.setenv("ACMF__SOURCES__MACRO__ATTEMPTS", "1")
    with FearGreedServer(values=days) as server:
        monkeypatch.setenv("ACMF__SOURCES__FEAR_GREED__BASE_URL", f'"{server.url}"')
        code, out, err = run(*PULL, "--only", "macro", "--only", "fear_greed", "--json")
    assert code == 3
    brought = series(out)
    assert (brought["fear_greed"]["inserted"], brought["fear_greed"]["error"]) == (42, None)
    assert brought["fear_greed"]["first"] == "2023-05-10T00:00:00Z"
    assert brought["macro"]["first"] is None
    assert "acmf: macro: " in err
