"""The fill model of simulation, replay and paper: what one bar does to the orders that wait for it."""

from typing import Final

from acmf_core.trading.bars import Bar, has_prices
from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import Record, RestingExit, resting_exit, stop_level, target_level, worsened
from acmf_core.trading.params import Rules
from acmf_core.trading.state import Kind, Reason

KIND_ENTRY: Final = int(Kind.ENTRY)
KIND_EXIT: Final = int(Kind.EXIT)
NONE: Final = int(Reason.NONE)
ENTRY: Final = int(Reason.ENTRY)


@compiled
def put_fill(
    events: Record,
    bar: Bar,
    lot: int,
    side: int,
    quantity: float,
    price: float,
    purpose: int,
    reason: int,
    rules: Rules,
) -> None:
    """Note a fill, with its taker fee."""
    fill = events.fills[events.n_fills]
    events.n_fills += 1
    fill.time = bar.open_time
    fill.lot = lot
    fill.side = side
    fill.quantity = quantity
    fill.price = price
    fill.fee = rules.fee * quantity * price
    fill.purpose = purpose
    fill.reason = reason


@compiled
def put_resting(events: Record, bar: Bar, lot: int, lot_side: int, done: RestingExit, rules: Rules) -> None:
    """Note the fill of a stop or target, if there was one."""
    if done.reason != NONE:
        put_fill(events, bar, lot, -lot_side, done.quantity, done.price, done.purpose, done.reason, rules)


@compiled
def model_fills(state: Record, bar: Bar, rules: Rules, events: Record) -> None:
    """Note the fills of one bar, in the order in which they happen; the state is only read.

    At the open: pending market exits, then the pending entry. Inside the bar: resting exits, oldest lot
    first, the one just entered last. Every price is worsened by slippage.
    """
    if not has_prices(bar):
        return
    entry = state.entry
    entry_price = worsened(bar.open, entry.side, rules.slippage)
    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.exit_reason != NONE:
            price = worsened(bar.open, -lot.side, rules.slippage)
            put_fill(events, bar, lot.lot, -lot.side, lot.quantity, price, KIND_EXIT, lot.exit_reason, rules)
    if entry.side != 0:
        put_fill(events, bar, entry.lot, entry.side, entry.quantity, entry_price, KIND_ENTRY, ENTRY, rules)

    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.exit_reason == NONE:
            done = resting_exit(
                lot.side, lot.quantity, lot.stop, lot.stop_moved, lot.target, lot.target_done, bar, rules
            )
            put_resting(events, bar, lot.lot, lot.side, done, rules)
    if entry.side != 0:
        stop = stop_level(entry_price - entry.side * entry.stop_distance, entry.side, entry.tick)
        target = target_level(entry_price + entry.side * entry.target_distance, entry.side, entry.tick)
        done = resting_exit(entry.side, entry.quantity, stop, 0, target, 0, bar, rules)
        put_resting(events, bar, entry.lot, entry.side, done, rules)
