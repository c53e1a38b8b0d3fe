"""How rows become a version: one commit on top of the very version that was looked at, or none.

Every commit here carries no retries of its own. delta-rs then refuses it when another writer was first
(on an object store through a conditional put), and the caller looks again at what is there.
"""

import errno
import random
import time
from typing import Final

from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake

from acmf_core.lake.merging import Difference, joined, to_arrow
from acmf_core.lake.tables import Table
from acmf_core.lake.windows import span_sql

# 65,536 one-minute bars are 45 days: a month's window reads two row groups of a year's file.
WRITER: Final = WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=65_536)

# Against a writer that commits without a pause 20 tries starved 2 merges of 93: some four tries in five were
# lost. The waits between 60 add up to some half a minute.
TRIES: Final = 60


def write(spec: Table, target: DeltaTable, difference: Difference, source: str) -> int:
    """Commit a difference on top of the version of `target`; returns the new version.

    New rows are appended as they are: nothing stored is read or written again. Where rows are replaced,
    the files in their span are rewritten, and no others.

    Raises
    ------
    CommitFailedError
        Another writer was first; nothing was written.
    """
    properties = commit_properties(source, difference.note)
    if not len(difference.updates):
        rows = to_arrow(spec, difference.inserts).cast(spec.schema)
        write_deltalake(target, rows, mode="append", writer_properties=WRITER, commit_properties=properties)
        return int(target.version())
    writes = joined([difference.inserts, difference.updates])
    keys = [f't."{name}" = s."{name}"' for name in spec.keys]
    target.merge(
        to_arrow(spec, writes),
        predicate=" AND ".join([*span_sql(spec, writes, "t"), *keys]),
        source_alias="s",
        target_alias="t",
        writer_properties=WRITER,
        commit_properties=properties,
    ).when_matched_update_all().when_not_matched_insert_all().execute()
    return int(target.version())


def commit_properties(source: str, note: str) -> CommitProperties:
    """What a commit says of itself, and that it must not be retried on another version."""
    said = {"source": source} | ({"note": note} if note else {})
    return CommitProperties(custom_metadata=said, max_commit_retries=0)


def give_way(attempt: int) -> None:
    """Wait a little, longer each time, so that writers that met do not meet again."""
    time.sleep(random.uniform(0.0, min(0.01 * 2**attempt, 1.0)))


def overtaken(uri: str) -> OSError:
    """The error of a writer that was never first."""
    return OSError(errno.EAGAIN, f"other writers kept changing the table ({TRIES} tries)", uri)
