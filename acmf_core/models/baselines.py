"""What the stack must beat: class shares, the last label, one bar, five numbers, all but the encoder."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xgboost as xgb
from numpy.typing import NDArray
from torch import nn

from acmf_core.config import LabelConfig
from acmf_core.domain import BAR_US, PROBABILITIES, Label
from acmf_core.features import Features
from acmf_core.models.booster import margins
from acmf_core.models.calibration import Calibration, Kind
from acmf_core.models.encoder import one_thread
from acmf_core.models.labels import label

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LOGISTIC_FEATURES: Final = (
    "log_return_4",
    "log_return_96",
    "realized_vol_15m",
    "vol_regime",
    "volume_sma_ratio",
)
N_CLASSES: Final = len(Label)
_RIDGE: Final = 1e-3
_NEWTON_STEPS: Final = 30
_LAST_BAR_WIDTH, _LAST_BAR_EPOCHS, _LAST_BAR_BATCH = 128, 20, 256


@dataclass(frozen=True, eq=False)
class Logistic:
    """Multinomial logistic regression on standardised columns. coef (3, p + 1), the first is constant."""

    columns: tuple[str, ...]
    mean: FloatArray
    std: FloatArray
    coef: FloatArray

    def predict(self, x: FloatArray) -> FloatArray:
        """(n, p) -> (n, 3); NaN where a column is."""
        return _softmax(_design((x - self.mean) / self.std) @ self.coef.T)


@dataclass(frozen=True, eq=False)
class Baselines:
    """All baselines of one training window.

    Attributes
    ----------
    prior : ndarray (3,)
        Class shares of A and B.
    transition : ndarray (3, 3)
        P(label | label h+1 bars ago), of A and B: row = the older label.
    logistic : Logistic
        Five features, fitted on A and B.
    last_bar : module
        A small network on the 22 channels of the last bar, fitted on A as the encoder is.
    tabular_only : Booster on every known tabular column (`columns`), fitted on A and B, stopped and
        calibrated on C as the stack is.
    """

    prior: FloatArray
    transition: FloatArray
    logistic: Logistic
    last_bar: nn.Module
    tabular_only: xgb.Booster
    columns: tuple[int, ...]
    calibration: Calibration
    labels: LabelConfig
    k: float | None

    def predict(self, features: Features, candles: pd.DataFrame, kind: Kind) -> dict[str, pd.DataFrame]:
        """Probabilities (n, 3) of every row by every baseline; NaN rows where an input is missing."""
        index = features.tabular.index
        table = features.tabular.to_numpy().astype(np.float32)[:, list(self.columns)]
        five = features.tabular[list(self.logistic.columns)].to_numpy()
        known = np.isfinite(features.sequence.to_numpy()).all(axis=1)
        tabular = self.calibration.probabilities(margins(self.tabular_only, table), kind)
        tabular[~known] = np.nan
        answers = {
            "class_prior": np.tile(self.prior, (len(index), 1)),
            "persistence": self._persistence(candles, index),
            "tabular_only": tabular,
            "logistic": self.logistic.predict(five),
            "last_bar": predict_last_bar(self.last_bar, features.matrix),
        }
        return {
            name: pd.DataFrame(p, index=index, columns=list(PROBABILITIES)) for name, p in answers.items()
        }

    def _persistence(self, candles: pd.DataFrame, index: pd.Index) -> FloatArray:
        out = np.tile(self.prior, (len(index), 1))
        before = last_known(label(candles, self.labels, self.k)["y"], self.labels.horizon_bars, index)
        out[before >= 0] = self.transition[before[before >= 0]]
        return out


def last_known(y: pd.Series, horizon: int, index: pd.Index) -> IntArray:
    """The label of the bar h+1 bars before each bar of `index`, -1 where there is none.

    Its outcome was known one bar before this bar closed.
    """
    lag = pd.Timedelta(microseconds=(horizon + 1) * BAR_US)
    shifted = y.set_axis(pd.DatetimeIndex(y.index) + lag)
    return shifted.reindex(index).fillna(-1).to_numpy(np.int64)


def fit_transition(before: IntArray, y: IntArray, weight: FloatArray, prior: FloatArray) -> FloatArray:
    """Transition matrix (3, 3), each row with one prior's worth of pseudo-observations."""
    counts = np.tile(prior, (N_CLASSES, 1))
    paired = before >= 0
    np.add.at(counts, (before[paired], y[paired]), weight[paired])
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def fit_logistic(x: FloatArray, y: IntArray, weight: FloatArray, columns: tuple[str, ...]) -> Logistic:
    """Newton's method with a small ridge; rows with a NaN are left out."""
    complete = np.isfinite(x).all(axis=1)
    x, y, weight = x[complete], y[complete], weight[complete] / weight[complete].sum()
    mean, std = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
    design = _design((x - mean) / std)
    p = design.shape[1]
    coef = np.zeros((N_CLASSES, p))
    truth = np.eye(N_CLASSES)[y]
    for _ in range(_NEWTON_STEPS):
        q = _softmax(design @ coef.T)
        slope = ((q - truth) * weight[:, None]).T @ design + _RIDGE * coef
        curve = np.zeros((N_CLASSES, p, N_CLASSES, p))
        for a in range(N_CLASSES):
            for b in range(N_CLASSES):
                mass = weight * q[:, a] * ((a == b) - q[:, b])
                curve[a, :, b, :] = design.T @ (design * mass[:, None])
        curve = curve.reshape(N_CLASSES * p, N_CLASSES * p) + _RIDGE * np.eye(N_CLASSES * p)
        move = np.linalg.solve(curve, slope.ravel()).reshape(coef.shape)
        coef -= move
        if np.abs(move).max() < 1e-10:
            break
    return Logistic(columns, mean, std, coef)


def fit_last_bar(
    sequence: NDArray[np.float32], y: IntArray, weight: FloatArray, rate: float, seed: int
) -> nn.Module:
    """22 -> 128 -> 3, standardised and trained on the encoder's own rows."""
    torch.manual_seed(seed)
    mean, std = sequence.mean(axis=0), np.maximum(sequence.std(axis=0), 1e-6)
    model = nn.Sequential(
        _Standardise(torch.from_numpy(mean), torch.from_numpy(std)),
        nn.Linear(sequence.shape[1], _LAST_BAR_WIDTH),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.Linear(_LAST_BAR_WIDTH, N_CLASSES),
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    x, codes = torch.from_numpy(sequence), torch.from_numpy(y)
    w = torch.from_numpy(weight.astype(np.float32))
    for epoch in range(_LAST_BAR_EPOCHS):
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(y)))
        for batch in torch.split(order, _LAST_BAR_BATCH):
            optimiser.zero_grad()
            losses = F.cross_entropy(model(x[batch]), codes[batch], reduction="none")
            (losses * w[batch]).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    model.eval()
    return model


def predict_last_bar(model: nn.Module, sequence: NDArray[np.float32]) -> FloatArray:
    """(n, 22) -> (n, 3); NaN where a channel is."""
    known = np.isfinite(sequence).all(axis=1)
    out = np.full((len(sequence), N_CLASSES), np.nan)
    with one_thread(), torch.inference_mode():
        logits = model(torch.from_numpy(sequence[known])).double()
        out[known] = torch.softmax(logits, dim=-1).numpy()
    return out


class _Standardise(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.mean) / self.std).clamp(-10.0, 10.0)


def _design(x: FloatArray) -> FloatArray:
    return np.hstack([np.ones((len(x), 1)), x])


def _softmax(z: FloatArray) -> FloatArray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
