"""One version of a table as an Arrow dataset whose files are skipped only where the log is sure."""

from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from acmf_core.lake.tables import Table

if TYPE_CHECKING:
    import pyarrow.dataset as pads


def dataset(spec: Table, opened: DeltaTable, pruned: str | None = None) -> "pads.Dataset":
    """The files of one version, without those that a predicate in delta-rs's SQL rules out.

    A foreign writer may keep statistics without bounds. delta-rs then tells Arrow that the values are "at
    least null", and every filter drops the whole file; here Arrow is told the partition of such a table's
    files and nothing more.
    """
    found = opened.to_pyarrow_dataset(file_pruning_predicate=pruned or None)
    return found if _bounded(spec, opened) else _without_bounds(spec, found)


def _bounded(spec: Table, opened: DeltaTable) -> bool:
    """Whether every column that the log speaks of is bounded, or all null, in every file."""
    log = pa.table(opened.get_add_actions(flatten=True))
    silent = pa.nulls(log.num_rows)
    for name in spec.schema.names:
        said = [f"{what}.{name}" for what in ("min", "max", "null_count")]
        if not set(said) & set(log.column_names):
            continue
        least, most, nulls = (log[each] if each in log.column_names else silent for each in said)
        empty = pc.fill_null(pc.equal(nulls, log["num_records"]), False)
        bounded = pc.and_(pc.is_valid(least), pc.is_valid(most))
        if pc.all(pc.or_(empty, bounded)).as_py() is False:
            return False
    return True


def _without_bounds(spec: Table, found: "pads.Dataset") -> "pads.Dataset":
    import pyarrow.dataset as pads

    fragments = []
    for each in found.get_fragments():
        values = pads.get_partition_keys(each.partition_expression)
        parts = [pc.field(name) == values[name] for name in spec.partitions]
        partition = reduce(and_, parts) if parts else None
        fragments.append(found.format.make_fragment(each.path, found.filesystem, partition))
    return pads.FileSystemDataset(fragments, found.schema, found.format, found.filesystem)
