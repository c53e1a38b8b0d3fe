"""When the rows of the web sources were known: never too early, and nothing later reaches a feature."""

from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from fakes import FakeClock
from fear_greed_server import FearGreedServer
from recorded_market import recorded_candles
from yahoo_server import ZONES, Chart, YahooServer

from acmf_core.collect.macro import SERIES, MacroSource, macro_history
from acmf_core.collect.sentiment import FearGreedSource, fear_greed_history
from acmf_core.config import SourceConfig
from acmf_core.features import MarketData, build_features

NEW_YORK = ZoneInfo("America/New_York")
NOW = int(pd.Timestamp("2025-01-02 12:00", tz="UTC").value) // 1_000
START, END = "2024-02-01", "2024-04-15"  # clocks change on 10 March
FEATURES = ["fear_greed", "vix", "dxy_return_1d", "risk_appetite"]
VALUES = {"fear_greed": ["value"], "macro": list(SERIES)}


@pytest.fixture(scope="module")
def charts(real_data: Path) -> dict[str, dict[date, float]]:
    """Recorded closes by ticker and day."""
    recorded = pd.read_parquet(real_data / "macro_daily_2014_2024.parquet")
    return {
        ticker: {t.date(): close for t, close in zip(of["open_time"], of["close"], strict=True)}
        for ticker, of in recorded.groupby("ticker")
        if ticker in ZONES
    }


@pytest.fixture(scope="module")
def index(real_data: Path) -> dict[int, int]:
    """The recorded Fear & Greed index by the second its day began."""
    recorded = pd.read_parquet(real_data / "fear_greed_daily_2018_2024.parquet")
    return dict(zip(recorded["open_time"].astype("int64") // 1_000, recorded["fng"].astype(int), strict=True))


@pytest.fixture(scope="module")
def rows(charts: dict[str, dict[date, float]], index: dict[int, int]) -> dict[str, pd.DataFrame]:
    """What the two histories make of them."""
    with FearGreedServer(values=index) as fear, YahooServer(charts=as_charts(charts)) as yahoo:
        return {
            "fear_greed": fear_greed_history(SourceConfig(base_url=fear.url)),
            "macro": macro_history(SourceConfig(base_url=yahoo.url, timeout_s=20), 0, NOW, NOW),
        }


@pytest.fixture(scope="module")
def candles(real_data: Path) -> pd.DataFrame:
    return recorded_candles(real_data).loc[START:END]


def as_charts(closes: dict[str, dict[date, float]]) -> dict[str, Chart]:
    return {ticker: Chart(of) for ticker, of in closes.items()}


def features(candles: pd.DataFrame, rows: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return build_features(MarketData(candles, **rows)).tabular[FEATURES]


def closes_of(built: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(built.index) + pd.Timedelta(minutes=15)


def test_no_day_is_known_before_new_york_has_closed_and_the_index_was_published(
    rows: dict[str, pd.DataFrame],
) -> None:
    macro, fear = rows["macro"], rows["fear_greed"]
    closed = [pd.Timestamp(datetime.combine(day, time(17), NEW_YORK)) for day in macro["event_time"].dt.date]
    assert len(macro) > 2_700
    assert (macro["available_at"] > pd.Series(closed).dt.tz_convert("UTC")).all()
    assert set(macro["available_at"].dt.hour) == {22, 23}
    assert (fear["available_at"] >= fear["event_time"] + pd.Timedelta(hours=1)).all()


def test_what_is_published_later_changes_no_feature_before_it(
    candles: pd.DataFrame, rows: dict[str, pd.DataFrame]
) -> None:
    built = features(candles, rows)
    assert built.iloc[2_000:].notna().mean().min() > 0.9
    rng = np.random.default_rng(3)
    for position in rng.integers(1_000, len(built) - 500, 4):
        moment = closes_of(built)[position]
        spoiled = {name: spoil(name, frame, moment, rng) for name, frame in rows.items()}
        other = features(candles, spoiled)
        a, b = built.to_numpy(), other.to_numpy()
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        assert same[: position + 1].all()
        assert not same[position + 1 :].all(axis=0).any()  # all four do listen


def spoil(name: str, frame: pd.DataFrame, moment: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    """Every value that became known after `moment` is another one."""
    changed, later = frame.copy(), frame["available_at"] > moment
    for column in VALUES[name]:
        changed.loc[later, column] *= rng.uniform(1.5, 3.0, int(later.sum()))
    return changed


async def test_a_daemon_never_takes_a_running_price_for_a_close(
    charts: dict[str, dict[date, float]],
) -> None:
    """Two weeks, asked five times a day, of a Yahoo that shows the running day and the next session."""
    days = [date(2024, 3, 4) + timedelta(days=i) for i in range(13)]
    hours = (time(0, 40), time(9, 40), time(17, 40), time(18, 40), time(22, 40))
    moments = [datetime.combine(day, hour, NEW_YORK) for day in days for hour in hours]
    closes = {ticker: {d: c for d, c in of.items() if d > date(2024, 2, 15)} for ticker, of in charts.items()}
    clock, first = FakeClock(), {}
    with YahooServer() as server:
        source = MacroSource(SourceConfig(base_url=server.url, timeout_s=20), clock)
        for moment in moments:
            clock.time = int(moment.timestamp()) * 1_000_000
            server.charts = {ticker: running(of, moment, ticker) for ticker, of in closes.items()}
            for row in (await source.collect(0)).to_dict("records"):
                first.setdefault(row["event_time"].date(), row | {"asked": moment})
    assert len(first) > 12
    for day, row in first.items():
        taken = {column: row[column] for column in SERIES}
        final = {column: charts[ticker].get(day, np.nan) for column, (ticker, _, _) in SERIES.items()}
        assert taken == pytest.approx(final, nan_ok=True, abs=0), day
        assert row["available_at"] <= row["asked"]
        assert row["available_at"] >= datetime.combine(day, time(18), NEW_YORK)


def running(closes: dict[date, float], moment: datetime, ticker: str) -> Chart:
    """What Yahoo shows at a time in New York: the running day at a price that is not its close.

    Indices stop at 16:15; futures and the dollar index go on from 18:00, still under the old date.
    """
    today = moment.date()
    shown: dict[date, float | None] = {day: close for day, close in closes.items() if day < today}
    chart = Chart(shown, int(moment.timestamp()) - 20)
    if today not in closes:
        return chart
    ended = moment.time() >= time(17)
    on = moment.time() >= time(18) and ticker in {"GC=F", "DX-Y.NYB"}
    chart.price = closes[today] * (1.0 if ended and not on else 1.01)
    shown[today] = float(np.float32(chart.price))  # rows are of single precision, the price is not
    if ended and not on:
        chart.traded_at = int(datetime.combine(today, time(16, 30), NEW_YORK).timestamp())
    return chart


async def test_a_daemon_knows_a_days_index_no_earlier_than_it_was_told(index: dict[int, int]) -> None:
    begin = int(pd.Timestamp("2024-03-01", tz="UTC").value) // 10**9
    clock, first = FakeClock(), dict[Any, Any]()
    with FearGreedServer() as server:
        source = FearGreedSource(SourceConfig(base_url=server.url), clock)
        for second in range(begin, begin + 14 * 86_400, 4 * 3_600):
            clock.time = second * 1_000_000
            server.values = {day: value for day, value in index.items() if day + 1_800 <= second}
            for row in (await source.collect(0)).to_dict("records"):
                first.setdefault(row["event_time"], row | {"asked": pd.Timestamp(second, unit="s", tz="UTC")})
    for moment, row in first.items():
        assert row["value"] == index[int(moment.timestamp())]
        if moment.timestamp() >= begin:
            assert row["available_at"] == row["asked"] == moment + pd.Timedelta(hours=4)
