"""What the archive does not have comes from the venue: the tail, holes in between, thirty days of ratios."""

from pathlib import Path

import pandas as pd
import pytest
from archive_server import ArchiveServer
from market_server import MarketServer

from acmf_core.collect.archive.client import Archive
from acmf_core.collect.archive.metrics import pull_metrics
from acmf_core.collect.files.intake import bridge_lake
from acmf_core.collect.pull import tail as tail_module
from acmf_core.collect.pull.series import first_overdue, pull_candles, pull_funding
from acmf_core.collect.pull.tail import VenueTail, asked_together, missing_bars
from acmf_core.collect.synthetic import synthetic_market
from acmf_core.config import ExchangeConfig
from acmf_core.errors import ConfigError, VenueUnavailable
from acmf_core.lake import Lake
from acmf_core.lake.tables import candle_rows, funding_rows

START = pd.Timestamp("2023-05-10", tz="UTC")
NOW = pd.Timestamp("2023-06-20 10:07", tz="UTC")
NOW_US = int(NOW.timestamp()) * 1_000_000
STEP = pd.Timedelta(minutes=15)
KLINES = "/fapi/v1/klines"


@pytest.fixture(scope="module")
def market() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up bars and funding of 42 days."""
    made = synthetic_market(42 * 96, 3, start="2023-05-10")
    assert made.funding is not None
    return made.candles.reset_index(), made.funding


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def tail(lake: Lake, venue: MarketServer, symbol: str = "BTCUSDT", backoff_s: float = 0.001) -> VenueTail:
    return VenueTail(lake, ExchangeConfig(base_url=venue.url), symbol, now=NOW_US, backoff_s=backoff_s)


def archived(lake: Lake, bars: pd.DataFrame, tmp_path: Path, until: str, without: set[str]) -> None:
    with (
        ArchiveServer(bars, month_without=without, lacking=without) as server,
        Archive(server.url, tmp_path / "cache") as archive,
    ):
        pull_candles(lake, archive, "BTCUSDT", START, pd.Timestamp(until, tz="UTC"))


def test_holes_of_the_archive_and_the_tail_come_in_few_requests_and_one_commit(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    archived(lake, market[0], tmp_path, "2023-06-18", {"2023-05-20", "2023-05-22", "2023-06-10"})
    with MarketServer(market[0], now=NOW_US) as venue:
        report = tail(lake, venue).candles("15m", START, NOW)
        starts = {asked["startTime"] for path, asked in venue.requests if path == KLINES}
    assert report.inserted == 3 * 96 + 2 * 96 + 40
    assert report.unchanged == 96 + 7 * 96  # bars between holes that one request covers
    assert len(starts) <= 4
    assert lake.versions() == {"candles": 2}
    held = lake.read("candles", symbol="BTCUSDT", interval="15m")
    assert held["open_time"].iloc[-1] == pd.Timestamp("2023-06-20 09:45", tz="UTC")  # 10:00 is not closed
    names = ["open_time", "open", "high", "low", "close", "volume"]
    assert held[names].equals(market[0].loc[: len(held) - 1, names])


def test_every_column_of_the_venue_is_the_archives_to_the_last_bit(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    end = pd.Timestamp("2023-05-20", tz="UTC")
    archived(lake, market[0], tmp_path, "2023-05-20", set())
    other = Lake(tmp_path / "other")
    with MarketServer(market[0], now=NOW_US) as venue:
        tail(other, venue).candles("15m", START, end)
    pd.testing.assert_frame_equal(other.read("candles"), lake.read("candles"), check_exact=True)


def test_a_bar_that_the_venue_tells_otherwise_stays_out_and_is_reported(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    archived(lake, market[0], tmp_path, "2023-06-18", {"2023-05-20", "2023-05-22"})
    told = market[0].copy()
    told.loc[11 * 96 + 5, "close"] += 0.1  # of 2023-05-21, between two holes
    told.loc[11 * 96 + 5, "high"] += 0.1
    with MarketServer(told, now=NOW_US) as venue:
        report = tail(lake, venue).candles("15m", START, NOW)
    assert report.conflicting_rows == 1
    assert lake.read("candles")["close"].tolist() == market[0]["close"].iloc[: 41 * 96 + 40].tolist()


@pytest.mark.parametrize("source", ["archive", "venue"])
def test_bars_that_were_bridged_are_asked_for_again_and_give_way_to_the_true_ones(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame], source: str
) -> None:
    bars, end = market[0].iloc[: 22 * 96], pd.Timestamp("2023-06-01", tz="UTC")
    lake.merge("candles", candle_rows(bars.drop(index=range(10 * 96 + 12, 10 * 96 + 20)), "BTCUSDT"))
    assert bridge_lake(lake, "BTCUSDT").inserted == 8
    if source == "archive":
        with ArchiveServer(bars) as server, Archive(server.url, tmp_path / "cache") as archive:
            pull_candles(lake, archive, "BTCUSDT", START, end)
    else:
        with MarketServer(bars, now=NOW_US) as venue:
            tail(lake, venue).candles("15m", START, end)
    held = lake.read("candles")
    assert not held["bridged"].any()
    assert held["volume"].tolist() == bars["volume"].tolist()


@pytest.mark.parametrize("fault", ["500", "cut", "html", "truncated", "429:1"])
def test_a_passing_fault_of_the_venue_is_asked_again(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame], fault: str
) -> None:
    archived(lake, market[0], tmp_path, "2023-06-19", set())
    with MarketServer(market[0], now=NOW_US) as venue:
        venue.fault(KLINES, fault)
        patient = tail(lake, venue, backoff_s=0.6 if fault == "429:1" else 0.001)
        assert patient.candles("15m", START, NOW).inserted == 96 + 40


def test_a_venue_that_keeps_failing_writes_nothing(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    archived(lake, market[0], tmp_path, "2023-06-19", set())
    before = lake.versions()
    with MarketServer(market[0], now=NOW_US) as venue:
        venue.fault(KLINES, *["503"] * 4)
        with pytest.raises(VenueUnavailable):
            tail(lake, venue).candles("15m", START, NOW)
        assert venue.hits[KLINES] == 4
        with pytest.raises(ConfigError):
            tail(lake, venue, "BTCUSTD").candles("15m", START, NOW)
    assert lake.versions() == before


def test_funding_goes_on_after_the_last_stored_payment(
    lake: Lake, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with MarketServer(market[0], funding=market[1], now=NOW_US) as venue:
        first = tail(lake, venue).funding(START, pd.Timestamp("2023-06-01", tz="UTC"))
        second = tail(lake, venue).funding(START, NOW)
        venue.hits.clear()
        assert not tail(lake, venue).funding(START, NOW).changed
        assert venue.hits.total() == 0
    assert (first.inserted, second.inserted) == (22 * 3, 19 * 3 + 2)
    assert lake.read("funding")["event_time"].iloc[-1] == pd.Timestamp("2023-06-20 08:00", tz="UTC")


def paid_until(end: str) -> pd.DataFrame:
    """Payments every 8 hours in May, every 4 in June; each with the hours since the one before."""
    may = pd.date_range("2023-05-10", "2023-06-01", freq="8h", inclusive="left", tz="UTC")
    june = pd.date_range("2023-06-01", end, freq="4h", tz="UTC")
    times = may.append(june).as_unit("us")
    hours = [8] * (len(may) + 1) + [4] * (len(june) - 1)
    return pd.DataFrame({"event_time": times, "funding_rate": 1e-4, "interval_hours": hours})


@pytest.mark.parametrize("hours", ["unknown", "as REST spaces them"])
def test_a_month_from_the_venue_gets_its_missed_payment_and_its_interval_once_the_archive_has_it(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame], hours: str
) -> None:
    paid = paid_until("2023-06-30 20:00")
    missed = pd.Timestamp("2023-06-10 04:00", tz="UTC")
    told = paid[paid["event_time"] != missed].reset_index(drop=True)
    spaced = (told["event_time"].diff() / pd.Timedelta(hours=1)).astype("Float64").astype("Int64")
    told["interval_hours"] = pd.array([None] * len(told), dtype="Int64") if hours == "unknown" else spaced
    june = told["event_time"] >= pd.Timestamp("2023-06-01", tz="UTC")
    told.loc[told["event_time"] == missed + pd.Timedelta(hours=4), "interval_hours"] = None
    lake.merge("funding", funding_rows(told[june], "BTCUSDT"))
    end = pd.Timestamp("2023-07-01", tz="UTC")
    with ArchiveServer(market[0], paid) as server, Archive(server.url, tmp_path / "cache") as archive:
        pull_funding(lake, archive, "BTCUSDT", START, end)
        held = lake.read("funding")
        assert held["event_time"].tolist() == paid["event_time"].tolist()
        assert held["interval_hours"].tolist() == paid["interval_hours"].tolist()
        server.requests.clear()
        pull_funding(lake, archive, "BTCUSDT", START, end)
        assert server.asked() == 0  # an interval that changed is no hole


def test_a_payment_missed_among_intervals_that_the_spacing_gave_is_seen() -> None:
    paid = paid_until("2023-06-20 00:00")
    holed = paid.drop(index=[100]).reset_index(drop=True)
    holed.loc[100, "interval_hours"] = 8  # as the spacing says
    end = pd.Timestamp("2023-06-20 04:00", tz="UTC")
    assert first_overdue(paid, end) is None
    assert first_overdue(holed, end) == paid["event_time"].iloc[99]
    assert first_overdue(holed.iloc[:101], end) == paid["event_time"].iloc[99]
    assert first_overdue(paid.iloc[:1], START + pd.Timedelta(hours=8)) is None
    assert first_overdue(paid.iloc[:1], START + pd.Timedelta(hours=9)) == START
    unsaid = paid.assign(interval_hours=None).iloc[70:]
    assert first_overdue(unsaid, end + pd.Timedelta(hours=1)) == pd.Timestamp("2023-06-20", tz="UTC")


def test_payments_every_four_hours_come_up_to_the_newest(
    lake: Lake, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    paid = paid_until("2023-06-20 08:00")
    lake.merge("funding", funding_rows(paid.iloc[:-1], "BTCUSDT"))
    with MarketServer(market[0], funding=paid[["event_time", "funding_rate"]], now=NOW_US) as venue:
        assert tail(lake, venue).funding(START, NOW).inserted == 1
        venue.hits.clear()
        assert not tail(lake, venue).funding(START, NOW).changed
        assert venue.hits.total() == 0


def test_ratios_go_on_where_the_archives_metrics_end_and_are_known_five_minutes_later(
    lake: Lake, tmp_path: Path, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    yesterday = pd.Timestamp("2023-06-19", tz="UTC")
    with ArchiveServer(market[0]) as server, Archive(server.url, tmp_path / "cache") as archive:
        pull_metrics(lake, archive, "BTCUSDT", yesterday - pd.Timedelta(days=1), yesterday)
    with MarketServer(market[0], now=NOW_US) as venue:
        report = tail(lake, venue).ratio("long_short", START, NOW)
        assert report.inserted == 96 + 40 + 1  # from 2023-06-19 00:00 to 2023-06-20 10:00
        asked = venue.hits.total()
        assert not tail(lake, venue).ratio("long_short", START, NOW).changed
        assert venue.hits.total() == asked
    held = lake.read("long_short", symbol="BTCUSDT", interval="15m")
    assert held["event_time"].iloc[-1] == pd.Timestamp("2023-06-20 10:00", tz="UTC")
    assert (held["available_at"] - held["event_time"]).unique().tolist() == [pd.Timedelta(minutes=5)]


def test_ratios_go_back_thirty_days_and_no_more(
    lake: Lake, market: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    with MarketServer(market[0], now=NOW_US) as venue:
        report = tail(lake, venue).ratio("open_interest", START, NOW)
        first = min(int(asked["startTime"]) for _, asked in venue.requests)
    assert NOW - pd.Timestamp(first, unit="ms", tz="UTC") < pd.Timedelta(days=30)
    assert 29 * 96 < report.inserted <= 30 * 96


def test_missing_bars_are_found_within_and_between_chunks(
    lake: Lake, market: tuple[pd.DataFrame, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = market[0].iloc[96:2_400].drop(index=[500, 501, 2_112, 2_113])  # the last two around June's begin
    lake.merge("candles", candle_rows(bars, "BTCUSDT"))
    found = missing_bars(lake, "BTCUSDT", "15m", START, START + 2_500 * STEP)
    places = [((a - START) // STEP, (b - START) // STEP) for a, b in found]
    assert places == [(500, 502), (2_112, 2_114), (2_400, 2_500)]
    assert missing_bars(lake, "ETHUSDT", "15m", START, START + 3 * STEP) == [(START, START + 3 * STEP)]
    monkeypatch.setattr(tail_module, "_ONE_REQUEST", 400)
    assert asked_together(found, STEP) == [found[0], (found[1][0], found[2][1])]
