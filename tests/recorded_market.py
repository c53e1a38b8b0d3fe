"""The recorded files as `MarketData`, each slow row stamped with the moment it could first be known."""

from pathlib import Path

import pandas as pd

from acmf_core.features import MarketData

DAY = pd.Timedelta(days=1)
US_CLOSE = pd.Timedelta(hours=22)  # macro rows of day D are known after the US close of D


def recorded_candles(folder: Path) -> pd.DataFrame:
    """Two years of 15m bars of the perpetual, without a gap."""
    return pd.read_parquet(folder / "BTCUSDT_perp_15m_2023_2024.parquet").set_index("open_time")


def recorded_funding(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "BTCUSDT_perp_funding_8h_2023_2024.parquet")
    times = rows["funding_time"]
    return pd.DataFrame({"event_time": times, "available_at": times, "funding_rate": rows["funding_rate"]})


def recorded_fear_greed(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "fear_greed_daily_2018_2024.parquet")
    times = rows["open_time"]
    return pd.DataFrame({"event_time": times, "available_at": times, "value": rows["fng"].astype(float)})


def recorded_macro(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "macro_daily_2014_2024.parquet")
    table = rows.pivot_table(index="open_time", columns="series", values="close").reset_index()
    table = table[table["open_time"] >= "2022-12-01"]
    frame = pd.DataFrame({"event_time": table["open_time"], "available_at": table["open_time"] + US_CLOSE})
    return frame.assign(**{name: table[name] for name in ("vix", "dxy", "sp500", "gold")})


def recorded_book(folder: Path) -> pd.DataFrame:
    """Three sessions of minutes, every 250 ms."""
    rows = pd.read_parquet(folder / "BTCUSDT_perp_L2_top20_250ms_3sessions.parquet")
    return rows.drop(columns="session").rename(columns={"ts": "available_at"})


def recorded_market(folder: Path) -> MarketData:
    """Candles, funding, Fear & Greed, macro and order book as recorded."""
    return MarketData.from_candles(
        recorded_candles(folder),
        book=recorded_book(folder),
        funding=recorded_funding(folder),
        fear_greed=recorded_fear_greed(folder),
        macro=recorded_macro(folder),
    )
