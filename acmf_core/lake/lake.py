"""The lake: Delta tables that are merged idempotently and read as of any version.

A merge is one atomic commit or none: the same rows twice make no new version, a row that comes again
with other values is kept out and reported. Readers see whole versions only, whatever else happens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from acmf_core.lake import commits, compaction, queries, statistics
from acmf_core.lake.datasets import dataset
from acmf_core.lake.merging import (
    Difference,
    MergeReport,
    combined,
    compare,
    conform,
    no_conflicts,
    slices,
    to_pandas,
)
from acmf_core.lake.queries import SlowColumn
from acmf_core.lake.storage import Storage, outside
from acmf_core.lake.tables import TABLES, Table, table
from acmf_core.lake.windows import Stamp, Window

if TYPE_CHECKING:
    import pyarrow.dataset as pads

_SLICE_ROWS: Final = 200_000  # compared at once: 30 MB of candles
BATCH_ROWS: Final = 200_000


class Lake:
    """Delta tables under one path or URI.

    Parameters
    ----------
    uri : str or Path
        A folder, or a URI that delta-rs knows (s3://, gs://, az://, file://). Nothing is created before
        the first write.
    storage_options : mapping, optional
        Passed to delta-rs: endpoint and credentials of an object store. What is not named comes from the
        usual environment variables (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, ...).

    Raises
    ------
    OSError
        From any method, when the disk or the object store refuses.
    """

    def __init__(self, uri: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self._storage = Storage(uri, storage_options)

    @property
    def uri(self) -> str:
        """The folder or URI of all tables."""
        return self._storage.uri

    def __repr__(self) -> str:
        return f"Lake({self.uri!r})"

    # -- reading ---------------------------------------------------------------------------------------

    def versions(self) -> dict[str, int]:
        """The newest version of every table that exists."""
        return {name: opened.version() for name, opened in self._storage.existing().items()}

    def exists(self, name: str) -> bool:
        """Whether the table was ever written."""
        return self._storage.exists(name)

    def read(
        self,
        name: str,
        *,
        symbol: str | None = None,
        interval: str | None = None,
        mode: str | None = None,
        start: Stamp = None,
        end: Stamp = None,
        known_by: Stamp = None,
        version: int | None = None,
        columns: list[str] | None = None,
    ) -> pd.DataFrame:
        """Rows with start <= event time < end, oldest first; only that window is read from disk.

        Parameters
        ----------
        name : str
            The table.
        symbol, interval, mode : str, optional
            None takes all of them.
        start, end : str, int (microseconds), Timestamp with a zone, optional
            Of the event time. A text without a zone is UTC.
        known_by : as start, optional
            Only rows that were known at that moment: available_at <= known_by.
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
        window = Window.of(spec, {"symbol": symbol, "interval": interval, "mode": mode}, start, end, known_by)
        opened = self._storage.newest(name) if version is None else self._storage.open(name, version)
        if opened is None:
            return to_pandas(_chosen(spec, columns).empty_table())
        with outside(self._storage.table_uri(name)):
            return _rows(opened, window, columns)

    def scan(
        self,
        name: str,
        *,
        symbol: str | None = None,
        interval: str | None = None,
        mode: str | None = None,
        start: Stamp = None,
        end: Stamp = None,
        known_by: Stamp = None,
        version: int | None = None,
        columns: list[str] | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> Iterator[pd.DataFrame]:
        """The rows of `read` in pieces: partition after partition, by time, at most `batch_rows` each.

        Memory holds one batch and the event times of one partition, however large the table is. All
        batches are of one version, whatever is written meanwhile.
        """
        spec = table(name)
        window = Window.of(spec, {"symbol": symbol, "interval": interval, "mode": mode}, start, end, known_by)
        opened = self._storage.newest(name) if version is None else self._storage.open(name, version)
        if opened is None:
            return
        uri = self._storage.table_uri(name)
        with outside(uri):
            held = statistics.files(spec, opened)
        for values in statistics.partitions(spec, held, window.equal):
            with outside(uri):
                parts = window.within(values).cut(_times(opened, window.within(values)), batch_rows)
            for part in parts:
                with outside(uri):
                    batch = _rows(opened, part, columns)
                yield batch

    def dataset(self, name: str, version: int | None = None) -> "pads.Dataset":
        """One version of a table as a pyarrow dataset (filters reach the files)."""
        opened = self._storage.open(name, version)
        with outside(self._storage.table_uri(name)):
            return dataset(table(name), opened)

    def sql(self, query: str, versions: Mapping[str, int] | None = None) -> pd.DataFrame:
        """The answer of an in-memory DuckDB that sees every table under its name.

        Parameters
        ----------
        query : str
            One SELECT.
        versions : mapping, optional
            Table to version; tables not named are read at their newest.
        """
        pinned = dict(versions or {})
        named = [name for name in TABLES if name in query.lower() and (name in pinned or self.exists(name))]
        return queries.answer(self.uri, query, {name: self.dataset(name, pinned.get(name)) for name in named})

    def as_of(
        self,
        symbol: str,
        interval: str,
        joined: Sequence[SlowColumn],
        *,
        start: Stamp = None,
        end: Stamp = None,
        versions: Mapping[str, int] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """The bars of a series with the slow values known at their close (DuckDB ASOF JOIN).

        For research over more bars than memory holds, and the slow twin of the features' kernel
        (`features/asof.py`), which is what models read.

        Parameters
        ----------
        symbol, interval : str
            The series; slow tables with a symbol are joined on the same one.
        joined : sequence of SlowColumn
            What to join, each with its maximum age.
        start, end : as in `read`
            Of the bars' open time.
        versions : mapping, optional
            Table to version; tables not named are read at their newest.

        Yields
        ------
        DataFrame
            One per calendar year: open_time, available_at (the close), and `table.column` for each; NaN
            where nothing was known or it was too old.
        """
        pinned = dict(versions or {})
        wanted = {"symbol": symbol, "interval": interval}
        opened = self._storage.open("candles", pinned.get("candles"))
        bars = (opened, Window.of(table("candles"), wanted, start, end))
        slow = []
        for column in joined:
            queries.require_numbers(column)
            beside = {"symbol": symbol, "interval": column.interval}
            mine = {name: beside[name] for name in table(column.table).partitions}
            opened = self._storage.open(column.table, pinned.get(column.table))
            slow.append((column, opened, Window.of(table(column.table), mine)))
        yield from queries.as_of(self.uri, bars, slow)

    def history(self, name: str) -> pd.DataFrame:
        """Commits of a table, newest first: version, time, operation, source, note.

        `source` is what the writer said of where the rows came from; `note` names corrections and
        compactions.
        """
        opened = self._storage.newest(name)
        with outside(self._storage.table_uri(name)):
            return statistics.history([] if opened is None else opened.history())

    def status(self) -> pd.DataFrame:
        """One line per table and key: rows, first, last, missing bars, bridged bars, version.

        Read from the log alone, not from the data (but for a count of bridged bars where there are any).
        `first` and `last` are whole milliseconds; `missing` counts grid points without a row between them
        (tables with an interval only, else 0). For cycles `interval` is the mode.
        """
        columns = ["table", "symbol", "interval", "rows", "first", "last", "missing", "bridged", "version"]
        parts = []
        for name, opened in self._storage.existing().items():
            with outside(self._storage.table_uri(name)):
                parts.append(statistics.summary(TABLES[name], opened).assign(table=name))
        parts = [part for part in parts if not part.empty]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    # -- writing ---------------------------------------------------------------------------------------

    def merge(
        self, name: str, frame: pd.DataFrame, *, accept_corrections: bool = False, source: str = ""
    ) -> MergeReport:
        """Bring rows in, in one commit; rows that are there already change nothing.

        Only the stored rows beside the offered ones are read, some 200,000 at a time.

        Parameters
        ----------
        name : str
            The table.
        frame : DataFrame
            Its columns (optional ones may be left out); times with a zone.
        accept_corrections : bool
            Take conflicting values instead of keeping them out; the commit's note says so.
        source : str
            Where the rows came from; kept with the commit (`history`).

        Raises
        ------
        DataError
            Columns that do not fit the table, nulls in required ones, or a key twice.
        OSError
            The disk or the object store refused, or other writers won every one of 60 tries.
        """
        spec = table(name)
        offered = conform(spec, frame)
        if not len(offered):
            opened = self._storage.newest(name)
            return MergeReport(name, 0, 0, 0, 0, no_conflicts(spec), opened.version() if opened else None)
        for attempt in range(commits.TRIES):
            try:
                opened = self._storage.newest(name)
                if opened is None:
                    opened = self._storage.create(spec)
                difference = self._difference(spec, opened, offered, accept_corrections)
                version = self._commit(spec, opened, difference, source)
            except CommitFailedError:
                commits.give_way(attempt)  # another writer came first: look again at what is there now
                continue
            return difference.report(name, version)
        raise commits.overtaken(self._storage.table_uri(name))

    def merge_chunks(
        self,
        name: str,
        frames: Iterable[pd.DataFrame],
        *,
        accept_corrections: bool = False,
        source: str = "",
    ) -> MergeReport:
        """Bring in more rows than memory holds: one commit a frame, one report for all of them.

        Stopped between two frames, the same call again goes on: what is there already changes nothing.
        """
        total = None
        for frame in frames:
            report = self.merge(name, frame, accept_corrections=accept_corrections, source=source)
            total = report if total is None else total + report
        return total if total is not None else self.merge(name, table(name).schema.empty_table().to_pandas())

    def compact(
        self, name: str | None = None, *, target_bytes: int = compaction.TARGET_BYTES
    ) -> pd.DataFrame:
        """Gather small files into large ones, sorted by time; no row changes, no version is lost.

        Parameters
        ----------
        name : str, optional
            One table; None is all of them.
        target_bytes : int
            How large a file may become; files near that are left alone.

        Returns
        -------
        DataFrame
            One line per table that exists: table, files_before, files_after, rewritten_bytes, version.
            Where nothing is small there is no new version.
        """
        names = TABLES if name is None else [table(name).name]
        lines = [compaction.compact(self._storage, TABLES[each], target_bytes) for each in names]
        columns = ["table", "files_before", "files_after", "rewritten_bytes", "version"]
        return pd.DataFrame([line for line in lines if line is not None], columns=columns)

    # -- inside ----------------------------------------------------------------------------------------

    def _difference(self, spec: Table, opened: DeltaTable, offered: pd.DataFrame, accept: bool) -> Difference:
        """The offered rows against one version, slice by slice."""
        with outside(self._storage.table_uri(spec.name)):
            parts = []
            for part in slices(spec, offered, _SLICE_ROWS):
                beside = _rows(opened, Window.around(spec, part), None)
                parts.append(compare(spec, beside, part, accept))
        return combined(parts)

    def _commit(self, spec: Table, opened: DeltaTable, difference: Difference, source: str) -> int:
        if not difference.writes:
            return int(opened.version())
        self._storage.require_writable(spec.name)
        with outside(self._storage.table_uri(spec.name)):
            return commits.write(spec, opened, difference, source)


def _chosen(spec: Table, columns: list[str] | None) -> pa.Schema:
    return spec.schema if columns is None else pa.schema([spec.schema.field(name) for name in columns])


def _rows(opened: DeltaTable, window: Window, columns: list[str] | None) -> pd.DataFrame:
    """The rows of a window in key order, in the wanted columns."""
    spec, wanted = window.spec, _chosen(window.spec, columns)
    names = list(dict.fromkeys([*wanted.names, *spec.keys]))
    rows = window.dataset(opened).to_table(columns=names, filter=window.expression())
    rows = rows.sort_by([(key, "ascending") for key in spec.keys]).select(wanted.names)
    return to_pandas(rows.cast(wanted))


def _times(opened: DeltaTable, window: Window) -> pd.DatetimeIndex:
    rows = window.dataset(opened).to_table(columns=[window.spec.time], filter=window.expression())
    stamps = rows.column(0).to_numpy().astype("datetime64[us]")
    stamps.sort()
    return pd.DatetimeIndex(stamps, tz="UTC")
