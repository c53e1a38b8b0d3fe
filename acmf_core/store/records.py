"""From the kernel's values to the rows of the store; names of orders come from the caller."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from acmf_core.domain import OrderAck
from acmf_core.trading import Bar, Fill, Kind, MarketOrder, Reason, Signal, Trade

Row = dict[str, Any]


def prediction_row(
    probabilities: Sequence[float],
    signal: Signal,
    classified: tuple[int, Iterable[float]],
    gates: int,
    stopped: bool,
) -> Row:
    """What the model said, how it was read, and which of the twelve gates passed."""
    p_long, p_short, p_neutral = (float(p) for p in probabilities)
    regime, scores = classified
    trending, ranging, high_volatility = (float(score) for score in scores)
    return {
        "p_long": p_long,
        "p_short": p_short,
        "p_neutral": p_neutral,
        "side": int(signal.side),
        "confidence": signal.confidence,
        "regime": int(regime),
        "score_trending": trending,
        "score_ranging": ranging,
        "score_high_volatility": high_volatility,
        "gates": gates,
        "stopped": stopped,
    }


def bar_row(bar: Bar, volume: float) -> Row:
    """The bar that was traded on."""
    prices = {name: getattr(bar, name) for name in ("open", "high", "low", "close")}
    return {"open_time": bar.open_time, **prices, "volume": volume}


def order_rows(symbol: str, orders: Sequence[MarketOrder], acks: Sequence[OrderAck]) -> list[Row]:
    """Market orders with the venue's word on each; quantity is unsigned, `side` is the order's."""
    return [
        {
            "client_id": ack.client_id,
            "symbol": symbol,
            "lot": order.lot,
            "purpose": Kind(order.purpose).name.lower(),
            "side": order.side,
            "quantity": order.quantity,
            "reduce_only": order.purpose != Kind.ENTRY,
            "reason": Reason(order.reason).name.lower(),
            "regime": order.regime,
            "confidence": order.confidence,
            "venue_id": ack.venue_id,
        }
        for order, ack in zip(orders, acks, strict=True)
    ]


def fill_rows(fills: Sequence[Fill], client_ids: Sequence[str]) -> list[Row]:
    """Fills with the name of the order each came of."""
    return [
        {
            "client_id": name,
            "open_time": fill.time,
            "lot": fill.lot,
            "purpose": Kind(fill.purpose).name.lower(),
            "side": fill.side,
            "quantity": fill.quantity,
            "price": fill.price,
            "fee": fill.fee,
            "reason": Reason(fill.reason).name.lower(),
        }
        for fill, name in zip(fills, client_ids, strict=True)
    ]


def trade_rows(trades: Sequence[Trade]) -> list[Row]:
    """Lots that ended."""
    return [trade._asdict() | {"reason": Reason(trade.reason).name.lower()} for trade in trades]


def of_cycle(cycle_id: str, at: int, tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The same rows, each with its cycle, its time and, where order matters, its place."""
    own = {"cycle_id": cycle_id, "at": at}
    placed = {"orders", "fills", "trades"}
    return {
        name: [row | own | ({"position": i} if name in placed else {}) for i, row in enumerate(rows)]
        for name, rows in tables.items()
    }
