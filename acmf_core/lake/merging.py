"""What a merge decides, away from any disk: which offered rows are new, same, fuller or in conflict."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from acmf_core.domain import DAY_US
from acmf_core.errors import ConflictingBar, DataError
from acmf_core.lake.tables import AVAILABLE, STAMP, Table

_CONFLICT_COLUMNS: Final = ("time", "column", "stored", "offered")
_JUMP_US: Final = 31 * DAY_US
_VALUE_PART: Final = ("column", "stored", "offered")


@dataclass(frozen=True)
class MergeReport:
    """What one merge did.

    Attributes
    ----------
    inserted, unchanged : int
        New rows; rows that were there with the same values.
    filled : int
        Rows that gained optional values, or that took the place of a bridged stand-in.
    corrected : int
        Rows whose closed values were replaced because `accept_corrections` said so.
    conflicts : DataFrame
        key columns, time, column, stored, offered: one line per value kept out, oldest first.
    version : int or None
        The table's version afterwards; None where nothing was ever written.
    """

    table: str
    inserted: int
    unchanged: int
    filled: int
    corrected: int
    conflicts: pd.DataFrame
    version: int | None

    @property
    def conflicting_rows(self) -> int:
        """How many rows were kept out."""
        return int(
            self.conflicts.drop_duplicates([c for c in self.conflicts if c not in _VALUE_PART]).shape[0]
        )

    @property
    def changed(self) -> bool:
        """Whether a new version was written."""
        return bool(self.inserted or self.filled or self.corrected)

    def __add__(self, other: "MergeReport") -> "MergeReport":
        """Two merges of one table, the later one second."""
        return MergeReport(
            self.table,
            self.inserted + other.inserted,
            self.unchanged + other.unchanged,
            self.filled + other.filled,
            self.corrected + other.corrected,
            joined([self.conflicts, other.conflicts]),
            other.version,
        )

    def conflict(self) -> ConflictingBar | None:
        """The error that names the first row kept out, or None."""
        if self.conflicts.empty:
            return None
        first = self.conflicts.iloc[0]
        when, column = f"{first['time']:%Y-%m-%d %H:%M} UTC", first["column"]
        return ConflictingBar(
            f"{self.conflicting_rows} closed row(s) of {self.table} came again with other values and "
            f"stayed out; the first is {when}: {column} {first['stored']} is stored, {first['offered']} was "
            "offered",
            "look at the source; --accept-corrections takes the new values",
        )


@dataclass(frozen=True)
class Difference:
    """Offered rows against stored ones: what to insert, what to replace, what to keep out.

    `replaced` has the shape of `conflicts`: the closed values that the updates change.
    """

    inserts: pd.DataFrame
    updates: pd.DataFrame
    unchanged: int
    filled: int
    corrected: int
    conflicts: pd.DataFrame
    replaced: pd.DataFrame

    @property
    def writes(self) -> int:
        return len(self.inserts) + len(self.updates)

    @property
    def note(self) -> str:
        """What a person should find in the history of the table; empty where nothing was corrected."""
        if not self.corrected:
            return ""
        first = self.replaced.iloc[0]
        more = len(self.replaced) - 1
        return (
            f"corrected {self.corrected} row(s): {first['time']:%Y-%m-%d %H:%M} UTC {first['column']} "
            f"{first['stored']} -> {first['offered']}" + (f" and {more} more value(s)" if more else "")
        )

    def report(self, name: str, version: int | None) -> MergeReport:
        return MergeReport(
            name, len(self.inserts), self.unchanged, self.filled, self.corrected, self.conflicts, version
        )


def slices(spec: Table, offered: pd.DataFrame, most: int) -> Iterator[pd.DataFrame]:
    """Conformed rows cut into runs of one partition and at most so many rows, in order.

    Also cut where nothing is offered for a month: what is stored there need not be read.
    """
    starts = np.zeros(len(offered), dtype=bool)
    starts[:1] = True
    for name in spec.partitions:
        starts[1:] |= (offered[name].iloc[1:].to_numpy() != offered[name].iloc[:-1].to_numpy()).astype(bool)
    starts[1:] |= np.diff(_stamps(offered[spec.time]).to_numpy()) > _JUMP_US
    edges = [*np.flatnonzero(starts), len(offered)]
    for first, stop in pairwise(edges):
        for begin in range(first, stop, most):
            yield offered.iloc[begin : min(begin + most, stop)]


def compare(spec: Table, stored: pd.DataFrame, offered: pd.DataFrame, accept: bool) -> Difference:
    """Sort the offered rows of one partition into new, same, fuller and conflicting ones."""
    place = _stamps(stored[spec.time]).get_indexer(_stamps(offered[spec.time]))
    is_new = place < 0
    if is_new.all():
        return Difference(offered, offered.iloc[:0], 0, 0, 0, no_conflicts(spec), no_conflicts(spec))
    old = stored.iloc[place[~is_new]].reset_index(drop=True)
    new = offered.loc[~is_new].reset_index(drop=True)

    # A real row takes the place of a stand-in. A stand-in for a row that is there says nothing against it.
    stand_in, idle = np.zeros((2, len(old)), dtype=bool)
    if spec.placeholder:
        was, comes = (side[spec.placeholder].to_numpy(bool) for side in (old, new))
        stand_in, idle = was & ~comes, comes & ~was
    differs, fills = np.zeros((2, len(old), len(spec.values)), dtype=bool)
    for column, value in enumerate(spec.values):
        had, has = old[value].notna().to_numpy(), new[value].notna().to_numpy()
        fills[:, column] = ~had & has & ~idle
        other = old[value].ne(new[value]).fillna(False).to_numpy(bool)
        differs[:, column] = had & has & other & ~stand_in & ~idle
    conflicting = np.asarray(differs.any(axis=1))
    # A row filled by what was known at another moment would be wrong about when one of its values was known.
    fillable = accept | (old[AVAILABLE] == new[AVAILABLE]).to_numpy(bool)
    fuller = (np.asarray(fills.any(axis=1)) & fillable) | stand_in

    replacing = (fuller & ~conflicting) | (conflicting & accept)
    changed = _differing_values(spec, old, new, differs)
    return Difference(
        inserts=offered.loc[is_new],
        updates=_replacements(old[replacing], new[replacing]),
        unchanged=int((~conflicting & ~fuller).sum()),
        filled=int((fuller & ~conflicting).sum()),
        corrected=int(conflicting.sum()) if accept else 0,
        conflicts=no_conflicts(spec) if accept else changed,
        replaced=changed if accept else no_conflicts(spec),
    )


def combined(differences: Sequence[Difference]) -> Difference:
    """The difference of several slices of one delivery."""
    if len(differences) == 1:
        return differences[0]
    return Difference(
        inserts=joined([each.inserts for each in differences]),
        updates=joined([each.updates for each in differences]),
        unchanged=sum(each.unchanged for each in differences),
        filled=sum(each.filled for each in differences),
        corrected=sum(each.corrected for each in differences),
        conflicts=joined([each.conflicts for each in differences]),
        replaced=joined([each.replaced for each in differences]),
    )


def no_conflicts(spec: Table) -> pd.DataFrame:
    return pd.DataFrame(columns=[*spec.partitions, *_CONFLICT_COLUMNS])


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The frames under each other; the one that has rows, uncopied, where no other has."""
    filled = [frame for frame in frames if len(frame)]
    if len(filled) < 2:
        return filled[0] if filled else frames[0]
    return pd.concat(filled, ignore_index=True)


def _stamps(times: pd.Series) -> pd.Index:
    return pd.Index(pd.DatetimeIndex(times).asi8)


def _replacements(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """What to store in the place of old rows: optional values that are not offered again are kept.

    None of them was all known before the later of the two moments: a correction offered with an early one
    does not reach back behind the row that it corrects.
    """
    if new.empty:
        return new
    merged = new.where(new.notna(), old).astype(new.dtypes.to_dict())
    merged[AVAILABLE] = new[AVAILABLE].where(new[AVAILABLE] > old[AVAILABLE], old[AVAILABLE])
    return merged


def _differing_values(
    spec: Table, old: pd.DataFrame, new: pd.DataFrame, differs: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """One line per value that is not what is stored, oldest row first."""
    row, column = np.nonzero(differs)
    if not len(row):
        return no_conflicts(spec)
    sides = {"stored": np.empty(len(row), dtype=object), "offered": np.empty(len(row), dtype=object)}
    for position, value in enumerate(spec.values):
        here = column == position
        sides["stored"][here] = old[value].iloc[row[here]].tolist()
        sides["offered"][here] = new[value].iloc[row[here]].tolist()
    lines = old[[*spec.partitions, spec.time]].iloc[row].reset_index(drop=True)
    lines = lines.rename(columns={spec.time: "time"})
    return lines.assign(column=np.array(spec.values, dtype=object)[column], **sides)


def conform(spec: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame in the table's columns, order and types, sorted by key.

    Raises
    ------
    DataError
        Columns or types that do not fit, an empty value in a required column, a row known before it
        happened, or a key twice.
    """
    required = [n for n in spec.schema.names if n not in spec.optional]
    missing = [n for n in required if n not in frame.columns]
    unknown = [n for n in frame.columns if n not in spec.schema.names]
    if missing or unknown:
        problem = f"lack {', '.join(missing)}" if missing else f"carry {', '.join(map(str, unknown))}"
        raise DataError(f"rows for {spec.name} {problem}", f"columns: {', '.join(spec.schema.names)}")
    rows = to_pandas(to_arrow(spec, frame))
    empty = [n for n in required if rows[n].isna().any()]
    empty += [n for n in spec.partitions if (rows[n] == "").any()]  # delta-rs would read it back as null
    if empty:
        raise DataError(
            f"rows for {spec.name} have empty values in {', '.join(empty)}", "fill or drop those rows"
        )
    early = rows[AVAILABLE] < rows[spec.time]
    if early.any():
        first = rows.loc[early, spec.time].min()
        raise DataError(
            f"{int(early.sum())} row(s) for {spec.name} are known before they happened, the first at "
            f"{first:%Y-%m-%d %H:%M} UTC",
            f"{AVAILABLE} is {spec.time} or later",
        )
    if not in_order(spec, rows):
        rows = rows.sort_values(list(spec.keys), ignore_index=True)
    double = rows.duplicated(list(spec.keys))
    if double.any():
        first = rows.loc[double, spec.time].iloc[0]
        raise DataError(
            f"{int(double.sum())} row(s) for {spec.name} come twice, the first at {first:%Y-%m-%d %H:%M} UTC",
            "drop the doubles",
        )
    return rows


def in_order(spec: Table, rows: pd.DataFrame) -> bool:
    """Whether the rows of one partition already ascend in time (then sorting them would only copy them)."""
    return all(rows[name].nunique() < 2 for name in spec.partitions) and bool(
        rows[spec.time].is_monotonic_increasing
    )


def to_arrow(spec: Table, frame: pd.DataFrame) -> pa.Table:
    arrays = []
    for field in spec.schema:
        if field.name not in frame.columns:
            arrays.append(pa.nulls(len(frame), field.type))
            continue
        column = frame[field.name]
        if field.type == STAMP and getattr(column.dtype, "tz", None) is None:
            raise DataError(
                f"{spec.name}.{field.name} has no time zone", "stamps are UTC: tz_localize('UTC')"
            )
        try:
            values = column.dt.tz_convert(None).to_numpy() if field.type == STAMP else column
            arrays.append(pa.array(values, type=field.type, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"{spec.name}.{field.name} is not {field.type}: {brief(error)}", "convert the column"
            ) from None
    loose = pa.schema([field.with_nullable(True) for field in spec.schema])  # nulls are judged by conform
    return pa.Table.from_arrays(arrays, schema=loose)


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """Microsecond UTC stamps, float64, Int64 (nullable) and plain text, whatever wrote them."""
    frame: pd.DataFrame = rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    for name, kind in zip(rows.schema.names, rows.schema.types, strict=True):
        if pa.types.is_timestamp(kind):
            frame[name] = frame[name].dt.tz_convert("UTC").dt.as_unit("us")
    return frame


def as_stamp(value: str | int | pd.Timestamp) -> pd.Timestamp:
    """A moment in UTC from a text (no zone means UTC), microseconds, or a Timestamp with a zone.

    Raises
    ------
    DataError
        A text that is no date, or a Timestamp without a zone.
    """
    try:
        if isinstance(value, int):
            return pd.Timestamp(value, unit="us", tz="UTC")
        stamp = pd.Timestamp(value)
    except ValueError:
        raise DataError(f'"{value}" is not a date', "write it like 2024-01-31 or 2024-01-31T12:00") from None
    if stamp.tzinfo is not None:
        return stamp.tz_convert("UTC").as_unit("us")
    if isinstance(value, str):
        return stamp.tz_localize("UTC").as_unit("us")
    raise DataError(f"{value} has no time zone", "stamps are UTC: tz_localize('UTC')")


def brief(error: Exception) -> str:
    """First and last line of a long error: what failed, and the cause at the bottom of it."""
    plain = re.sub(r"\x1b\[[0-9;]*m|\u21b3", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}"
