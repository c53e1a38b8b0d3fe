"""How good probabilities were: log-loss first, accuracy last."""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from acmf_core.domain import BAR_US, PROBABILITIES, Label
from acmf_core.errors import DataError, InvalidPrediction
from acmf_core.models.labels import micros

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ECE_BINS: Final = 10
_FLOOR: Final = 1e-15


def evaluate(probabilities: pd.DataFrame, labels: pd.DataFrame) -> dict[str, Any]:
    """Score predictions on the bars that have both a prediction and a label.

    Parameters
    ----------
    probabilities : DataFrame (n, 3)
        p_long, p_short, p_neutral by open_time; NaN rows are left out.
    labels : DataFrame
        As `label` returns it.

    Returns
    -------
    dict
        n, log_loss (nats), brier (sum over classes), accuracy, mcc (Gorodkin's R_K), ece (top class, 10
        equal bins, every (h+1)-th prediction because labels of horizon h overlap) with n_ece,
        directional_log_loss (of P(L)/(P(L)+P(S)) where y is not NEUTRAL; ln 2 knows nothing) with
        n_directional, neutral_share, mean_p_neutral. Figures that need a bar that is not there are NaN.

    Raises
    ------
    DataError
        When no bar has both.
    InvalidPrediction
        When a row is not a probability distribution (1e-6).
    """
    p, y = matched(probabilities, labels)
    span = micros(labels["t1"]) - micros(labels["t0"])
    every = int(span.max()) // BAR_US + 1
    of_label = p[np.arange(len(y)), y]
    one_hot = np.eye(len(Label))[y]
    moved = y != Label.NEUTRAL
    return {
        "n": len(y),
        "log_loss": float(-np.log(np.maximum(of_label, _FLOOR)).mean()),
        "brier": float(np.square(p - one_hot).sum(axis=1).mean()),
        "accuracy": float((p.argmax(axis=1) == y).mean()),
        "mcc": _mcc(y, p.argmax(axis=1)),
        "ece": expected_calibration_error(p[::every], y[::every]),
        "n_ece": len(y[::every]),
        "directional_log_loss": directional_log_loss(p, y),
        "n_directional": int(moved.sum()),
        "neutral_share": float((~moved).mean()),
        "mean_p_neutral": float(p[:, Label.NEUTRAL].mean()),
    }


def matched(probabilities: pd.DataFrame, labels: pd.DataFrame) -> tuple[FloatArray, IntArray]:
    """Probabilities (m, 3) and codes (m,) of the bars that have both, in order of time."""
    known = probabilities[list(PROBABILITIES)].dropna()
    common = known.index.intersection(labels.index)
    if len(common) == 0:
        raise DataError(
            f"none of {len(known)} predictions has one of {len(labels)} labels", "compare the same bars"
        )
    p = known.loc[common].to_numpy(np.float64)
    if (p < 0).any() or np.abs(p.sum(axis=1) - 1).max() > 1e-6:
        raise InvalidPrediction("a row of probabilities is negative or does not sum to 1", "")
    return p, labels.loc[common, "y"].to_numpy(np.int64)


def log_loss(p: FloatArray, y: IntArray, weight: FloatArray | None = None) -> float:
    """Mean -ln P(label), weighted."""
    return float(np.average(-np.log(np.maximum(p[np.arange(len(y)), y], _FLOOR)), weights=weight))


def directional_log_loss(p: FloatArray, y: IntArray) -> float:
    """Log-loss of P(L)/(P(L)+P(S)) over the bars that moved; NaN where none did."""
    moved = y != Label.NEUTRAL
    if not moved.any():
        return float("nan")
    pair = p[moved][:, [Label.LONG, Label.SHORT]]
    total = np.maximum(pair.sum(axis=1), _FLOOR)
    right = np.where(y[moved] == Label.LONG, pair[:, 0], pair[:, 1]) / total
    return float(-np.log(np.maximum(right, _FLOOR)).mean())


def expected_calibration_error(p: FloatArray, y: IntArray, bins: int = ECE_BINS) -> float:
    """Top-class ECE over equal bins of confidence (Guo et al. 2017)."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def _mcc(y: IntArray, predicted: IntArray) -> float:
    """Matthews correlation for several classes; 0 where either side has one class only."""
    table = np.zeros((len(Label), len(Label)))
    np.add.at(table, (y, predicted), 1.0)
    true, said, n = table.sum(axis=1), table.sum(axis=0), table.sum()
    spread = np.sqrt((n * n - said @ said) * (n * n - true @ true))
    return float((n * np.trace(table) - true @ said) / spread) if spread > 0 else 0.0
