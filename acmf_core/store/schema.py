"""The tables of the store, declared once; `migrations/` brings a database to this shape.

Every row carries the id of its cycle. Times are microseconds since the epoch in Python, TIMESTAMPTZ on
PostgreSQL. Money (prices, quantities, fees, equity) is NUMERIC on PostgreSQL, where every float goes in as
its shortest exact decimal and comes back as the same float. NaN is stored as NULL.

cycles         one closed bar met once: bundle, parameters, features hash, equity, the kernel's state after
               it, how every data source did (JSON; empty in a replay)
predictions    what the model said and how it was read: signal, regime and scores, the twelve gates' mask
ohlcv          the bar the cycle traded on
orders         wishes sent to the venue, by client id
fills          what came of them, and of stops and targets
trades         lots that ended
system_events  the hash-chained journal (`journal.py`)
model_registry what was deployed when, by whom, on what evidence
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import NUMERIC, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

# The outcome of a cycle. Done: decided. Blind: without features or model, exits only. Failed: nothing was
# decided, the bar may be met again.
DONE: Final = "done"
BLIND: Final = "blind"
FAILED: Final = "failed"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Money(TypeDecorator[float]):
    """A float that survives NUMERIC bit for bit; NaN becomes NULL."""

    impl = Float(53)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(NUMERIC() if dialect.name == "postgresql" else Float(53))

    def process_bind_param(self, value: float | None, dialect: Dialect) -> Any:
        if value is None or math.isnan(value):
            return None
        return Decimal(repr(float(value))) if dialect.name == "postgresql" else float(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else float(value)


class Instant(TypeDecorator[int]):
    """Microseconds since the epoch, UTC."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(
            TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger()
        )

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return _EPOCH + value * _MICROSECOND if dialect.name == "postgresql" else int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        if value is None or isinstance(value, int):
            return value
        return int((value - _EPOCH) // _MICROSECOND)


METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _cycle_id(**options: Any) -> Column[str]:
    return Column("cycle_id", String(48), ForeignKey("cycles.cycle_id"), nullable=False, **options)


CYCLES = Table(
    "cycles",
    METADATA,
    Column("cycle_id", String(48), primary_key=True),
    Column("symbol", String(20), nullable=False),
    Column("mode", String(8), nullable=False),
    Column("at", Instant, nullable=False),
    Column("status", String(8), nullable=False),
    Column("stage", String(16), nullable=False, default=""),
    Column("error", Text, nullable=False, default=""),
    Column("bundle", String(64), nullable=False, default=""),
    Column("params", String(64), nullable=False, default=""),
    Column("features", String(64), nullable=False, default=""),
    Column("equity", Money),
    Column("state", Text),
    Column("health", Text, nullable=False, default=""),
    Column("timings", Text, nullable=False, default="{}"),
    Column("recorded_at", Instant, nullable=False),
    Index("ix_cycles_symbol_at", "symbol", "at"),
)

PREDICTIONS = Table(
    "predictions",
    METADATA,
    _cycle_id(primary_key=True),
    Column("at", Instant, nullable=False),
    Column("p_long", Double),
    Column("p_short", Double),
    Column("p_neutral", Double),
    Column("side", SmallInteger, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("regime", SmallInteger, nullable=False),
    Column("score_trending", Double, nullable=False),
    Column("score_ranging", Double, nullable=False),
    Column("score_high_volatility", Double, nullable=False),
    Column("gates", Integer, nullable=False),
    Column("stopped", Boolean, nullable=False),
    Index("ix_predictions_at", "at"),
)

OHLCV = Table(
    "ohlcv",
    METADATA,
    _cycle_id(primary_key=True),
    Column("at", Instant, nullable=False),
    Column("open_time", Instant, nullable=False),
    Column("open", Money, nullable=False),
    Column("high", Money, nullable=False),
    Column("low", Money, nullable=False),
    Column("close", Money, nullable=False),
    Column("volume", Money, nullable=False),
)

ORDERS = Table(
    "orders",
    METADATA,
    Column("client_id", String(36), primary_key=True),
    _cycle_id(),
    Column("position", SmallInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("symbol", String(20), nullable=False),
    Column("lot", BigInteger, nullable=False),
    Column("purpose", String(8), nullable=False),
    Column("side", SmallInteger, nullable=False),
    Column("quantity", Money, nullable=False),
    Column("reduce_only", Boolean, nullable=False),
    Column("trigger_price", Money),
    Column("reason", String(16), nullable=False),
    Column("regime", SmallInteger, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("venue_id", String(64), nullable=False, default=""),
    UniqueConstraint("cycle_id", "position"),
)

FILLS = Table(
    "fills",
    METADATA,
    _cycle_id(primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("client_id", String(36), nullable=False),
    Column("open_time", Instant, nullable=False),
    Column("lot", BigInteger, nullable=False),
    Column("purpose", String(8), nullable=False),
    Column("side", SmallInteger, nullable=False),
    Column("quantity", Money, nullable=False),
    Column("price", Money, nullable=False),
    Column("fee", Money, nullable=False),
    Column("reason", String(16), nullable=False),
    Index("ix_fills_client_id", "client_id"),
)

TRADES = Table(
    "trades",
    METADATA,
    _cycle_id(primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("lot", BigInteger, nullable=False),
    Column("side", SmallInteger, nullable=False),
    Column("quantity", Money, nullable=False),
    Column("regime", SmallInteger, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("entry_time", Instant, nullable=False),
    Column("entry_price", Money, nullable=False),
    Column("exit_time", Instant, nullable=False),
    Column("exit_price", Money, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("bars", Integer, nullable=False),
    Column("gross", Money, nullable=False),
    Column("fees", Money, nullable=False),
    Column("funding", Money, nullable=False),
    Column("net", Money, nullable=False),
    Column("risk", Money, nullable=False),
)

SYSTEM_EVENTS = Table(
    "system_events",
    METADATA,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("cycle_id", String(48)),
    Column("payload", Text, nullable=False),
    Column("previous", String(64), nullable=False, unique=True),
    Column("hash", String(64), nullable=False, unique=True),
    Index("ix_system_events_kind", "kind"),
)

MODEL_REGISTRY = Table(
    "model_registry",
    METADATA,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("alias", String(32), nullable=False),
    Column("version", String(64), nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("evidence", Text, nullable=False, default="{}"),
)

# The rows that belong to one cycle, in the order in which they are written.
CYCLE_TABLES = {
    "predictions": PREDICTIONS,
    "ohlcv": OHLCV,
    "orders": ORDERS,
    "fills": FILLS,
    "trades": TRADES,
}
TABLES = {
    "cycles": CYCLES,
    **CYCLE_TABLES,
    "system_events": SYSTEM_EVENTS,
    "model_registry": MODEL_REGISTRY,
}
# What decides the order of rows(): oldest first, then as they happened inside the cycle.
CHRONOLOGY = {
    "cycles": ("at",),
    "predictions": ("at",),
    "ohlcv": ("at",),
    "orders": ("at", "position"),
    "fills": ("at", "position"),
    "trades": ("at", "position"),
    "system_events": ("id",),
    "model_registry": ("id",),
}

_DEFAULTS = {
    name: {c.name: getattr(c.default, "arg", None) for c in table.columns} for name, table in TABLES.items()
}
_REALS = {
    name: frozenset(c.name for c in table.columns if isinstance(c.type, Money | Double))
    for name, table in TABLES.items()
}
_GENERATED = frozenset({"id"})


def complete(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with every column of its table, defaults filled in, NaN as None: as it will be read.

    Raises
    ------
    KeyError
        A name that is no column of the table.
    """
    defaults, reals = _DEFAULTS[table], _REALS[table]
    if unknown := row.keys() - defaults.keys():
        raise KeyError(f"{table} has no column {sorted(unknown)[0]}")
    full = {**defaults, **row}
    for name in reals:
        value = full[name]
        if value is not None:
            full[name] = None if math.isnan(value) else float(value) + 0.0  # -0.0 has no place in NUMERIC
    for name in _GENERATED & full.keys():
        del full[name]
    return full
