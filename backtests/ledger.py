"""The trial ledger: what was tried on which data, append-only, across runs and studies.

Two kinds are counted apart. `tuning`: inner trials that saw only a training window; they deflate the
in-sample Sharpe. `out_of_sample`: configurations whose test series was read; they deflate the
out-of-sample Sharpe. One JSON object a line; a line, once written, is never changed.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from acmf_core.domain import Span
from acmf_core.errors import DataError
from acmf_core.fingerprint import canonical

Kind = Literal["tuning", "out_of_sample"]
KINDS: tuple[Kind, ...] = ("tuning", "out_of_sample")


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    kind: "tuning" or "out_of_sample". symbol and span (microseconds, UTC): the data whose result was
    read. identity: names the trial; the same identity is one trial, however often it is run.
    count: trials the line stands for (a tuning study writes one line). sharpe: per day, None where
    it is undefined.
    """

    kind: Kind
    symbol: str
    span: Span
    identity: str
    count: int = 1
    sharpe: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Distinct trials on a data window; `sharpes` are the daily Sharpes of the out-of-sample ones."""

    tuning: int
    out_of_sample: int
    sharpes: tuple[float, ...] = ()


class TrialLedger:
    """The ledger file. Any number of processes may append and read at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def append(self, *entries: Entry) -> None:
        """Write the entries behind what is there and force them to the disk."""
        lines = b"".join(canonical(asdict(entry)).encode() + b"\n" for entry in entries)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path) as handle:
            _mend_tail(handle)
            os.write(handle, lines)
            os.fsync(handle)

    def entries(self) -> list[Entry]:
        """Everything ever written, oldest first.

        Raises
        ------
        DataError
            A line that is not an entry: somebody edited the file.
        """
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a line without its end is still being written
        return [self._entry(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def counts(self, symbol: str, span: Span) -> Counts:
        """How many distinct trials of each kind read data that overlap the window."""
        latest: dict[tuple[str, str], Entry] = {}
        for entry in self.entries():
            if entry.symbol == symbol and entry.span.overlaps(span):
                latest[entry.kind, entry.identity] = entry
        tuning = sum(e.count for e in latest.values() if e.kind == "tuning")
        read = [e for e in latest.values() if e.kind == "out_of_sample"]
        sharpes = tuple(e.sharpe for e in read if e.sharpe is not None)
        return Counts(tuning, sum(e.count for e in read), sharpes)

    def _entry(self, number: int, line: str) -> Entry:
        try:
            values = json.loads(line)
            entry = Entry(**(values | {"span": Span(**values["span"])}))
        except (ValueError, TypeError, KeyError):
            raise DataError(
                f"{self.path}: line {number} is not a ledger entry",
                "the ledger is append-only: restore the line, or move the file away and start a new one",
            ) from None
        return entry


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _mend_tail(handle: int) -> None:
    """Cut off a last line that a killed process left without its end: it was never acknowledged."""
    size = os.fstat(handle).st_size
    data = os.pread(handle, size, 0)
    if data and not data.endswith(b"\n"):
        os.ftruncate(handle, data.rfind(b"\n") + 1)
