"""step, bar by bar, is simulate; and simulate goes on from any state bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_market import random_market

from acmf_core.trading import NO_SIGNAL, TradeParams, TradingState, classify_regime, route, simulate, step

BUSY = TradeParams(cooldown=(0, 1, 2), max_losses=6, resume_after=12, reward_cost_multiple=0.5)


@pytest.mark.parametrize("params", [TradeParams(), BUSY], ids=["default", "busy"])
def test_a_loop_of_step_gives_the_same_bits_as_simulate(params):
    bars, probabilities = random_market(1_500, seed=11)
    result = simulate(bars, probabilities, params)
    assert len(result.trades) > 20
    state = TradingState.initial(10_000.0)
    orders, fills, trades = [], [], []
    for i in range(bars.n):
        bar = bars.bar(i)
        signal = NO_SIGNAL if np.isnan(probabilities[i, 0]) else route(*probabilities[i], params)
        state, sent, gates, filled, ended = step(state, bar, signal, params)
        regime, scores = classify_regime(bar, params)
        orders += sent
        fills += filled
        trades += ended
        assert state.equity == result.equity[i]
        assert gates == result.gates[i]
        assert (regime, tuple(scores)) == (result.regimes[i], tuple(result.scores[i]))
        assert (signal.side, signal.confidence) == (result.sides[i], result.confidences[i])
        assert bool(state.stopped) == result.stopped[i]
        if i % 37 == 0:
            assert state == result.states[i]
    assert state == result.final_state
    assert [tuple(order) for order in orders] == result.order_rows.tolist()
    assert [tuple(fill) for fill in fills] == result.fill_rows.tolist()
    assert [tuple(trade) for trade in trades] == result.trade_rows.tolist()


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 899), seed=st.integers(0, 5))
def test_a_run_cut_anywhere_goes_on_exactly(cut, seed):
    bars, probabilities = random_market(900, seed)
    whole = simulate(bars, probabilities, BUSY)
    state = TradingState.from_json(whole.states[cut - 1].to_json())  # through the store and back
    rest = simulate(bars.slice(cut, 900), probabilities[cut:], BUSY, state=state)
    assert rest.final_state == whole.final_state
    for name in ("equity", "gates", "regimes", "scores", "sides", "confidences", "stopped", "open_lots"):
        np.testing.assert_array_equal(getattr(rest, name), getattr(whole, name)[cut:])
    later = whole.bars.open_time[cut]
    for name, time in (("order_rows", "time"), ("fill_rows", "time"), ("trade_rows", "exit_time")):
        rows = getattr(whole, name)
        assert getattr(rest, name).tolist() == rows[rows[time] >= later].tolist()


def test_every_recorded_state_is_the_one_that_step_reaches():
    bars, probabilities = random_market(600, seed=4)
    states = simulate(bars, probabilities, BUSY).states
    for i, state in enumerate(states):
        assert state.time == bars.open_time[i]
    again = TradingState.initial(10_000.0)
    for i in range(600):
        signal = NO_SIGNAL if np.isnan(probabilities[i, 0]) else route(*probabilities[i], BUSY)
        again = step(again, bars.bar(i), signal, BUSY).state
        assert states[i] == again


def test_a_run_does_not_depend_on_when_it_is_run():
    bars, probabilities = random_market(900, seed=6)
    later = bars._replace(open_time=bars.open_time + 7 * 86_400_000_000)
    a, b = simulate(bars, probabilities, BUSY), simulate(later, probabilities, BUSY)
    np.testing.assert_array_equal(a.equity, b.equity)
    np.testing.assert_array_equal(a.gates, b.gates)
