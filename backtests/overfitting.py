"""How much of a Sharpe ratio is luck: PSR, deflated Sharpe, track record length, CSCV.

Every Sharpe ratio here is per period (here: per day), never annualised. Skew and kurtosis are the
population moments m3 / m2^1.5 and m4 / m2^2 (kurtosis 3 for a normal, not the excess).

Sources: Bailey & Lopez de Prado, "The Sharpe Ratio Efficient Frontier" (2012) and "The Deflated Sharpe
Ratio" (2014); Bailey, Borwein, Lopez de Prado & Zhu, "The Probability of Backtest Overfitting" (2015).
"""

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from acmf_core.errors import DataError

EULER_GAMMA: Final = 0.5772156649
_NORMAL: Final = NormalDist()
_SPLITS_AT_ONCE: Final = 2048

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a return series: per-period Sharpe, number of periods, population skew and kurtosis."""

    sharpe: float
    n: int
    skew: float
    kurtosis: float


def moments(returns: npt.ArrayLike) -> Moments:
    """Sharpe ratio (ddof 1) and shape of a series of per-period returns.

    A series that never moves has Sharpe 0 by convention (no gain, no risk), skew 0 and kurtosis 3.

    Parameters
    ----------
    returns : (T,) array_like
        Per-period returns; NaN is refused.

    Raises
    ------
    DataError
        Not one-dimensional, or not finite.
    """
    series = np.asarray(returns, dtype=np.float64)
    if series.ndim != 1 or not np.isfinite(series).all():
        raise DataError("returns must be one finite series", "drop days without a return first")
    if len(series) < 2 or np.ptp(series) == 0.0:
        return Moments(0.0, len(series), 0.0, 3.0)
    centred = series - series.mean()
    variance = float(np.mean(centred**2))
    return Moments(
        sharpe=float(series.mean() / series.std(ddof=1)),
        n=len(series),
        skew=float(np.mean(centred**3) / variance**1.5),
        kurtosis=float(np.mean(centred**4) / variance**2),
    )


def probabilistic_sharpe(
    sharpe: float, n: int, skew: float = 0.0, kurtosis: float = 3.0, benchmark: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds `benchmark` (PSR).

    Phi[(SR - SR*) sqrt(T - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)].

    Parameters
    ----------
    sharpe, benchmark : float
        Per-period Sharpe ratios: observed and to beat.
    n : int
        Number of returns T.
    skew, kurtosis : float
        Population moments of the returns; kurtosis is not the excess (normal: 3).

    Returns
    -------
    float
        In [0, 1]; NaN with fewer than two returns.
    """
    if n < 2:
        return math.nan
    spread = math.sqrt(_sharpe_variance(sharpe, skew, kurtosis))
    return _NORMAL.cdf((sharpe - benchmark) * math.sqrt(n - 1) / spread)


def expected_max_sharpe(n_trials: float, variance: float = 1.0) -> float:
    """Expected largest Sharpe ratio of `n_trials` skill-less trials (SR0).

    sqrt(V) ((1 - E) Phi^-1(1 - 1/N) + E Phi^-1(1 - 1/(N e))), E the Euler-Mascheroni constant.
    One trial needs no correction: 0.

    Parameters
    ----------
    n_trials : float
        Independent trials N >= 1.
    variance : float
        Of the trials' per-period Sharpe ratios; 1 gives the expected maximum in standard deviations.

    Raises
    ------
    DataError
        Fewer than one trial, or a negative variance.
    """
    if not n_trials >= 1 or not variance >= 0:
        raise DataError(
            f"{n_trials} trials with variance {variance} make no expected maximum",
            "give at least one trial and a variance >= 0",
        )
    if n_trials == 1:
        return 0.0
    return math.sqrt(variance) * (
        (1 - EULER_GAMMA) * _NORMAL.inv_cdf(1 - 1 / n_trials)
        + EULER_GAMMA * _NORMAL.inv_cdf(1 - 1 / (n_trials * math.e))
    )


def deflated_sharpe(
    sharpe: float,
    n: int,
    skew: float = 0.0,
    kurtosis: float = 3.0,
    *,
    n_trials: float,
    variance: float,
) -> float:
    """Probability that the true Sharpe ratio exceeds what luck gives the best of N trials (DSR).

    PSR against SR0 = `expected_max_sharpe(n_trials, variance)`.

    Parameters
    ----------
    sharpe, n, skew, kurtosis
        As in `probabilistic_sharpe`: per-period figures of the chosen trial.
    n_trials : float
        Independent trials looked at.
    variance : float
        Of the trials' per-period Sharpe ratios (an annual variance divided by the periods a year).
    """
    return probabilistic_sharpe(sharpe, n, skew, kurtosis, expected_max_sharpe(n_trials, variance))


def min_track_record_length(
    sharpe: float,
    skew: float = 0.0,
    kurtosis: float = 3.0,
    benchmark: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Number of returns needed before PSR(benchmark) reaches `confidence` (MinTRL).

    1 + (1 - g3 SR + (g4 - 1) / 4 SR^2) (z / (SR - SR*))^2; infinite where SR does not exceed SR*.
    """
    if not sharpe > benchmark:
        return math.inf
    z = _NORMAL.inv_cdf(confidence)
    return 1 + _sharpe_variance(sharpe, skew, kurtosis) * (z / (sharpe - benchmark)) ** 2


def _sharpe_variance(sharpe: float, skew: float, kurtosis: float) -> float:
    variance = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if not variance > 0:
        raise DataError(
            f"skew {skew} and kurtosis {kurtosis} cannot belong to one series",
            "give population moments, with the kurtosis not as excess",
        )
    return variance


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What combinatorially symmetric cross-validation (CSCV) says about choosing the best trial.

    pbo : share of splits in which the best trial in sample is no better than the median out of sample.
    loss_probability : share of splits in which that trial's mean return out of sample is negative.
    logits : (splits,) ln(w / (1 - w)) of its relative rank w = r / (N + 1).
    """

    pbo: float
    loss_probability: float
    n_splits: int
    n_groups: int
    n_trials: int
    logits: Floats


def cross_validate(returns: npt.ArrayLike, n_groups: int = 16) -> CrossValidation:
    """CSCV over all C(S, S/2) ways to call half of the time in sample.

    The trials are ranked by their Sharpe ratio; equal ones share the mean rank; a trial that never
    trades has Sharpe 0.

    Parameters
    ----------
    returns : (T, N) array_like
        Per-period returns, one column a trial, in time order.
    n_groups : int
        S, even: the contiguous groups that the time is cut into (sizes differ by one at most).

    Raises
    ------
    DataError
        Fewer than two trials, S not even, or fewer than two periods a group.
    """
    matrix = np.asarray(returns, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] < 2 or not np.isfinite(matrix).all():
        raise DataError("CSCV needs a finite matrix of at least two trials", "run more trials")
    if n_groups < 2 or n_groups % 2 or len(matrix) < 2 * n_groups:
        raise DataError(
            f"{len(matrix)} periods cannot be cut into {n_groups} groups",
            "S must be even with at least two periods a group",
        )
    sums = _GroupSums.of(matrix, n_groups)
    chosen = np.array(list(combinations(range(n_groups), n_groups // 2)))
    logits, losses = [], []
    for start in range(0, len(chosen), _SPLITS_AT_ONCE):
        split = chosen[start : start + _SPLITS_AT_ONCE]
        inside = np.zeros((len(split), n_groups))
        np.put_along_axis(inside, split, 1.0, axis=1)
        logit, lost = _ranks_out_of_sample(sums, inside)
        logits.append(logit)
        losses.append(lost)
    logit_all = np.concatenate(logits)
    return CrossValidation(
        pbo=float(np.mean(logit_all <= 0)),
        loss_probability=float(np.mean(np.concatenate(losses))),
        n_splits=len(chosen),
        n_groups=n_groups,
        n_trials=matrix.shape[1],
        logits=logit_all,
    )


def probability_of_backtest_overfitting(returns: npt.ArrayLike, n_groups: int = 16) -> float:
    """PBO = P(lambda <= 0) by CSCV; see `cross_validate` for shapes, rules and errors."""
    return cross_validate(returns, n_groups).pbo


@dataclass(frozen=True, slots=True)
class _GroupSums:
    """First and second moments of every (group, trial), from which any split's Sharpe follows."""

    offset: Floats  # (N,) column means, taken out for precision
    counts: Floats  # (S,)
    first: Floats  # (S, N)
    second: Floats  # (S, N)

    @classmethod
    def of(cls, matrix: Floats, n_groups: int) -> "_GroupSums":
        offset = matrix.mean(axis=0)
        groups = np.array_split(matrix - offset, n_groups)
        return cls(
            offset,
            np.array([float(len(g)) for g in groups]),
            np.array([g.sum(axis=0) for g in groups]),
            np.array([(g**2).sum(axis=0) for g in groups]),
        )

    def mean_and_sharpe(self, inside: Floats) -> tuple[Floats, Floats]:
        """Of every trial over the groups marked 1 in each row: two (splits, N) arrays."""
        n = (inside @ self.counts)[:, None]
        shift = (inside @ self.first) / n
        variance = (inside @ self.second - n * shift**2) / (n - 1)
        mean = self.offset + shift
        floor = 1e-24 + 1e-12 * mean**2  # a constant series has no variance beyond rounding
        still = variance <= floor
        sharpe = np.where(still, 0.0, mean / np.sqrt(np.where(still, 1.0, variance)))
        return mean, sharpe


def _ranks_out_of_sample(sums: _GroupSums, inside: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    _, sharpe_in = sums.mean_and_sharpe(inside)
    mean_out, sharpe_out = sums.mean_and_sharpe(1.0 - inside)
    best = sharpe_in.argmax(axis=1)[:, None]
    own = np.take_along_axis(sharpe_out, best, axis=1)
    below = (sharpe_out < own).sum(axis=1)
    equal = (sharpe_out == own).sum(axis=1)
    rank = below + (equal + 1) / 2  # 1 is the worst, N the best
    w = rank / (sharpe_out.shape[1] + 1)
    lost = np.take_along_axis(mean_out, best, axis=1)[:, 0] < 0
    return np.log(w / (1 - w)), lost


def sharpe_dispersion(
    returns: npt.ArrayLike, *, block: float, draws: int = 500, seed: int = 7
) -> tuple[float, float]:
    """Variance of the trials' Sharpe ratios, and how often luck alone gives as much.

    Under the null all trials share one true Sharpe ratio: every column is scaled to unit deviation
    and to the common mean, then whole days are resampled together (stationary bootstrap), which keeps
    the correlation between trials.

    Parameters
    ----------
    returns : (T, N) array_like
        Per-period returns, one column a trial.
    block : float
        Mean block length in periods.

    Returns
    -------
    (float, float)
        The variance, and its one-sided p-value; (0, 1) where no trial moves.
    """
    matrix = np.asarray(returns, dtype=np.float64)
    moving = matrix[:, np.ptp(matrix, axis=0) > 0]
    if moving.shape[1] < 2:
        return 0.0, 1.0
    scaled = moving / moving.std(axis=0, ddof=1)
    sharpe = scaled.mean(axis=0)
    observed = float(sharpe.var(ddof=1))
    null = scaled - sharpe + sharpe.mean()
    rng = np.random.default_rng(seed)
    reached = 0
    for _ in range(draws):
        sample = null[stationary_indices(len(null), block, rng)]
        spread = sample.std(axis=0, ddof=1)
        drawn = sample.mean(axis=0) / np.where(spread > 0, spread, np.inf)
        reached += int(drawn.var(ddof=1) >= observed)
    return observed, (1 + reached) / (1 + draws)


def stationary_indices(n: int, block: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """One draw of the stationary bootstrap (Politis & Romano 1994): n row numbers, circular."""
    fresh = rng.random(n) < 1.0 / max(block, 1.0)
    fresh[0] = True
    starts = rng.integers(0, n, size=n)
    begun = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]  # where the current block began
    return (starts[begun] + np.arange(n) - begun) % n
