"""The macro closes through yfinance, from a service on loopback that speaks Yahoo's format."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from time import perf_counter
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from answer_server import Reply
from fakes import FakeClock
from yahoo_server import ZONES, Chart, YahooServer

from acmf_core.collect.macro import SERIES, MacroSource, known_at, macro_history
from acmf_core.config import SourceConfig
from acmf_core.errors import VenueUnavailable
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import TABLES
from acmf_core.ports import Source

ROOT = Path(__file__).resolve().parents[2]
NEW_YORK = ZoneInfo("America/New_York")
LEVELS = {"^VIX": 14.0, "DX-Y.NYB": 103.0, "^GSPC": 4_900.0, "GC=F": 2_050.0}
WEEK = [date(2024, 3, 4 + i) for i in range(5)]  # Monday to Friday; clocks change on Sunday the 10th
NEXT_WEEK = [date(2024, 3, 11 + i) for i in range(5)]


def charts(days: list[date], without: Mapping[str, set[date]] | None = None) -> dict[str, Chart]:
    """Closes that rise by one a day; `without` are days that a ticker has no row for."""
    gone = without or {}
    return {
        ticker: Chart({d: level + i for i, d in enumerate(days) if d not in gone.get(ticker, set())})
        for ticker, level in LEVELS.items()
    }


def config(server: YahooServer, **more: object) -> SourceConfig:
    return SourceConfig(base_url=server.url, timeout_s=8.0, attempts=2).model_copy(update=more)


def at(day: date, hour: int, minute: int = 0) -> FakeClock:
    """A clock that stands at a time in New York."""
    moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK)
    return FakeClock(int(moment.timestamp()) * 1_000_000)


def stamp(clock: FakeClock) -> pd.Timestamp:
    return pd.Timestamp(clock.now(), unit="us", tz="UTC")


async def collect(server: YahooServer, clock: FakeClock) -> pd.DataFrame:
    return await MacroSource(config(server), clock).collect(0)


async def test_a_day_is_known_from_six_in_new_york_and_no_earlier() -> None:
    with YahooServer(charts=charts(WEEK)) as server:
        before = await collect(server, at(WEEK[-1], 17, 59))
        after = await collect(server, at(WEEK[-1], 18))
    assert before["event_time"].dt.date.tolist() == WEEK[:-1]
    assert after["event_time"].dt.date.tolist() == WEEK
    assert after["available_at"].iloc[-1] == pd.Timestamp("2024-03-08 23:00", tz="UTC")
    assert after.iloc[-1][["vix", "dxy", "sp500", "gold"]].tolist() == [18.0, 107.0, 4_904.0, 2_054.0]
    conform(TABLES["macro"], after)


async def test_a_new_day_is_known_from_its_receipt_and_older_ones_since_they_closed() -> None:
    clock = at(WEEK[-1], 17)
    with YahooServer(charts=charts(WEEK)) as server:
        source = MacroSource(config(server), clock)
        assert isinstance(source, Source)
        await source.collect(0)
        clock.time = at(WEEK[-1], 20, 5).time
        rows = await source.collect(0)
        clock.time = at(WEEK[-1], 21).time
        pd.testing.assert_frame_equal(await source.collect(0), rows)
    assert rows["available_at"].iloc[-1] == stamp(at(WEEK[-1], 20, 5))
    assert rows["available_at"].iloc[-2] == stamp(at(WEEK[-2], 18))


async def test_after_an_outage_days_are_known_since_they_came_and_not_since_they_closed() -> None:
    clock = at(WEEK[0], 19)
    with YahooServer(charts=charts(WEEK), always=Reply(b"", 503)) as server:
        source = MacroSource(config(server), clock)
        with pytest.raises(VenueUnavailable):
            await source.collect(0)
        clock.time, server.always = at(WEEK[2], 20).time, None
        rows = await source.collect(0)
    known = {day.date(): moment for day, moment in zip(rows["event_time"], rows["available_at"], strict=True)}
    assert known[WEEK[0]] == stamp(at(WEEK[0], 18))  # before the daemon began
    assert known[WEEK[1]] == known[WEEK[2]] == stamp(at(WEEK[2], 20))


async def test_a_day_that_changes_is_known_since_it_changed() -> None:
    clock = at(WEEK[-1], 19)
    served = charts(WEEK, {"GC=F": {WEEK[2]}})
    with YahooServer(charts=served) as server:
        source = MacroSource(config(server), clock)
        before = await source.collect(0)
        served["GC=F"].closes = charts(WEEK)["GC=F"].closes
        clock.time = at(WEEK[-1], 23).time
        after = await source.collect(0)
    assert before["gold"].isna().tolist() == [False, False, True, False, False]
    assert after["gold"].notna().all()
    assert after["available_at"].iloc[2] == stamp(at(WEEK[-1], 23))
    assert after["available_at"].drop(2).tolist() == before["available_at"].drop(2).tolist()


async def test_dates_are_new_yorks_on_both_sides_of_the_change_of_clocks() -> None:
    with YahooServer(charts=charts(WEEK + NEXT_WEEK)) as server:
        rows = macro_history(config(server), 0, at(NEXT_WEEK[-1], 23).now(), at(NEXT_WEEK[-1], 23).now())
    assert rows["event_time"].dt.date.tolist() == WEEK + NEXT_WEEK
    assert set(rows["available_at"].iloc[:5].dt.hour) == {23}
    assert set(rows["available_at"].iloc[5:].dt.hour) == {22}


async def test_a_day_that_one_market_was_closed_on_counts_a_day_later_with_a_hole() -> None:
    holiday = WEEK[3]
    with YahooServer(charts=charts(WEEK, {"^GSPC": {holiday}, "^VIX": {holiday}})) as server:
        evening = await collect(server, at(holiday, 19))
        rows = await collect(server, at(WEEK[4], 19))
    assert holiday not in evening["event_time"].dt.date.tolist()
    row = rows[rows["event_time"].dt.date == holiday].iloc[0]
    assert row[["vix", "sp500"]].isna().all()
    assert row[["dxy", "gold"]].tolist() == [106.0, 2_053.0]
    assert row["available_at"] >= stamp(at(WEEK[4], 18))


async def test_nan_is_a_hole_and_a_day_of_holes_is_no_row() -> None:
    served = charts(WEEK)
    served["^VIX"] = Chart(dict(served["^VIX"].closes) | {WEEK[1]: None})
    for chart in served.values():
        chart.closes = dict(chart.closes) | {WEEK[2]: None}
    with YahooServer(charts=served) as server:
        rows = await collect(server, at(NEXT_WEEK[0], 9))
    assert rows["event_time"].dt.date.tolist() == [WEEK[0], WEEK[1], WEEK[3], WEEK[4]]
    assert rows["vix"].isna().tolist() == [False, True, False, False]


async def test_sunday_evenings_session_is_no_trading_day() -> None:
    sunday = date(2024, 3, 10)
    days = [*WEEK, NEXT_WEEK[0]]
    served = charts(days)
    served["GC=F"] = Chart(dict(served["GC=F"].closes) | {sunday: 2_060.0})
    with YahooServer(charts=served) as server:
        rows = await collect(server, at(NEXT_WEEK[1], 9))
    assert rows["event_time"].dt.date.tolist() == days


async def test_the_running_price_of_the_next_session_is_not_taken_for_a_close() -> None:
    """Futures go on at 18:00; a last row that moves with their price has to wait until its day is past."""
    evening = at(WEEK[-2], 20)
    served = charts(WEEK[:-1])
    served["GC=F"].traded_at, served["GC=F"].price = evening.now() // 1_000_000 - 5, 2_099.7
    served["GC=F"].live_stamp = served["GC=F"].traded_at
    with YahooServer(charts=served) as server:
        source = MacroSource(config(server), evening)
        rows = await source.collect(0)
        assert rows["event_time"].dt.date.tolist() == WEEK[:-2]
        served["GC=F"].live_stamp = None
        served["GC=F"].closes = charts(WEEK)["GC=F"].closes
        evening.time = at(WEEK[-1], 0, 15).time
        rows = await source.collect(0)
    assert rows["gold"].iloc[-1] == 2_053.0
    assert rows["available_at"].iloc[-1] == stamp(at(WEEK[-1], 0, 15))


async def test_one_ticker_without_an_answer_fails_the_whole() -> None:
    served = charts(WEEK)
    del served["DX-Y.NYB"]
    with YahooServer(charts=served) as server, pytest.raises(VenueUnavailable, match=r"DX-Y\.NYB"):
        await collect(server, at(WEEK[-1], 19))


@pytest.mark.parametrize("absurd", [-1.0, 0.01, 1e12])
async def test_an_absurd_close_is_refused(absurd: float) -> None:
    served = charts(WEEK)
    served["^VIX"].closes = dict(served["^VIX"].closes) | {WEEK[1]: absurd}
    with (
        YahooServer(charts=served) as server,
        pytest.raises(VenueUnavailable, match=r"\^VIX .* outside 1 to"),
    ):
        await collect(server, at(WEEK[-1], 19))


def test_the_recorded_closes_come_back_exactly(real_data: Path) -> None:
    recorded = pd.read_parquet(real_data / "macro_daily_2014_2024.parquet")
    recorded = recorded[recorded["ticker"].isin(ZONES)]
    served = {
        ticker: Chart({t.date(): close for t, close in zip(of["open_time"], of["close"], strict=True)})
        for ticker, of in recorded.groupby("ticker")
    }
    now = at(date(2025, 1, 5), 12).now()
    with YahooServer(charts=served) as server:
        rows = macro_history(config(server), 0, now, now)
    columns = {ticker: column for column, (ticker, _, _) in SERIES.items()}
    wide = recorded.assign(column=recorded["ticker"].map(columns))
    wide = wide.pivot(index="open_time", columns="column", values="close")
    assert (rows["event_time"].to_numpy() == wide.index.as_unit("us").to_numpy()).all()
    for column in columns.values():
        pd.testing.assert_series_equal(
            rows[column], wide[column].reset_index(drop=True), check_exact=True, check_names=False
        )
    closed = [known_at(day) for day in rows["event_time"].dt.date]
    late = pd.DatetimeIndex(rows["available_at"]).asi8 - closed
    whole = rows[list(columns.values())].notna().all(axis=1)
    assert (late[whole] == 0).all()
    assert (late[~whole] == 86_400_000_000).all()


def test_history_is_cut_to_the_days_asked_for() -> None:
    start, end = pd.Timestamp("2024-03-05", tz="UTC"), pd.Timestamp("2024-03-07", tz="UTC")
    with YahooServer(charts=charts(WEEK)) as server:
        now = at(NEXT_WEEK[0], 9).now()
        rows = macro_history(config(server), start.value // 1_000, end.value // 1_000, now)
    assert rows["event_time"].dt.date.tolist() == WEEK[1:3]


def test_history_asks_again_and_does_not_remember_an_error() -> None:
    """yfinance keeps answers about the past for good, a server's error among them."""
    from yfinance.data import YfData

    YfData.cache_get.cache_clear()  # of what other tests were answered
    with YahooServer(charts=charts(WEEK), faults=[Reply(b"<html>a page</html>")]) as server:
        server.fault_on = lambda path: "chart" in path
        now = at(NEXT_WEEK[0], 9).now()
        assert len(macro_history(config(server), 0, now, now)) == 5


async def test_every_request_goes_to_the_base_url() -> None:
    with YahooServer(charts=charts(WEEK), crumb="Too Many Requests") as server:
        await collect(server, at(WEEK[-1], 19))
        hosts = {headers["Host"] for headers in server.headers}
        asked = {path.split("?")[0] for path in server.requests}
    assert hosts == {server.url.removeprefix("http://")}
    assert "/" in asked  # meant for fc.yahoo.com
    assert {f"/v8/finance/chart/{t.replace('^', '%5E')}" for t in LEVELS} < asked


PROGRAM = """
import asyncio, sys
from acmf_core.collect.macro import MacroSource
from acmf_core.config import SourceConfig
from fakes import FakeClock
source = MacroSource(SourceConfig(base_url=sys.argv[1], timeout_s=20), FakeClock(int(sys.argv[2])))
rows = asyncio.run(source.collect(0))
asyncio.run(source.collect(0))
print(len(rows))
"""


def test_a_process_that_asks_writes_no_file_and_says_nothing(tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    paths = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "tests"))
    with YahooServer(charts=charts(WEEK)) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, server.url, str(at(WEEK[-1], 19).now())],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": paths} | places,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("5\n", "")
    assert list(tmp_path.rglob("*")) == []


async def test_an_error_is_told_in_yahoos_words_and_yfinance_left_as_it_was_found() -> None:
    import yfinance

    logger = logging.getLogger("yfinance")
    yfinance.config.debug.hide_exceptions = True
    before = logger.level
    refused = {"chart": {"result": None, "error": {"code": "Bad Request", "description": "we are closed"}}}
    with YahooServer(charts=charts(WEEK)) as server:
        source = MacroSource(config(server), at(WEEK[-1], 19))
        await source.collect(0)  # the zones are known from now on
        server.always = Reply(json.dumps(refused).encode())
        with pytest.raises(VenueUnavailable, match=r"Yahoo Finance, \^VIX: .*we are closed"):
            await source.collect(0)
    assert yfinance.config.debug.hide_exceptions is True
    assert logger.level == before


def test_a_server_that_hangs_keeps_neither_the_answer_nor_the_shutdown_waiting() -> None:
    with YahooServer(charts=charts(WEEK), always=Reply(b"{}", stall_s=30.0)) as server:
        source = MacroSource(config(server, timeout_s=0.5), at(WEEK[-1], 19))
        began = perf_counter()
        with pytest.raises(VenueUnavailable, match=r"within 0\.5 s"):
            asyncio.run(source.collect(0))  # joins the thread before it returns
        assert perf_counter() - began < 10.0


def test_a_cancelled_collection_stops_its_thread() -> None:
    async def cancelled(source: MacroSource) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.collect(0), 0.3)

    with YahooServer(charts=charts(WEEK), always=Reply(b"", 404, stall_s=0.4)) as server:
        source = MacroSource(config(server, timeout_s=20.0), at(WEEK[-1], 19))
        began = perf_counter()
        asyncio.run(cancelled(source))
        asked = len(server.requests)
        assert perf_counter() - began < 3.0
        assert asked <= 2
