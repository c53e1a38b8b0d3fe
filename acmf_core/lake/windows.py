"""A part of a table: the same window as an Arrow filter, as delta-rs's SQL, and against file statistics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from acmf_core.errors import DataError
from acmf_core.lake.datasets import dataset
from acmf_core.lake.merging import as_stamp
from acmf_core.lake.tables import AVAILABLE, STAMP, Table

if TYPE_CHECKING:
    import pyarrow.dataset as pads

Stamp = str | int | pd.Timestamp | None


@dataclass(frozen=True)
class Window:
    """Rows of some partitions with start <= event time < end, known by a moment.

    Attributes
    ----------
    equal : mapping
        Partition column to its value; columns not named take all.
    start, end : Timestamp or None
        Of the event time.
    known_by : Timestamp or None
        `available_at` at most this.
    """

    spec: Table
    equal: Mapping[str, str]
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None
    known_by: pd.Timestamp | None = None

    @classmethod
    def of(
        cls,
        spec: Table,
        equal: Mapping[str, str | None],
        start: Stamp = None,
        end: Stamp = None,
        known_by: Stamp = None,
    ) -> "Window":
        """From what a caller may write; DataError for a column that is no partition, or for no time."""
        given = {name: value for name, value in equal.items() if value is not None}
        foreign = [name for name in given if name not in spec.partitions]
        if foreign:
            raise DataError(f"{spec.name} has no {foreign[0]}", f"its keys: {', '.join(spec.keys)}")
        stamps = [None if value is None else as_stamp(value) for value in (start, end, known_by)]
        return cls(spec, given, *stamps)

    @classmethod
    def around(cls, spec: Table, rows: pd.DataFrame) -> "Window":
        """The partition and the time span of some rows of one partition."""
        equal = {name: str(rows[name].iloc[0]) for name in spec.partitions}
        return cls(spec, equal, rows[spec.time].iloc[0], rows[spec.time].iloc[-1] + pd.Timedelta(1, "us"))

    def within(self, values: Mapping[str, str]) -> "Window":
        """The same window of one partition."""
        return replace(self, equal=dict(values))

    def cut(self, times: pd.DatetimeIndex, most: int) -> Iterator["Window"]:
        """Windows of at most so many rows, from the ascending event times of all of them."""
        for first in range(0, len(times), most):
            stop = first + most
            yield replace(self, start=times[first], end=times[stop] if stop < len(times) else self.end)

    def dataset(self, opened: DeltaTable) -> "pads.Dataset":
        """Only the files that may hold rows of the window; of a thousand small files most are not looked at.

        `expression` has still to be applied: files are chosen by the bounds that the log keeps of them.
        """
        start = self.start.floor("ms") if self.start is not None else None
        end = self.end.ceil("ms") if self.end is not None else None
        return dataset(self.spec, opened, replace(self, start=start, end=end).sql())

    def sql(self) -> str:
        """The window in delta-rs's SQL; its bounds must be whole milliseconds, as in the log."""
        terms = equal_sql(self.equal)
        terms += [moment_sql(self.spec, ">=", self.start)] if self.start is not None else []
        terms += [moment_sql(self.spec, "<", self.end)] if self.end is not None else []
        return " AND ".join(terms)

    def expression(self) -> pc.Expression | None:
        """The Arrow filter; None where the window is the whole table."""
        parts = [pc.field(name) == value for name, value in self.equal.items()]
        if self.start is not None:
            parts.append(pc.field(self.spec.time) >= pa.scalar(self.start, STAMP))
        if self.end is not None:
            parts.append(pc.field(self.spec.time) < pa.scalar(self.end, STAMP))
        if self.known_by is not None:
            parts.append(pc.field(AVAILABLE) <= pa.scalar(self.known_by, STAMP))
        condition = None
        for part in parts:
            condition = part if condition is None else condition & part
        return condition


def span_sql(spec: Table, rows: pd.DataFrame, alias: str = "") -> list[str]:
    """SQL terms that hold the partitions and the time span of some rows, both ends included.

    The span is widened to whole milliseconds: file statistics are, and a file whose last row lies in the
    same millisecond as the first bound must not be skipped.
    """
    terms = []
    for name in spec.partitions:
        values = ", ".join(_text(value) for value in rows[name].unique())
        terms.append(f"{_name(name, alias)} IN ({values})")
    first, last = rows[spec.time].min(), rows[spec.time].max()
    return [
        *terms,
        moment_sql(spec, ">=", first.floor("ms"), alias),
        moment_sql(spec, "<=", last.ceil("ms"), alias),
    ]


def equal_sql(values: Mapping[str, str]) -> list[str]:
    """SQL terms for partitions with these values."""
    return [f"{_name(name, '')} = {_text(value)}" for name, value in values.items()]


def moment_sql(spec: Table, comparison: str, moment: pd.Timestamp, alias: str = "") -> str:
    """One SQL term on the event time."""
    literal = f"'{moment:%Y-%m-%dT%H:%M:%S.%f}Z', 'Timestamp(Microsecond, Some(\"UTC\"))'"
    return f"{_name(spec.time, alias)} {comparison} arrow_cast({literal})"


def _name(column: str, alias: str) -> str:
    return f'{alias}."{column}"' if alias else f'"{column}"'  # interval is a word of SQL


def _text(value: str) -> str:
    return "'" + str(value).replace("'", "''") + "'"
