"""When trading stops by itself, what that does, and how it goes on."""

import numpy as np
import pytest
from trading_market import LONG, MIDNIGHT, NEUTRAL, NONE, SHORT, altered, flat, market, signals

from acmf_core.trading import (
    Cause,
    TradeParams,
    TradingState,
    decide,
    gate_names,
    kill,
    resume,
    route,
    settle,
    simulate,
    step,
)

P = TradeParams()
UNSURE = (0.34, 0.33, 0.33)  # the largest is below 0.35
BARELY = (0.35, 0.33, 0.32)


def decided(params=P, signal=NEUTRAL, **figures):
    """The state after deciding on one bar with figures set by hand."""
    bar = market(flat(1)).bar(0)
    state = altered(settle(TradingState.initial(10_000.0), bar, ()), **figures)
    return decide(state, bar, route(*signal, params), params)


# --- causes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("equity", "trips"), [(9_500.0, False), (9_499.99, True)])
def test_a_daily_drawdown_above_five_percent_trips_and_exactly_five_does_not(equity, trips):
    # (10,000 - 9,500) / 10,000 = 0.05, where 9,500 / 10,000 - 1 is -0.050000000000000044
    state, _, _ = decided(equity=equity)
    assert (state.stopped, state.cause) == ((1, Cause.DAILY_DRAWDOWN) if trips else (0, Cause.NONE))


@pytest.mark.parametrize(("streak", "trips"), [(2, False), (3, True), (4, True)])
def test_losing_results_in_a_row_trip(streak, trips):
    state, _, _ = decided(streak=streak)
    assert (state.stopped, state.cause) == ((1, Cause.LOSS_STREAK) if trips else (0, Cause.NONE))


def test_a_model_that_knows_nothing_five_bars_in_a_row_trips():
    result = simulate(market(flat(6)), signals(*[UNSURE] * 5, n=6), P)
    assert list(result.stopped) == [False] * 4 + [True] * 2
    assert result.final_state.cause == Cause.LOW_PROBABILITY


def test_one_sure_bar_starts_the_count_anew_and_a_missing_one_leaves_it():
    rows = [UNSURE] * 4 + [BARELY] + [UNSURE] * 4 + [NONE] + [UNSURE]
    result = simulate(market(flat(len(rows))), signals(*rows), P)
    assert [s.low_probability for s in result.states] == [1, 2, 3, 4, 0, 1, 2, 3, 4, 4, 5]
    assert list(result.stopped) == [False] * 10 + [True]


def test_the_first_cause_in_the_order_of_the_design_is_recorded():
    assert decided(equity=9_000.0, streak=5, low_probability=9)[0].cause == Cause.DAILY_DRAWDOWN
    assert decided(streak=5, low_probability=9, signal=UNSURE)[0].cause == Cause.LOSS_STREAK


def test_the_breaker_trips_with_nothing_open():
    assert decided(streak=3)[0].stopped == 1


# --- effects --------------------------------------------------------------------------------


def test_a_trip_closes_everything_at_market_and_cancels_the_entry_of_its_bar():
    result = simulate(market(flat(3)), signals(LONG, n=3), P)
    bar = market(flat(4)).bar(3)
    state = altered(settle(result.final_state, bar, ()), streak=3)
    after, orders, gates = decide(state, bar, route(*LONG, P), P)
    assert [(o.purpose, o.reason) for o in orders] == [(2, 7)]  # one exit, reason breaker
    assert after.entry is None
    assert gate_names(gates) == ("cooldown", "loss_streak", "enabled")


def test_while_stopped_nothing_trips_again_and_results_still_count():
    state = altered(TradingState.initial(10_000.0), stopped=1, cause=int(Cause.LOSS_STREAK), streak=3)
    bar = market(flat(1)).bar(0)
    settled = altered(settle(state, bar, ()), equity=5_000.0)
    after = decide(settled, bar, route(*NEUTRAL, P), P)[0]
    assert after.cause == Cause.LOSS_STREAK
    assert after.bars_stopped == 1
    assert after.streak == 3


# --- resume ---------------------------------------------------------------------------------


def test_a_backtest_resumes_after_so_many_bars_and_that_bar_may_enter():
    quick = TradeParams(resume_after=4)
    # trips at bar 4 (the fifth unsure one): bars 4 .. 7 are blocked, bar 8 enters
    rows = [UNSURE] * 5 + [LONG] * 5
    result = simulate(market(flat(10)), signals(*rows), quick)
    assert list(np.flatnonzero(result.stopped)) == [4, 5, 6, 7]
    assert result.orders.bar.iloc[0] == 8
    assert result.trips == 1


def test_the_bar_of_the_resume_counts_as_the_first_for_the_low_probability_counter():
    quick = TradeParams(resume_after=2)
    result = simulate(market(flat(20)), signals(*[UNSURE] * 20), quick)
    # trip at 4, resume at 6 with count 1, so the fifth is bar 10: trip again, resume at 12, trip at 16
    assert list(np.flatnonzero(result.stopped)) == [4, 5, 10, 11, 16, 17]
    assert result.trips == 3


def test_a_resume_can_trip_again_in_its_own_bar():
    hasty = TradeParams(resume_after=1, low_probability_bars=1)
    result = simulate(market(flat(3)), signals(*[UNSURE] * 3), hasty)
    assert list(result.stopped) == [True, True, True]
    assert result.trips == 3


def test_a_resume_sets_streak_counter_and_reference_and_leaves_the_peak():
    state = altered(
        TradingState.initial(10_000.0),
        stopped=1,
        streak=4,
        low_probability=7,
        equity=9_000.0,
        balance=9_000.0,
    )
    again = resume(state)
    assert (again.stopped, again.streak, again.low_probability, again.cause) == (0, 0, 0, 0)
    assert again.day_reference == 9_000.0
    assert again.peak == 10_000.0


def test_the_resume_of_a_backtest_takes_the_bars_own_equity_as_reference():
    quick = TradeParams(resume_after=1)
    state = altered(TradingState.initial(10_000.0), stopped=1, cause=1, equity=9_400.0, balance=9_400.0)
    bar = market(flat(1)).bar(0)
    after, _, gates = decide(settle(state, bar, ()), bar, route(*LONG, quick), quick)
    assert (after.stopped, after.day_reference) == (0, 9_400.0)
    assert gate_names(gates) == ()
    assert after.entry is not None


def test_with_none_it_stays_stopped():
    for_ever = TradeParams(resume_after=None)
    result = simulate(market(flat(300)), signals(*[UNSURE] * 5 + [LONG] * 295), for_ever)
    assert result.stopped[4:].all()
    assert len(result.orders) == 0


def test_an_operators_stop_is_lifted_by_a_person_only():
    result = simulate(market(flat(3)), signals(LONG, n=3), P)
    state = kill(result.final_state)
    assert [lot.exit_reason for lot in state.lots] == [7]
    bars = market(flat(203)).slice(3, 203)
    after = simulate(bars, signals(*[LONG] * 200), P, state=state)
    assert after.stopped.all()
    assert list(after.fills.reason) == ["breaker"]
    assert resume(after.final_state).stopped == 0


def test_an_operators_stop_drops_a_pending_entry():
    state = simulate(market(flat(1)), signals(LONG), P).final_state
    assert state.entry is not None
    assert kill(state).entry is None


def test_live_a_kill_waits_for_a_person_and_a_pause_does_not():
    def bars_stopped(**params):
        live = TradeParams(person_resumes=True, resume_after=3, **params)
        bars = market(flat(7))
        state = altered(TradingState.initial(10_000.0), streak=3)
        return int(simulate(bars, signals(*[NEUTRAL] * 7), live, state=state).stopped.sum())

    assert bars_stopped() == 7
    assert bars_stopped(streak_action="pause") == 3


def test_a_pause_applies_only_where_the_streak_is_the_only_cause():
    pause = TradeParams(streak_action="pause")
    assert decided(pause, streak=3)[0].paused == 1
    assert decided(pause, streak=3, equity=9_000.0)[0].paused == 0
    assert decided(pause, streak=3, low_probability=4, signal=UNSURE)[0].paused == 0
    assert decided(pause, low_probability=4, signal=UNSURE)[0].paused == 0


# --- the day's reference --------------------------------------------------------------------


def test_before_the_first_midnight_the_reference_is_the_starting_equity():
    result = simulate(market(flat(3)), signals(LONG, n=3), P)
    assert result.final_state.day_reference == 10_000.0


def test_at_midnight_the_reference_becomes_the_equity_of_the_bar_before():
    bars = market(flat(4), start=MIDNIGHT - 3 * 900_000_000)
    result = simulate(bars, signals(LONG, n=4), P)
    assert [s.day_reference for s in result.states][:3] == [10_000.0] * 3
    assert result.states[3].day_reference == result.equity[2]
    assert result.equity[2] < 10_000.0  # the entry's fee and slippage


def test_the_reference_is_set_before_anything_else_in_the_bar():
    # a loss in the first bar of the day counts against the new reference
    bars = market([*flat(3), (9_700.0,) * 4], start=MIDNIGHT - 3 * 900_000_000)
    result = simulate(bars, signals(LONG, n=4), P)
    assert result.states[3].day_reference == result.equity[2]
    assert result.equity[3] < result.equity[2] - 200


def test_the_reference_is_not_reset_while_stopped():
    state = altered(TradingState.initial(10_000.0), stopped=1, cause=4, equity=9_000.0, balance=9_000.0)
    bars = market(flat(4), start=MIDNIGHT - 2 * 900_000_000)
    assert simulate(bars, signals(*[NONE] * 4), P, state=state).final_state.day_reference == 10_000.0


# --- streak ---------------------------------------------------------------------------------


def losing_trades(params=P):
    """Three stops in a row, each in the bar of its entry."""
    crash = (10_000.0, 10_000.0, 9_800.0, 10_000.0)
    candles = [10_000.0, crash] * 6
    rows = [LONG, NONE] * 6
    return simulate(market(candles), signals(*rows), params)


def test_three_stops_in_a_row_trip_the_breaker_in_the_bar_of_the_third():
    result = losing_trades(TradeParams(cooldown=(1, 1, 1)))
    assert [s.streak for s in result.states][1:6:2] == [1, 2, 3]
    assert np.argmax(result.stopped) == 5


def test_lots_that_end_in_one_bar_are_one_result():
    eager = TradeParams(cooldown=(0, 0, 0))
    bars = market([*flat(3), (10_000.0, 10_000.0, 9_700.0, 9_700.0)])
    result = simulate(bars, signals(LONG, LONG, LONG, n=4), eager)
    assert len(result.trades) == 3
    assert result.final_state.streak == 1


def test_a_win_and_a_loss_in_one_bar_are_their_sum():
    # lot 1 enters at 10,002, lot 2 at 10,502.1; both leave at 10,397.92: +297 and -78 on 0.75, costs in
    eager = TradeParams(cooldown=(0, 0, 0), target_atr=(9.0, 9.0, 9.0))
    bars = market([10_000.0, 10_000.0, 10_500.0, 10_500.0, 10_400.0])
    result = simulate(bars, signals(LONG, LONG, NONE, SHORT, n=5), eager)
    assert len(result.trades) == 2
    assert result.trades.net.min() < 0 < result.trades.net.sum()
    assert result.final_state.streak == 0


def test_a_result_of_exactly_nothing_ends_a_streak():
    free = TradeParams(fee_bps=0.0, slippage_bps=0.0, reward_cost_multiple=0.0)
    state = altered(TradingState.initial(10_000.0), streak=2)
    result = simulate(market(flat(4)), signals(LONG, NONE, SHORT, n=4), free, state=state)
    assert list(result.trades.net) == [0.0]
    assert result.final_state.streak == 0


def test_step_and_simulate_trip_alike():
    params = TradeParams(cooldown=(1, 1, 1))
    crash = (10_000.0, 10_000.0, 9_800.0, 10_000.0)
    bars = market([10_000.0, crash] * 6)
    rows = signals(*[LONG, NEUTRAL] * 6)
    result = simulate(bars, rows, params)
    state = TradingState.initial(10_000.0)
    for i in range(bars.n):
        state = step(state, bars.bar(i), route(*rows[i], params), params).state
        assert state == result.states[i]
