"""Cutting a training window: shares, purging, embargo, the overlap proof."""

import numpy as np
import pandas as pd
import pytest

from acmf_core.config import TrainConfig
from acmf_core.domain import BAR_US, DAY_US, Span
from acmf_core.errors import DataError, ModelNotReady
from acmf_core.models.splits import (
    STAGES,
    Cuts,
    cuts,
    fit_spans,
    prove_no_overlap,
    purge,
    purge_around,
    stage_spans,
)

H = 8 * BAR_US


def labels(start: int, end: int) -> pd.DataFrame:
    t0 = np.arange(start, end, BAR_US)
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.integers(0, 3, len(t0)).astype(np.int8),
            "t0": pd.DatetimeIndex(t0.astype("datetime64[us]"), tz="UTC"),
            "t1": pd.DatetimeIndex((t0 + H).astype("datetime64[us]"), tz="UTC"),
        }
    )


def test_a_long_window_is_cut_by_its_shares():
    where = cuts(0, 500 * DAY_US, TrainConfig())
    assert (where.ab, where.bc) == (200 * DAY_US, 425 * DAY_US)


def test_calibration_gets_its_minimum_and_a_and_b_keep_their_proportion():
    where = cuts(0, 365 * DAY_US, TrainConfig())
    assert where.end - where.bc == 60 * DAY_US
    assert where.ab / where.bc == pytest.approx(0.40 / 0.85, abs=1e-4)
    assert where.ab % BAR_US == 0


def test_a_window_too_short_for_calibration_is_refused_with_the_figures():
    with pytest.raises(DataError, match=r"100\.0 days, calibration alone needs 60"):
        cuts(0, 100 * DAY_US, TrainConfig())


def test_purging_keeps_only_labels_that_lie_strictly_inside():
    t0 = np.arange(0, 40 * BAR_US, BAR_US)
    keep = purge(t0, t0 + H, Span(10 * BAR_US, 30 * BAR_US))
    kept = t0[keep] // BAR_US
    assert (kept[0], kept[-1]) == (10, 21)  # 22 would be known exactly when the next block begins


def test_labels_that_overlap_a_tested_span_are_purged_and_those_after_it_embargoed():
    t0 = np.arange(0, 3_000 * BAR_US, BAR_US)
    tested = Span(1_000 * BAR_US, 1_200 * BAR_US)
    kept = t0[purge_around(t0, t0 + H, [tested], embargo_bars=960)] // BAR_US
    before, after = kept[kept < 1_000], kept[kept > 1_000]
    assert before[-1] == 991
    assert after[0] == 1_200 + 960 + 1


def test_fit_spans_are_spans_of_labels_and_do_not_touch():
    where = Cuts(0, 400 * BAR_US, 800 * BAR_US, 1_200 * BAR_US)
    spans = fit_spans(labels(0, 1_200 * BAR_US), where)
    assert spans["A"] == Span(0, 399 * BAR_US)
    assert spans["B"].start == 400 * BAR_US
    assert spans["A"].end < spans["B"].start < spans["B"].end < spans["C"].start
    prove_no_overlap(stage_spans(spans))


def test_a_block_with_too_few_labels_or_a_missing_class_is_refused_by_name():
    where = Cuts(0, 400 * BAR_US, 500 * BAR_US, 1_200 * BAR_US)
    frame = labels(0, 1_200 * BAR_US)
    with pytest.raises(DataError, match=r"block B .* 92 usable"):
        fit_spans(frame, where)
    wide = Cuts(0, 400 * BAR_US, 800 * BAR_US, 1_200 * BAR_US)
    with pytest.raises(DataError, match=r"block A .* no label SHORT"):
        fit_spans(frame.assign(y=np.where(frame.y == 1, 2, frame.y)), wide)


GOOD = stage_spans({"A": Span(0, 100), "B": Span(101, 200), "C": Span(201, 300)})


def test_the_overlap_proof_accepts_spans_in_order_and_a_test_after_them():
    prove_no_overlap(GOOD)
    prove_no_overlap(GOOD, tested=Span(301, 400))


@pytest.mark.parametrize("stage", [name for name, block in STAGES.items() if block != "A"])
def test_the_overlap_proof_refuses_every_later_stage_that_reaches_back(stage):
    reaching = GOOD | {stage: Span(100, 250)}
    with pytest.raises(ModelNotReady, match=stage):
        prove_no_overlap(reaching)


@pytest.mark.parametrize("stage", [name for name, block in STAGES.items() if block != "C"])
def test_the_overlap_proof_refuses_every_earlier_stage_that_reaches_ahead(stage):
    with pytest.raises(ModelNotReady, match=stage):
        prove_no_overlap(GOOD | {stage: Span(0, 250)})


@pytest.mark.parametrize("stage", STAGES)
def test_the_overlap_proof_refuses_a_test_on_any_fitted_span_and_a_missing_span(stage):
    late = {name: Span(span.start, 301) if name == stage else span for name, span in GOOD.items()}
    with pytest.raises(ModelNotReady):
        prove_no_overlap(late, tested=Span(301, 400))
    with pytest.raises(ModelNotReady, match=f"no fit span is recorded for {stage}"):
        prove_no_overlap({name: span for name, span in GOOD.items() if name != stage})


def test_the_overlap_proof_refuses_a_span_that_runs_backwards():
    with pytest.raises(ModelNotReady, match="ends before it begins"):
        prove_no_overlap(GOOD | {"booster": Span(200, 101)})
