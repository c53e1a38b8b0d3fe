"""Levels, fills of resting exits, and the decisions to leave at the next open."""

from typing import Any, Final, NamedTuple

import numpy as np

from acmf_core.domain import BAR_US
from acmf_core.trading.bars import Bar
from acmf_core.trading.compiled import compiled
from acmf_core.trading.params import Rules
from acmf_core.trading.routing import Signal, reaches
from acmf_core.trading.state import Kind, Reason

NONE: Final = int(Reason.NONE)
STOP: Final = int(Reason.STOP)
TARGET: Final = int(Reason.TARGET)
TRAILING: Final = int(Reason.TRAILING)
OPPOSITE: Final = int(Reason.OPPOSITE)
TIME: Final = int(Reason.TIME)
KIND_STOP: Final = int(Kind.STOP)
KIND_TARGET: Final = int(Kind.TARGET)
TICK_TOLERANCE: Final = 1e-6  # of a tick, wherever a level meets a price
STEP_TOLERANCE: Final = 1e-9  # of a step, wherever a quantity is compared or cut

Record = Any  # a row of a structured array


# --- rounding -------------------------------------------------------------------------------


@compiled
def rounded_up(price: float, tick: float) -> float:
    """The next tick at or above a price."""
    return float(np.ceil(price / tick - TICK_TOLERANCE)) * tick


@compiled
def rounded_down(price: float, tick: float) -> float:
    """The next tick at or below a price."""
    return float(np.floor(price / tick + TICK_TOLERANCE)) * tick


@compiled
def whole_steps(quantity: float, step: float) -> float:
    """A quantity rounded down to whole steps."""
    return float(np.floor(quantity / step + STEP_TOLERANCE)) * step


@compiled
def stop_level(price: float, side: int, tick: float) -> float:
    """A stop, the first or a moved one, rounded toward the entry: up for longs, down for shorts."""
    return rounded_up(price, tick) if side > 0 else rounded_down(price, tick)


@compiled
def target_level(price: float, side: int, tick: float) -> float:
    """A target rounded toward the entry: down for longs, up for shorts."""
    return rounded_down(price, tick) if side > 0 else rounded_up(price, tick)


@compiled
def worsened(price: float, order_side: int, slippage: float) -> float:
    """What a market order of that side gets: buys pay more, sells receive less."""
    return price * (1.0 + order_side * slippage)


# --- resting exits inside a bar -------------------------------------------------------------


class RestingExit(NamedTuple):
    """A stop or target that a bar has touched; reason 0: neither."""

    purpose: int
    reason: int
    quantity: float
    price: float


@compiled
def target_quantity(quantity: float, rules: Rules) -> float:
    """Half, rounded down to the step; all of it where either half would be below min quantity."""
    half = whole_steps(0.5 * quantity, rules.step)
    least = rules.min_quantity - STEP_TOLERANCE * rules.step
    return half if half >= least and half > 0.0 else quantity  # the rest is never the smaller part


@compiled
def resting_exit(
    side: int,
    quantity: float,
    stop: float,
    stop_moved: int,
    target: float,
    target_done: int,
    bar: Bar,
    rules: Rules,
) -> RestingExit:
    """What one bar does to a lot's resting orders: the stop before the target where it touches both."""
    tolerance = TICK_TOLERANCE * rules.tick
    if side > 0:
        stopped = bar.low <= stop + tolerance
        reached = bar.high >= target - tolerance
        stop_price = min(bar.open, stop)  # a bar that opens beyond the stop fills at the open
    else:
        stopped = bar.high >= stop - tolerance
        reached = bar.low <= target + tolerance
        stop_price = max(bar.open, stop)
    if stopped:
        reason = TRAILING if stop_moved else STOP
        return RestingExit(KIND_STOP, reason, quantity, worsened(stop_price, -side, rules.slippage))
    if reached and not target_done:
        price = worsened(target, -side, rules.slippage)
        return RestingExit(KIND_TARGET, TARGET, target_quantity(quantity, rules), price)
    return RestingExit(KIND_STOP, NONE, 0.0, 0.0)


# --- decisions at the close -----------------------------------------------------------------


@compiled
def request_exit(state: Record, lot: Record, reason: int, time: int) -> None:
    """Mark a lot to leave at the next open; its first reason stays."""
    if lot.exit_reason == NONE:
        lot.exit_reason = reason
        lot.exit_decided = time
        state.active = time


@compiled
def trail_stops(state: Record, bar: Bar, rules: Rules) -> None:
    """Move the stops of the rests; a stop that would lie at or beyond the close is a market exit."""
    tolerance = TICK_TOLERANCE * rules.tick
    for i in range(state.n_lots):
        lot = state.lots[i]
        if not lot.target_done or lot.exit_reason != NONE:
            continue
        trailing = lot.best - lot.side * lot.trail_distance
        if lot.side > 0:
            moved = rounded_up(max(lot.entry, trailing), lot.tick)
            better = moved > lot.stop
            refused = moved >= bar.close - tolerance
        else:
            moved = rounded_down(min(lot.entry, trailing), lot.tick)
            better = moved < lot.stop
            refused = moved <= bar.close + tolerance
        if better and refused:
            request_exit(state, lot, TRAILING, bar.open_time)
        elif better:
            lot.stop = moved
            lot.stop_moved = 1


@compiled
def leave_on_opposite_signal(state: Record, bar: Bar, signal: Signal, rules: Rules) -> None:
    """Close everything when the signal is against what is open, and confident enough."""
    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.side * signal.side < 0 and reaches(signal.confidence, rules.opposite_min_confidence):
            request_exit(state, lot, OPPOSITE, bar.open_time)


@compiled
def leave_on_time(state: Record, bar: Bar) -> None:
    """Close a lot at the close of its n-th bar, the bar of its entry being the first."""
    for i in range(state.n_lots):
        lot = state.lots[i]
        if bar.open_time - lot.entry_time >= (lot.time_exit - 1) * BAR_US:
            request_exit(state, lot, TIME, bar.open_time)


@compiled
def leave_all(state: Record, reason: int, time: int) -> None:
    """Close everything at market."""
    for i in range(state.n_lots):
        request_exit(state, state.lots[i], reason, time)
