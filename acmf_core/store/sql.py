"""The Store on SQLite (embedded default) or PostgreSQL, through SQLAlchemy Core.

Everything of one cycle is written in one transaction, and a cycle that is already recorded stays as it is.
Rows are never changed afterwards, but for one case: a failed cycle may be completed by a later attempt.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from acmf_core.domain import Check
from acmf_core.errors import AcmfError, ConfigError
from acmf_core.fingerprint import canonical
from acmf_core.store import journal, schema
from acmf_core.store.migrate import upgrade
from acmf_core.store.schema import FAILED
from acmf_core.store.verify import verify

_JOURNAL_LOCK: Final = 0x41434D46  # "ACMF": one writer of the chain at a time on PostgreSQL


class SqlStore:
    """Durable memory of the daemon (port `Store`); a context manager that closes its connections.

    Parameters
    ----------
    engine : Engine
        Of a database that `SqlStore.open` has brought up to date.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._insert_cycle = _cycle_upsert(dialect)
        self._insert = {name: insert(table) for name, table in schema.CYCLE_TABLES.items()}
        self._insert_event = insert(schema.SYSTEM_EVENTS)
        events = schema.SYSTEM_EVENTS.c
        self._last_hash = select(events.hash).order_by(events.id.desc()).limit(1)

    @classmethod
    def open(cls, where: str | Path) -> Self:
        """Open a database and bring it to the current schema; a missing SQLite file is created.

        Parameters
        ----------
        where : str or Path
            A file's path, or a URL (`sqlite:///state/acmf.db`, `postgresql://user@host/name`).

        Raises
        ------
        ConfigError
            A URL that is none, a driver that is not installed, a database of a newer version.
        AcmfError
            The database cannot be reached or written, or the file is no database.
        """
        url = _url(where)
        engine = _engine(url)
        try:
            with _reported(url), engine.connect() as connection:
                upgrade(connection)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back; the store can not be used afterwards."""
        self._engine.dispose()

    def last_cycle(self, symbol: str) -> dict[str, Any] | None:
        """The newest completed cycle of a symbol with its kernel state, or None."""
        cycles = schema.CYCLES
        query = (
            select(cycles)
            .where(cycles.c.symbol == symbol, cycles.c.status != FAILED)
            .order_by(cycles.c.at.desc())
            .limit(1)
        )
        with self._reading() as connection:
            found = connection.execute(query).mappings().first()
        return dict(found) if found is not None else None

    def rows(self, table: str, **equal: Any) -> list[dict[str, Any]]:
        """The rows of one table whose columns equal the given values, oldest first.

        Raises
        ------
        KeyError
            No such table or column.
        """
        source = schema.TABLES[table]
        query = select(source).order_by(*(source.c[name] for name in schema.CHRONOLOGY[table]))
        for name, value in equal.items():
            query = query.where(source.c[name] == value)
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def columns(self, table: str, names: Sequence[str], *, start: int, end: int) -> list[tuple[Any, ...]]:
        """Some columns of the rows with start <= at <= end (microseconds), oldest first.

        Raises
        ------
        KeyError
            No such table or column.
        """
        source = schema.TABLES[table]
        query = (
            select(*(source.c[name] for name in names))
            .where(source.c["at"].between(start, end))
            .order_by(*(source.c[name] for name in schema.CHRONOLOGY[table]))
        )
        with self._reading() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def record_cycle(self, cycle: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """One cycle with its rows and its entry in the journal, all or nothing.

        Recording a completed cycle again changes nothing. A failed one may be completed, or fail again.

        Raises
        ------
        KeyError
            A table or column that does not exist.
        AcmfError
            The database refused.
        """
        head = schema.complete("cycles", cycle)
        found = {name: [schema.complete(name, row) for row in many] for name, many in rows.items() if many}
        with self._writing() as connection:
            if connection.execute(self._insert_cycle, head).rowcount == 0:
                return
            for name, many in found.items():
                connection.execute(self._insert[name], many)
            kind, payload = journal.entry(head, found)
            self._append(connection, kind, payload, head["recorded_at"], "daemon", head["cycle_id"])

    def record_event(self, kind: str, payload: Mapping[str, Any], *, at: int, actor: str) -> str:
        """Append an operator's command or a system event to the journal; returns its hash."""
        with self._writing() as connection:
            return self._append(connection, kind, payload, at, actor, None)

    def record_deployment(
        self,
        alias: str,
        version: str,
        bundle: str,
        *,
        at: int,
        actor: str,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """What was deployed when, by whom, on what evidence: a row, and its line in the journal."""
        row = {
            "at": at,
            "alias": alias,
            "version": version,
            "bundle": bundle,
            "actor": actor,
            "reason": reason,
            "evidence": canonical(evidence or {}),
        }
        with self._writing() as connection:
            connection.execute(insert(schema.MODEL_REGISTRY), row)
            payload = {name: value for name, value in row.items() if name not in ("at", "actor")}
            self._append(connection, "deployment", payload, at, actor, None)

    def _append(
        self,
        connection: Connection,
        kind: str,
        payload: Mapping[str, Any],
        at: int,
        actor: str,
        cycle_id: str | None,
    ) -> str:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_JOURNAL_LOCK)))
        previous = connection.execute(self._last_hash).scalar() or journal.GENESIS
        row = {"at": at, "kind": kind, "actor": actor, "cycle_id": cycle_id, "payload": canonical(payload)}
        fingerprint = journal.link(previous, row)
        connection.execute(self._insert_event, row | {"previous": previous, "hash": fingerprint})
        return fingerprint

    def verify_journal(self) -> Check:
        """Walk the whole chain, and every completed cycle's rows against their digest."""
        with self._snapshot() as connection:
            return verify(connection)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _reported(self._engine.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """Several reads that see one moment, whatever others write meanwhile."""
        with _reported(self._engine.url), self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.execute(text("BEGIN"))
            else:
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _reported(self._engine.url), self._engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                # Take the write lock now: a later upgrade from reader to writer could fail half way.
                connection.execute(_BEGIN)
            yield connection


_BEGIN = text("BEGIN IMMEDIATE")


def _cycle_upsert(dialect: Any) -> Any:
    statement = dialect.insert(schema.CYCLES)
    changed = {c.name: statement.excluded[c.name] for c in schema.CYCLES.columns if not c.primary_key}
    return statement.on_conflict_do_update(
        index_elements=["cycle_id"], set_=changed, where=schema.CYCLES.c.status == FAILED
    ).execution_options(preserve_rowcount=True)


def _url(where: str | Path) -> URL:
    named = str(where)
    if "://" not in named:
        return URL.create("sqlite", database=named)
    try:
        url = make_url(named)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "the database URL cannot be read", "write it as postgresql://user@host/name or sqlite:///path"
        ) from None
    if url.drivername in {"postgres", "postgresql"}:
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigError(f"{url.drivername} is no database this store speaks", "use SQLite or PostgreSQL")
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": 30.0})
        event.listen(engine, "connect", _tune_sqlite)
        return engine
    try:
        return create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"PostgreSQL needs the package {error.name}", "install it with pip install 'acmf[production]'"
        ) from None


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    cursor = connection.cursor()
    # WAL: readers never wait for the writer. NORMAL: a crash of the process loses nothing, a power cut may
    # lose the last transactions but never tears one; the cycle is then simply met again.
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def _reported(url: URL) -> Iterator[None]:
    """The database's refusals as one line with a way out; passwords never show."""
    try:
        yield
    except DBAPIError as error:
        what = (
            str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        )
        raise AcmfError(
            f"the database {url.render_as_string(hide_password=True)} refused: {what}",
            "check that it is reachable, writable and has free space",
        ) from error
    except SQLAlchemyError as error:
        raise AcmfError(f"the database {url.render_as_string(hide_password=True)} failed: {error}") from error
