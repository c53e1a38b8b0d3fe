"""Calibration and direction: quiet on a calibrated stream, loud on a bad one."""

import math

import numpy as np
import pytest

from acmf_core.domain import DAY_US, Label
from backtests.scoring import calibrated_ece_quantile, calibration, direction


def calibrated_stream(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([4.0, 4.0, 8.0], n)
    y = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    return p, y.astype(np.int64)


def test_the_expected_calibration_error_is_the_hand_worked_one() -> None:
    p = np.array([[0.75, 0.15, 0.1], [0.72, 0.18, 0.1], [0.1, 0.1, 0.8], [0.25, 0.2, 0.55]])
    y = np.array([0, 1, 2, 2])
    # bin (0.7, 0.8]: 0.75, 0.72, 0.80 with two of three right; bin (0.5, 0.6]: 0.55, right
    expected = (abs(0.75 + 0.72 + 0.80 - 2) + abs(0.55 - 1)) / 4
    got = calibration(p, y, draws=10)
    assert got.ece == pytest.approx(expected, rel=1e-12)
    assert got.count.tolist() == [0, 0, 0, 0, 0, 1, 0, 3, 0, 0]
    assert got.accuracy[7] == pytest.approx(2 / 3)
    assert math.isnan(got.accuracy[0])


def test_a_calibrated_stream_exceeds_its_own_bound_in_one_case_of_twenty() -> None:
    exceeded = 0
    for seed in range(60):
        p, y = calibrated_stream(120, seed)
        got = calibration(p, y, draws=400)
        exceeded += got.ece > got.quantile
    assert exceeded <= 9  # 3 expected; P(> 9) is about 0.001


def test_an_over_confident_stream_exceeds_its_bound() -> None:
    p, y = calibrated_stream(800, 3)
    sharpened = p**3 / (p**3).sum(axis=1, keepdims=True)
    got = calibration(sharpened, y)
    assert got.ece > max(0.03, got.quantile)


@pytest.mark.parametrize(("bins", "published"), [(5, 0.164), (10, 0.184), (15, 0.207)])
def test_fifty_predictions_of_a_perfect_model_still_show_a_large_error(bins: int, published: float) -> None:
    p, _ = calibrated_stream(50, 1)
    assert calibrated_ece_quantile(p.max(axis=1), bins=bins) == pytest.approx(published, abs=0.035)


def test_calibration_of_nothing_is_nan_and_not_an_error() -> None:
    got = calibration(np.empty((0, 3)), np.empty(0, dtype=np.int64))
    assert got.n == 0
    assert math.isnan(got.ece)
    assert math.isnan(got.quantile)


def test_the_same_seed_gives_the_same_bound() -> None:
    p, _ = calibrated_stream(200, 2)
    assert calibrated_ece_quantile(p.max(axis=1)) == calibrated_ece_quantile(p.max(axis=1))


def directed(skill: float, n: int = 3000, seed: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice([Label.LONG, Label.SHORT, Label.NEUTRAL], n, p=[0.22, 0.22, 0.56]).astype(np.int64)
    sign = np.where(y == Label.LONG, 1.0, np.where(y == Label.SHORT, -1.0, 0.0))
    share = 1 / (1 + np.exp(-(skill * sign + rng.normal(0, 0.3, n))))
    p = np.column_stack([0.44 * share, 0.44 * (1 - share), np.full(n, 0.56)])
    return p, y, np.arange(n) * (DAY_US // 96)


def test_directional_skill_is_found_and_its_absence_is_not_mistaken_for_it() -> None:
    skilled = direction(*directed(0.5))
    assert skilled.log_loss < math.log(2)
    assert skilled.gain_lower > 0
    blind = direction(*directed(0.0))
    assert blind.gain_lower < 0


def test_a_coin_has_a_directional_log_loss_of_ln_two() -> None:
    n = 400
    p = np.tile([0.2, 0.2, 0.6], (n, 1))
    y = np.tile([0, 1], n // 2).astype(np.int64)
    got = direction(p, y, np.arange(n) * (DAY_US // 96))
    assert got.log_loss == pytest.approx(math.log(2), rel=1e-12)
    assert got.gain_lower == pytest.approx(0.0, abs=1e-12)


def test_without_a_single_move_there_is_no_directional_figure() -> None:
    p = np.tile([0.2, 0.2, 0.6], (10, 1))
    got = direction(p, np.full(10, int(Label.NEUTRAL)), np.arange(10) * DAY_US)
    assert got.n == 0
    assert math.isnan(got.gain_lower)


def test_both_sides_at_zero_count_as_a_coin() -> None:
    p = np.tile([0.0, 0.0, 1.0], (4, 1))
    got = direction(p, np.array([0, 1, 0, 1]), np.arange(4) * DAY_US)
    assert got.log_loss == pytest.approx(math.log(2))
