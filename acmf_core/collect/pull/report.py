"""What a pull brought, counted over all its files and commits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from acmf_core.collect.archive.client import Progress
from acmf_core.collect.archive.files import Fetched
from acmf_core.lake import MergeReport
from acmf_core.lake.merging import no_conflicts
from acmf_core.lake.tables import table


@dataclass(frozen=True)
class PullReport:
    """What one pull of one series brought.

    Attributes
    ----------
    merged : MergeReport
        What the lake took, over all commits.
    files : int
        Archive files read.
    absent : tuple of str
        Periods that the archive does not have (not yet published, or before the listing).
    damaged : tuple of str
        Files whose checksum or content was wrong; bars of their days were fetched one by one where possible.
    missing : int
        Bars still missing inside the stored part of the window (a venue's outage, or damaged files).
    notes : tuple of str
        What was left out, and why.
    """

    merged: MergeReport
    files: int
    absent: tuple[str, ...]
    damaged: tuple[str, ...]
    missing: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class Counted:
    """Steps of one series towards its progress bar: a file or a commit each."""

    stage: str
    total: int
    progress: Progress | None = None
    done: int = field(default=0, init=False)

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        self._say()

    def more(self, steps: int) -> None:
        """It turned out that there is more to do."""
        self.total += steps
        self._say()

    def _say(self) -> None:
        if self.progress is not None and self.total:
            self.progress(self.stage, self.done, self.total)


def nothing_merged(name: str) -> MergeReport:
    """The report of no rows."""
    return MergeReport(name, 0, 0, 0, 0, no_conflicts(table(name)), None)


def together(name: str, merged: Iterable[MergeReport]) -> MergeReport:
    """Several merges into one table as one."""
    parts = list(merged)
    conflicts = [part.conflicts for part in parts if len(part.conflicts)]
    versions = [part.version for part in parts if part.version is not None]
    return MergeReport(
        name,
        sum(part.inserted for part in parts),
        sum(part.unchanged for part in parts),
        sum(part.filled for part in parts),
        sum(part.corrected for part in parts),
        pd.concat(conflicts, ignore_index=True) if conflicts else no_conflicts(table(name)),
        versions[-1] if versions else None,
    )


def report_of(
    name: str,
    merged: Iterable[MergeReport],
    fetched: Sequence[Fetched],
    damaged: Iterable[str],
    *,
    missing: int = 0,
    notes: Iterable[str] = (),
) -> PullReport:
    """The report of one series from what became of its files."""
    wrong = [one.file.name for one in fetched if one.reason == "bad checksum"]
    return PullReport(
        merged=together(name, merged),
        files=sum(one.path is not None for one in fetched),
        absent=tuple(one.file.period for one in fetched if one.reason == "absent"),
        damaged=tuple([*wrong, *damaged]),
        missing=missing,
        notes=tuple(dict.fromkeys(notes)),
    )
