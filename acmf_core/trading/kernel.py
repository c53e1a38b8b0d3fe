"""One bar of trading: fills, settle, decide. The backtest loops it, the daemon calls it once per bar.

    step = bar_fills -> settle -> decide        (trading.md, "One bar, in order")

The compiled functions work on a private copy of the state; the public ones are pure.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from acmf_core.domain import BAR_US
from acmf_core.errors import ConfigError, DataError, MissingBars
from acmf_core.trading import breaker, exits
from acmf_core.trading.bars import Bar, time_index
from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import NONE, Record
from acmf_core.trading.fills import ENTRY, model_fills
from acmf_core.trading.gates import ALL_GATES, gate_mask
from acmf_core.trading.ledger import NO_ENTRY, settle_bar
from acmf_core.trading.params import Rules, TradeParams
from acmf_core.trading.regime import classified
from acmf_core.trading.routing import Signal
from acmf_core.trading.sizing import entry_quantity, exposure
from acmf_core.trading.state import (
    EVENTS_DTYPE,
    MOST_FILLS,
    NEVER,
    SLOTS,
    Fill,
    Kind,
    MarketOrder,
    Reason,
    Trade,
    TradingState,
)

KIND_ENTRY: Final = int(Kind.ENTRY)
KIND_EXIT: Final = int(Kind.EXIT)
BREAKER: Final = int(Reason.BREAKER)
T = TypeVar("T")


class Decision(NamedTuple):
    """What the close of a bar has shown: the mask of the gates, the regime and its scores."""

    gates: int
    regime: int
    scores: tuple[float, float, float]


@compiled
def put_order(
    events: Record,
    bar: Bar,
    lot: int,
    side: int,
    quantity: float,
    purpose: int,
    reason: int,
    regime: int,
    confidence: float,
) -> None:
    """Note an order for the next open."""
    order = events.orders[events.n_orders]
    events.n_orders += 1
    order.time = bar.open_time
    order.lot = lot
    order.side = side
    order.quantity = quantity
    order.purpose = purpose
    order.reason = reason
    order.regime = regime
    order.confidence = confidence


@compiled
def send_exits(state: Record, bar: Bar, regime: int, confidence: float, events: Record) -> None:
    """An order for every exit decided in this bar."""
    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.exit_reason != NONE and lot.exit_decided == bar.open_time:
            put_order(
                events, bar, lot.lot, -lot.side, lot.quantity, KIND_EXIT, lot.exit_reason, regime, confidence
            )


@compiled
def send_entry(
    state: Record,
    bar: Bar,
    signal: Signal,
    quantity: float,
    regime: int,
    rules: Rules,
    events: Record,
) -> None:
    """An entry for the next open, with everything about its lot that this bar freezes."""
    limits = rules.regimes[regime]
    entry = state.entry
    entry.lot = state.next_lot
    entry.side = signal.side
    entry.quantity = quantity
    entry.decided = bar.open_time
    entry.regime = regime
    entry.confidence = signal.confidence
    entry.atr = bar.atr
    entry.stop_distance = bar.atr * limits.stop_atr
    entry.target_distance = bar.atr * limits.target_atr
    entry.trail_distance = bar.atr * limits.trail_atr
    entry.time_exit = limits.time_exit
    entry.tick = rules.tick
    entry.step = rules.step
    state.next_lot += 1
    state.active = bar.open_time
    put_order(events, bar, entry.lot, signal.side, quantity, KIND_ENTRY, ENTRY, regime, signal.confidence)


@compiled
def decide_bar(state: Record, bar: Bar, signal: Signal, rules: Rules, events: Record) -> Decision:
    """Everything decided at the close; the mask comes last, and an entry goes out exactly at 4095."""
    breaker.resume_when_due(state, rules)

    exits.trail_stops(state, bar, rules)
    exits.leave_on_opposite_signal(state, bar, signal, rules)
    exits.leave_on_time(state, bar)

    breaker.count_low_probability(state, signal, rules)
    breaker.trip_when_due(state, rules)
    if state.stopped:
        exits.leave_all(state, BREAKER, bar.open_time)

    regime, scores = classified(bar)
    limits = rules.regimes[regime]
    held = exposure(state)
    quantity = entry_quantity(state, held, bar, signal.confidence, limits, rules)
    gates = gate_mask(state, held, quantity, bar, signal, limits, rules)

    send_exits(state, bar, regime, signal.confidence, events)
    if gates == ALL_GATES:
        send_entry(state, bar, signal, quantity, regime, rules, events)
    return Decision(gates, regime, scores)


@compiled
def step_bar(state: Record, bar: Bar, signal: Signal, rules: Rules, events: Record) -> Decision:
    """One bar with the fill model's fills."""
    events.n_fills = 0
    events.n_trades = 0
    events.n_orders = 0
    model_fills(state, bar, rules, events)
    settle_bar(state, bar, events)
    return decide_bar(state, bar, signal, rules, events)


# --- the public, pure forms -----------------------------------------------------------------


class StepResult(NamedTuple):
    """What one bar brought. gates: 12-bit mask (`gates.GATES`)."""

    state: TradingState
    orders: tuple[MarketOrder, ...]
    gates: int
    fills: tuple[Fill, ...]
    trades: tuple[Trade, ...]


def bar_fills(state: TradingState, bar: Bar, params: TradeParams) -> tuple[Fill, ...]:
    """The fill model: what this bar does to pending and resting orders (simulation, replay, paper)."""
    events = no_events()
    _model_fills(state.record, bar.exact(), params.rules, events)
    return noted(events, "fills", Fill)


def settle(state: TradingState, bar: Bar, fills: Sequence[Fill]) -> TradingState:
    """Take a closed bar's funding and fills into the accounts; see `settle_with_trades` for its trades.

    Raises
    ------
    MissingBars
        When the bar does not follow the last settled one.
    DataError
        When a fill belongs to no lot of the state, or contradicts it.
    """
    return settle_with_trades(state, bar, fills)[0]


def settle_with_trades(
    state: TradingState, bar: Bar, fills: Sequence[Fill]
) -> tuple[TradingState, tuple[Trade, ...]]:
    """`settle`, and the lots that ended in this bar."""
    bar = bar.exact()
    check_follows(state, bar.open_time)
    check_fills(state, fills)
    record = state.record
    events = no_events()
    events["n_fills"] = len(fills)
    for k, fill in enumerate(fills):
        events["fills"][0, k] = tuple(fill)
    _settle(record, bar, events)
    return TradingState(record), noted(events, "trades", Trade)


def decide(
    state: TradingState, bar: Bar, signal: Signal, params: TradeParams
) -> tuple[TradingState, tuple[MarketOrder, ...], int]:
    """Decide at the close of a settled bar: new state, orders for the next open, gate mask.

    Raises
    ------
    DataError
        When the bar is not the one last settled.
    """
    if bar.open_time != state.time:
        raise DataError(
            f"the bar to decide on opens at {bar.open_time}, the last settled one at {state.time}",
            "settle a bar before deciding on it",
        )
    record = state.record
    events = no_events()
    decision = _decide(record, bar.exact(), _exact(signal), params.rules, events)
    return TradingState(record), noted(events, "orders", MarketOrder), int(decision.gates)


def step(state: TradingState, bar: Bar, signal: Signal, params: TradeParams) -> StepResult:
    """One closed bar with the fill model's fills: what the daemon calls in replay and paper."""
    fills = bar_fills(state, bar, params)
    settled, trades = settle_with_trades(state, bar, fills)
    decided, orders, gates = decide(settled, bar, signal, params)
    return StepResult(decided, orders, gates, fills, trades)


def kill(state: TradingState) -> TradingState:
    """An operator's stop between two bars: a pending entry is dropped, every lot leaves.

    Only `resume` lifts it.
    """
    record = state.record
    _kill(record)
    return TradingState(record)


def resume(state: TradingState) -> TradingState:
    """A person's resume: streak, low-probability counter and day's reference anew; the peak stays."""
    record = state.record
    _resume(record)
    return TradingState(record)


def deposit(state: TradingState, amount: float) -> TradingState:
    """Money paid in (or out, < 0): peak and day's reference move with it, so it is no profit or loss.

    Raises
    ------
    ConfigError
        When the amount is not finite.
    """
    if not np.isfinite(amount):
        raise ConfigError(
            f"deposit of {amount!r}", "give an amount in quote units, negative for a withdrawal"
        )
    record = state.record
    for name in ("balance", "equity", "peak", "day_reference"):
        record[name] += amount
    return TradingState(record)


def check_follows(state: TradingState, open_time: int) -> None:
    """Raise MissingBars unless the bar follows the last settled one."""
    if state.time in (NEVER, open_time - BAR_US):
        return
    last, given = time_index(np.array([state.time, open_time]))
    raise MissingBars(
        f"the last settled bar is {last:%Y-%m-%d %H:%M}, the one given {given:%Y-%m-%d %H:%M}, not the next",
        "give the bars in order, each once",
    )


def check_fills(state: TradingState, fills: Sequence[Fill]) -> None:
    """Raise DataError for a fill that cannot be booked."""
    left = {lot.lot: lot.side * lot.quantity for lot in state.lots}
    entry = state.entry
    if len(fills) > MOST_FILLS:
        raise DataError(
            f"{len(fills)} fills in one bar, room for {MOST_FILLS}", "add up the partial fills of each order"
        )
    for fill in fills:
        problem = ""
        if not (np.isfinite(fill.price) and fill.price > 0 and fill.quantity > 0 and np.isfinite(fill.fee)):
            problem = "price and quantity must be positive, the fee finite"
        elif fill.purpose == Kind.ENTRY:
            if entry is None or fill.lot != entry.lot or fill.side != entry.side:
                problem = "no such entry is pending"
            elif len(state.lots) == SLOTS:
                problem = f"{SLOTS} lots are open already"
            left[fill.lot] = left.get(fill.lot, 0.0) + fill.side * fill.quantity
        elif fill.lot not in left or left[fill.lot] * fill.side >= 0:
            problem = "no such lot is open on the other side"
        elif fill.quantity > abs(left[fill.lot]) * (1 + 1e-9):
            problem = f"only {abs(left[fill.lot]):g} are left"
        else:
            left[fill.lot] += fill.side * fill.quantity
            if abs(left[fill.lot]) <= 1e-9 * fill.quantity:
                del left[fill.lot]
        if problem:
            raise DataError(f"fill {tuple(fill)} cannot be booked: {problem}", "attribute fills by client id")


def _exact(signal: Signal) -> Signal:
    side, confidence, ratio, largest = signal
    return Signal(int(side), float(confidence), float(ratio), float(largest))


def no_events() -> npt.NDArray[Any]:
    """Room for what one bar brings; empty, shape (1,)."""
    return np.zeros(1, dtype=EVENTS_DTYPE)


def noted(events: npt.NDArray[Any], what: str, kind: Callable[..., T]) -> tuple[T, ...]:
    """The rows that were noted, as named tuples."""
    return tuple(kind(*row.item()) for row in events[what][0][: events["n_" + what][0]])


@compiled
def _model_fills(states: Any, bar: Bar, rules: Rules, events: Any) -> None:
    model_fills(states[0], bar, rules, events[0])


@compiled
def _settle(states: Any, bar: Bar, events: Any) -> None:
    settle_bar(states[0], bar, events[0])


@compiled
def _decide(states: Any, bar: Bar, signal: Signal, rules: Rules, events: Any) -> Decision:
    return decide_bar(states[0], bar, signal, rules, events[0])


@compiled
def _kill(states: Any) -> None:
    states[0].entry = NO_ENTRY[0]
    breaker.stop_trading(states[0], breaker.OPERATOR, False)
    exits.leave_all(states[0], BREAKER, states[0].time)


@compiled
def _resume(states: Any) -> None:
    breaker.lift_stop(states[0])
