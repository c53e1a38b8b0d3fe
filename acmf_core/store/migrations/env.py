"""Alembic's hook: migrate over the connection that `migrate.py` hands in; its transaction is the caller's."""

from alembic import context

from acmf_core.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
context.run_migrations()
