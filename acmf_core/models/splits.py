"""Cutting a training window in time: encoder on A, booster on B, calibration on C, test on D.

Purging and embargo compare label spans (t0, t1), never row counts. Every fitted thing records the span of
the labels that it saw, and `prove_no_overlap` refuses a model in which a stage was scored on a span that
an earlier stage was fitted on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from acmf_core.config import TrainConfig
from acmf_core.domain import BAR_US, DAY_US, Label, Span
from acmf_core.errors import DataError, ModelNotReady
from acmf_core.models.labels import micros

IntArray = NDArray[np.int64]

# which span each fitted thing belongs to; a stage reads only what stages of earlier blocks made
STAGES: Final[Mapping[str, str]] = {
    "labels": "A",
    "standardiser": "A",
    "encoder": "A",
    "selection": "B",
    "booster": "B",
    "early_stopping": "C",
    "calibration": "C",
}
MIN_ROWS: Final = 200  # labelled rows a block must hold: fewer say nothing about three classes


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where the blocks begin and end (microseconds): A = [start, ab), B = [ab, bc), C = [bc, end)."""

    start: int
    ab: int
    bc: int
    end: int

    @property
    def blocks(self) -> dict[str, Span]:
        return {"A": Span(self.start, self.ab), "B": Span(self.ab, self.bc), "C": Span(self.bc, self.end)}


def cuts(start: int, end: int, config: TrainConfig) -> Cuts:
    """Cut [start, end) by the shares of the configuration; C gets at least `min_days_c`.

    Where C needs more than its share, A and B keep their proportion. Cuts fall on bar opens.

    Raises
    ------
    DataError
        When C's minimum leaves less than half of the window for A and B.
    """
    length = end - start
    share_c = 1.0 - config.share_a - config.share_b
    c_us = max(share_c * length, config.min_days_c * DAY_US)
    if c_us > length / 2:
        raise DataError(
            f"the training window has {length / DAY_US:.1f} days, "
            f"calibration alone needs {config.min_days_c:g}",
            f"train on at least {2 * config.min_days_c:g} days, or lower train.min_days_c",
        )
    share_a = config.share_a / (config.share_a + config.share_b)
    bc = _on_grid(end - c_us)
    return Cuts(start, _on_grid(start + share_a * (bc - start)), bc, end)


def purge(t0: IntArray, t1: IntArray, block: Span) -> NDArray[np.bool_]:
    """Labels that lie strictly inside a block: entered in it, and known before it ends."""
    return (t0 >= block.start) & (t1 < block.end)


def purge_around(
    t0: IntArray, t1: IntArray, tested: Sequence[Span], *, embargo_bars: int = 960
) -> NDArray[np.bool_]:
    """Labels that may be trained on when `tested` spans lie before, between or after them.

    Purged: every label that overlaps a tested span. Embargoed: labels that begin within `embargo_bars`
    after a tested span, whose features still hold its bars (192 + 672 + 20, rounded up to 10 days).
    """
    keep = np.ones(len(t0), dtype=bool)
    for span in tested:
        keep &= (t1 < span.start) | (t0 > span.end + embargo_bars * BAR_US)
    return keep


def fit_spans(labels: pd.DataFrame, where: Cuts) -> dict[str, Span]:
    """Spans of labels [first t0, last t1] of the three blocks.

    Raises
    ------
    DataError
        When a block holds too few labels or not all three classes.
    """
    t0, t1 = micros(labels["t0"]), micros(labels["t1"])
    spans = {}
    for name, block in where.blocks.items():
        inside = purge(t0, t1, block)
        y = labels["y"].to_numpy()[inside]
        absent = [code.name for code in Label if code not in y]
        if len(y) < MIN_ROWS or absent:
            lacks = f"no label {' and '.join(absent)}" if absent else f"{MIN_ROWS} are needed"
            raise DataError(
                f"block {name} of the training window ({_day(block.start)} to {_day(block.end)}) has "
                f"{len(y)} usable labelled bars; {lacks}",
                "train on a longer window, or load more history before it (features need warm-up)",
            )
        spans[name] = Span(int(t0[inside].min()), int(t1[inside].max()))
    return spans


def stage_spans(spans: Mapping[str, Span]) -> dict[str, Span]:
    """The span that each fitted thing saw, from the blocks' spans."""
    return {stage: spans[block] for stage, block in STAGES.items()}


def prove_no_overlap(stages: Mapping[str, Span], tested: Span | None = None) -> None:
    """Check that no stage was scored on a span that an earlier stage was fitted on.

    Parameters
    ----------
    stages : mapping
        Name of each fitted thing to the span of labels it saw; every name of `STAGES`.
    tested : Span, optional
        The labels the finished model is scored on (D).

    Raises
    ------
    ModelNotReady
        Naming the first two stages that overlap, or the one that is missing.
    """
    fix = "train again: a stack scored on what it was fitted on looks better than it is"
    missing = [name for name in STAGES if name not in stages]
    if missing:
        raise ModelNotReady(f"no fit span is recorded for {', '.join(missing)}", fix)
    backwards = [name for name, span in stages.items() if span.start >= span.end]
    if backwards:
        raise ModelNotReady(f"the fit span of {backwards[0]} ends before it begins", fix)
    for earlier, block in STAGES.items():
        for later, other in STAGES.items():
            if block < other and stages[later].start <= stages[earlier].end:
                raise ModelNotReady(
                    f"{later} saw labels from {_day(stages[later].start)}, {earlier} was fitted up to "
                    f"{_day(stages[earlier].end)}: the spans overlap or are out of order", fix,
                )  # fmt: skip
    for name, span in stages.items():
        if tested is not None and tested.start <= span.end:
            raise ModelNotReady(
                f"the test begins at {_day(tested.start)}, {name} was fitted up to {_day(span.end)}", fix
            )


def _on_grid(us: float) -> int:
    return round(us / BAR_US) * BAR_US


def _day(us: int) -> str:
    return str(np.datetime64(us, "us").astype("datetime64[m]"))
