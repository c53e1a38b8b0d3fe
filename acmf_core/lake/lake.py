"""The lake: Delta tables that are merged idempotently and read as of any version.

A merge is one atomic commit or none: the same rows twice make no new version, a row that comes again
with other values is kept out and reported. Readers see whole versions only, whatever else happens.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError
from acmf_core.lake.merging import (
    Difference,
    MergeReport,
    as_stamp,
    brief,
    compare,
    conform,
    no_conflicts,
    to_arrow,
    to_pandas,
)
from acmf_core.lake.tables import STAMP, TABLES, Table, table

if TYPE_CHECKING:
    import pyarrow.dataset as pads

Stamp = str | int | pd.Timestamp | None

# Pinned versions must stay readable: nothing expires by itself.
_CONFIGURATION: Final[dict[str, str | None]] = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
_COMMIT_TRIES: Final = 20


class Lake:
    """Delta tables under one path or URI.

    Parameters
    ----------
    uri : str or Path
        A folder, or a URI that delta-rs knows (s3://, gs://, az://, file://). Nothing is created before
        the first write.
    storage_options : mapping, optional
        Passed to delta-rs: endpoint and credentials of an object store.

    Raises
    ------
    OSError
        From any method, when the disk or the object store refuses.
    """

    def __init__(self, uri: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = str(uri).rstrip("/")
        self._options = dict(storage_options) if storage_options else None

    def __repr__(self) -> str:
        return f"Lake({self.uri!r})"

    # -- reading ---------------------------------------------------------------------------------------

    def versions(self) -> dict[str, int]:
        """The newest version of every table that exists."""
        return {name: self._open(name).version() for name in TABLES if self.exists(name)}

    def exists(self, name: str) -> bool:
        """Whether the table was ever written."""
        with _outside(self._table_uri(name)):
            return bool(DeltaTable.is_deltatable(self._table_uri(name), storage_options=self._options))

    def read(
        self,
        name: str,
        *,
        symbol: str | None = None,
        interval: str | None = None,
        start: Stamp = None,
        end: Stamp = None,
        version: int | None = None,
        columns: list[str] | None = None,
    ) -> pd.DataFrame:
        """Rows with start <= event time < end, oldest first; only that window is read from disk.

        Parameters
        ----------
        name : str
            The table.
        symbol, interval : str, optional
            None takes all of them.
        start, end : str, int (microseconds), Timestamp with a zone, optional
            A text without a zone is UTC.
        version : int, optional
            None is the newest.
        columns : list of str, optional
            None is all of them, in the table's order.

        Returns
        -------
        DataFrame
            Flat columns, event times datetime64[us, UTC]; empty where nothing matches or nothing was written.
        """
        spec = table(name)
        wanted = spec.schema if columns is None else pa.schema([spec.schema.field(c) for c in columns])
        if version is None and not self.exists(name):
            return to_pandas(wanted.empty_table())
        condition = _condition(spec, {"symbol": symbol, "interval": interval}, start, end)
        names = list(dict.fromkeys([*wanted.names, *spec.keys]))
        with _outside(self._table_uri(name)):
            rows = self.dataset(name, version).to_table(columns=names, filter=condition)
        rows = rows.sort_by([(key, "ascending") for key in spec.keys]).select(wanted.names)
        return to_pandas(rows.cast(wanted))

    def dataset(self, name: str, version: int | None = None) -> "pads.Dataset":
        """One version of a table as a pyarrow dataset (filters reach the files)."""
        with _outside(self._table_uri(name)):
            return self._open(name, version).to_pyarrow_dataset()

    def sql(self, query: str, versions: Mapping[str, int] | None = None) -> pd.DataFrame:
        """The answer of an in-memory DuckDB that sees every table under its name.

        Parameters
        ----------
        query : str
            One SELECT.
        versions : mapping, optional
            Table to version; tables not named are read at their newest.
        """
        import duckdb

        pinned = dict(versions or {})
        connection = duckdb.connect()
        try:
            connection.execute("SET TimeZone = 'UTC'")
            for name in TABLES:
                if self.exists(name):
                    connection.register(name, self.dataset(name, pinned.get(name)))
            return to_pandas(connection.sql(query).to_arrow_table())
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise DataError(f"the query failed: {brief(error)}", "mend the query") from None
        except duckdb.Error as error:
            raise OSError(errno.EIO, f"the lake cannot be read: {brief(error)}", self.uri) from error
        finally:
            connection.close()

    def history(self, name: str) -> pd.DataFrame:
        """Commits of a table, newest first: version, time, operation, source (what the writer said)."""
        columns = ["version", "time", "operation", "source"]
        if not self.exists(name):
            return pd.DataFrame(columns=columns)
        with _outside(self._table_uri(name)):
            entries = self._open(name).history()
        rows = [
            (
                e["version"],
                pd.Timestamp(e["timestamp"], unit="ms", tz="UTC"),
                e["operation"],
                e.get("source", ""),
            )
            for e in entries
        ]
        return pd.DataFrame(rows, columns=columns)

    def status(self) -> pd.DataFrame:
        """One line per table and key: rows, first, last, missing bars, bridged bars, version.

        `missing` counts grid points without a bar between first and last (candles only, else 0).
        """
        columns = ["table", "symbol", "interval", "rows", "first", "last", "missing", "bridged", "version"]
        parts = [self._status_of(TABLES[name], version) for name, version in self.versions().items()]
        parts = [part for part in parts if not part.empty]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    def _status_of(self, spec: Table, version: int) -> pd.DataFrame:
        group = ", ".join(spec.partitions) or "1"
        bridged = f"count_if({spec.placeholder})" if spec.placeholder else "0"
        query = (
            f"SELECT {group}, count(*) AS rows, min({spec.time}) AS first, max({spec.time}) AS last, "
            f"{bridged} AS bridged FROM {spec.name} GROUP BY {group} ORDER BY {group}"
        )
        part = self.sql(query, {spec.name: version}).assign(table=spec.name, version=version, missing=0)
        for name in ("symbol", "interval"):
            if name not in part.columns:
                part[name] = ""
        for name in ("rows", "bridged", "missing"):
            part[name] = part[name].astype("int64")
        if "interval" in spec.partitions and not part.empty:
            step = pd.to_timedelta(part["interval"].map(INTERVAL_SECONDS), unit="s")
            part["missing"] = ((part["last"] - part["first"]) // step + 1 - part["rows"]).astype("int64")
        return part

    # -- writing ---------------------------------------------------------------------------------------

    def merge(
        self, name: str, frame: pd.DataFrame, *, accept_corrections: bool = False, source: str = ""
    ) -> MergeReport:
        """Bring rows in, in one commit; rows that are there already change nothing.

        Parameters
        ----------
        name : str
            The table.
        frame : DataFrame
            Its columns (optional ones may be left out); times with a zone.
        accept_corrections : bool
            Take conflicting values instead of keeping them out.
        source : str
            Where the rows came from; kept with the commit (`history`).

        Raises
        ------
        DataError
            Columns that do not fit the table, nulls in required ones, or a key twice.
        OSError
            The disk or the object store refused, or other writers won every one of 20 tries.
        """
        spec = table(name)
        offered = conform(spec, frame)
        if not len(offered):
            version = self.versions().get(name)
            return MergeReport(name, 0, 0, 0, 0, no_conflicts(spec), version)
        for _ in range(_COMMIT_TRIES):
            difference = compare(spec, self._stored_beside(spec, offered), offered, accept_corrections)
            if not difference.writes:
                return difference.report(name, self.versions().get(name))
            try:
                version = self._commit(spec, difference, source)
            except CommitFailedError:
                continue  # another writer came first: look again at what is there now
            return difference.report(name, version)
        raise OSError(
            errno.EAGAIN, f"other writers kept changing {name} ({_COMMIT_TRIES} tries)", self._table_uri(name)
        )

    def _stored_beside(self, spec: Table, offered: pd.DataFrame) -> pd.DataFrame:
        first, last = offered[spec.time].min(), offered[spec.time].max() + pd.Timedelta(1, "us")
        only = {name: offered[name].unique() for name in spec.partitions}
        one = {name: str(values[0]) for name, values in only.items() if len(values) == 1}
        return self.read(
            spec.name, symbol=one.get("symbol"), interval=one.get("interval"), start=first, end=last
        )

    def _commit(self, spec: Table, difference: "Difference", source: str) -> int:
        uri = self._table_uri(spec.name)
        if "://" not in uri:
            _require_writable(Path(uri))
        properties = CommitProperties(custom_metadata={"source": source}, max_commit_retries=0)
        with _outside(uri):
            target = DeltaTable.create(
                uri,
                schema=spec.schema,
                partition_by=list(spec.partitions),
                name=spec.name,
                mode="ignore",
                configuration=_CONFIGURATION,
                storage_options=self._options,
            )
            merger = target.merge(
                to_arrow(spec, difference.writes_frame(spec)),
                predicate=_merge_predicate(spec, difference.writes_frame(spec)),
                source_alias="s",
                target_alias="t",
                commit_properties=properties,
            ).when_not_matched_insert_all()
            if len(difference.updates):
                merger = merger.when_matched_update_all()
            merger.execute()
            return int(target.version())

    # -- inside ----------------------------------------------------------------------------------------

    def _table_uri(self, name: str) -> str:
        return f"{self.uri}/{table(name).name}"

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        uri = self._table_uri(name)
        if not self.exists(name):
            raise DataError(
                f"the lake at {self.uri} has no {name} yet", "acmf data pull or acmf data import FILE"
            )
        with _outside(uri):
            newest = DeltaTable(uri, storage_options=self._options)
            if version is None or version == newest.version():
                return newest
            if not 0 <= version < newest.version():
                raise DataError(
                    f"{name} in {self.uri} has no version {version}",
                    f"it has versions 0 to {newest.version()}",
                )
            return DeltaTable(uri, version=version, storage_options=self._options)


def _condition(
    spec: Table, equal: Mapping[str, str | None], start: Stamp, end: Stamp
) -> pc.Expression | None:
    parts = []
    for name, value in equal.items():
        if value is None:
            continue
        if name not in spec.partitions:
            raise DataError(f"{spec.name} has no {name}", f"its keys: {', '.join(spec.keys)}")
        parts.append(pc.field(name) == value)
    if start is not None:
        parts.append(pc.field(spec.time) >= pa.scalar(as_stamp(start), STAMP))
    if end is not None:
        parts.append(pc.field(spec.time) < pa.scalar(as_stamp(end), STAMP))
    condition = None
    for part in parts:
        condition = part if condition is None else condition & part
    return condition


def _merge_predicate(spec: Table, writes: pd.DataFrame) -> str:
    """Equal keys, with the touched partitions spelled out so that only their files are looked at."""
    parts = []
    for name in spec.partitions:
        values = ", ".join("'" + str(v).replace("'", "''") + "'" for v in writes[name].unique())
        parts.append(f"t.{name} IN ({values})")
    parts += [f"t.{name} = s.{name}" for name in spec.keys]
    return " AND ".join(parts)


def _require_writable(folder: Path) -> None:
    """Ask the disk before delta-rs does, whose word on it is long and goes to stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in (folder, folder / "_delta_log"):
        if part.exists() and not os.access(part, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission to write", str(part))


@contextmanager
def _outside(uri: str) -> Iterator[None]:
    """What delta-rs says of the disk or the network, as the OSError that it is."""
    try:
        yield
    except CommitFailedError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise OSError(errno.EIO, f"the lake cannot be used: {brief(error)}", uri) from error
    except (DeltaError, pa.ArrowException) as error:
        raise OSError(errno.EIO, f"the lake's table cannot be used: {brief(error)}", uri) from error
