"""Scores of probabilities against hand-worked values and scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest

from acmf_core.domain import PROBABILITIES
from acmf_core.errors import DataError, InvalidPrediction
from acmf_core.models import evaluate
from acmf_core.models.scores import expected_calibration_error

metrics = pytest.importorskip("sklearn.metrics")


def frames(p, y, horizon=8):
    index = pd.date_range("2024-01-01", periods=len(y), freq="15min", tz="UTC", unit="us")
    bar = pd.Timedelta("15min")
    labels = pd.DataFrame(
        {"y": np.int8(y), "t0": index + bar, "t1": index + (horizon + 1) * bar}, index=index
    )
    return pd.DataFrame(p, index=index, columns=list(PROBABILITIES)), labels


def random(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet([2, 2, 3], n), rng.integers(0, 3, n)


def test_scores_equal_scikit_learn():
    p, y = random()
    found = evaluate(*frames(p, y))
    assert found["n"] == 400
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p, labels=[0, 1, 2]), rel=1e-12)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(1)))
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(y, p.argmax(1)), rel=1e-12)
    moved = y != 2
    share = p[moved, 0] / p[moved][:, :2].sum(1)
    assert found["directional_log_loss"] == pytest.approx(metrics.log_loss(y[moved] == 0, share), rel=1e-12)
    assert found["n_directional"] == moved.sum()


def test_knowing_nothing_scores_ln_3_and_ln_2():
    found = evaluate(*frames(np.full((30, 3), 1 / 3), np.arange(30) % 3))
    assert found["log_loss"] == pytest.approx(math.log(3))
    assert found["directional_log_loss"] == pytest.approx(math.log(2))
    assert found["brier"] == pytest.approx(2 / 3)
    assert found["mcc"] == 0.0


def test_calibration_error_is_taken_over_every_h_plus_first_prediction():
    p, y = random(90)
    found = evaluate(*frames(p, y, horizon=8))
    assert found["n_ece"] == 10
    assert found["ece"] == expected_calibration_error(p[::9], y[::9])


def test_calibration_error_of_a_hand_worked_case():
    p = np.array([[0.7, 0.2, 0.1], [0.72, 0.18, 0.1], [0.1, 0.1, 0.8], [0.05, 0.05, 0.9]])
    y = np.array([0, 1, 2, 2])
    # bins .7: two, confidence 1.42, one right; .8: 0.8 against 1; .9: 0.9 against 1
    assert expected_calibration_error(p, y) == pytest.approx((0.42 + 0.2 + 0.1) / 4)


def test_only_bars_with_both_a_prediction_and_a_label_count():
    p, y = random(50)
    predictions, labels = frames(p, y)
    predictions.iloc[:10] = np.nan
    assert evaluate(predictions, labels.iloc[:-5])["n"] == 35


def test_predictions_without_a_common_bar_or_that_are_no_probabilities_are_refused():
    p, y = random(20)
    predictions, labels = frames(p, y)
    with pytest.raises(DataError, match="none of 20 predictions"):
        evaluate(predictions, labels.iloc[:0])
    with pytest.raises(InvalidPrediction):
        evaluate(predictions * 2, labels)
