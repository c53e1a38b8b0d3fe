"""The made-up market: reproducible, plausible, marked, and worthless unless an edge is planted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acmf_core.collect.files.importer import check_bars
from acmf_core.collect.history import load_market
from acmf_core.collect.synthetic import SYMBOL, is_synthetic, store_synthetic, synthetic_market
from acmf_core.config import MarketConfig
from acmf_core.features import MarketData
from acmf_core.lake import Lake
from acmf_core.lake.quality import gaps

N = 40_000


@pytest.fixture(scope="module")
def market() -> MarketData:
    return synthetic_market(N, 1)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(market: MarketData) -> None:
    again = synthetic_market(N, 1)
    assert again.candles.equals(market.candles)
    assert again.funding is not None
    assert again.funding.equals(market.funding)
    assert not synthetic_market(N, 2).candles.equals(market.candles)


def test_every_bar_is_possible_and_none_is_missing(market: MarketData) -> None:
    check_bars(market.candles, "synthetic")
    assert gaps(market.candles.index).empty
    assert (market.candles["open"].iloc[1:].to_numpy() == market.candles["close"].iloc[:-1].to_numpy()).all()


def test_volatility_clusters_tails_are_fat_and_the_day_has_a_rhythm(market: MarketData) -> None:
    returns = np.log(market.candles["close"]).diff().dropna()
    assert 0.001 < returns.std() < 0.005
    assert returns.kurt() > 3
    assert returns.abs().autocorr(1) > 0.1
    assert returns.abs().autocorr(96) > 0.03
    by_hour = returns.abs().groupby(returns.index.hour).mean()
    assert by_hour.idxmax() in range(12, 18)
    assert market.candles["volume"].corr(returns.abs()) > 0.2


def hits(edge: float) -> float:
    """How often the sign of the 16-bar momentum is right about the next bar."""
    returns = np.log(synthetic_market(N, 4, edge).candles["close"]).diff()
    guess = np.sign(returns.ewm(span=31).mean().shift(1))
    moved = (returns != 0) & guess.notna()
    return float((np.sign(returns)[moved] == guess[moved]).mean())


def test_without_an_edge_momentum_is_worth_nothing_and_with_one_it_is() -> None:
    assert abs(hits(0.0) - 0.5) < 0.01  # four standard errors
    assert hits(0.2) > 0.53


def test_funding_comes_every_eight_hours_within_the_venues_cap(market: MarketData) -> None:
    assert market.funding is not None
    assert len(market.funding) == N // 32
    assert set(market.funding["event_time"].dt.hour) == {0, 8, 16}
    assert market.funding["funding_rate"].abs().max() <= 0.003
    assert (market.funding["available_at"] == market.funding["event_time"]).all()


def test_nobody_can_take_it_for_real_or_trade_it(market: MarketData, tmp_path: Path) -> None:
    assert market.candles.attrs == {"synthetic": True}
    lake = Lake(tmp_path / "lake")
    short = synthetic_market(500, 1)
    store_synthetic(lake, short)
    assert lake.status()["symbol"].unique().tolist() == [SYMBOL]
    assert is_synthetic(SYMBOL)
    assert not is_synthetic("BTCUSDT")
    with pytest.raises(ValueError, match="symbol"):
        MarketConfig(symbol=SYMBOL)
    stored = load_market(lake, SYMBOL)
    assert stored.candles.equals(short.candles)
    assert stored.candles.attrs == stored.between(short.candles.index[9]).candles.attrs == {"synthetic": True}
    assert lake.history("candles")["source"].iloc[0] == "synthetic"


def test_it_can_start_anywhere() -> None:
    market = synthetic_market(10, 1, start="2023-03-01 12:00", first_price=100.0)
    assert market.candles.index[0] == pd.Timestamp("2023-03-01 12:00", tz="UTC")
    assert market.candles["open"].iloc[0] == 100.0
