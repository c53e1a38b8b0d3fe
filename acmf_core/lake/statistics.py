"""What the log alone says about a table: the files, their rows and the span of their event times."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.lake.datasets import dataset
from acmf_core.lake.tables import Table

# The log rounds a file's bounds down to milliseconds: its last row lies less than this after `last`.
ROUNDING: Final = pd.Timedelta(1, "ms")


def files(spec: Table, opened: DeltaTable) -> pd.DataFrame:
    """One line per data file: path, the partition columns, size (bytes), rows, first, last, bridged.

    Parameters
    ----------
    spec, opened : Table, DeltaTable
        The declaration and one version of the table.

    Returns
    -------
    DataFrame
        Sorted by partition and first. `first` and `last` (datetime64[us, UTC]) are rounded down to
        milliseconds and missing where a foreign writer kept no statistics; `bridged` says whether any row
        may be a placeholder.
    """
    log = pa.table(opened.get_add_actions(flatten=True))
    frame = pd.DataFrame(
        {
            "path": log["path"].to_pylist(),
            **{name: log[f"partition.{name}"].to_pylist() for name in spec.partitions},
            "size": log["size_bytes"].to_numpy().astype("int64"),
            "rows": _column(log, "num_records").fillna(-1).astype("int64"),
            "first": _stamps(log, f"min.{spec.time}"),
            "last": _stamps(log, f"max.{spec.time}"),
            "bridged": _column(log, f"max.{spec.placeholder}").fillna(True).astype(bool)
            if spec.placeholder
            else False,
        }
    )
    return frame.sort_values([*spec.partitions, "first", "last", "path"], ignore_index=True)


def complete(held: pd.DataFrame) -> bool:
    """Whether every file has its rows and its span in the log."""
    return bool((held["rows"] >= 0).all() and held["first"].notna().all() and held["last"].notna().all())


def partitions(spec: Table, held: pd.DataFrame, equal: Mapping[str, str]) -> list[dict[str, str]]:
    """The partitions among the lines of `files` that have these values, in order."""
    if not spec.partitions:
        return [{}] if len(held) else []
    found = held[list(spec.partitions)].drop_duplicates()
    for name, value in equal.items():
        found = found[found[name] == value]
    return [{str(name): str(value) for name, value in row.items()} for row in found.to_dict("records")]


def summary(spec: Table, opened: DeltaTable) -> pd.DataFrame:
    """One line per partition: symbol, interval, rows, first, last, missing, bridged, version."""
    held = files(spec, opened)
    if not complete(held):
        held = _counted(spec, opened)
    by = list(spec.partitions)
    key = [held[name] for name in by] or [pd.Series("", index=held.index)]
    part = held.groupby(key, sort=True).agg(
        rows=("rows", "sum"), first=("first", "min"), last=("last", "max"), bridged=("bridged", "any")
    )
    part = part.reset_index().assign(version=opened.version(), missing=0)
    for name in ("symbol", "interval"):
        if name not in part.columns:
            part[name] = part["mode"] if name == "interval" and "mode" in by else ""
    if "interval" in by and len(part):
        step = pd.to_timedelta(part["interval"].map(INTERVAL_SECONDS), unit="s")
        missing = (part["last"] - part["first"]) // step + 1 - part["rows"]
        part["missing"] = missing.clip(lower=0).astype("int64")  # an import may be denser than its grid
    part["bridged"] = _bridged(spec, opened, part) if part["bridged"].any() else 0
    return part


def history(entries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Commits as delta-rs tells them: version, time, operation, source, note."""
    rows = [
        (
            entry["version"],
            pd.Timestamp(entry["timestamp"], unit="ms", tz="UTC"),
            entry["operation"],
            entry.get("source", ""),
            entry.get("note", ""),
        )
        for entry in entries
    ]
    return pd.DataFrame(rows, columns=["version", "time", "operation", "source", "note"])


def _bridged(spec: Table, opened: DeltaTable, part: pd.DataFrame) -> "pd.Series[int]":
    """Placeholders per line: only files that hold one are read, and of them only that column."""
    by = list(spec.partitions)
    marked = dataset(spec, opened).to_table(columns=by, filter=pc.field(spec.placeholder))
    counts = marked.to_pandas().value_counts(by)
    return pd.Series([int(counts.get(tuple(key), 0)) for key in part[by].to_numpy()], index=part.index)


def _counted(spec: Table, opened: DeltaTable) -> pd.DataFrame:
    """The lines of `files` from the event times themselves, where the log does not know them."""
    by = list(spec.partitions)
    times: pd.DataFrame = opened.to_pyarrow_dataset().to_table(columns=[*by, spec.time]).to_pandas()
    times[spec.time] = times[spec.time].dt.as_unit("us")
    lines = times.assign(
        rows=1, first=times[spec.time], last=times[spec.time], bridged=bool(spec.placeholder)
    )
    return lines[[*by, "rows", "first", "last", "bridged"]]


def _column(log: pa.Table, name: str) -> "pd.Series[float]":
    if name not in log.column_names:  # no file, or a writer without statistics
        return pd.Series([None] * log.num_rows, dtype="object")
    column: pd.Series[float] = log[name].to_pandas().astype("object")
    return column


def _stamps(log: pa.Table, name: str) -> "pd.Series[pd.Timestamp]":
    return pd.to_datetime(_column(log, name), utc=True).dt.as_unit("us")
