"""XGBoost on three classes: how it is trained, how 40 columns are chosen, how it is read.

QuantileDMatrix with 64 bins halves the time of the default at the same loss. The block a booster is
validated on is always later than the one it learns from.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from acmf_core.config import StackConfig
from acmf_core.domain import BARS_PER_DAY, Label
from acmf_core.features import Schema

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

_SELECTION_ROUNDS: Final = 60
_SELECTION_RATE: Final = 0.1


def train_booster(
    x: Float32Array,
    y: IntArray,
    weight: FloatArray,
    names: Sequence[str],
    config: StackConfig,
    *,
    seed: int,
    threads: int,
    held_out: tuple[Float32Array, IntArray, FloatArray] | None = None,
    rounds: int | None = None,
) -> xgb.Booster:
    """Fit a booster; with `held_out` it stops early and is cut back to its best round.

    Parameters
    ----------
    x : ndarray (n, p) of float32
        NaN is a missing value.
    y, weight : ndarray (n,)
    held_out : tuple of (x, y, weight), optional
    rounds : int, optional
        Overrides `config.rounds`.
    """
    data = xgb.QuantileDMatrix(
        x, y, weight=weight, feature_names=list(names), max_bin=config.max_bin, nthread=threads
    )
    evals, stopping = [], None
    if held_out is not None:
        later_x, later_y, later_weight = held_out
        later = xgb.QuantileDMatrix(
            later_x,
            later_y,
            weight=later_weight,
            feature_names=list(names),
            max_bin=config.max_bin,
            ref=data,
            nthread=threads,
        )
        evals, stopping = [(later, "later")], config.early_stopping
    booster = xgb.train(
        _parameters(config, seed, threads),
        data,
        rounds or config.rounds,
        evals=evals,
        early_stopping_rounds=stopping,
        verbose_eval=False,
    )
    return booster[: booster.best_iteration + 1] if held_out is not None else booster


def margins(booster: xgb.Booster, x: Float32Array) -> FloatArray:
    """Raw scores (n, 3) before softmax; each row's trees are summed by themselves, whatever the batch."""
    if len(x) == 0:
        return np.empty((0, len(Label)))
    raw = booster.inplace_predict(x, predict_type="margin", validate_features=False)
    return np.asarray(raw, dtype=np.float64).reshape(len(x), len(Label))


def select(
    x: Float32Array, y: IntArray, weight: FloatArray, config: StackConfig, *, seed: int, threads: int
) -> tuple[int, ...]:
    """The columns with the largest mean gain over bootstraps of whole days, ascending.

    A column that is NaN throughout is never chosen, so fewer than `n_selected` may come back.

    Parameters
    ----------
    x : ndarray (n, p) of float32
        Rows in order of time.
    """
    known = np.flatnonzero(~np.isnan(x).all(axis=0))
    data = xgb.QuantileDMatrix(x[:, known], y, weight=weight, max_bin=config.max_bin, nthread=threads)
    params = _parameters(config, seed, threads) | {"eta": _SELECTION_RATE, "colsample_bytree": 0.7}
    gain = np.zeros(len(known))
    day = np.arange(len(x)) // BARS_PER_DAY
    for i in range(config.bootstraps):
        rng = np.random.default_rng([seed, i])
        times_drawn = np.bincount(rng.integers(0, day[-1] + 1, day[-1] + 1), minlength=day[-1] + 1)
        data.set_weight(weight * times_drawn[day])
        booster = xgb.train(params | {"seed": seed + i}, data, _SELECTION_ROUNDS)
        scores: dict[str, Any] = booster.get_score(importance_type="total_gain")
        share = np.array([float(scores.get(f"f{j}", 0.0)) for j in range(len(known))])
        gain += share / max(share.sum(), 1e-12)
    best = np.argsort(-gain, kind="stable")[: config.n_selected]  # ties go to the earlier column
    return tuple(int(column) for column in np.sort(known[best]))


def optional_groups(schema: Schema) -> dict[str, IntArray]:
    """Columns of the tabular features that a lost source takes away, by group."""
    groups: dict[str, list[int]] = {}
    for i, feature in enumerate(schema.features):
        if feature.timeframe == "slow":
            groups.setdefault(feature.group, []).append(i)
    return {name: np.array(columns) for name, columns in groups.items()}


def drop_sources(
    tabular: Float32Array, groups: Mapping[str, IntArray], share: float, seed: int
) -> Float32Array:
    """A copy in which each optional group is NaN in a random `share` of rows, whole groups together."""
    out = tabular.copy()
    rng = np.random.default_rng([seed, len(out)])
    for columns in groups.values():
        lost = rng.random(len(out)) < share
        out[np.ix_(lost, columns)] = np.nan
    return out


def _parameters(config: StackConfig, seed: int, threads: int) -> dict[str, Any]:
    return {
        "objective": "multi:softprob",
        "num_class": len(Label),
        "eval_metric": "mlogloss",
        "tree_method": "hist",
        "max_bin": config.max_bin,
        "eta": config.learning_rate,
        "max_depth": config.max_depth,
        "min_child_weight": config.min_child_weight,
        "subsample": config.subsample,
        "colsample_bytree": config.colsample,
        "lambda": config.reg_lambda,
        "seed": seed,
        "nthread": threads,
        "verbosity": 0,
    }
