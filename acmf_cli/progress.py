"""Progress bars with an estimate of the time left, fed by the (stage, done, total) callbacks of the core."""

import sys
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm


class ProgressBars:
    """One bar per stage, opened at its first report and closed at its last.

    Use as a context manager and pass `bars.report` as the `progress` argument; `label` stands before
    every stage's name. Quiet bars draw nothing (for --json).
    """

    def __init__(self, label: str = "", *, quiet: bool = False) -> None:
        self._label = f"{label}: " if label else ""
        self._quiet = quiet
        self._bars: dict[str, tqdm] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def report(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of a stage are finished."""
        if self._quiet:
            return
        bar = self._bars.get(stage)
        if bar is None:
            bar = tqdm(
                total=total,
                desc=f"  {self._label}{stage}",
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
                mininterval=0.2,
                position=0,
            )
            self._bars[stage] = bar
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(stage).close()
