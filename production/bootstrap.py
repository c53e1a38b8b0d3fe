"""The composition root: builds the world of a daemon from configuration, once, at its start."""

import logging
from pathlib import Path

from acmf_core.config import Config
from acmf_core.domain import Mode, Order, Purpose, SymbolRules
from acmf_core.execution.clock import ReplayClock
from acmf_core.execution.feed import ReplayFeed
from acmf_core.execution.paper import PaperExchange
from acmf_core.execution.world import Model, World
from acmf_core.features import MarketData
from acmf_core.monitoring.notify import LogNotifier
from acmf_core.ports import Notifier, Store
from acmf_core.store.sql import SqlStore
from acmf_core.trading import TradeParams

STORE_FILE = "acmf.db"


def open_store(config: Config) -> SqlStore:
    """The configured database, migrated: `paths.database_url`, or a SQLite file under `paths.state`."""
    url = config.paths.database_url.get_secret_value()
    return SqlStore.open(url or Path(config.paths.state) / STORE_FILE)


def replay_world(
    market: MarketData,
    model: Model,
    params: TradeParams,
    store: Store,
    *,
    start: int,
    symbol: str = "BTCUSDT",
    equity: float = 10_000.0,
    notifier: Notifier | None = None,
) -> World:
    """Past bars, a clock that stands at `start` (microseconds), paper orders."""
    exchange = PaperExchange(rules_of(params, symbol))
    exchange.restore(pending_orders(store, symbol))
    return World(
        symbol=symbol,
        mode=Mode.REPLAY,
        clock=ReplayClock(start),
        feed=ReplayFeed(market),
        model=model,
        params=params,
        exchange=exchange,
        store=store,
        notifier=notifier if notifier is not None else LogNotifier(loudest=logging.INFO),
        equity=equity,
    )


def rules_of(params: TradeParams, symbol: str) -> SymbolRules:
    """The venue's filters as the parameters assume them."""
    return SymbolRules(
        symbol,
        params.tick,
        params.step,
        params.min_quantity,
        params.min_notional,
        params.max_market_quantity,
    )


def pending_orders(store: Store, symbol: str) -> list[Order]:
    """The market orders of the last cycle: sent, and filled at the next open."""
    last = store.last_cycle(symbol)
    rows = store.rows("orders", cycle_id=last["cycle_id"]) if last is not None else []
    return [
        Order(
            row["client_id"],
            row["symbol"],
            row["side"] * row["quantity"],
            Purpose(row["purpose"]),
            row["reduce_only"],
            row["trigger_price"],
        )
        for row in rows
    ]
