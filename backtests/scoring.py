"""How good a record of class probabilities is: calibration and direction, each with its noise.

Shapes: n predictions of the classes of `acmf_core.domain.Label` (columns p_long, p_short, p_neutral).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from acmf_core.domain import DAY_US, Label

BINS: Final = 10
_CLIP: Final = 1e-12
_DRAWS_AT_ONCE: Final = 250

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability of the top class: per bin of confidence, what was promised and what came true.

    count, confidence, accuracy : (bins,); the last two are NaN where a bin is empty.
    ece : expected calibration error, the count-weighted mean of |confidence - accuracy|.
    quantile : the 95 % quantile of the ECE of a perfectly calibrated model with these confidences.
    """

    n: int
    ece: float
    quantile: float
    count: Ints
    confidence: Floats
    accuracy: Floats


def calibration(
    probabilities: Floats, outcomes: Ints, *, bins: int = BINS, draws: int = 2000, seed: int = 7
) -> Calibration:
    """Expected calibration error of the top class in equal-width bins, with its chance level.

    Parameters
    ----------
    probabilities : (n, 3)
        Finite; thin overlapping labels to every (h + 1)-th prediction first.
    outcomes : (n,)
        Class codes.
    bins : int
        Equal bins of (0, 1].
    draws : int
        Simulated calibrated models behind the quantile; `seed` makes them the same each time.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == outcomes).astype(np.float64)
    bin_of = _bins(confidence, bins)
    count = np.bincount(bin_of, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return Calibration(
        n=len(confidence),
        ece=_ece(right[None, :], confidence, bin_of, bins)[0] if len(confidence) else math.nan,
        quantile=calibrated_ece_quantile(confidence, bins=bins, draws=draws, seed=seed),
        count=count.astype(np.int64),
        confidence=np.bincount(bin_of, weights=confidence, minlength=bins) / filled,
        accuracy=np.bincount(bin_of, weights=right, minlength=bins) / filled,
    )


def calibrated_ece_quantile(
    confidence: Floats, *, level: float = 0.95, bins: int = BINS, draws: int = 2000, seed: int = 7
) -> float:
    """The `level` quantile of the ECE when every confidence is exactly true (simulated).

    With n = 50 predictions even a perfect model shows an ECE of 0.1 and more: a bound that does not
    know n cries wolf. NaN without predictions.
    """
    if not len(confidence):
        return math.nan
    rng = np.random.default_rng(seed)
    bin_of = _bins(confidence, bins)
    drawn = []
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = (min(_DRAWS_AT_ONCE, draws - start), len(confidence))
        right = (rng.random(size) < confidence).astype(np.float64)
        drawn.append(_ece(right, confidence, bin_of, bins))
    return float(np.quantile(np.concatenate(drawn), level))


def _bins(confidence: Floats, bins: int) -> Ints:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _ece(right: Floats, confidence: Floats, bin_of: Ints, bins: int) -> Floats:
    """ECE of each row of `right` (draws, n)."""
    member = np.zeros((len(confidence), bins))
    member[np.arange(len(confidence)), bin_of] = 1.0
    gap = right @ member - (confidence @ member)[None, :]
    return np.asarray(np.abs(gap).sum(axis=1) / len(confidence))


@dataclass(frozen=True, slots=True)
class Direction:
    """Skill in direction, given that the market moved (label not NEUTRAL).

    log_loss : of P(L) / (P(L) + P(S)); a coin has ln 2.
    gain : ln 2 - log_loss, nats a move; gain_lower its lower 5 % bound over resampled days.
    n, days : moves, and days that hold one. All figures NaN with fewer than two such days.
    """

    n: int
    days: int
    log_loss: float
    gain: float
    gain_lower: float


def direction(
    probabilities: Floats,
    outcomes: Ints,
    times: Ints,
    *,
    level: float = 0.05,
    draws: int = 2000,
    seed: int = 7,
) -> Direction:
    """Directional log-loss with a day-block bootstrap bound.

    Whole UTC days are drawn with replacement: labels of one day overlap and are not separate facts.

    Parameters
    ----------
    probabilities : (n, 3)
    outcomes : (n,)
        Class codes.
    times : (n,)
        Microseconds since the epoch, UTC.
    """
    moved = outcomes != Label.NEUTRAL
    p_long, p_short = probabilities[moved, Label.LONG], probabilities[moved, Label.SHORT]
    both = p_long + p_short
    share_long = np.clip(np.where(both > 0, p_long / np.where(both > 0, both, 1.0), 0.5), _CLIP, 1 - _CLIP)
    went_long = outcomes[moved] == Label.LONG
    gain = math.log(2) + np.where(went_long, np.log(share_long), np.log1p(-share_long))
    days, day_of = np.unique(times[moved] // DAY_US, return_inverse=True)
    if len(days) < 2:
        return Direction(int(moved.sum()), len(days), math.nan, math.nan, math.nan)
    sums = np.bincount(day_of, weights=gain)
    counts = np.bincount(day_of).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(days), size=(draws, len(days)))
    resampled = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    mean = float(gain.mean())
    return Direction(
        n=len(gain),
        days=len(days),
        log_loss=math.log(2) - mean,
        gain=mean,
        gain_lower=float(np.quantile(resampled, level)),
    )
