"""The exchange that is none: takes orders, fills them as the kernel's fill model does, loses nothing.

Market orders are filled at the open of the next bar, stops and targets against each closed bar, every price
worsened by slippage. The model itself is `trading.bar_fills`, the one that `simulate` runs: what is added
here is a venue's behaviour around it (filters, names, answers), and the refusal to fill what was never sent.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from acmf_core.domain import BAR_US, Order, OrderAck, Purpose, SymbolRules
from acmf_core.errors import OrderRejected, OrderUnknown, VenueUnavailable
from acmf_core.execution.orders import client_id, cycle_id
from acmf_core.trading import Bar, Fill, Kind, TradeParams, TradingState, bar_fills

REMEMBERED: Final = 10_000  # orders a venue can still be asked about; older ones are forgotten
_STEP_NOISE: Final = 1e-6  # quantities are floats; a venue would see decimals
PURPOSES: Final = {
    Kind.ENTRY: Purpose.ENTRY,
    Kind.EXIT: Purpose.EXIT,
    Kind.STOP: Purpose.STOP,
    Kind.TARGET: Purpose.TARGET,
}


class PaperExchange:
    """One symbol's mock venue (ports `Exchange` and `Venue`).

    Parameters
    ----------
    rules : SymbolRules
        The filters that orders are checked against.
    """

    def __init__(self, rules: SymbolRules) -> None:
        self._rules = rules
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._price: float | None = None

    async def rules(self, symbol: str) -> SymbolRules:
        """The filters of the symbol.

        Raises
        ------
        OrderRejected
            Another symbol than this venue's.
        """
        self._check_symbol(symbol)
        return self._rules

    async def submit(self, order: Order) -> OrderAck:
        """Take an order; the same client id again is the same order.

        Raises
        ------
        OrderRejected
            Another symbol, a quantity off the step, below the minimum or above the maximum, or a client id
            that is taken by a different order.
        """
        self._check_symbol(order.symbol)
        taken = self._orders.get(order.client_id)
        if taken is not None and taken != order:
            raise OrderRejected(f"client id {order.client_id} belongs to another order: {taken}")
        if taken is None:
            self._check_quantity(order)
            self._orders[order.client_id] = order
            while len(self._orders) > REMEMBERED:
                self._orders.popitem(last=False)
        return self._acknowledged(order.client_id)

    async def find(self, client_id: str) -> OrderAck | None:
        """The order of that name, or None."""
        return self._acknowledged(client_id) if client_id in self._orders else None

    async def price(self, symbol: str) -> float:
        """The last traded price that this venue has been told.

        Raises
        ------
        OrderRejected
            Another symbol.
        VenueUnavailable
            No price has been seen yet.
        """
        self._check_symbol(symbol)
        if self._price is None:
            raise VenueUnavailable(f"no price of {symbol} has been seen yet", "wait for the first bar")
        return self._price

    async def fills(self, state: TradingState, bar: Bar, params: TradeParams) -> tuple[Fill, ...]:
        """What the bar does to the state's pending and resting orders.

        Raises
        ------
        OrderUnknown
            A market order of the state never reached this venue.
        """
        fills = bar_fills(state, bar, params)
        for fill in fills:
            if fill.purpose in (Kind.ENTRY, Kind.EXIT):
                self._check_sent(fill, fill_client_id(self._rules.symbol, state, fill))
        self.mark(bar.close)
        return fills

    def mark(self, price: float) -> None:
        """Tell the venue the last traded price."""
        self._price = price

    def restore(self, orders: Iterable[Order]) -> None:
        """Take back orders that a store says were sent: this venue's memory ends with its process."""
        for order in orders:
            self._orders[order.client_id] = order

    def _check_sent(self, fill: Fill, name: str) -> None:
        order = self._orders.get(name)
        if order is None or order.quantity != fill.side * fill.quantity:
            known = "none of that name" if order is None else f"one of {order.quantity:+g}"
            raise OrderUnknown(
                f"lot {fill.lot} waits for {name} of {fill.side * fill.quantity:+g}, the venue has {known}",
                "store and venue disagree: restore the store, or start a new one",
            )

    def _check_symbol(self, symbol: str) -> None:
        if symbol != self._rules.symbol:
            raise OrderRejected(f"{symbol} is not traded here, only {self._rules.symbol}")

    def _check_quantity(self, order: Order) -> None:
        rules, size = self._rules, abs(order.quantity)
        steps = size / rules.step
        if abs(steps - round(steps)) > _STEP_NOISE:
            raise OrderRejected(f"{order.client_id}: quantity {size:g} is off the step {rules.step:g}")
        if not order.reduce_only and size < rules.min_quantity - _STEP_NOISE * rules.step:
            raise OrderRejected(f"{order.client_id}: quantity {size:g} is below {rules.min_quantity:g}")
        if size > rules.max_market_quantity + _STEP_NOISE * rules.step:
            raise OrderRejected(
                f"{order.client_id}: quantity {size:g} is above {rules.max_market_quantity:g}"
            )

    def _acknowledged(self, name: str) -> OrderAck:
        return OrderAck(name, f"paper-{name}", "accepted")


def fill_client_id(symbol: str, state: TradingState, fill: Fill) -> str:
    """The name of the order that a fill came of, from the state that the bar met.

    Market orders bear the bar that decided them; stops and targets the bar in which their lot was entered,
    as a venue would hold them from then on.
    """
    purpose = PURPOSES[Kind(fill.purpose)]
    return client_id(cycle_id(symbol, _named_after(state, fill) + BAR_US), fill.lot, purpose)


def _named_after(state: TradingState, fill: Fill) -> int:
    """Open time of the bar that an order is named after."""
    if fill.purpose == Kind.ENTRY and state.entry is not None:
        return state.entry.decided
    lot = next((lot for lot in state.lots if lot.lot == fill.lot), None)
    if lot is None:  # entered in this very bar
        return fill.time
    return lot.exit_decided if fill.purpose == Kind.EXIT else lot.entry_time
