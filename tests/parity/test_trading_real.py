"""The kernel on recorded bars, features and funding: a crash, three funding events a day, no NaN."""

import numpy as np
import pandas as pd
import pytest
from recorded_market import recorded_candles, recorded_funding

from acmf_core.features import MarketData, build_features
from acmf_core.trading import NO_SIGNAL, TradeParams, TradingState, route, simulate, step, trading_bars

START = pd.Timestamp("2023-08-01", tz="UTC")
CRASH = pd.Timestamp("2023-08-17 21:30", tz="UTC")


@pytest.fixture(scope="module")
def bars(real_data):
    """August 2023 with its warm-up before it; the 17th holds a bar of -10.9 %."""
    candles = recorded_candles(real_data).loc["2023-06-01":"2023-08-31"]
    market = MarketData.from_candles(candles, funding=recorded_funding(real_data))
    joined = trading_bars(market, build_features(market))
    first = int(np.searchsorted(joined.times, START))
    return joined.slice(first, joined.n)


@pytest.fixture(scope="module")
def probabilities(bars):
    """A momentum rule as three probabilities, strong enough to trade often."""
    lean = np.nan_to_num(bars.ema_distance) * 0.6
    weights = np.exp(np.column_stack([lean, -lean, np.full(bars.n, 0.2)]))
    return weights / weights.sum(axis=1, keepdims=True)


def test_features_become_bars(bars):
    assert bars.n == 31 * 96
    assert bars.data_ok.all()
    assert np.flatnonzero(bars.funding_event)[:3].tolist() == [0, 32, 64]  # 00:00, 08:00, 16:00
    assert np.count_nonzero(bars.funding_event) == 3 * 31
    true_range = (bars.high - bars.low).mean()
    assert 0.8 * true_range < bars.atr.mean() < 1.5 * true_range
    assert (bars.low[bars.times == CRASH] < 0.92 * bars.open[bars.times == CRASH]).all()


def test_a_month_trades_and_accounts_for_every_cent(bars, probabilities):
    result = simulate(bars, probabilities, TradeParams())
    metrics = result.metrics()
    assert metrics["trades"] > 30
    assert np.isfinite(result.equity).all()
    fills = result.fills
    cash = -(fills.side * fills.quantity * fills.price).sum() - fills.fee.sum()
    funding = result.trades.funding.sum() + sum(lot.funding for lot in result.final_state.lots)
    value = result.final_state.position * bars.close[-1]
    assert 10_000 + cash + funding + value == pytest.approx(result.equity[-1], rel=1e-12)
    assert set(fills.reason) >= {"entry", "stop", "target", "trailing"}
    inside = (fills.price >= bars.low[fills.bar] * 0.9998) & (fills.price <= bars.high[fills.bar] * 1.0002)
    assert inside.all()


def test_stepping_through_the_month_gives_the_same_bits(bars, probabilities):
    params = TradeParams()
    result = simulate(bars, probabilities, params)
    state = TradingState.initial(10_000.0)
    for i in range(bars.n):
        signal = NO_SIGNAL if np.isnan(probabilities[i, 0]) else route(*probabilities[i], params)
        state, _, gates, _, _ = step(state, bars.bar(i), signal, params)
        assert (state.equity, gates) == (result.equity[i], result.gates[i])
    assert state == result.final_state
