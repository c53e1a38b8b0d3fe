"""What must hold on every path of prices and signals, whatever the parameters."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from trading_market import random_market

from acmf_core.trading import ALL_GATES, TradeParams, simulate

three = lambda low, high: st.tuples(*[st.integers(low, high)] * 3)  # noqa: E731
ratios = lambda low, high: st.tuples(*[st.floats(low, high)] * 3)  # noqa: E731
PARAMS = st.builds(
    TradeParams,
    min_ratio=st.floats(1.0, 2.0),
    min_spread=st.floats(0.0, 0.1),
    min_confidence=ratios(0.3, 0.8),
    cooldown=three(0, 6),
    max_positions=three(1, 3),
    stop_atr=ratios(0.5, 3.0),
    target_atr=ratios(0.5, 4.0),
    trail_atr=ratios(0.2, 3.0),
    time_exit=three(1, 20),
    risk_per_trade=st.floats(0.002, 0.05),
    max_leverage=st.floats(0.5, 10.0),
    max_open_risk=st.floats(0.01, 0.2),
    max_losses=st.integers(1, 8),
    fee_bps=st.floats(0.0, 10.0),
    slippage_bps=st.floats(0.0, 10.0),
    cost_in_risk=st.booleans(),
    resume_after=st.integers(1, 60),
    streak_action=st.sampled_from(["kill", "pause"]),
    reward_cost_multiple=st.floats(0.0, 3.0),
    step=st.sampled_from([0.001, 0.01, 0.1]),
    tick=st.sampled_from([0.01, 0.1, 1.0]),
)
SEEDS = st.integers(0, 10_000)
VOLATILITIES = st.sampled_from([0.001, 0.004, 0.02])
RUNS = settings(max_examples=60, deadline=None)


@RUNS
@given(seed=SEEDS, volatility=VOLATILITIES, params=PARAMS)
def test_balance_and_positions_are_the_equity(seed, volatility, params):
    bars, probabilities = random_market(500, seed, volatility=volatility)
    result = simulate(bars, probabilities, params)
    fills, trades = result.fill_rows, result.trade_rows
    # from the fills alone: cash spent and received, fees, the position's value, and booked funding
    cash = -np.sum(fills["side"] * fills["quantity"] * fills["price"]) - fills["fee"].sum()
    lots = result.final_state.lots
    funding = trades["funding"].sum() + sum(lot.funding for lot in lots)
    value = result.final_state.position * bars.close[-1]
    assert np.isclose(10_000.0 + cash + value + funding, result.final_state.equity, rtol=1e-9, atol=1e-6)
    assert np.isclose(np.sum(fills["side"] * fills["quantity"]), result.final_state.position, atol=1e-9)
    ended = trades["net"].sum() + sum(lot.gross - lot.fees + lot.funding for lot in lots)
    assert np.isclose(10_000.0 + ended, result.final_state.balance, rtol=1e-9, atol=1e-6)


@RUNS
@given(seed=SEEDS, volatility=VOLATILITIES, params=PARAMS)
def test_no_figure_is_ever_lost(seed, volatility, params):
    bars, probabilities = random_market(500, seed, volatility=volatility)
    result = simulate(bars, probabilities, params)
    for column in (result.equity, result.confidences, result.scores):
        assert np.isfinite(column).all()
    assert all(np.isfinite(value) for value in result.metrics().values())
    for rows in (result.order_rows, result.fill_rows, result.trade_rows):
        for name in rows.dtype.names:
            assert np.isfinite(rows[name]).all()
    assert "NaN" not in result.final_state.to_json()


@RUNS
@given(seed=SEEDS, volatility=VOLATILITIES, params=PARAMS)
def test_every_entry_ends_exactly_once_or_is_open(seed, volatility, params):
    bars, probabilities = random_market(500, seed, volatility=volatility)
    result = simulate(bars, probabilities, params)
    entered = result.fill_rows["lot"][result.fill_rows["purpose"] == 1]
    ended = result.trade_rows["lot"]
    still = [lot.lot for lot in result.final_state.lots]
    assert sorted([*ended, *still]) == sorted(entered)
    assert len(set(entered)) == len(entered)
    for lot in ended:
        rows = result.fill_rows[result.fill_rows["lot"] == lot]
        closed = rows["quantity"][rows["purpose"] != 1].sum()
        assert np.isclose(closed, rows["quantity"][0], atol=1e-9)
        assert (rows["side"][1:] == -rows["side"][0]).all()


@RUNS
@given(seed=SEEDS, volatility=VOLATILITIES, params=PARAMS)
def test_caps_are_never_exceeded_when_an_entry_is_decided(seed, volatility, params):
    bars, probabilities = random_market(500, seed, volatility=volatility)
    result = simulate(bars, probabilities, params)
    orders = result.orders[result.orders.purpose == "entry"]
    assert list(orders.bar) == list(np.flatnonzero(result.gates == ALL_GATES))
    for order in orders.itertuples():
        state, close, atr = result.states[order.bar], bars.close[order.bar], bars.atr[order.bar]
        staying = [lot for lot in state.lots if lot.exit_reason == 0]
        limits = params.rules.regimes[order.regime]
        notional = (order.quantity + sum(lot.quantity for lot in staying)) * close
        risk = order.quantity * atr * limits.stop_atr + sum(
            lot.quantity * max(0.0, lot.side * (lot.entry - lot.stop)) for lot in staying
        )
        assert notional <= state.equity * params.max_leverage * (1 + 1e-9) + params.step * close * 1e-6
        assert risk <= state.equity * params.max_open_risk * (1 + 1e-6)
        cap = 1.2 * state.equity * params.max_leverage / limits.max_positions
        assert order.quantity * close <= cap * (1 + 1e-6)
        assert len(staying) < limits.max_positions
        assert all(lot.side == order.side for lot in state.lots)
        assert order.quantity >= params.min_quantity * (1 - 1e-9)
        assert order.quantity * close >= params.min_notional - 1e-6
        assert np.isclose(order.quantity / params.step, round(order.quantity / params.step), atol=1e-6)
    assert result.open_lots.max() <= 3


@RUNS
@given(seed=SEEDS, volatility=VOLATILITIES, params=PARAMS)
def test_lots_are_always_protected_on_the_right_side(seed, volatility, params):
    bars, probabilities = random_market(500, seed, volatility=volatility)
    result = simulate(bars, probabilities, params)
    for i in range(0, 500, 5):
        for lot in result.states[i].lots:
            assert lot.quantity > 0
            assert lot.side * (bars.close[i] - lot.stop) > -1e-6 * params.tick  # not touched by this close
            if lot.stop_moved:
                assert lot.side * (lot.stop - lot.entry) > -1e-6 * params.tick
            else:
                assert (
                    lot.side * (lot.stop - (lot.entry - lot.side * lot.stop_distance)) < params.tick * 1.001
                )


@RUNS
@given(seed=SEEDS, scale=st.integers(1, 4))
def test_sizes_and_results_scale_with_equity(seed, scale):
    bars, probabilities = random_market(500, seed)
    factor = 2.0**scale
    plain = TradeParams(step=0.001, min_quantity=0.001, min_notional=100.0)
    large = TradeParams(
        step=0.001 * factor,
        min_quantity=0.001 * factor,
        min_notional=100.0 * factor,
        max_market_quantity=120.0 * factor,
    )
    small = simulate(bars, probabilities, plain)
    big = simulate(bars, probabilities, large, equity=10_000.0 * factor)
    np.testing.assert_array_equal(small.gates, big.gates)
    np.testing.assert_allclose(big.equity, small.equity * factor, rtol=1e-12)
    np.testing.assert_allclose(big.fill_rows["quantity"], small.fill_rows["quantity"] * factor, rtol=1e-12)


@RUNS
@given(seed=SEEDS, params=PARAMS)
def test_shorts_obey_every_bound_that_longs_obey(seed, params):
    """Mirror the market: prices near 20,000, probabilities and book. Without costs, and with leverage enough
    that no cap bites (notional differs between unlike prices), the accounts are those of the original."""
    bars, probabilities = random_market(500, seed)
    halved = {
        name: 20_000 + (getattr(bars, name) - 10_000) * 0.5 for name in ("open", "high", "low", "close")
    }
    bars = bars._replace(
        **halved, atr=bars.atr * 0.5, funding_event=np.zeros(500), funding_bps=np.full(500, np.nan)
    )
    changed = {"fee_bps": 0.0, "slippage_bps": 0.0, "cost_in_risk": False, "risk_per_trade": 0.001}
    changed |= {"max_leverage": 125.0, "min_notional": 0.0, "max_market_quantity": 1e6, "tick": 1e-4}
    free_params = TradeParams.from_dict(params.to_dict() | changed | {"step": 1e-6, "min_quantity": 1e-6})
    mirrored = bars._replace(
        open=40_000 - bars.open,
        high=40_000 - bars.low,
        low=40_000 - bars.high,
        close=40_000 - bars.close,
        ema_distance=-bars.ema_distance,
        book_imbalance=-bars.book_imbalance,
    )
    long_run = simulate(bars, probabilities, free_params)
    short_run = simulate(mirrored, probabilities[:, [1, 0, 2]], free_params)
    np.testing.assert_array_equal(long_run.sides, -short_run.sides)
    np.testing.assert_array_equal(long_run.gates, short_run.gates)
    assert list(long_run.fill_rows["reason"]) == list(short_run.fill_rows["reason"])
    np.testing.assert_allclose(long_run.equity, short_run.equity, rtol=1e-6)


@RUNS
@given(seed=SEEDS, volatility=VOLATILITIES, params=PARAMS, cut=st.integers(10, 490))
def test_what_comes_later_changes_nothing_before(seed, volatility, params, cut):
    bars, probabilities = random_market(500, seed, volatility=volatility)
    whole = simulate(bars, probabilities, params)
    part = simulate(bars.slice(0, cut), probabilities[:cut], params)
    np.testing.assert_array_equal(part.equity, whole.equity[:cut])
    np.testing.assert_array_equal(part.gates, whole.gates[:cut])
    assert part.final_state == whole.states[cut - 1]
