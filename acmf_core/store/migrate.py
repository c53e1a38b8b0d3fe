"""Bring a database to the schema of this code, or back: Alembic, run from inside the package."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from acmf_core.errors import ConfigError

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x4D494752  # "MIGR": two daemons that start together migrate one after the other


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run every migration that the database has not seen, in one transaction.

    Raises
    ------
    ConfigError
        The database was made by a newer version of this code.
    """
    _run(connection, revision, command.upgrade)


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Undo migrations down to `revision`; "base" leaves nothing."""
    _run(connection, revision, command.downgrade)


def heads() -> tuple[str, ...]:
    """The newest revision that this code knows."""
    return tuple(ScriptDirectory.from_config(_config()).get_heads())


def _run(connection: Connection, revision: str, action: object) -> None:
    config = _config()
    config.attributes["connection"] = connection
    if connection.dialect.name == "sqlite":
        connection.execute(text("BEGIN IMMEDIATE"))
    else:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    seen = MigrationContext.configure(connection).get_current_heads()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if unknown := set(seen) - known:
        connection.rollback()
        raise ConfigError(
            f"the database is at revision {min(unknown)}, which this version does not know",
            "upgrade acmf, or give another database",
        )
    try:
        action(config, revision)  # type: ignore[operator]
    except CommandError as error:
        connection.rollback()
        raise ConfigError(f"the database cannot be brought to {revision}: {error}") from None
    connection.commit()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
