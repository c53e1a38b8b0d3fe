"""The first tables: cycles and what belongs to them, the journal, the deployments."""

import sqlalchemy as sa
from alembic import op

from acmf_core.store.schema import Instant, Money

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _cycle_id(primary_key: bool = False) -> sa.Column[str]:
    reference = sa.ForeignKey("cycles.cycle_id")
    return sa.Column("cycle_id", sa.String(48), reference, primary_key=primary_key, nullable=False)


def upgrade() -> None:
    _create_cycles()
    _create_decisions()
    _create_executions()
    _create_records()


def downgrade() -> None:
    for table in (
        "model_registry",
        "system_events",
        "trades",
        "fills",
        "orders",
        "ohlcv",
        "predictions",
        "cycles",
    ):
        op.drop_table(table)


def _create_cycles() -> None:
    op.create_table(
        "cycles",
        sa.Column("cycle_id", sa.String(48), primary_key=True),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("params", sa.String(64), nullable=False),
        sa.Column("features", sa.String(64), nullable=False),
        sa.Column("equity", Money()),
        sa.Column("state", sa.Text()),
        sa.Column("timings", sa.Text(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
    )
    op.create_index("ix_cycles_symbol_at", "cycles", ["symbol", "at"])


def _create_decisions() -> None:
    op.create_table(
        "predictions",
        _cycle_id(primary_key=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("p_long", sa.Double()),
        sa.Column("p_short", sa.Double()),
        sa.Column("p_neutral", sa.Double()),
        sa.Column("side", sa.SmallInteger(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("regime", sa.SmallInteger(), nullable=False),
        sa.Column("score_trending", sa.Double(), nullable=False),
        sa.Column("score_ranging", sa.Double(), nullable=False),
        sa.Column("score_high_volatility", sa.Double(), nullable=False),
        sa.Column("gates", sa.Integer(), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_predictions_at", "predictions", ["at"])
    op.create_table(
        "ohlcv",
        _cycle_id(primary_key=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("open_time", Instant(), nullable=False),
        *(sa.Column(name, Money(), nullable=False) for name in ("open", "high", "low", "close", "volume")),
    )


def _create_executions() -> None:
    op.create_table(
        "orders",
        sa.Column("client_id", sa.String(36), primary_key=True),
        _cycle_id(),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("lot", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(8), nullable=False),
        sa.Column("side", sa.SmallInteger(), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("reduce_only", sa.Boolean(), nullable=False),
        sa.Column("trigger_price", Money()),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("regime", sa.SmallInteger(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("venue_id", sa.String(64), nullable=False),
        sa.UniqueConstraint("cycle_id", "position"),
    )
    op.create_table(
        "fills",
        _cycle_id(primary_key=True),
        sa.Column("position", sa.SmallInteger(), primary_key=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("client_id", sa.String(36), nullable=False),
        sa.Column("open_time", Instant(), nullable=False),
        sa.Column("lot", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(8), nullable=False),
        sa.Column("side", sa.SmallInteger(), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("price", Money(), nullable=False),
        sa.Column("fee", Money(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
    )
    op.create_index("ix_fills_client_id", "fills", ["client_id"])
    op.create_table(
        "trades",
        _cycle_id(primary_key=True),
        sa.Column("position", sa.SmallInteger(), primary_key=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("lot", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.SmallInteger(), nullable=False),
        sa.Column("quantity", Money(), nullable=False),
        sa.Column("regime", sa.SmallInteger(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("entry_time", Instant(), nullable=False),
        sa.Column("entry_price", Money(), nullable=False),
        sa.Column("exit_time", Instant(), nullable=False),
        sa.Column("exit_price", Money(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("bars", sa.Integer(), nullable=False),
        *(sa.Column(name, Money(), nullable=False) for name in ("gross", "fees", "funding", "net", "risk")),
    )


def _create_records() -> None:
    op.create_table(
        "system_events",
        sa.Column("id", _KEY, primary_key=True, autoincrement=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("cycle_id", sa.String(48)),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False, unique=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_index("ix_system_events_kind", "system_events", ["kind"])
    op.create_table(
        "model_registry",
        sa.Column("id", _KEY, primary_key=True, autoincrement=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("alias", sa.String(32), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
    )
