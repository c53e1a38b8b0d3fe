"""The overfitting statistics against the published figures, to all printed digits."""

import math

import numpy as np
import pytest

from acmf_core.errors import DataError
from backtests.evidence import (
    deflated_sharpe,
    expected_max_sharpe,
    min_track_record_length,
    probabilistic_sharpe,
    probability_of_backtest_overfitting,
)
from backtests.overfitting import cross_validate, moments, sharpe_dispersion, stationary_indices

DAILY = 2.5 / math.sqrt(250)
VARIANCE = 0.5 / 250
EIGHT_ROWS = (
    np.array(
        [
            [1.1, 2.3, 0.4, 0.9],
            [2.2, 1.0, 1.7, -0.5],
            [0.3, 3.1, 1.2, 2.8],
            [1.4, 1.6, 2.1, 1.25],
            [3.2, 0.2, 1.3, 0.7],
            [2.4, 2.7, 0.1, 2.05],
            [0.6, 1.5, 3.3, 1.8],
            [1.9, 2.9, 2.6, -1.1],
        ]
    )
    / 100
)


@pytest.mark.parametrize(("n", "golden"), [(10, 1.5746), (45, 2.2356), (100, 2.5306), (1000, 3.2551)])
def test_the_expected_maximum_of_n_trials_is_the_published_one(n: int, golden: float) -> None:
    assert round(expected_max_sharpe(n), 4) == golden


def test_one_trial_needs_no_deflation() -> None:
    assert expected_max_sharpe(1, 0.3) == 0.0
    assert deflated_sharpe(0.1, 400, n_trials=1, variance=0.3) == probabilistic_sharpe(0.1, 400)


@pytest.mark.parametrize(
    ("skew", "kurtosis", "trials", "golden"),
    [(-3, 10, 100, 0.9004), (-3, 10, 46, 0.9505), (0, 3, 88, 0.9505), (0, 3, 100, 0.9428)],
)
def test_the_deflated_sharpe_ratio_is_the_published_one(
    skew: float, kurtosis: float, trials: int, golden: float
) -> None:
    value = deflated_sharpe(DAILY, 1250, skew, kurtosis, n_trials=trials, variance=VARIANCE)
    assert round(value, 4) == golden
    assert round(expected_max_sharpe(100, VARIANCE), 4) == 0.1132


def test_the_probabilistic_sharpe_ratio_and_track_record_are_the_published_ones() -> None:
    assert round(probabilistic_sharpe(0.458, 24, -2.448, 10.164), 4) == 0.9134
    assert round(probabilistic_sharpe(0.458, 24), 4) == 0.9817
    assert round(min_track_record_length(0.458, -2.448, 10.164), 2) == 34.56
    assert round(min_track_record_length(0.458), 2) == 15.25


def test_at_the_minimum_track_record_length_the_probability_is_the_confidence_asked() -> None:
    length = min_track_record_length(0.1, -0.5, 5.0)
    below = probabilistic_sharpe(0.1, math.floor(length), -0.5, 5.0)
    above = probabilistic_sharpe(0.1, math.ceil(length), -0.5, 5.0)
    assert below < 0.95 <= above


def test_a_sharpe_ratio_below_the_benchmark_never_has_a_long_enough_record() -> None:
    assert min_track_record_length(-0.1) == math.inf
    assert min_track_record_length(0.0) == math.inf


def test_nonsense_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="trials"):
        expected_max_sharpe(0)
    with pytest.raises(DataError, match="kurtosis"):
        probabilistic_sharpe(3.0, 100, 3.0, 1.0)
    with pytest.raises(DataError, match="finite"):
        moments([0.1, math.nan])


def test_moments_are_population_moments_and_a_flat_series_has_sharpe_zero() -> None:
    got = moments([0.01, -0.02, 0.03, 0.0])
    centred = np.array([0.005, -0.025, 0.025, -0.005])
    variance = np.mean(centred**2)
    assert got.skew == pytest.approx(np.mean(centred**3) / variance**1.5, rel=1e-12, abs=1e-12)
    assert got.kurtosis == pytest.approx(np.mean(centred**4) / variance**2, rel=1e-12)
    assert got.sharpe == pytest.approx(0.005 / math.sqrt(np.sum(centred**2) / 3), rel=1e-12)
    assert moments([0.0, 0.0, 0.0]).sharpe == 0.0


def test_pbo_of_the_eight_rows_is_one_half() -> None:
    assert probability_of_backtest_overfitting(EIGHT_ROWS, 4) == 0.5


def test_pbo_equals_the_plain_definition_computed_the_slow_way() -> None:
    from itertools import combinations

    rng = np.random.default_rng(3)
    returns = rng.normal(0.0, 0.01, (61, 7))
    groups = np.array_split(np.arange(61), 6)
    logits = []
    for inside in combinations(range(6), 3):
        rows = np.concatenate([groups[g] for g in inside])
        rest = np.setdiff1d(np.arange(61), rows)
        best = (returns[rows].mean(0) / returns[rows].std(0, ddof=1)).argmax()
        out = returns[rest].mean(0) / returns[rest].std(0, ddof=1)
        w = (out <= out[best]).sum() / 8
        logits.append(math.log(w / (1 - w)))
    fast = cross_validate(returns, 6)
    np.testing.assert_allclose(fast.logits, logits, rtol=1e-9)
    assert fast.pbo == np.mean(np.array(logits) <= 0)


def test_pbo_of_noise_is_about_a_half_and_of_a_planted_edge_about_zero() -> None:
    rng = np.random.default_rng(11)
    noise = rng.normal(0.0, 1.0, (1000, 200))
    planted = noise.copy()
    planted[:, :20] += 0.15
    assert abs(probability_of_backtest_overfitting(noise) - 0.47) <= 0.15
    found = cross_validate(planted)
    assert found.pbo < 0.01
    assert found.loss_probability < 0.01
    assert found.n_splits == 12870


def test_trials_that_never_trade_do_not_break_cross_validation() -> None:
    still = np.zeros((64, 5))
    result = cross_validate(still, 8)
    assert result.loss_probability == 0.0
    assert np.isfinite(result.logits).all()


def test_cross_validation_refuses_what_it_cannot_cut() -> None:
    with pytest.raises(DataError, match="two trials"):
        cross_validate(np.zeros((64, 1)))
    with pytest.raises(DataError, match="groups"):
        cross_validate(np.zeros((20, 3)), 16)


def test_dispersion_is_significant_only_where_the_trials_truly_differ() -> None:
    rng = np.random.default_rng(5)
    common = rng.normal(0.001, 0.01, (250, 1))
    alike = common + rng.normal(0.0, 0.002, (250, 30))
    differing = alike + np.linspace(-0.004, 0.004, 30)
    assert sharpe_dispersion(alike, block=3)[1] > 0.05
    assert sharpe_dispersion(differing, block=3)[1] <= 0.01
    assert sharpe_dispersion(np.zeros((50, 4)), block=3) == (0.0, 1.0)


def test_the_stationary_bootstrap_draws_blocks_of_the_mean_length_asked() -> None:
    rows = stationary_indices(20_000, 8.0, np.random.default_rng(1))
    breaks = np.sum(np.diff(rows) % 20_000 != 1)
    assert 20_000 / (breaks + 1) == pytest.approx(8.0, rel=0.1)
    assert rows.min() >= 0
    assert rows.max() < 20_000
