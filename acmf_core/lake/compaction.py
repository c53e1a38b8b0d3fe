"""Small files into large ones: which are worth gathering, and the commit that does it.

A daemon leaves a file a cycle, a pull one a chunk. Neighbours in time are gathered into one file sorted by
time, so that the files of a partition do not overlap and a window finds its rows by the files' bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from acmf_core.lake import commits, statistics
from acmf_core.lake.storage import Storage, outside
from acmf_core.lake.tables import Table
from acmf_core.lake.windows import Window

# One-minute bars of a symbol and year and a half; 250 MB in memory while they are sorted.
TARGET_BYTES: Final = 32 * 1024 * 1024
# A file much larger than all its small neighbours waits until they have grown: rewriting a year for every
# day's bars would write the year 365 times.
_WAITS_ABOVE: Final = 4
_ALWAYS_BELOW: Final = 1024 * 1024
_MOST: Final = 4  # times the target: what one step may hold in memory


@dataclass(frozen=True)
class Group:
    """Neighbouring files of one partition that become one.

    Attributes
    ----------
    values : dict
        Partition column to value.
    first, last : Timestamp
        Their rows lie in first <= time < last + 1 ms.
    files, size : int
        How many, and their bytes together.
    """

    values: dict[str, str]
    first: pd.Timestamp
    last: pd.Timestamp
    files: int
    size: int


def compact(storage: Storage, spec: Table, target_bytes: int) -> tuple[str, int, int, int, int] | None:
    """Gather until nothing is small: one commit a group, each on the newest version.

    Returns
    -------
    tuple or None
        Table, files before and after, bytes rewritten, version; None where the table was never written.
    """
    opened = storage.newest(spec.name)
    if opened is None:
        return None
    uri = storage.table_uri(spec.name)
    before, rewritten, attempt = len(opened.file_uris()), 0, 0
    while True:
        with outside(uri):
            group = next_group(spec, opened, target_bytes)
            if group is None:
                return spec.name, before, len(opened.file_uris()), rewritten, opened.version()
            storage.require_writable(spec.name)
            try:
                rewrite(spec, opened, group, target_bytes)
                rewritten += group.size
                attempt = 0
            except CommitFailedError:  # another writer was first: look again at what is there now
                attempt += 1
                if attempt == commits.TRIES:
                    raise commits.overtaken(uri) from None
                commits.give_way(attempt)
        opened = storage.open(spec.name)


def next_group(spec: Table, opened: DeltaTable, target_bytes: int) -> Group | None:
    """The first files that are worth gathering, or None where nothing is small."""
    held = statistics.files(spec, opened)
    if not statistics.complete(held):  # a foreign writer's files without statistics: leave them alone
        return None
    by = list(spec.partitions)
    for key, part in held.groupby(by, sort=True) if by else [((), held)]:
        values = {name: str(value) for name, value in zip(by, key, strict=True)}
        for members in _runs(part["size"].tolist(), target_bytes):
            group = _closed(part, members, values)
            if group is not None and group.size <= _MOST * target_bytes:
                return group
    return None


def rewrite(spec: Table, opened: DeltaTable, group: Group, target_bytes: int) -> None:
    """Put the rows of a group, sorted, in the place of its files, in one commit.

    Raises
    ------
    CommitFailedError
        Another writer was first; nothing changed.
    """
    window = Window(spec, group.values, group.first, group.last + statistics.ROUNDING)
    rows = window.dataset(opened).to_table(filter=window.expression()).sort_by(spec.time)
    where = " ".join(group.values.values())
    write_deltalake(
        opened,
        rows.select(spec.schema.names).cast(spec.schema),
        mode="overwrite",
        predicate=window.sql(),
        target_file_size=2 * target_bytes,
        writer_properties=commits.WRITER,
        commit_properties=commits.commit_properties(
            "", f"gathered {group.files} files{' of ' if where else ''}{where} into one"
        ),
    )


def _runs(sizes: Sequence[int], target_bytes: int) -> list[list[int]]:
    """Positions of neighbours that together stay under the target and are worth rewriting."""
    runs: list[list[int]] = []
    current: list[int] = []
    total = 0
    for position, size in enumerate(sizes):
        if total + size > target_bytes:
            runs.append(current)
            current, total = [], 0
        if size <= target_bytes:
            current.append(position)
            total += size
    return [kept for run in [*runs, current] for kept in _worth(run, sizes)]


def _worth(run: list[int], sizes: Sequence[int]) -> list[list[int]]:
    """The run without files that are far larger than all the others of it, cut where such a file lay."""
    if len(run) < 2:
        return []
    largest = max(run, key=lambda position: sizes[position])
    others = sum(sizes[position] for position in run) - sizes[largest]
    if sizes[largest] <= max(_ALWAYS_BELOW, _WAITS_ABOVE * others):
        return [run]
    cut = run.index(largest)
    return [*_worth(run[:cut], sizes), *_worth(run[cut + 1 :], sizes)]


def _closed(part: pd.DataFrame, members: list[int], values: dict[str, str]) -> Group | None:
    """The group with every file that overlaps it in time; None where that makes it not worth it."""
    chosen = part.iloc[members]
    while True:
        first, last = chosen["first"].min(), chosen["last"].max()
        touched = part[(part["first"] <= last) & (part["last"] >= first)]
        if len(touched) == len(chosen):
            break
        chosen = touched
    sizes = chosen["size"].tolist()
    everyone = list(range(len(sizes)))
    if _worth(everyone, sizes) != [everyone]:
        return None
    return Group(values, first, last, len(chosen), int(sum(sizes)))
