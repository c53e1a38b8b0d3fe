"""The accounts: what a bar's funding and fills do to lots, balance, equity, streak and day reference.

It takes fills as given: the model's in simulation, the venue's in live trading.
"""

import math
from typing import Final

import numpy as np

from acmf_core.domain import BAR_US, DAY_US
from acmf_core.trading.bars import Bar, has_prices
from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import STEP_TOLERANCE, Record, stop_level, target_level
from acmf_core.trading.state import ENTRY_DTYPE, LOT_DTYPE, NEVER, Kind

KIND_ENTRY: Final = int(Kind.ENTRY)
KIND_STOP: Final = int(Kind.STOP)
KIND_TARGET: Final = int(Kind.TARGET)
NOT_FOUND: Final = -1
NO_LOT: Final = np.zeros(1, dtype=LOT_DTYPE)
NO_ENTRY: Final = np.zeros(1, dtype=ENTRY_DTYPE)


@compiled
def start_day(state: Record, time: int) -> None:
    """At the first bar of a UTC day the reference becomes the equity of the bar before, unless stopped."""
    if state.time != NEVER and time // DAY_US != state.time // DAY_US and not state.stopped:
        state.day_reference = state.equity


@compiled
def book_funding(state: Record, bar: Bar) -> None:
    """Funding on every lot held into this open: longs pay a positive rate, shorts receive it."""
    rate = bar.funding_event
    if rate == 0.0 or not math.isfinite(rate) or not math.isfinite(bar.open):
        return
    state.funding_time = bar.open_time
    for i in range(state.n_lots):
        lot = state.lots[i]
        amount = -lot.side * lot.quantity * bar.open * rate
        lot.funding += amount
        state.balance += amount


@compiled
def slot_of(state: Record, lot: int) -> int:
    """Where a lot lies in the state, or -1."""
    for i in range(state.n_lots):
        if state.lots[i].lot == lot:
            return i
    return NOT_FOUND


@compiled
def open_lot(state: Record, bar: Bar) -> Record:
    """A new lot in the next free slot, with what the deciding bar has frozen for it."""
    entry = state.entry
    lot = state.lots[state.n_lots]
    state.n_lots += 1
    lot.lot = entry.lot
    lot.side = entry.side
    lot.entry_time = bar.open_time
    lot.regime = entry.regime
    lot.confidence = entry.confidence
    lot.atr = entry.atr
    lot.stop_distance = entry.stop_distance
    lot.target_distance = entry.target_distance
    lot.trail_distance = entry.trail_distance
    lot.time_exit = entry.time_exit
    lot.tick = entry.tick
    lot.step = entry.step
    return lot


@compiled
def book_entry(state: Record, bar: Bar, fill: Record) -> None:
    """An entry's fill (a venue may fill it in parts): levels stand around the mean fill price."""
    slot = slot_of(state, fill.lot)
    lot = open_lot(state, bar) if slot == NOT_FOUND else state.lots[slot]
    lot.quantity += fill.quantity
    lot.entry_quantity += fill.quantity
    lot.entry_value += fill.quantity * fill.price
    first = lot.entry_quantity == fill.quantity
    lot.entry = fill.price if first else lot.entry_value / lot.entry_quantity
    lot.best = lot.entry
    lot.stop = stop_level(lot.entry - lot.side * lot.stop_distance, lot.side, lot.tick)
    lot.target = target_level(lot.entry + lot.side * lot.target_distance, lot.side, lot.tick)
    lot.fees += fill.fee
    state.balance -= fill.fee


@compiled
def remaining(quantity: float, closed: float, step: float) -> float:
    """What is left, on whole steps where it is within float noise of them, and never negative."""
    left = quantity - closed
    steps = float(round(left / step))
    if abs(left / step - steps) < 1e-6:
        left = steps * step
    return left if left > STEP_TOLERANCE * step else 0.0


@compiled
def book_exit(state: Record, lot: Record, fill: Record) -> None:
    """A fill that closes a lot or a part of it."""
    gross = lot.side * fill.quantity * (fill.price - lot.entry)
    lot.gross += gross
    lot.fees += fill.fee
    lot.exit_quantity += fill.quantity
    lot.exit_value += fill.quantity * fill.price
    lot.quantity = remaining(lot.quantity, fill.quantity, lot.step)
    state.balance += gross - fill.fee
    if fill.purpose == KIND_TARGET:
        lot.target_done = 1
    if fill.purpose == KIND_STOP or fill.purpose == KIND_TARGET:  # noqa: PLR1714
        state.active = fill.time  # a resting fill starts the cooldown; a market order did when decided


@compiled
def net_of(lot: Record) -> float:
    """A lot's result: everything it earned and paid."""
    return lot.gross - lot.fees + lot.funding  # type: ignore[no-any-return]


@compiled
def put_trade(events: Record, lot: Record, fill: Record) -> None:
    """Note an ended lot as a trade; its reason is that of its last fill."""
    trade = events.trades[events.n_trades]
    events.n_trades += 1
    trade.lot = lot.lot
    trade.side = lot.side
    trade.quantity = lot.entry_quantity
    trade.entry_time = lot.entry_time
    trade.entry_price = lot.entry
    trade.exit_time = fill.time
    whole = lot.exit_quantity == fill.quantity
    trade.exit_price = fill.price if whole else lot.exit_value / lot.exit_quantity
    trade.regime = lot.regime
    trade.confidence = lot.confidence
    trade.reason = fill.reason
    trade.bars = (fill.time - lot.entry_time) // BAR_US + 1
    trade.gross = lot.gross
    trade.fees = lot.fees
    trade.funding = lot.funding
    trade.net = net_of(lot)
    trade.risk = lot.entry_quantity * lot.stop_distance


@compiled
def remove_lot(state: Record, slot: int) -> None:
    """Close the gap that a lot leaves; the lots stay in the order of their entries."""
    for i in range(slot, state.n_lots - 1):
        state.lots[i] = state.lots[i + 1]
    state.n_lots -= 1
    state.lots[state.n_lots] = NO_LOT[0]


@compiled
def mark(state: Record, bar: Bar) -> None:
    """Equity and peak at the close, and each lot's best price so far."""
    if not has_prices(bar):
        return  # nothing to mark by: the last mark stands
    open_profit = 0.0
    for i in range(state.n_lots):
        lot = state.lots[i]
        lot.best = max(lot.best, bar.high) if lot.side > 0 else min(lot.best, bar.low)
        open_profit += lot.side * lot.quantity * (bar.close - lot.entry)
    state.equity = state.balance + open_profit
    state.peak = max(state.peak, state.equity)


@compiled
def settle_bar(state: Record, bar: Bar, events: Record) -> None:
    """Take a bar's funding and fills into the accounts, and note the trades that ended.

    In this order: the day's reference, funding on what was held into the bar, the fills as they came,
    one result for all lots that ended in this bar, and the mark at the close.
    """
    start_day(state, bar.open_time)
    book_funding(state, bar)
    result = 0.0
    for k in range(events.n_fills):
        fill = events.fills[k]
        if fill.purpose == KIND_ENTRY:
            book_entry(state, bar, fill)
            continue
        slot = slot_of(state, fill.lot)
        lot = state.lots[slot]
        book_exit(state, lot, fill)
        if lot.quantity == 0.0:
            result += net_of(lot)
            put_trade(events, lot, fill)
            remove_lot(state, slot)
    if events.n_trades > 0:
        state.streak = state.streak + 1 if result < 0.0 else 0
    if state.entry.side != 0:
        state.entry = NO_ENTRY[0]  # a market order is filled in its bar or not at all
    mark(state, bar)
    state.time = bar.open_time
