"""Stops, targets, trailing, opposite signals and time: every fill price worked out by hand.

A long decided at bar 0 fills at the open of bar 1: 10,000 x 1.0002 = 10,002; stop 9,802, target 10,302,
trailing distance 150. A short: 9,998; stop 10,198, target 9,698. Quantity 0.75.
"""

import pytest
from trading_market import HIGH_VOLATILITY, LONG, NEUTRAL, NONE, SHORT, TRENDING, flat, market, signals

from acmf_core.domain import BAR_US
from acmf_core.trading import TradeParams, simulate

P = TradeParams()
ENTRY_BARS = [10_000.0, 10_000.0]  # decided, filled


def trade(candles, *rows, params=P, entry=LONG, **inputs):
    """A simulation of an entry at bar 0 with these candles from bar 2 on."""
    bars = market(ENTRY_BARS + list(candles), **inputs)
    return simulate(bars, signals(entry, *rows, n=bars.n), params)


def exits(result):
    """(bar, quantity, price, reason) of every fill that is no entry."""
    fills = result.fills[result.fills.purpose != "entry"]
    return [(f.bar, round(f.quantity, 9), round(f.price, 6), f.reason) for f in fills.itertuples()]


def test_an_entry_fills_at_the_next_open_worsened_by_slippage():
    fill = trade([]).fills.iloc[0]
    assert (fill.bar, fill.side, fill.reason, fill.purpose) == (1, 1, "entry", "entry")
    assert fill.price == pytest.approx(10_002.0, abs=1e-9)  # 10,000 x 1.0002
    assert fill.quantity == pytest.approx(0.75, abs=1e-12)
    assert fill.fee == pytest.approx(0.0005 * 0.75 * 10_002.0, abs=1e-9)


def test_stop_and_target_stand_around_the_fill_price():
    lot = trade([]).final_state.lots[0]
    assert (lot.stop, lot.target) == (pytest.approx(9_802.0), pytest.approx(10_302.0))
    short = trade([], entry=SHORT).final_state.lots[0]
    assert short.entry == pytest.approx(9_998.0)
    assert (short.stop, short.target) == (pytest.approx(10_198.0), pytest.approx(9_698.0))


def test_stop_and_target_are_rounded_toward_the_entry():
    # ATR 100.03: stop 10,002 - 200.06 = 9,801.94 -> 9,802.0; target 10,002 + 300.09 = 10,302.09 -> 10,302.0
    lot = trade([], atr=100.03).final_state.lots[0]
    assert (lot.stop, lot.target) == (pytest.approx(9_802.0), pytest.approx(10_302.0))
    # short: 9,998 + 200.06 = 10,198.06 -> 10,198.0; 9,998 - 300.09 = 9,697.91 -> 9,698.0
    lot = trade([], entry=SHORT, atr=100.03).final_state.lots[0]
    assert (lot.stop, lot.target) == (pytest.approx(10_198.0), pytest.approx(9_698.0))


def test_a_level_on_a_tick_is_not_moved_by_float_noise():
    assert trade([]).final_state.lots[0].stop / 0.1 == pytest.approx(98_020, abs=1e-6)


# --- stops ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "stopped"), [(9_802.1, False), (9_802.0, True), (9_802.0 + 5e-8, True), (9_802.0 + 5e-7, False)]
)
def test_a_stop_is_touched_when_the_bar_reaches_it_within_a_millionth_of_a_tick(low, stopped):
    result = trade([(10_000.0, 10_000.0, low, 10_000.0)])
    # 9,802 x 0.9998 = 9,800.0396
    assert exits(result) == ([(2, 0.75, 9_800.0396, "stop")] if stopped else [])


def test_a_shorts_stop_is_touched_from_below():
    # 10,198 x 1.0002 = 10,200.0396
    assert exits(trade([(10_000.0, 10_198.0, 10_000.0, 10_000.0)], entry=SHORT)) == [
        (2, 0.75, 10_200.0396, "stop")
    ]
    assert exits(trade([(10_000.0, 10_197.9, 10_000.0, 10_000.0)], entry=SHORT)) == []


def test_a_bar_that_opens_beyond_the_stop_fills_at_the_open():
    # 9,700 x 0.9998 = 9,698.06; 10,300 x 1.0002 = 10,302.06
    assert exits(trade([(9_700.0, 9_900.0, 9_650.0, 9_900.0)])) == [(2, 0.75, 9_698.06, "stop")]
    assert exits(trade([(10_300.0, 10_300.0, 10_100.0, 10_100.0)], entry=SHORT)) == [
        (2, 0.75, 10_302.06, "stop")
    ]


def test_a_lot_can_be_stopped_in_the_bar_it_enters():
    bars = market([10_000.0, (10_000.0, 10_050.0, 9_800.0, 9_900.0)])
    assert exits(simulate(bars, signals(LONG, n=2), P)) == [(1, 0.75, 9_800.0396, "stop")]


def test_the_stop_comes_before_the_target_when_a_bar_touches_both():
    assert exits(trade([(10_000.0, 10_400.0, 9_700.0, 10_000.0)])) == [(2, 0.75, 9_800.0396, "stop")]
    both = trade([(10_000.0, 10_300.0, 9_600.0, 10_000.0)], entry=SHORT)
    assert exits(both) == [(2, 0.75, 10_200.0396, "stop")]


def test_even_a_bar_that_opens_beyond_the_target_is_stopped_first():
    assert exits(trade([(10_350.0, 10_400.0, 9_700.0, 10_000.0)])) == [(2, 0.75, 9_800.0396, "stop")]


# --- targets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "reached"),
    [(10_301.9, False), (10_302.0, True), (10_302.0 - 5e-8, True), (10_302.0 - 5e-7, False)],
)
def test_a_target_closes_half_at_its_price(high, reached):
    result = trade([(10_250.0, high, 10_250.0, 10_300.0)])
    # 10,302 x 0.9998 = 10,299.9396
    assert exits(result) == ([(2, 0.375, 10_299.9396, "target")] if reached else [])


def test_a_bar_that_opens_beyond_the_target_still_fills_at_the_target():
    assert exits(trade([(10_400.0, 10_400.0, 10_390.0, 10_400.0)])) == [(2, 0.375, 10_299.9396, "target")]


def test_a_shorts_target_closes_half_too():
    # 9,698 x 1.0002 = 9,699.9396
    result = trade([(9_750.0, 9_750.0, 9_698.0, 9_700.0)], entry=SHORT)
    assert exits(result) == [(2, 0.375, 9_699.9396, "target")]


def test_half_is_rounded_down_to_the_step():
    # ATR 99.9: 150 / 199.8 = 0.7507... -> 0.750; a step of 0.25 gives 0.75: half is 0.25, the rest 0.5
    result = trade([(10_350.0,) * 4], params=TradeParams(step=0.25, min_quantity=0.25))
    assert exits(result)[0][:2] == (2, 0.25)
    assert result.final_state.lots[0].quantity == 0.5


@pytest.mark.parametrize(("least", "closed"), [(0.375, 0.375), (0.376, 0.75)])
def test_all_of_it_goes_where_half_is_below_the_minimum_quantity(least, closed):
    result = trade([(10_350.0,) * 4], params=TradeParams(min_quantity=least))
    assert exits(result) == [(2, closed, 10_299.9396, "target")]
    assert result.final_state.n_lots == (1 if closed < 0.75 else 0)


def test_what_is_left_is_a_whole_number_of_steps():
    result = trade([(10_350.0,) * 4], atr=115.0)  # 150 / 230 = 0.652: half 0.326, rest 0.326
    assert result.final_state.lots[0].quantity == 326 * 0.001


# --- the rest trails ------------------------------------------------------------------------

UP = (10_250.0, 10_310.0, 10_250.0, 10_300.0)  # the target fills; best 10,310


def test_the_extreme_of_the_bar_moves_the_stop_after_that_bar():
    # 10,310 - 150 = 10,160, above the entry (10,002) and below the close (10,300)
    lot = trade([UP]).final_state.lots[0]
    assert lot.stop == pytest.approx(10_160.0)
    assert lot.stop_moved == 1


def test_the_low_of_the_same_bar_does_not_touch_the_stop_that_it_moves():
    deep = (10_250.0, 10_310.0, 10_100.0, 10_300.0)
    assert exits(trade([deep])) == [(2, 0.375, 10_299.9396, "target")]


def test_a_moved_stop_fills_with_the_reason_trailing():
    # 10,160 x 0.9998 = 10,157.968
    result = trade([UP, (10_200.0, 10_200.0, 10_150.0, 10_190.0)])
    assert exits(result)[1] == (3, 0.375, 10_157.968, "trailing")
    assert result.trades.iloc[0].reason == "trailing"


def test_a_target_fills_once():
    result = trade([UP, (10_300.0, 10_400.0, 10_300.0, 10_390.0), (10_390.0, 10_500.0, 10_390.0, 10_490.0)])
    assert [e[3] for e in exits(result)] == ["target"]


def test_a_stop_moves_only_to_a_better_level():
    result = trade([UP, (10_300.0, 10_400.0, 10_300.0, 10_390.0), (10_390.0, 10_390.0, 10_300.0, 10_390.0)])
    assert result.states[3].lots[0].stop == pytest.approx(10_250.0)  # 10,400 - 150
    assert result.states[4].lots[0].stop == pytest.approx(10_250.0)


def test_a_trailing_stop_never_lies_on_the_losing_side_of_the_entry():
    wide = TradeParams(trail_atr=(4.0, 4.0, 4.0))
    # 10,310 - 400 = 9,910, below the entry: the stop is the entry, 10,002
    assert trade([UP], params=wide).final_state.lots[0].stop == pytest.approx(10_002.0)


def test_the_entry_as_a_stop_is_rounded_up_after_the_comparison():
    wide = TradeParams(trail_atr=(4.0, 4.0, 4.0), slippage_bps=2.03)
    # entry 10,000 x 1.000203 = 10,002.03: the stop is 10,002.1, not 10,002.0
    assert trade([UP], params=wide).final_state.lots[0].stop == pytest.approx(10_002.1)


def test_a_shorts_rest_trails_mirrored():
    down = (9_750.0, 9_750.0, 9_690.0, 9_700.0)  # best 9,690: 9,690 + 150 = 9,840
    result = trade([down, (9_700.0, 9_850.0, 9_700.0, 9_800.0)], entry=SHORT)
    assert result.states[2].lots[0].stop == pytest.approx(9_840.0)
    # 9,840 x 1.0002 = 9,841.968
    assert exits(result)[1] == (3, 0.375, 9_841.968, "trailing")


def test_a_moved_stop_at_or_beyond_the_close_is_a_market_exit():
    # best 10,310: the stop would be 10,160, the close is 10,160: refused
    back = (10_250.0, 10_310.0, 10_150.0, 10_160.0)
    result = trade([back, (10_170.0, 10_170.0, 10_170.0, 10_170.0)])
    lot = result.states[2].lots[0]
    assert (lot.stop, lot.stop_moved) == (pytest.approx(9_802.0), 0)  # the old stop stays
    assert list(result.orders.reason) == ["entry", "trailing"]
    # the next open: 10,170 x 0.9998 = 10,167.966
    assert exits(result)[1] == (3, 0.375, 10_167.966, "trailing")


def test_a_moved_stop_one_tick_below_the_close_stands():
    back = (10_250.0, 10_310.0, 10_150.0, 10_160.1)
    assert trade([back]).final_state.lots[0].stop == pytest.approx(10_160.0)


def test_a_refused_stop_of_a_short_leaves_at_market_too():
    back = (9_750.0, 9_850.0, 9_690.0, 9_840.0)
    result = trade([back, 9_830.0], entry=SHORT)
    assert exits(result)[1] == (3, 0.375, round(9_830.0 * 1.0002, 6), "trailing")


def test_before_the_target_nothing_trails():
    assert trade([(10_250.0, 10_301.0, 10_250.0, 10_300.0)]).final_state.lots[0].stop == pytest.approx(
        9_802.0
    )


def test_the_trail_is_frozen_at_the_entry():
    # decided in the trending regime (1.5 x 100); the bars after it are high volatility with another ATR
    columns = {name: [TRENDING[name], value, value] for name, value in HIGH_VOLATILITY.items()}
    result = trade([UP], atr=[100.0, 300.0, 300.0], **columns)
    assert list(result.regimes) == [0, 2, 2]
    assert result.final_state.lots[0].stop == pytest.approx(10_160.0)


# --- opposite signal ------------------------------------------------------------------------


def test_an_opposite_signal_closes_everything_at_the_next_open():
    result = trade([10_000.0, 10_100.0], NONE, SHORT)
    # decided at the close of bar 2, filled at the open of bar 3: 10,100 x 0.9998 = 10,097.98
    assert exits(result) == [(3, 0.75, 10_097.98, "opposite")]
    order = result.orders.iloc[1]
    assert (order.bar, order.side, order.purpose, order.reason) == (2, -1, "exit", "opposite")


def test_an_opposite_signal_needs_its_own_confidence_only():
    weak = (0.20, 0.31, 0.49)  # ratio 1.55: confidence 1 - 1.5 / 2.55 = 0.4118, below any entry's
    assert len(exits(trade([10_000.0, 10_000.0], NONE, weak))) == 1
    strict = TradeParams(opposite_min_confidence=0.42)
    assert exits(trade([10_000.0, 10_000.0], NONE, weak, params=strict)) == []
    boundary = (0.20, 0.30, 0.50)  # confidence 0.40 but for float noise
    assert len(exits(trade([10_000.0, 10_000.0], NONE, boundary))) == 1


def test_a_neutral_signal_or_the_same_side_closes_nothing():
    assert exits(trade(flat(3), NONE, NEUTRAL, LONG)) == []


def test_no_entry_in_the_bar_of_an_opposite_exit():
    eager = TradeParams(cooldown=(0, 0, 0))
    result = trade(flat(4), NONE, SHORT, SHORT, params=eager)
    assert list(result.orders.reason) == ["entry", "opposite", "entry"]
    assert list(result.orders.bar) == [0, 2, 3]


# --- time -----------------------------------------------------------------------------------


def test_a_lot_leaves_at_the_close_of_its_nth_bar():
    quick = TradeParams(time_exit=(3, 12, 8))
    result = trade(flat(4), params=quick)
    # entered in bar 1: bars 1, 2, 3 are held; decided at the close of 3, filled at the open of 4
    assert list(result.orders.bar) == [0, 3]
    assert exits(result) == [(4, 0.75, 9_998.0, "time")]
    assert result.trades.iloc[0].bars == 4


def test_the_rest_that_trails_leaves_on_time_too():
    quick = TradeParams(time_exit=(3, 12, 8))
    result = trade([UP, (10_300.0,) * 4, (10_300.0,) * 4], params=quick)
    assert [e[3] for e in exits(result)] == ["target", "time"]


def test_the_first_reason_stays():
    # bar 2: the moved stop is refused, the signal is opposite, and it is the last bar allowed
    back = (10_250.0, 10_310.0, 10_150.0, 10_160.0)
    quick = TradeParams(time_exit=(2, 12, 8))
    assert exits(trade([back, 10_170.0], NONE, SHORT, params=quick))[1][3] == "trailing"
    assert exits(trade([10_000.0, 10_000.0], NONE, SHORT, params=quick))[0][3] == "opposite"
    assert exits(trade([10_000.0, 10_000.0], NONE, NEUTRAL, params=quick))[0][3] == "time"


def test_a_pending_exit_is_not_decided_twice():
    result = trade(flat(3), NONE, SHORT, SHORT)
    assert list(result.orders.reason) == ["entry", "opposite"]


# --- order inside a bar ---------------------------------------------------------------------


def test_at_the_open_exits_come_before_the_entry_and_resting_exits_oldest_first():
    eager = TradeParams(cooldown=(0, 0, 0), time_exit=(3, 12, 8))
    # entries at bars 1, 2, 3; the first leaves by time at the open of 4, a fourth enters there; three stop
    bars = market([*flat(4), (10_000.0, 10_000.0, 9_700.0, 9_700.0)])
    result = simulate(bars, signals(LONG, LONG, LONG, LONG, n=5), eager)
    last = result.fills[result.fills.bar == 4]
    assert list(last.reason) == ["time", "entry", "stop", "stop", "stop"]
    assert list(last.lot) == [1, 4, 2, 3, 4]


def test_a_lot_with_a_pending_market_exit_is_not_stopped_in_the_bar_it_leaves():
    result = trade([10_000.0, (10_000.0, 10_000.0, 9_700.0, 9_700.0)], NONE, SHORT)
    assert exits(result) == [(3, 0.75, 9_998.0, "opposite")]


def test_a_flat_bar_without_volume_fills_like_any_other():
    bars = market(flat(2), volume_ratio=[1.0, 0.0])
    assert len(simulate(bars, signals(LONG, n=2), P).fills) == 1


def test_an_entry_of_the_last_bar_has_an_order_and_no_fill():
    result = simulate(market(flat(1)), signals(LONG), P)
    assert len(result.orders) == 1
    assert len(result.fills) == 0
    assert result.final_state.entry.quantity == pytest.approx(0.75)


def test_lots_open_at_the_end_are_in_the_state_and_not_in_the_trades():
    result = trade(flat(2))
    assert len(result.trades) == 0
    assert result.final_state.n_lots == 1


# --- cooldown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candle", "sent"),
    [
        ((10_000.0, 10_000.0, 9_802.0, 9_900.0), 4),  # a stop in bar 2: bars 2 and 3 are blocked
        (UP, 4),  # a partial take profit as well
        (10_000.0, 2),  # nothing: two bars after the entry was sent
    ],
)
def test_a_resting_fill_starts_the_cooldown_anew(candle, sent):
    result = trade([candle, 10_300.0, 10_300.0, 10_300.0], NONE, LONG, LONG, LONG, LONG)
    entries = result.orders[result.orders.purpose == "entry"]
    assert entries.bar.iloc[1] == sent


def test_the_fill_of_a_market_exit_starts_nothing_its_decision_did():
    # decided at bar 2: bars since are 0, 1, 2 at bars 2, 3, 4
    result = trade(flat(4), NONE, SHORT, SHORT, SHORT, SHORT)
    assert list(result.orders.bar) == [0, 2, 4]


def test_a_refused_stop_is_a_market_decision():
    back = (10_250.0, 10_310.0, 10_150.0, 10_160.0)
    result = trade([back, 10_170.0, 10_170.0], NONE, NONE, LONG, LONG)
    assert result.final_state.active == result.bars.open_time[4]  # the entry of bar 4, two bars after
    assert list(result.orders.bar) == [0, 2, 4]
    assert result.states[3].active == result.bars.open_time[0] + 2 * BAR_US
