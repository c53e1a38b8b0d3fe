"""DuckDB over the lake: free queries, and the as-of join in SQL that the features' kernel is held against.

Always in memory and over Arrow: no database file, no extension, and an object store like a folder.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from acmf_core.errors import DataError
from acmf_core.lake.merging import brief, to_pandas
from acmf_core.lake.tables import AVAILABLE, STAMP, table
from acmf_core.lake.windows import Window

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as pads

# Of the rows that became known in the same microsecond the one with the latest event counts, a value that
# is missing is no row, and a value exactly as old as allowed is still known: the rules of features/asof.py.
_AS_OF = """
WITH known AS (
    SELECT available_at, arg_max({column}, event_time) AS value
    FROM slow WHERE isfinite({column}) GROUP BY available_at
)
SELECT bars.open_time,
       CASE WHEN epoch_us(bars.available_at) - epoch_us(known.available_at) <= {max_age_us}
            THEN value END AS value
FROM bars ASOF LEFT JOIN known ON bars.available_at >= known.available_at
ORDER BY bars.open_time
"""


@dataclass(frozen=True)
class SlowColumn:
    """One column of a slow table, as a bar's close may know it.

    Attributes
    ----------
    table, column : str
        Of the lake; a column of numbers.
    max_age : Timedelta
        A value older than this is forgotten; one exactly this old still counts.
    interval : str, optional
        For tables that have one (long_short, open_interest): which series.
    """

    table: str
    column: str
    max_age: pd.Timedelta
    interval: str | None = None

    @property
    def name(self) -> str:
        """How the joined column is called."""
        return f"{self.table}.{self.column}"


def answer(uri: str, query: str, tables: Mapping[str, "pads.Dataset"]) -> pd.DataFrame:
    """The answer to one SELECT over named datasets.

    Raises
    ------
    DataError
        The query is wrong.
    OSError
        The data cannot be read.
    """
    with _connection(uri) as connection:
        for name, dataset in tables.items():
            connection.register(name, dataset)
        return to_pandas(connection.sql(query).to_arrow_table())


def as_of(
    uri: str,
    bars: tuple[DeltaTable, Window],
    slow: Sequence[tuple[SlowColumn, DeltaTable, Window]],
) -> Iterator[pd.DataFrame]:
    """The bars of one series with each slow value known at their close, one frame per calendar year.

    Parameters
    ----------
    uri : str
        Of the lake, for errors.
    bars : (DeltaTable, Window)
        The candles, and which of them.
    slow : sequence of (SlowColumn, DeltaTable, Window)
        What to join, where it lies and which partition of it.
    """
    opened, window = bars
    for year in _years(opened, window):
        chunk = year.dataset(opened).to_table(columns=["open_time", AVAILABLE], filter=year.expression())
        chunk = chunk.sort_by("open_time")
        if not chunk.num_rows:
            continue
        frame = to_pandas(chunk)
        with _connection(uri) as connection:
            connection.register("bars", chunk)
            for column, where, partition in slow:
                frame[column.name] = _joined(connection, chunk, column, where, partition)
        yield frame


def _joined(
    connection: "duckdb.DuckDBPyConnection",
    bars: pa.Table,
    column: SlowColumn,
    opened: DeltaTable,
    partition: Window,
) -> "pd.Series[float]":
    closes = bars[AVAILABLE].to_pandas()
    known = (pc.field(AVAILABLE) >= pa.scalar(closes.min() - column.max_age, STAMP)) & (
        pc.field(AVAILABLE) <= pa.scalar(closes.max(), STAMP)
    )
    condition = partition.expression()
    rows = partition.dataset(opened).to_table(
        columns=[AVAILABLE, "event_time", column.column],
        filter=known if condition is None else known & condition,
    )
    connection.register("slow", rows)
    max_age_us = int(column.max_age / pd.Timedelta(1, "us"))
    joined = connection.sql(_AS_OF.format(column=f'"{column.column}"', max_age_us=max_age_us))
    values: pd.Series[float] = joined.to_arrow_table()["value"].to_pandas().astype("float64")
    return values


def _years(opened: DeltaTable, window: Window) -> Iterator[Window]:
    """The window cut at every New Year."""
    times = window.dataset(opened).to_table(columns=["open_time"], filter=window.expression())["open_time"]
    if not len(times):
        return
    bounds = pc.min_max(times).as_py()
    for year in range(bounds["min"].year, bounds["max"].year + 1):
        first, after = (pd.Timestamp(f"{y}-01-01", tz="UTC") for y in (year, year + 1))
        yield replace(
            window,
            start=first if window.start is None else max(first, window.start),
            end=after if window.end is None else min(after, window.end),
        )


def require_numbers(column: SlowColumn) -> None:
    """DataError where there is no such column of numbers in a slow table."""
    spec = table(column.table)
    numbers = [f.name for f in spec.schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    if spec.time != "event_time" or column.column not in numbers:
        raise DataError(
            f"{column.name} is no column of numbers in a slow table", f"{spec.name} has {', '.join(numbers)}"
        )


@contextmanager
def _connection(uri: str) -> Iterator["duckdb.DuckDBPyConnection"]:
    """An in-memory DuckDB that speaks UTC; its refusals as errors of the house."""
    import duckdb

    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        raise DataError(f"the query failed: {brief(error)}", "mend the query") from None
    except duckdb.Error as error:
        raise OSError(errno.EIO, f"the lake cannot be read: {brief(error)}", uri) from error
    finally:
        connection.close()
