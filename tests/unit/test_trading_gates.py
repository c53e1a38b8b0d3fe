"""Each of the twelve gates alone: everything else passes, and only its bit changes."""

import pytest
from trading_market import LONG, NAN, NEUTRAL, NONE, SHORT, altered, flat, market, signals

from acmf_core.domain import BAR_US
from acmf_core.trading import (
    ALL_GATES,
    GATES,
    NO_SIGNAL,
    TradeParams,
    TradingState,
    decide,
    gate_names,
    kill,
    route,
    settle,
    simulate,
)

P = TradeParams()


def mask(signal=LONG, params=P, alter=None, lots_from=None, **inputs):
    """The mask of one bar, decided on a fresh state (or one altered after settling)."""
    bars = market(flat(1), **inputs)
    state = settle(lots_from or TradingState.initial(10_000.0), bars.bar(0), ())
    if alter:
        state = altered(state, **alter)
    return decide(state, bars.bar(0), route(*signal, params), params)[2]


def closed(mask_value):
    return set(gate_names(mask_value))


def test_there_are_twelve_in_the_order_of_the_design():
    assert " ".join(GATES) == (
        "direction confidence cooldown capacity volume daily_drawdown "
        "loss_streak funding spread book data enabled"
    )
    assert ALL_GATES == 4095


def test_a_clean_bar_passes_all_twelve():
    assert mask() == ALL_GATES
    assert mask(SHORT) == ALL_GATES


def test_direction():
    assert closed(mask((0.31, 0.29, 0.40))) == {"direction", "confidence"}
    calm = TradeParams(min_confidence=(0.2, 0.2, 0.2))
    assert closed(mask((0.31, 0.29, 0.40), calm)) == {"direction"}


def test_a_bar_without_prediction_has_neither_direction_nor_confidence():
    bars = market(flat(1))
    state = settle(TradingState.initial(10_000.0), bars.bar(0), ())
    assert closed(decide(state, bars.bar(0), NO_SIGNAL, P)[2]) == {"direction", "confidence"}


def test_confidence_forgives_float_noise():
    # 0.57 / 0.33 = 1.72727...: 1 - 1.5 / 2.72727... is 0.44999999999999996 in float64, and means 0.45
    assert route(0.57, 0.33, 0.10, P).confidence < 0.45
    assert mask((0.57, 0.33, 0.10)) == ALL_GATES
    assert closed(mask((0.569, 0.33, 0.101))) == {"confidence"}


@pytest.mark.parametrize(("regime", "least"), [(0, 0.45), (1, 0.55), (2, 0.60)])
def test_confidence_is_held_against_the_regimes_minimum(regime, least):
    inputs = [
        {},
        {"adx": 15.0, "ema_distance": 0.1, "atr_ratio": 0.9},
        {"adx": 22.0, "ema_distance": 0.7, "atr_ratio": 1.6, "vol_regime": 0.95},
    ][regime]
    # P(SHORT) = 0.2 and P(LONG) = 0.2 x ratio, with ratio = 1.5 / (1 - confidence) - 1
    above = 0.2 * (1.5 / (1 - (least + 1e-6)) - 1)
    below = 0.2 * (1.5 / (1 - (least - 1e-6)) - 1)
    assert mask((above, 0.2, 0.8 - above), **inputs) == ALL_GATES
    assert closed(mask((below, 0.2, 0.8 - below), **inputs)) == {"confidence"}


@pytest.mark.parametrize(("bars_since", "passes"), [(0, False), (1, False), (2, True), (3, True)])
def test_cooldown_counts_bars_since_the_last_decision_or_resting_fill(bars_since, passes):
    bar = market(flat(1)).bar(0)
    active = {"active": bar.open_time - bars_since * BAR_US}
    assert closed(mask(alter=active)) == (set() if passes else {"cooldown"})


def test_nothing_done_yet_passes_the_cooldown():
    assert mask() == ALL_GATES


def open_lot(entry_signal=LONG, n=3, **inputs):
    """The state two bars after an entry, cooled down, with the lot open at 10,000."""
    bars = market(flat(n), **inputs)
    return simulate(bars, signals(entry_signal, n=n), P).final_state, bars


def next_bar(state, n, **inputs):
    bars = market(flat(n + 1), **inputs)
    bar = bars.bar(n)
    return settle(state, bar, ()), bar


def test_capacity_counts_open_lots_of_the_current_regime():
    state, _ = open_lot()
    settled, bar = next_bar(state, 3)
    assert decide(settled, bar, route(*LONG, P), P)[2] == ALL_GATES  # one of three
    one_only = TradeParams(max_positions=(1, 1, 1))
    assert closed(decide(settled, bar, route(*LONG, one_only), one_only)[2]) == {"capacity"}


def test_capacity_leaves_out_lots_with_a_pending_exit():
    state, _ = open_lot()
    settled, bar = next_bar(state, 3)
    quick = TradeParams(max_positions=(1, 1, 1), cooldown=(0, 0, 0))
    lot = settled.lots[0]._asdict() | {"time_exit": 3}  # this is the third bar it is held
    gates = decide(altered(settled, lots=[lot]), bar, route(*LONG, quick), quick)[2]
    assert gates == ALL_GATES


def test_a_lot_on_the_other_side_closes_capacity_even_when_it_is_leaving():
    state, _ = open_lot()
    settled, bar = next_bar(state, 3)
    quick = TradeParams(cooldown=(0, 0, 0))
    decided, orders, gates = decide(settled, bar, route(*SHORT, quick), quick)
    assert closed(gates) == {"capacity"}
    assert [order.reason for order in orders] == [5]  # the opposite exit, and no entry
    assert decided.entry is None


def test_with_no_side_the_directional_half_of_capacity_passes():
    state, _ = open_lot()
    settled, bar = next_bar(state, 3)
    assert closed(decide(settled, bar, route(*NEUTRAL, P), P)[2]) == {"direction", "confidence"}


@pytest.mark.parametrize(("ratio", "names"), [(0.5, set()), (0.4999, {"volume"}), (NAN, {"volume", "data"})])
def test_volume(ratio, names):
    assert closed(mask(volume_ratio=ratio)) == names


@pytest.mark.parametrize(
    ("equity", "names"),
    [
        (9_500.01, set()),
        (9_500.0, {"daily_drawdown"}),  # exactly 5 %: no entry, and no trip
        (9_499.99, {"daily_drawdown", "enabled"}),  # the breaker trips in the same bar
    ],
)
def test_daily_drawdown(equity, names):
    assert closed(mask(alter={"equity": equity, "day_reference": 10_000.0})) == names


def test_a_reference_of_nothing_counts_as_all_lost():
    assert "daily_drawdown" in closed(mask(alter={"day_reference": 0.0}))


def test_loss_streak():
    patient = TradeParams(max_losses=4)
    assert mask(params=patient, alter={"streak": 3}) == ALL_GATES
    assert closed(mask(alter={"streak": 2})) == set()
    assert closed(mask(alter={"streak": 3})) == {"loss_streak", "enabled"}  # and the breaker trips


@pytest.mark.parametrize(
    ("funding", "signal", "passes"),
    [
        (3.0, LONG, True),
        (3.001, LONG, False),  # longs pay a positive rate
        (10.0, SHORT, True),  # shorts receive it
        (10.001, SHORT, False),
        (-3.0, SHORT, True),
        (-3.001, SHORT, False),
        (-10.0, LONG, True),
        (-10.001, LONG, False),
        (NAN, LONG, True),
    ],
)
def test_funding(funding, signal, passes):
    # both extremes also score for a high volatility regime, where this ADX and distance keep trending ahead
    assert closed(mask(signal, funding_bps=funding)) == (set() if passes else {"funding"})


def test_with_no_side_only_extreme_funding_closes_its_gate():
    assert "funding" not in closed(mask(NEUTRAL, funding_bps=9.0))
    assert "funding" in closed(mask(NEUTRAL, funding_bps=10.5))


@pytest.mark.parametrize(("spread", "passes"), [(5.0, True), (5.001, False), (NAN, True)])
def test_spread(spread, passes):
    assert closed(mask(book_spread_bps=spread)) == (set() if passes else {"spread"})


@pytest.mark.parametrize(
    ("imbalance", "signal", "passes"),
    [
        (-0.85, LONG, True),
        (-0.851, LONG, False),
        (0.85, SHORT, True),
        (0.851, SHORT, False),
        (NAN, LONG, True),
    ],
)
def test_book(imbalance, signal, passes):
    assert closed(mask(signal, book_imbalance=imbalance)) == (set() if passes else {"book"})


def test_with_no_side_the_book_passes():
    assert "book" not in closed(mask(NEUTRAL, book_imbalance=-1.0))


@pytest.mark.parametrize("name", ["adx", "ema_distance", "atr_ratio", "vol_regime"])
def test_data_need_every_channel_of_the_regime(name):
    confident = (0.8, 0.1, 0.1)
    assert closed(mask(confident, **{name: NAN})) == {"data"}


def test_data_need_an_atr_and_without_one_no_size_is_allowed():
    assert closed(mask(atr=NAN)) == {"data", "enabled"}


def test_data_take_the_callers_word():
    assert closed(mask(data_ok=False)) == {"data"}


def test_enabled_takes_the_callers_word():
    assert closed(mask(entries_off=True)) == {"enabled"}


def test_enabled_is_closed_by_the_kill_switch():
    assert closed(mask(lots_from=kill(TradingState.initial(10_000.0)))) == {"enabled"}


def test_enabled_needs_equity():
    assert "enabled" in closed(mask(alter={"equity": -1.0, "day_reference": -1.0}))


def test_the_target_must_pay_for_three_round_trips():
    # round trip = 2 x (5 + 2) bps x 10,000 = 14; three of them 42; the target is 3 ATR: ATR >= 14
    big = TradeParams(max_leverage=100.0)
    assert mask(params=big, atr=14.0 + 1e-9) == ALL_GATES
    assert closed(mask(params=big, atr=13.99)) == {"enabled"}


def test_the_target_test_uses_the_current_regimes_multiple():
    # ranging: the target is 2 ATR, so ATR >= 21
    big = TradeParams(max_leverage=100.0)
    calm = {"adx": 15.0, "ema_distance": 0.1, "atr_ratio": 0.9}
    assert mask(params=big, atr=21.0 + 1e-9, **calm) == ALL_GATES
    assert closed(mask(params=big, atr=20.99, **calm)) == {"enabled"}


def test_no_gate_short_circuits_another():
    everything_wrong = closed(
        mask(
            NEUTRAL,
            alter={"equity": 9_400.0, "streak": 3, "active": market(flat(1)).bar(0).open_time},
            volume_ratio=0.1,
            funding_bps=11.0,
            book_spread_bps=9.0,
            data_ok=False,
        )
    )
    assert everything_wrong == set(GATES) - {"capacity", "book"}


def test_an_entry_is_sent_exactly_where_the_mask_is_full():
    bars = market(flat(40))
    result = simulate(bars, signals(*[LONG, NEUTRAL, NONE, SHORT] * 10), P)
    entries = result.orders[result.orders.purpose == "entry"]
    assert list(entries.bar) == [i for i in range(40) if result.gates[i] == ALL_GATES]
    assert len(entries) == 3


def test_an_entry_without_book_history_is_counted():
    result = simulate(market(flat(2)), signals(LONG, n=2), P)
    assert result.entries_without_book() == {"entries": 1, "spread": 1, "book": 1}
    seen = simulate(market(flat(2), book_imbalance=0.0, book_spread_bps=1.0), signals(LONG, n=2), P)
    assert seen.entries_without_book() == {"entries": 1, "spread": 0, "book": 0}
