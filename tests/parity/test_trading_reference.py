"""The compiled kernel against its slow twin, `reference_kernel.py`, written from the trading page alone."""

from pathlib import Path

import numpy as np
import pytest
from kernel_comparison import first_difference, run_both
from recorded_bars import momentum_probabilities, recorded_bars
from reference_kernel import reference_simulation
from trading_cases import BOUNDARY_TRIPLES, Case, random_case

from acmf_core.trading import (
    NO_SIGNAL,
    Bars,
    Signal,
    TradeParams,
    TradingState,
    classify_regime,
    route,
    simulate,
    step,
)

SEEDS = range(240)
# Where a misreading of one rare rule shows (found by mutating the reference, one rule at a time):
RARE_SEEDS = {
    "whole steps up to float noise": (493, 523),
    "half of one step is no order": (1547,),
    "a reference at or below zero is a drawdown of 100 %": (333, 3733),
    "a refused stop stays where it was": (567, 1663),
    "the daily drawdown trips just above its limit": (364, 393),
    "a stop past the entry risks nothing, not less": (526, 980),
    "a pause needs the streak to be the only cause": (1399, 1401),
}
STEPPED_SEEDS = range(0, 240, 20)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 40))
def test_the_kernel_does_what_the_page_says_on_random_markets(first: int) -> None:
    trades = 0
    for seed in SEEDS[first : first + 40]:
        kernel, reference = run_both(random_case(seed))
        assert not (difference := first_difference(kernel, reference)), f"seed {seed}: {difference}"
        trades += len(reference.trades)
    assert trades > 300, "the random markets no longer trade"


@pytest.mark.parametrize("rule", RARE_SEEDS)
def test_the_kernel_does_what_the_page_says_where_rare_rules_bind(rule: str) -> None:
    for seed in RARE_SEEDS[rule]:
        difference = first_difference(*run_both(random_case(seed)))
        assert not difference, f"seed {seed}, {rule}: {difference}"


@pytest.mark.parametrize("eager", [False, True], ids=["default", "eager"])
@pytest.mark.parametrize("start", ["2023-03-06", "2023-08-10", "2024-10-20"])
def test_the_kernel_does_what_the_page_says_on_recorded_bars(
    real_data: Path, start: str, eager: bool
) -> None:
    often = {"max_losses": 100, "min_confidence": (0.4, 0.4, 0.4), "opposite_min_confidence": 0.7}
    bars = recorded_bars(real_data, start, 1_500)
    case = Case(0, bars, momentum_probabilities(bars["close"], 11), often if eager else {}, 10_000.0)
    kernel, reference = run_both(case)
    assert not (difference := first_difference(kernel, reference)), difference
    assert len(reference.trades) > 20


def test_the_random_markets_reach_every_rule() -> None:
    reasons: set[str] = set()
    causes: set[str] = set()
    failed: set[int] = set()
    for seed in range(120):
        case = random_case(seed)
        run = reference_simulation(
            Bars(**case.bars), case.probabilities, TradeParams(**case.params), case.equity
        )
        reasons |= {fill.reason for fill in run.fills}
        causes |= set(run.causes)
        failed |= {4095 ^ mask for mask in run.gates}
    assert reasons == {"entry", "stop", "target", "trailing", "opposite", "time", "breaker"}
    assert causes == {"", "daily_drawdown", "loss_streak", "low_probability"}
    alone = {1 << bit for bit in range(12)} - {1 << 5, 1 << 6}
    with_the_breaker = {1 << 5 | 1 << 11, 1 << 6 | 1 << 11}  # what fails 5 or 6 has tripped the breaker
    assert alone | with_the_breaker <= failed


@pytest.mark.parametrize("seed", STEPPED_SEEDS)
def test_stepping_bar_by_bar_is_the_simulation_bit_for_bit(seed: int) -> None:
    case = random_case(seed)
    bars, params = Bars(**case.bars), TradeParams(**case.params)
    whole = simulate(bars, case.probabilities, params, equity=case.equity)
    state = TradingState.initial(case.equity)
    fills, orders, trades = [], [], []
    for i in range(len(bars.open_time)):
        signal = signal_of(case.probabilities[i], params)
        result = step(state, bars.bar(i), signal, params)
        state = result.state
        assert state == whole.states[i]
        assert result.gates == whole.gates[i]
        assert state.equity == whole.equity[i]
        fills += [(i, f.lot, f.side, f.quantity, f.price, f.fee) for f in result.fills]
        orders += [(i, o.lot, o.side, o.quantity) for o in result.orders]
        trades += [(i, t.lot, t.net, t.fees, t.funding) for t in result.trades]
    assert fills == rows(whole.fills, "bar lot side quantity price fee")
    assert orders == rows(whole.orders, "bar lot side quantity")
    assert trades == rows(whole.trades, "bar lot net fees funding")


@pytest.mark.parametrize("seed", STEPPED_SEEDS)
def test_a_simulation_goes_on_from_any_state_even_through_json(seed: int) -> None:
    case = random_case(seed)
    bars, params = Bars(**case.bars), TradeParams(**case.params)
    n = len(bars.open_time)
    whole = simulate(bars, case.probabilities, params, equity=case.equity)
    for i in np.random.default_rng(seed).integers(0, n - 1, 4).tolist():
        saved = TradingState.from_json(whole.states[i].to_json())
        rest = simulate(bars.slice(i + 1, n), case.probabilities[i + 1 :], params, state=saved)
        assert np.array_equal(rest.equity, whole.equity[i + 1 :])
        assert np.array_equal(rest.gates, whole.gates[i + 1 :])
        assert rest.final_state == whole.final_state
        kept = whole.fills[whole.fills.bar > i]
        assert rows(rest.fills, "lot side quantity price fee") == rows(kept, "lot side quantity price fee")


def test_routing_agrees_on_every_boundary() -> None:
    for params in (TradeParams(), TradeParams(min_ratio=1.0, min_spread=0.0), TradeParams(min_ratio=2.0)):
        for triple in BOUNDARY_TRIPLES:
            bars = Bars(**random_case(0, n=1).bars)
            run = reference_simulation(bars, np.array([triple]), params)
            signal = route(*triple, params)
            assert (signal.side, signal.confidence) == (run.sides[0], run.confidences[0]), triple


def test_the_regime_agrees_with_every_input_missing_in_turn() -> None:
    case = random_case(5, n=200)
    inputs = ("adx", "ema_distance", "atr_ratio", "vol_regime", "funding_bps", "book_imbalance")
    for name in inputs:
        bars = Bars(**(case.bars | {name: np.full(200, np.nan)}))
        run = reference_simulation(bars, case.probabilities, TradeParams(), case.equity)
        for i in range(200):
            regime, scores = classify_regime(bars.bar(i), TradeParams())
            assert (int(regime), tuple(scores)) == (run.regimes[i], run.scores[i]), (name, i)


def signal_of(triple: np.ndarray, params: TradeParams) -> Signal:
    if np.isnan(triple).all():
        return NO_SIGNAL
    return route(*triple.tolist(), params)


def rows(table, columns: str) -> list[tuple]:  # type: ignore[no-untyped-def, type-arg]
    return list(zip(*(table[name].tolist() for name in columns.split()), strict=True))
