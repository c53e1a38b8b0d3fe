"""The as-of join in SQL against the compiled kernel of the features, on recorded series."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acmf_core.errors import DataError
from acmf_core.features import MarketData, asof
from acmf_core.lake import Lake, SlowColumn
from acmf_core.lake.tables import candle_rows, funding_rows

HOUR = pd.Timedelta(hours=1)
JOINED = (
    SlowColumn("funding", "funding_rate", 9 * HOUR),
    SlowColumn("funding", "funding_rate", 8 * HOUR - pd.Timedelta(1, "us")),  # forgotten before the next one
    SlowColumn("fear_greed", "value", 36 * HOUR),
    SlowColumn("macro", "vix", 96 * HOUR),
    SlowColumn("macro", "gold", 24 * HOUR),
)


def kernel(frame: pd.DataFrame, column: str, closes: np.ndarray, max_age: pd.Timedelta) -> np.ndarray:
    """What the features join, before any formula: rows without the value do not exist."""
    rows = frame[np.isfinite(frame[column].to_numpy(float))]
    stamps = pd.DatetimeIndex(rows["available_at"]).as_unit("us").asi8
    known = asof.last_known(stamps, closes, int(max_age / pd.Timedelta(1, "us")))
    out = np.empty(len(closes))
    asof.take(np.ascontiguousarray(rows[column].to_numpy(float)), known, out)
    return out


def recorded_rows(folder: Path) -> dict[str, pd.DataFrame]:
    """The recorded files as rows of the lake's tables, known when data.md says."""
    bars = pd.read_parquet(folder / "BTCUSDT_perp_15m_2023_2024.parquet")
    funding = pd.read_parquet(folder / "BTCUSDT_perp_funding_8h_2023_2024.parquet")
    moods = pd.read_parquet(folder / "fear_greed_daily_2018_2024.parquet")
    days = pd.read_parquet(folder / "macro_daily_2014_2024.parquet")
    days = days.pivot_table(index="open_time", columns="series", values="close").reset_index()
    days = days.rename(columns={"open_time": "event_time"})[["event_time", "vix", "dxy", "sp500", "gold"]]
    local = days["event_time"].dt.tz_localize(None).dt.tz_localize("America/New_York")
    return {
        "candles": candle_rows(bars, "BTCUSDT"),
        "funding": funding_rows(funding.rename(columns={"funding_time": "event_time"}), "BTCUSDT"),
        "fear_greed": pd.DataFrame(
            {
                "event_time": moods["open_time"],
                "available_at": moods["open_time"] + HOUR,
                "value": moods["fng"].astype(float),
            }
        ),
        "macro": days.assign(available_at=(local + 18 * HOUR).dt.tz_convert("UTC")),
    }


@pytest.fixture(scope="module")
def lake(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for name, rows in recorded_rows(real_data).items():
        lake.merge(name, rows)
    return lake


def test_sql_joins_recorded_series_exactly_as_the_kernel_does(lake: Lake) -> None:
    for column in JOINED:
        frames = list(lake.as_of("BTCUSDT", "15m", [column]))
        assert [frame["open_time"].dt.year.unique().tolist() for frame in frames] == [[2023], [2024]]
        joined = pd.concat(frames, ignore_index=True)
        assert len(joined) == 70_176
        slow = {"funding": None, "fear_greed": None, "macro": None} | {column.table: lake.read(column.table)}
        market = MarketData(candles=lake.read("candles", symbol="BTCUSDT", interval="15m"), **slow)
        closes = pd.DatetimeIndex(joined["available_at"]).as_unit("us").asi8
        expected = kernel(market.slow[column.table], column.column, closes, column.max_age)
        np.testing.assert_array_equal(joined[column.name].to_numpy(), expected)
        assert 0.5 < np.isfinite(expected).mean() <= 1.0, column


def test_sql_settles_ties_ages_and_missing_values_as_the_kernel_does(tmp_path: Path) -> None:
    lake, first = Lake(tmp_path), pd.Timestamp("2024-03-01", tz="UTC")
    rng = np.random.default_rng(4)
    opens = first + pd.to_timedelta(np.arange(400) * 15, unit="min")
    bars = pd.DataFrame({"open_time": opens.as_unit("us"), "open": 1.0, "high": 1.0, "low": 1.0})
    lake.merge("candles", candle_rows(bars.assign(close=1.0, volume=1.0), "BTCUSDT"))
    slots = np.sort(rng.choice(6_000, 150, replace=False))
    rows = pd.DataFrame({"event_time": first + pd.to_timedelta(slots, unit="min")})
    rows["available_at"] = (
        rows["event_time"] + pd.to_timedelta(rng.integers(0, 40, 150), unit="min")
    ).dt.ceil("15min")
    rows["vix"] = rng.normal(20, 3, 150)
    rows.loc[rng.choice(150, 40, replace=False), "vix"] = np.nan
    rows["gold"] = 1.0
    assert rows["available_at"].duplicated().sum() > 20
    lake.merge("macro", rows)
    for minutes in (15, 30, 90):
        age = pd.Timedelta(minutes=minutes)
        (frame,) = lake.as_of("BTCUSDT", "15m", [SlowColumn("macro", "vix", age)])
        market = MarketData(candles=lake.read("candles"), macro=lake.read("macro"))
        closes = pd.DatetimeIndex(frame["available_at"]).as_unit("us").asi8
        expected = kernel(market.slow["macro"], "vix", closes, age)
        np.testing.assert_array_equal(frame["macro.vix"].to_numpy(), expected)
        assert 0.1 < np.isfinite(expected).mean() < 0.95


def test_pinned_versions_windows_and_wrong_columns(lake: Lake) -> None:
    window = {"start": "2023-12-31", "end": "2024-01-02"}
    column = SlowColumn("fear_greed", "value", 36 * HOUR)
    before = list(lake.as_of("BTCUSDT", "15m", [column], **window))
    assert [len(frame) for frame in before] == [96, 96]
    versions = lake.versions()
    late = lake.read("fear_greed", start="2023-12-31", end="2024-01-01")
    lake.merge("fear_greed", late.assign(value=1.0), accept_corrections=True)
    after = list(lake.as_of("BTCUSDT", "15m", [column], **window))
    pinned = list(lake.as_of("BTCUSDT", "15m", [column], versions=versions, **window))
    pd.testing.assert_frame_equal(pd.concat(pinned), pd.concat(before))
    assert not pd.concat(after).equals(pd.concat(before))
    with pytest.raises(DataError, match=r"fear_greed\.classification is no column of numbers"):
        list(lake.as_of("BTCUSDT", "15m", [SlowColumn("fear_greed", "classification", HOUR)]))
