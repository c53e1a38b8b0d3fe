"""How much: the order of caps and scalars, worked out by hand (equity 10,000, price 10,000, ATR 100)."""

import pytest
from trading_market import HIGH_VOLATILITY, LONG, RANGING, SHORT, altered, flat, market, signals

from acmf_core.trading import TradeParams, TradingState, decide, gate_names, route, settle, simulate

P = TradeParams()
FULL = (0.5, 0.1, 0.4)  # ratio 5: confidence 1 - 1.5 / 6 = 0.75, scalar 1.2
LEAST = (0.57, 0.33, 0.10)  # confidence 0.45, scalar 0.8 in the trending regime


def entry(signal=LONG, params=P, equity=10_000.0, state=None, alter=None, **inputs):
    """The quantity of the entry sent on one bar, or None."""
    bar = market(flat(1), **inputs).bar(0)
    settled = settle(state or TradingState.initial(equity), bar, ())
    if alter:
        settled = altered(settled, **alter)
    decided, _, _ = decide(settled, bar, route(*signal, params), params)
    return decided.entry.quantity if decided.entry else None


def test_a_lot_risks_one_and_a_half_percent():
    # 10,000 x 1.5 % / (100 x 2.0) = 0.75
    assert entry() == pytest.approx(0.75, abs=1e-12)
    assert entry(SHORT) == pytest.approx(0.75, abs=1e-12)


def test_cost_in_risk_adds_the_round_trip_to_the_distance():
    # 150 / (200 + 2 x 7 bps x 10,000) = 150 / 214 = 0.70093...
    assert entry(params=TradeParams(cost_in_risk=True)) == pytest.approx(0.700, abs=1e-12)


def test_the_scalar_goes_from_08_at_the_minimum_to_12_at_075():
    assert entry(LEAST) == pytest.approx(0.600, abs=1e-12)  # 0.75 x 0.8
    assert entry(LONG) == pytest.approx(0.750, abs=1e-12)  # confidence 0.6: 0.8 + 0.4 x 0.15 / 0.30 = 1.0
    assert entry(FULL) == pytest.approx(0.900, abs=1e-12)  # 0.75 x 1.2
    assert entry((0.8, 0.05, 0.15)) == pytest.approx(0.900, abs=1e-12)  # clipped above 0.75


def test_a_minimum_at_the_end_of_the_scale_gives_12_at_or_above_it_and_08_below():
    late = TradeParams(min_confidence=(0.75, 0.75, 0.75))
    assert entry(FULL, late) == pytest.approx(0.900, abs=1e-12)
    later = TradeParams(min_confidence=(0.80, 0.8, 0.8))
    assert entry((0.66, 0.10, 0.24), later) == pytest.approx(0.900, abs=1e-12)  # 1 - 1.5 / 7.6 = 0.8026
    assert entry(FULL, later) is None  # below the minimum: gate 1


def test_one_lot_is_capped_and_the_scalar_comes_after_the_cap():
    # ATR 20: 150 / 40 = 3.75, but 10,000 x 3 / 3 positions / 10,000 = 1.0; then x 1.2 (1.2 x the cap)
    assert entry(LONG, atr=20.0) == pytest.approx(1.0, abs=1e-12)
    assert entry(FULL, atr=20.0) == pytest.approx(1.2, abs=1e-12)


def test_the_cap_of_a_lot_depends_on_the_regimes_positions():
    # high volatility: one position, cap 3.0; 150 / (100 x 2.5) = 0.6; at confidence 0.6 the scalar is 0.8
    assert entry(LONG, **HIGH_VOLATILITY) == pytest.approx(0.480, abs=1e-12)
    # ranging: 150 / (100 x 1.5) = 1.0, cap 1.5; scalar 0.8 + 0.4 x (0.60 - 0.55) / 0.20 = 0.9
    assert entry(LONG, **RANGING) == pytest.approx(0.900, abs=1e-12)
    # ranging with ATR 30: 3.33, cap 1.5 x 0.9
    assert entry(LONG, atr=30.0, **RANGING) == pytest.approx(1.350, abs=1e-12)


@pytest.mark.parametrize(("peak", "quantity"), [(10_204.0, 0.750), (10_204.2, 0.375)])
def test_half_of_it_when_more_than_two_percent_below_the_peak(peak, quantity):
    # (10,204 - 10,000) / 10,204 = 1.9992 %; (10,204.2 - 10,000) / 10,204.2 = 2.0011 %
    assert entry(alter={"peak": peak}) == pytest.approx(quantity, abs=1e-12)


def two_bars_after_an_entry(**inputs):
    result = simulate(market(flat(3), **inputs), signals(LONG, n=3), P)
    bar = market(flat(4), **inputs).bar(3)
    return settle(result.final_state, bar, ()), bar


def quantity_beside(lots, bar, signal=LONG, params=P, equity=10_000.0):
    """What is sent beside given lots, at an equity set by hand."""
    state, _ = two_bars_after_an_entry()
    template = state.lots[0]._asdict()
    altered_lots = [template | {"lot": 100 + k} | lot for k, lot in enumerate(lots)]
    state = altered(
        state, lots=altered_lots, n_lots=len(lots), equity=equity, peak=equity, day_reference=equity
    )
    decided, _, gates = decide(state, bar, route(*signal, params), params)
    return (decided.entry.quantity if decided.entry else None), gates


BAR = market(flat(4)).bar(3)


def test_total_notional_cuts_the_new_lot():
    # 3 x 10,000 / 10,000 = 3.0 in all, 2.4 held (stop at the entry, so no risk): 0.6 left of 0.75 wanted
    assert quantity_beside([{"quantity": 2.4, "stop": 10_002.0}], BAR)[0] == pytest.approx(0.6, abs=1e-12)


def test_less_than_half_of_what_was_wanted_is_no_entry():
    # wanted 0.75: half is 0.375
    assert quantity_beside([{"quantity": 2.625, "stop": 10_002.0}], BAR)[0] == pytest.approx(0.375, abs=1e-12)
    quantity, gates = quantity_beside([{"quantity": 2.626, "stop": 10_002.0}], BAR)
    assert quantity is None
    assert gate_names(gates) == ("enabled",)


def test_half_is_compared_before_rounding_to_the_step():
    # wanted 0.75; room 0.3755: at least half of it, then rounded down to 0.375
    assert quantity_beside([{"quantity": 2.6245, "stop": 10_002.0}], BAR)[0] == pytest.approx(
        0.375, abs=1e-12
    )


def test_open_risk_of_all_lots_stays_below_four_and_a_half_percent():
    # 450 in all; a lot of 0.9 with its stop 300 below its entry risks 270: 180 left; 180 / 200 = 0.9 >= 0.75
    assert quantity_beside([{"quantity": 0.9, "entry": 10_000.0, "stop": 9_700.0}], BAR)[0] == 0.75
    # 350 away: 315 risked, 135 left: 135 / 200 = 0.675
    assert quantity_beside([{"quantity": 0.9, "entry": 10_000.0, "stop": 9_650.0}], BAR)[0] == pytest.approx(
        0.675
    )


def test_a_lot_whose_stop_is_past_its_entry_risks_nothing():
    lots = [{"quantity": 0.5, "entry": 9_000.0, "stop": 9_500.0}] * 2
    assert quantity_beside(lots, BAR)[0] == pytest.approx(0.75, abs=1e-12)


def test_lots_that_are_leaving_count_in_neither():
    leaving = {"quantity": 2.9, "entry": 10_000.0, "stop": 9_000.0, "exit_reason": 6, "exit_decided": 0}
    assert quantity_beside([leaving], BAR)[0] == pytest.approx(0.75, abs=1e-12)


def test_the_market_lot_limit_caps_after_the_total_caps_and_is_not_a_cut():
    # wanted 0.75, the venue takes 0.2 in one market order: less than half, and still an entry
    assert entry(params=TradeParams(max_market_quantity=0.2)) == pytest.approx(0.2, abs=1e-12)


def test_quantities_are_rounded_down_to_the_step_never_up():
    # 150 / 214.3 = 0.69995...
    assert entry(atr=107.15) == pytest.approx(0.699, abs=1e-12)
    assert entry(params=TradeParams(step=0.5, min_quantity=0.5)) == pytest.approx(0.5, abs=1e-12)


def test_float_noise_does_not_cost_a_step():
    # 10,000 x 1.5 % / 250 x 0.8 = 0.48, which is 479.99999999999994 steps in float64
    assert entry(LONG, **HIGH_VOLATILITY) == pytest.approx(0.480, abs=1e-12)


def test_below_the_minimum_quantity_is_no_entry():
    assert entry(params=TradeParams(min_quantity=0.75)) == pytest.approx(0.75, abs=1e-12)
    assert entry(params=TradeParams(min_quantity=0.751)) is None


def test_below_the_minimum_notional_is_no_entry():
    # 0.75 x 10,000 = 7,500
    assert entry(params=TradeParams(min_notional=7_500.0)) == pytest.approx(0.75, abs=1e-12)
    assert entry(params=TradeParams(min_notional=7_500.1)) is None


def test_sizes_scale_with_equity():
    assert entry(equity=100_000.0) == pytest.approx(7.5, abs=1e-12)
    assert entry(equity=1_000.0) == pytest.approx(0.075, abs=1e-12)
    assert entry(equity=10.0) is None  # 0.00075: below the step


def test_a_market_that_does_not_move_allows_no_size():
    free = TradeParams(fee_bps=0.0, slippage_bps=0.0)
    assert entry(params=free, atr=0.0) is None
