"""simulate and simulate_many: inputs refused, tables, metrics by hand, many equal to one by one."""

import math

import numpy as np
import pandas as pd
import pytest
from trading_market import LONG, MIDNIGHT, NAN, NONE, SHORT, flat, market, random_market, signals

from acmf_core.errors import DataError, InvalidPrediction, MissingBars
from acmf_core.trading import TradeParams, TradingState, simulate, simulate_many

P = TradeParams()


def test_an_invalid_triple_is_refused_by_name_of_its_bar():
    rows = signals(LONG, NONE, (0.5, NAN, 0.5), (0.9, 0.9, 0.9))
    with pytest.raises(InvalidPrediction, match=r"bar 2 \(2024-01-01 12:30\): .* holds NaN"):
        simulate(market(flat(4)), rows, P)


@pytest.mark.parametrize("triple", [(0.5, 0.6, 0.0), (-0.1, 0.6, 0.5), (math.inf, 0.0, 0.0)])
def test_what_is_no_probability_is_refused(triple):
    with pytest.raises(InvalidPrediction):
        simulate(market(flat(1)), [triple], P)


def test_signals_of_another_length_are_refused():
    with pytest.raises(DataError, match=r"signals have shape \(2, 3\), the bars need \(4, 3\)"):
        simulate(market(flat(4)), signals(LONG, LONG), P)


def test_a_frame_of_signals_is_read_by_name_and_held_against_the_bars_times():
    bars = market(flat(3))
    frame = pd.DataFrame(
        signals(LONG, NONE, SHORT), columns=["p_long", "p_short", "p_neutral"], index=bars.times
    )
    mixed = frame[["p_neutral", "p_short", "p_long"]]
    assert simulate(bars, mixed, P).final_state == simulate(bars, frame.to_numpy(), P).final_state
    with pytest.raises(DataError, match="not at the times"):
        simulate(bars, frame.shift(freq="15min"), P)


def test_a_gap_in_the_bars_is_refused():
    bars = market(flat(3))
    bars.open_time[2] += 1
    with pytest.raises(MissingBars):
        simulate(bars, signals(n=3), P)


def test_a_state_that_does_not_precede_the_bars_is_refused():
    bars = market(flat(4))
    state = simulate(bars.slice(0, 2), signals(n=2), P).final_state
    with pytest.raises(MissingBars, match="not the next"):
        simulate(bars.slice(3, 4), signals(n=1), P, state=state)


def test_no_bars_are_no_trades():
    result = simulate(market([]), signals(), P)
    assert len(result.equity) == len(result.orders) == len(result.trades) == len(result.states) == 0
    assert result.final_state == TradingState.initial(10_000.0)
    assert result.metrics()["total_return"] == 0.0


def test_the_inputs_are_left_as_they_were():
    bars, probabilities = random_market(300, seed=1)
    before = [column.copy() for column in bars] + [probabilities.copy()]
    simulate(bars, probabilities, P)
    for old, new in zip(before, [*bars, probabilities], strict=True):
        np.testing.assert_array_equal(old, new)


def test_tables_carry_bar_time_and_plain_words():
    bars, probabilities = random_market(400, seed=5)
    result = simulate(bars, probabilities, P)
    for table in (result.orders, result.fills):
        assert (result.bars.times[table.bar] == pd.DatetimeIndex(table.time)).all()
    assert set(result.orders.columns) >= {
        "bar",
        "time",
        "lot",
        "side",
        "quantity",
        "purpose",
        "reason",
        "regime",
    }
    assert set(result.fills.purpose) <= {"entry", "exit", "stop", "target"}
    assert set(result.trades.reason) <= {"stop", "target", "trailing", "opposite", "time", "breaker"}
    assert (result.trades.entry_time <= result.trades.exit_time).all()
    assert result.orders.lot[result.orders.purpose == "entry"].is_unique


def test_states_can_be_indexed_from_either_end_and_sliced():
    bars, probabilities = random_market(600, seed=2)
    result = simulate(bars, probabilities, P)
    assert len(result.states) == 600
    assert result.states[-1] == result.states[599] == result.final_state
    assert [s.equity for s in result.states[250:260]] == list(result.equity[250:260])
    with pytest.raises(IndexError):
        result.states[600]


def test_tables_grow_as_they_must():
    # an entry or an exit in every bar: far more rows than the tables begin with
    n = 5_000
    eager = TradeParams(
        cooldown=(0, 0, 0), max_losses=10**6, max_daily_drawdown=1.0, fee_bps=0, slippage_bps=0
    )
    result = simulate(market(flat(n)), signals(*[LONG, SHORT] * (n // 2)), eager)
    assert len(result.fills) == n - 1
    assert (result.fills.bar.diff().dropna() == 1).all()


# --- metrics --------------------------------------------------------------------------------


def test_metrics_by_hand():
    # two days: a long from 12:15 on gains 75 by the end of day one, loses it and more at the next open
    day_one = [10_000.0, 10_000.0, (10_000.0, 10_100.0, 10_000.0, 10_100.0)]
    bars = market([*day_one, 10_100.0, 9_900.0, 9_900.0], start=MIDNIGHT - 4 * 900_000_000)
    free = TradeParams(fee_bps=0.0, slippage_bps=0.0)
    result = simulate(bars, signals(LONG, NONE, NONE, SHORT, n=6), free)
    # bought at 10,000, sold at 9,900: -75; equity 10,000 10,000 10,075 10,075 | 9,925 9,925
    np.testing.assert_allclose(result.equity, [10_000, 10_000, 10_075, 10_075, 9_925, 9_925], atol=1e-9)
    m = result.metrics()
    assert (m["trades"], m["trips"]) == (1, 0)
    assert m["net"] == pytest.approx(-75)
    assert m["total_return"] == pytest.approx(-0.0075)
    assert m["max_drawdown"] == pytest.approx(150 / 10_075)
    assert (m["win_rate"], m["profit_factor"]) == (0.0, 0.0)
    assert m["mean_trade_bps"] == pytest.approx(-100)  # -75 on 7,500
    assert m["exposure"] == pytest.approx(3 / 6)
    returns = np.array([0.0075, 9_925 / 10_075 - 1])
    assert m["sharpe_daily_annualised"] == pytest.approx(
        returns.mean() / returns.std(ddof=1) * math.sqrt(365)
    )


def test_metrics_are_finite_without_a_trade_or_without_a_loss():
    idle = simulate(market(flat(200)), signals(n=200), P).metrics()
    assert all(math.isfinite(v) for v in idle.values())
    assert (idle["trades"], idle["sharpe_daily_annualised"], idle["profit_factor"]) == (0, 0.0, 0.0)
    free = TradeParams(fee_bps=0.0, slippage_bps=0.0)
    bars = market([10_000.0, 10_000.0, 10_100.0, 10_100.0])
    won = simulate(bars, signals(LONG, NONE, SHORT, n=4), free).metrics()
    assert (won["trades"], won["win_rate"], won["profit_factor"]) == (1, 1.0, 1000.0)


def test_the_share_of_bars_stopped_is_measured():
    unsure = (0.34, 0.33, 0.33)
    result = simulate(market(flat(20)), signals(*[unsure] * 5, n=20), TradeParams(resume_after=5))
    assert result.metrics()["trips"] == 1
    assert result.metrics()["share_stopped"] == pytest.approx(5 / 20)


# --- many -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_many_sets_give_what_one_by_one_gives(threads):
    bars, probabilities = random_market(2_000, seed=9)
    sets = [
        P,
        TradeParams(min_ratio=1.2, max_losses=5),
        TradeParams(cooldown=(0, 1, 2), resume_after=None),
        TradeParams(cost_in_risk=True, streak_action="pause", resume_after=10),
        TradeParams(risk_per_trade=0.05, max_leverage=5.0),
    ]
    table, equity = simulate_many(bars, probabilities, sets, threads=threads, with_equity=True)
    for k, params in enumerate(sets):
        alone = simulate(bars, probabilities, params)
        assert table.iloc[k].to_dict() == alone.metrics()
        np.testing.assert_array_equal(equity[k], alone.equity)
    pd.testing.assert_frame_equal(table, simulate_many(bars, probabilities, sets))


def test_no_sets_give_an_empty_table():
    bars, probabilities = random_market(50, seed=9)
    assert len(simulate_many(bars, probabilities, [])) == 0
