"""Temperature, then the directional scale: what they change, what they leave, what they admit."""

import numpy as np
import pytest

from acmf_core.domain import Label
from acmf_core.models.calibration import Calibration, fit_calibration


def sample(n=20_000, over=1.0, direction=1.0, seed=0):
    """Labels drawn from true scores, and the scores of an over-confident model."""
    rng = np.random.default_rng(seed)
    move, side = 0.6 * rng.standard_normal(n), 0.8 * rng.standard_normal(n)
    true = np.column_stack([side / 2, -side / 2, move])
    p = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    y = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    claimed = over * np.column_stack([direction * side / 2, -direction * side / 2, move])
    return claimed, y, np.ones(n)


def test_an_over_confident_model_gets_the_temperature_that_undoes_it():
    claimed, y, w = sample(over=2.5)
    found = fit_calibration(claimed, y, w)
    assert found.temperature == pytest.approx(2.5, rel=0.06)
    assert found.direction == pytest.approx(1.0, abs=0.06)


def test_over_confidence_in_direction_alone_is_scaled_back_with_neutral_untouched():
    claimed, y, w = sample(direction=3.0)
    found = fit_calibration(claimed, y, w)
    assert found.direction < 0.9
    plain, directed = (found.probabilities(claimed, kind) for kind in ("temperature", "directional"))
    np.testing.assert_array_equal(plain[:, Label.NEUTRAL], directed[:, Label.NEUTRAL])
    odds = np.log(plain[:, 0] / plain[:, 1])
    np.testing.assert_allclose(
        np.log(directed[:, 0] / directed[:, 1]), found.direction * odds, rtol=1e-9, atol=1e-12
    )


def test_no_or_wrong_skill_in_direction_gives_a_scale_of_zero_and_even_odds():
    claimed, y, w = sample(direction=-1.0)
    found = fit_calibration(claimed, y, w)
    assert found.direction == 0.0
    p = found.probabilities(claimed, "directional")
    np.testing.assert_array_equal(p[:, Label.LONG], p[:, Label.SHORT])


def test_rows_are_distributions_whatever_the_margins():
    extreme = np.array([[800.0, -800.0, 0.0], [0.0, 0.0, 0.0], [-900.0, -900.0, 50.0], [1e-9, 0.0, 0.0]])
    for kind in ("temperature", "directional"):
        p = Calibration(0.7, 0.5).probabilities(extreme, kind)
        assert np.isfinite(p).all()
        assert (p >= 0).all()
        np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)


def test_a_row_has_the_same_bits_alone_and_among_others():
    rng = np.random.default_rng(1)
    margins = 3.0 * rng.standard_normal((101, 3))
    found = Calibration(1.3, 0.45)
    for kind in ("temperature", "directional"):
        whole = found.probabilities(margins, kind)
        order = rng.permutation(101)
        np.testing.assert_array_equal(found.probabilities(margins[order], kind), whole[order])
        for n in (1, 2, 7, 15, 16, 17, 33):
            np.testing.assert_array_equal(found.probabilities(margins[5 : 5 + n], kind), whole[5 : 5 + n])


def test_weights_count_as_repetitions():
    claimed, y, _ = sample(2_000, over=1.7)
    times = np.random.default_rng(2).integers(0, 4, len(y))
    repeated = np.repeat(np.arange(len(y)), times)
    weighted = fit_calibration(claimed, y, times.astype(float))
    plain = fit_calibration(claimed[repeated], y[repeated], np.ones(len(repeated)))
    assert weighted.temperature == pytest.approx(plain.temperature, rel=1e-4)
    assert weighted.direction == pytest.approx(plain.direction, rel=1e-4)


def test_a_block_in_which_nothing_moved_teaches_no_direction():
    claimed, _, w = sample(500)
    assert fit_calibration(claimed, np.full(500, Label.NEUTRAL), w).direction == 0.0
