"""Evidence of a walk-forward record: what the promotion gate judges and the report shows.

`gather` turns a `WalkForwardResult` into plain JSON values; the statistics behind it live in
`measures` (one traded record), `overfitting` (Sharpe ratios, CSCV), `scoring` (probabilities), `returns`
(resampling) and `activity` (gates, regimes). What cannot be computed is None beside a `reason`, never a
made-up number.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from acmf_core.domain import BAR_MINUTES, BARS_PER_DAY
from acmf_core.errors import DataError
from acmf_core.features.market import COLUMNS
from acmf_core.models import evaluate
from backtests.candidate import HeldOut
from backtests.measures import held_out, measured, performance
from backtests.overfitting import (
    cross_validate,
    deflated_sharpe,
    expected_max_sharpe,
    min_track_record_length,
    moments,
    probabilistic_sharpe,
    probability_of_backtest_overfitting,
    sharpe_dispersion,
)
from backtests.returns import DAYS_A_YEAR, block_length, calmar, daily_returns, drawdown
from backtests.walk_forward import WalkForwardResult

__all__ = [
    "deflated_sharpe",
    "expected_max_sharpe",
    "gather",
    "min_track_record_length",
    "probabilistic_sharpe",
    "probability_of_backtest_overfitting",
]

FORMAT: Final = 1  # of the dictionary that `gather` returns
MOST_GROUPS: Final = 16  # of CSCV
DAYS_A_GROUP: Final = 4
SEED: Final = 7


def gather(
    result: WalkForwardResult,
    *,
    holdout: HeldOut | None = None,
    symbol: str = "",
    seed: int = SEED,
) -> dict[str, Any]:
    """Everything the gate asks, from one walk-forward.

    Parameters
    ----------
    result : WalkForwardResult
    holdout : HeldOut, optional
        The last block, touched once, traded by the model that is to be promoted.
    symbol : str
        For the reader.
    seed : int
        Of every simulation and bootstrap in here: the same result gives the same evidence.

    Returns
    -------
    dict
        Plain JSON values (NaN and infinity are None). What depends on the calibration lies under
        `by_calibration`; `calibration` names the one that is asked for.
    """
    evidence = {
        "format": FORMAT,
        "symbol": symbol,
        "synthetic": result.synthetic,
        "calibration": result.config.train.calibration,
        "trades": len(result.simulation.trades),
        "data": _data(result),
        "settings": _settings(result),
        "folds": [_fold(fold) for fold in result.folds],
        "losses": _losses(result),
        "by_calibration": {
            name: measured(result, name, simulation, seed)
            | {"holdout": held_out(simulation, holdout, name, result.config.holdout_days, seed)}
            for name, simulation in result.simulations_by_calibration.items()
        },
        "tabular_only": performance(result.tabular_simulation),
        "buy_and_hold": _buy_and_hold(result),
        "tuning": tuning_luck(result.trial_returns, seed),
        "ledger": {
            "tuning": max(result.ledger_tuning, result.trials_total),
            "out_of_sample": max(result.ledger_out_of_sample, 1),
        },
    }
    plain: dict[str, Any] = _plain(evidence)
    return plain


def _data(result: WalkForwardResult) -> dict[str, Any]:
    times, candles = result.bars.times, result.market.candles.index
    never: set[str] = set(COLUMNS)
    for fold in result.folds:
        never &= set(fold.model.get("sources_never_seen", ()))
    return {
        "history_start": candles[0],
        "history_end": candles[-1] + pd.Timedelta(minutes=BAR_MINUTES),
        "start": times[0],
        "end": times[-1] + pd.Timedelta(minutes=BAR_MINUTES),
        "bars": result.bars.n,
        "days": result.bars.n / BARS_PER_DAY,
        "lake_versions": dict(result.lake_versions),
        "sources_never_seen": sorted(never),
        "funding": result.market.funding is not None,
    }


def _settings(result: WalkForwardResult) -> dict[str, Any]:
    config = result.config
    return {
        "fingerprint": config.fingerprint,
        "profile": config.train.profile,
        "seed": config.train.seed,
        "scheme": config.scheme,
        "folds": config.folds,
        "train_days": config.train_days,
        "test_days": config.test_days,
        "holdout_days": config.holdout_days,
        "equity": config.equity,
        "horizon_bars": config.train.labels.horizon_bars,
        "labels": config.train.labels.kind,
        "trials_a_fold": config.tune.trials,
        "params": result.folds[-1].params.to_dict(),
    }


def _fold(fold: Any) -> dict[str, Any]:
    stack = fold.losses["log_loss"].to_dict()
    return {
        "index": fold.index,
        "train_start": fold.train_start,
        "train_end": fold.train_end,
        "test_start": fold.test_start,
        "test_end": fold.test_end,
        "trials": fold.trials,
        "tuned": fold.tuned,
        "note": fold.note,
        "metrics": dict(fold.metrics),
        "log_loss": stack,
        "direction": fold.model.get("direction"),
        "temperature": fold.model.get("temperature"),
        "seconds": dict(fold.seconds),
    }


def _losses(result: WalkForwardResult) -> dict[str, Any]:
    """Scores of both calibrations and every baseline, on the bars that all of them answer."""
    frames = {**result.by_calibration, **result.baselines}
    answered = np.logical_and.reduce([frame.notna().all(axis=1) for frame in frames.values()])
    answered &= result.bars.times.isin(result.labels.index)
    if not answered.any():
        return {}
    return {name: evaluate(frame[answered], result.labels) for name, frame in frames.items()}


def _buy_and_hold(result: WalkForwardResult) -> dict[str, Any]:
    """The coin itself, bought at the first open and held, before costs and funding."""
    close = pd.Series(result.bars.close, index=result.bars.times)
    start = float(result.bars.open[0])
    days = daily_returns(close, start)
    return {
        "total_return": float(close.iloc[-1]) / start - 1.0,
        "max_drawdown": -float(drawdown(close, start).min()),
        "sharpe_daily_annualised": moments(days).sharpe * math.sqrt(DAYS_A_YEAR),
        "calmar": calmar(days),
    }


def tuning_luck(returns: pd.DataFrame, seed: int = SEED) -> dict[str, Any]:
    """Luck among the tuning trials of the last fold: CSCV, their dispersion, the in-sample DSR.

    The trials read training data only; nothing here says how good the model is out of sample.
    """
    matrix = returns.to_numpy(np.float64)
    found: dict[str, Any] = {"trials": matrix.shape[1], "days": len(matrix), "reason": ""}
    groups = min(MOST_GROUPS, 2 * (len(matrix) // (2 * DAYS_A_GROUP)))
    if not np.any(matrix):
        return found | {"reason": f"none of {matrix.shape[1]} tuning trials made a trade"}
    try:
        cscv = cross_validate(matrix, groups)
    except DataError as error:
        return found | {"reason": error.cause}
    shapes = [moments(column) for column in matrix.T]
    sharpes = np.array([shape.sharpe for shape in shapes])
    best = shapes[int(sharpes.argmax())]
    variance = float(sharpes.var(ddof=1))
    dispersion, p = sharpe_dispersion(matrix, block=block_length(matrix.mean(axis=1)), seed=seed)
    return found | {
        "groups": cscv.n_groups,
        "splits": cscv.n_splits,
        "pbo": cscv.pbo,
        "loss_probability": cscv.loss_probability,
        "logits": np.histogram(cscv.logits, bins=_LOGIT_EDGES)[0].tolist(),
        "logit_edges": _LOGIT_EDGES.tolist(),
        "dispersion": dispersion,
        "dispersion_p": p,
        "best_daily_sharpe": best.sharpe,
        "in_sample_dsr": deflated_sharpe(
            best.sharpe, best.n, best.skew, best.kurtosis, n_trials=len(shapes), variance=variance
        ),
    }


_LOGIT_EDGES: Final = np.linspace(-6.0, 6.0, 25)


def _plain(value: Any) -> Any:
    """Plain JSON values: NaN and infinity become None, times ISO 8601 in UTC."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
