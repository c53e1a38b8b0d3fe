"""From margins to probabilities that mean what they say; fitted on block C, two numbers in all.

1. Temperature: p = softmax(margins / T).
2. Directional scale b: ln(P(LONG)/P(SHORT)) is multiplied by b while P(NEUTRAL) stays. Nearly all skill
   lies in NEUTRAL against a move; over-confidence in the direction is what would make the router fire.
   b = 0 says that the model knows nothing about direction, and then no signal passes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from acmf_core.domain import Label

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Kind = Literal["directional", "temperature"]

_SHARPEST, _FLATTEST = 20.0, 0.02  # bounds of 1 / T
_MAX_DIRECTION: Final = 3.0
_BLOCK: Final = 16  # rows are padded to whole vectors, so that numpy's exp takes one code path


@dataclass(frozen=True, slots=True)
class Calibration:
    """Both calibrators; `kind` picks at prediction time."""

    temperature: float = 1.0
    direction: float = 1.0

    def probabilities(self, margins: FloatArray, kind: Kind) -> FloatArray:
        """(n, 3) margins -> (n, 3) probabilities; a row's bits do not depend on the other rows."""
        sharpness = 1.0 / self.temperature
        long, short, neutral = _tempered(margins, sharpness)
        if kind == "directional":
            share, moved = _sigmoid(self.direction * _odds(margins, sharpness)), long + short
            long, short = moved * share, moved * (1.0 - share)
        return np.column_stack([long, short, neutral])

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def fit_calibration(margins: FloatArray, y: IntArray, weight: FloatArray) -> Calibration:
    """Minimise the weighted log-loss over T, then the directional log-loss over b (both convex).

    Parameters
    ----------
    margins : ndarray (n, 3)
    y : ndarray (n,)
        Codes of `domain.Label`.
    weight : ndarray (n,)
    """

    def loss_at(sharpness: float) -> float:
        p = np.column_stack(_tempered(margins, sharpness))[np.arange(len(y)), y]
        return float(np.average(-np.log(np.maximum(p, 1e-300)), weights=weight))

    sharpness = _minimise(loss_at, _FLATTEST, _SHARPEST)
    moved = (y != Label.NEUTRAL) & (weight > 0)
    if not moved.any():
        return Calibration(1.0 / sharpness, 0.0)
    odds = _odds(margins, sharpness)[moved]
    sign = np.where(y[moved] == Label.LONG, 1.0, -1.0)

    def directional_loss_at(b: float) -> float:
        return float(np.average(np.logaddexp(0.0, -sign * b * odds), weights=weight[moved]))

    # at b = 0 the slope is -mean(sign * odds) / 2: no skill there means none anywhere, as the loss is convex
    if np.average(sign * odds, weights=weight[moved]) <= 0:
        return Calibration(1.0 / sharpness, 0.0)
    return Calibration(1.0 / sharpness, _minimise(directional_loss_at, 0.0, _MAX_DIRECTION))


def _tempered(margins: FloatArray, sharpness: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Softmax of sharpness * margins, class by class."""
    scaled = _padded(margins.T * sharpness)
    scaled -= scaled.max(axis=0)
    e = np.exp(scaled)
    e /= e[0] + e[1] + e[2]
    n = len(margins)
    return e[0, :n], e[1, :n], e[2, :n]


def _odds(margins: FloatArray, sharpness: float) -> FloatArray:
    """ln(P(LONG) / P(SHORT)) after temperature."""
    return np.asarray(sharpness * (margins[:, Label.LONG] - margins[:, Label.SHORT]))


def _sigmoid(z: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(_padded(z), -500.0, 500.0))))[: len(z)]


def _padded(x: FloatArray) -> FloatArray:
    """Zeros up to whole vectors along the last axis, contiguous."""
    n = x.shape[-1]
    out = np.zeros((*x.shape[:-1], -(-n // _BLOCK) * _BLOCK))
    out[..., :n] = x
    return out


def _minimise(loss: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search of a convex loss, to 1e-7 of the interval."""
    ratio = (5**0.5 - 1) / 2
    a, b = low, high
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    at_c, at_d = loss(c), loss(d)
    while b - a > 1e-7 * (high - low):
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - ratio * (b - a)
            at_c = loss(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + ratio * (b - a)
            at_d = loss(d)
    return (a + b) / 2
