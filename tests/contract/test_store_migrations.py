"""The migrations make exactly the tables that the code declares, forwards and backwards."""

import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from acmf_core.errors import AcmfError, ConfigError
from acmf_core.store.migrate import downgrade, heads, upgrade
from acmf_core.store.schema import METADATA
from acmf_core.store.sql import SqlStore


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'acmf.db'}"
    else:
        url = request.getfixturevalue("empty_postgresql").replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def test_migrating_up_gives_the_declared_schema_and_down_leaves_nothing(engine):
    with engine.connect() as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        downgrade(connection)
        assert inspect(connection).get_table_names() == ["alembic_version"]
        connection.rollback()
        upgrade(connection)
        upgrade(connection)  # again: nothing to do
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, "alembic_version"}


def test_there_is_one_newest_revision():
    assert len(heads()) == 1


def test_a_database_of_a_newer_version_is_refused(engine, tmp_path):
    with engine.connect() as connection:
        upgrade(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(ConfigError, match="revision 9999, which this version does not know"):
        SqlStore.open(engine.url.render_as_string(hide_password=False))


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes, not a database\n" * 100)
    with pytest.raises(AcmfError, match="file is not a database"):
        SqlStore.open(file)
    assert file.read_text().startswith("these are my notes")


def test_a_directory_is_no_database(tmp_path):
    with pytest.raises(AcmfError, match="unable to open database file"):
        SqlStore.open(tmp_path)


def test_a_server_that_is_not_there_is_named_without_its_password():
    with pytest.raises(AcmfError) as refused:
        SqlStore.open("postgresql://acmf:hunter2@127.0.0.1:1/acmf?connect_timeout=2")
    assert "127.0.0.1" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["mysql://root@host/db", "postgresql://host:port:what/"])
def test_an_unusable_url_is_a_configuration_error(url):
    with pytest.raises(ConfigError):
        SqlStore.open(url)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE predictions SET p_long = 0.34 WHERE cycle_id = 'BTCUSDT:2'",
        "DELETE FROM fills WHERE cycle_id = 'BTCUSDT:2'",
        "UPDATE cycles SET state = '{}' WHERE cycle_id = 'BTCUSDT:2'",
        "UPDATE system_events SET payload = '{}' WHERE id = 2",
        "DELETE FROM system_events WHERE id = 2",
        "DELETE FROM system_events WHERE id = 3",
        "UPDATE cycles SET equity = equity + 1e-9 WHERE cycle_id = 'BTCUSDT:3'",
    ],
)
def test_a_touched_row_is_found(tmp_path, damage):
    from test_store_contract import cycle, rows

    file = tmp_path / "acmf.db"
    with SqlStore.open(file) as store:
        for number in (1, 2, 3):
            store.record_cycle(cycle(number), rows(number))
        assert store.verify_journal().verdict is True
        with sqlite3.connect(file) as raw:
            raw.execute(damage)
        raw.close()
        check = store.verify_journal()
    assert check.verdict is False
    assert "2" in check.detail or "3" in check.detail
    assert check.fix
