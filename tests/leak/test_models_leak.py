"""Nothing that was not known: the future is spoiled, and nothing before it may change."""

import numpy as np
import pandas as pd
import pytest
import small_model

from acmf_core.config import LabelConfig
from acmf_core.features import Features
from acmf_core.models import fit, label


def spoiled(end: str) -> tuple[Features, pd.DataFrame]:
    """Features and candles in which everything from `end` on is garbage."""
    features, candles = small_model.features(), small_model.candles().copy()
    later = candles.index >= pd.Timestamp(end, tz="UTC")
    candles.loc[later] = candles.loc[later] * 7.0 + 1.0
    sequence, tabular = features.sequence.copy(), features.tabular.copy()
    sequence[later], tabular[later] = 1e12, np.nan
    return Features(sequence, tabular, features.schema), candles


def test_nothing_at_or_after_the_end_of_the_window_reaches_the_model():
    features, candles = spoiled(small_model.END)
    found = fit(features, candles, small_model.START, small_model.END, small_model.CONFIG)
    clean = small_model.fitted()
    rows = small_model.rows(3_000, 3_300)
    assert found.k == clean.k
    assert found.summary()["selected"] == clean.summary()["selected"]
    pd.testing.assert_frame_equal(found.predict(rows), clean.predict(rows), check_exact=True)
    pd.testing.assert_frame_equal(found.tuning_predictions, clean.tuning_predictions, check_exact=True)
    candles = small_model.candles()
    pairs = zip(
        found.baseline_predictions(rows, candles).items(),
        clean.baseline_predictions(rows, candles).values(),
        strict=True,
    )
    for (name, one), other in pairs:
        pd.testing.assert_frame_equal(one, other, check_exact=True, obj=name)


def test_c_does_not_reach_the_encoder_the_selection_or_the_scaler():
    # garbage from the start of C on, and the same window: only stopping and calibration may differ
    start_of_c = pd.Timestamp(small_model.fitted().spans["C"].start, unit="us", tz="UTC")
    candles = small_model.candles().copy()
    later = candles.index >= start_of_c
    rng = np.random.default_rng(0)
    candles.loc[later, "open"] *= np.exp(0.01 * rng.standard_normal(later.sum()))
    found = fit(small_model.features(), candles, small_model.START, small_model.END, small_model.CONFIG)
    clean = small_model.fitted()
    windows, _ = small_model.rows(3_000, 3_200).windows(small_model.WINDOW)
    np.testing.assert_array_equal(found.stack.encoder.hidden(windows), clean.stack.encoder.hidden(windows))
    assert found.stack.selected == clean.stack.selected
    assert found.k == clean.k
    assert found.stack.calibration != clean.stack.calibration


def test_b_does_not_reach_the_encoder():
    start_of_b = pd.Timestamp(small_model.fitted().spans["B"].start, unit="us", tz="UTC")
    features, candles = spoiled_labels(start_of_b)
    found = fit(features, candles, small_model.START, small_model.END, small_model.CONFIG)
    windows, _ = small_model.rows(3_000, 3_200).windows(small_model.WINDOW)
    clean = small_model.fitted().stack.encoder
    np.testing.assert_array_equal(found.stack.encoder.hidden(windows), clean.hidden(windows))


def spoiled_labels(since: pd.Timestamp) -> tuple[Features, pd.DataFrame]:
    candles = small_model.candles().copy()
    later = candles.index >= since
    candles.loc[later, "open"] *= np.exp(0.01 * np.random.default_rng(1).standard_normal(later.sum()))
    return small_model.features(), candles


def test_a_prediction_does_not_depend_on_later_rows():
    fitted = small_model.fitted()
    end = "2024-02-20"
    features, _ = spoiled(end)
    later = features.tabular.index >= pd.Timestamp(end, tz="UTC")
    first = int(np.flatnonzero(later)[0])
    found = Features(
        features.sequence.iloc[first - 400 : first + 50],
        features.tabular.iloc[first - 400 : first + 50],
        features.schema,
    )
    clean = fitted.predict(small_model.rows(first - 400, first))
    pd.testing.assert_frame_equal(fitted.predict(found).iloc[:400], clean, check_exact=True)


@pytest.mark.parametrize("kind", ["volatility", "triple_barrier", "fixed"])
def test_a_label_reads_nothing_after_the_moment_it_is_known(kind):
    candles = small_model.candles().iloc[:600]
    spec = LabelConfig(kind=kind)
    clean = label(candles, spec, k=0.5)
    for t in (100, 333, 500):
        garbage = candles.copy()
        garbage.iloc[t:] = 1e6
        known = clean[clean["t1"] <= candles.index[t]]
        found = label(garbage, spec, k=0.5)
        pd.testing.assert_frame_equal(found.loc[known.index], known, check_exact=True)


def test_persistence_does_not_read_the_bars_after_the_decision():
    fitted, candles = small_model.fitted(), small_model.candles()
    at = 3_500
    clean = fitted.baseline_predictions(small_model.rows(at - 50, at), candles)["persistence"]
    garbage = candles.copy()
    garbage.iloc[at:] = 1e6
    found = fitted.baseline_predictions(small_model.rows(at - 50, at), garbage)["persistence"]
    pd.testing.assert_frame_equal(found, clean, check_exact=True)
