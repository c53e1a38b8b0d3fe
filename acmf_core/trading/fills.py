"""The fill model of simulation, replay and paper: what one bar does to the orders that wait for it."""

from typing import Any, Final

from acmf_core.trading.bars import Bar, has_prices
from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import Record, resting_exit, stop_level, target_level, worsened
from acmf_core.trading.params import Rules
from acmf_core.trading.state import SLOTS, Kind, Reason

KIND_ENTRY: Final = int(Kind.ENTRY)
KIND_EXIT: Final = int(Kind.EXIT)
NONE: Final = int(Reason.NONE)
ENTRY: Final = int(Reason.ENTRY)
MOST_FILLS: Final = SLOTS + 2  # of one bar: an exit per open lot, an entry, and that entry's own stop


@compiled
def put_fill(
    fills: Any,
    n: int,
    bar: Bar,
    lot: int,
    side: int,
    quantity: float,
    price: float,
    purpose: int,
    reason: int,
    rules: Rules,
) -> int:
    """Write a fill with its taker fee into row n; returns the new number of rows."""
    fill = fills[n]
    fill.time = bar.open_time
    fill.lot = lot
    fill.side = side
    fill.quantity = quantity
    fill.price = price
    fill.fee = rules.fee * quantity * price
    fill.purpose = purpose
    fill.reason = reason
    return n + 1


@compiled
def model_fills(state: Record, bar: Bar, rules: Rules, fills: Any, n: int) -> int:
    """Append the fills of one bar to `fills` from row n on; the state is only read.

    At the open: pending market exits, then the pending entry. Inside the bar: resting exits, oldest lot
    first, the one just entered last. Every price is worsened by slippage.
    """
    if not has_prices(bar):
        return n
    entry = state.entry
    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.exit_reason != NONE:
            price = worsened(bar.open, -lot.side, rules.slippage)
            n = put_fill(
                fills, n, bar, lot.lot, -lot.side, lot.quantity, price, KIND_EXIT, lot.exit_reason, rules
            )
    entry_price = worsened(bar.open, entry.side, rules.slippage)
    if entry.side != 0:
        n = put_fill(
            fills, n, bar, entry.lot, entry.side, entry.quantity, entry_price, KIND_ENTRY, ENTRY, rules
        )
    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.exit_reason == NONE:
            done = resting_exit(
                lot.side, lot.quantity, lot.stop, lot.stop_moved, lot.target, lot.target_done, bar, rules
            )
            if done.reason != NONE:
                n = put_fill(
                    fills,
                    n,
                    bar,
                    lot.lot,
                    -lot.side,
                    done.quantity,
                    done.price,
                    done.purpose,
                    done.reason,
                    rules,
                )
    if entry.side != 0:
        stop = stop_level(entry_price - entry.side * entry.stop_distance, entry.side, entry.tick)
        target = target_level(entry_price + entry.side * entry.target_distance, entry.side, entry.tick)
        done = resting_exit(entry.side, entry.quantity, stop, 0, target, 0, bar, rules)
        if done.reason != NONE:
            n = put_fill(
                fills,
                n,
                bar,
                entry.lot,
                -entry.side,
                done.quantity,
                done.price,
                done.purpose,
                done.reason,
                rules,
            )
    return n
