"""The measures of one traded record that the gate judges and the report shows, as plain values.

What cannot be computed is NaN or None beside a `reason`, never a made-up number. Seeds make every
simulation and bootstrap in here repeatable.
"""

import math
from typing import Any, Final

import numpy as np
import pandas as pd

from acmf_core.trading import SimulationResult
from backtests import activity
from backtests.candidate import HeldOut
from backtests.overfitting import (
    Moments,
    deflated_sharpe,
    expected_max_sharpe,
    min_track_record_length,
    moments,
    probabilistic_sharpe,
    stationary_indices,
)
from backtests.returns import (
    DAYS_A_YEAR,
    annual_sharpe,
    block_length,
    calmar,
    daily_returns,
    interval,
    monthly_growth,
    superior_ability,
    total_return,
)
from backtests.scoring import calibration, direction
from backtests.stress import break_even, stress_grid
from backtests.walk_forward import WalkForwardResult

NO_TRADES: Final = "no trades, so there is no return to measure"
_STRETCHES: Final = 2000
_ENOUGH_EVALUATIONS: Final = 10


def measured(result: WalkForwardResult, name: str, simulation: SimulationResult, seed: int) -> dict[str, Any]:
    """All that depends on the calibration `name`, whose record is `simulation`."""
    days = day_returns(simulation)
    return {
        "trades": len(simulation.trades),
        "performance": performance(simulation),
        "sharpe": _sharpe(days, simulation, result, seed),
        "superior": _superior(days, simulation, result, seed),
        "direction": directional_skill(result.by_calibration[name], result.labels, seed),
        "reliability": reliability(
            result.by_calibration[name], result.labels, result.config.train.labels.horizon_bars, seed
        ),
        "months": _months(simulation),
        "stress": _stress(result, name, simulation),
        "gates": activity.gate_funnel(simulation),
        "breaker": activity.breaker(simulation),
        "regimes": activity.regimes(simulation),
        "exits": activity.exits(simulation),
        "sides": activity.sides(simulation),
        "costs": activity.costs(simulation),
        "book": simulation.entries_without_book(),
        "daily": {"day": [f"{day:%Y-%m-%d}" for day in days.index], "return": days.tolist()},
    }


def day_returns(simulation: SimulationResult) -> pd.Series:
    """Simple returns by UTC day."""
    return daily_returns(equity_series(simulation), simulation.initial_state.equity)


def equity_series(simulation: SimulationResult) -> pd.Series:
    """Equity at the bars' closes, by their open times."""
    return pd.Series(simulation.equity, index=simulation.bars.times)


def performance(simulation: SimulationResult) -> dict[str, Any]:
    """The kernel's metrics and the Calmar ratio."""
    return simulation.metrics() | {"calmar": calmar(day_returns(simulation))}


def _sharpe(
    days: pd.Series, simulation: SimulationResult, result: WalkForwardResult, seed: int
) -> dict[str, Any]:
    """Sharpe ratio of daily returns, deflated by the out-of-sample evaluations of this data window.

    The variance of skill-less Sharpe ratios over T days is 1/T; from ten evaluations on, the larger of
    that and what they show (a handful says more about their likeness than about luck).
    """
    shape = moments(days.to_numpy())
    if simulation.trades.empty and not np.any(days):
        return {"reason": NO_TRADES, "days": len(days), **dict.fromkeys(_SHARPE_KEYS)}
    n_trials = max(result.ledger_out_of_sample, 1)
    known = np.asarray(result.ledger_sharpes, dtype=np.float64)
    shown = float(known.var(ddof=1)) if len(known) >= _ENOUGH_EVALUATIONS else 0.0
    variance = max(shown, 1.0 / len(days))
    block = block_length(days)
    return {
        "reason": "",
        "days": len(days),
        "daily": shape.sharpe,
        "annual": shape.sharpe * math.sqrt(DAYS_A_YEAR),
        "annual_90": list(interval(days.to_numpy(), annual_sharpe, block=block, seed=seed)),
        "total_return_90": list(interval(days.to_numpy(), total_return, block=block, seed=seed)),
        "skew": shape.skew,
        "kurtosis": shape.kurtosis,
        "psr": probabilistic_sharpe(*_series(shape)),
        "min_track_days": min_track_record_length(shape.sharpe, shape.skew, shape.kurtosis),
        "evaluations": n_trials,
        "variance": variance,
        "expected_max": expected_max_sharpe(n_trials, variance),
        "dsr": deflated_sharpe(*_series(shape), n_trials=n_trials, variance=variance),
        "block_days": block,
    }


_SHARPE_KEYS: Final = (
    "daily", "annual", "annual_90", "total_return_90", "skew", "kurtosis", "psr", "min_track_days",
    "evaluations", "variance", "expected_max", "dsr", "block_days",
)  # fmt: skip


def _series(shape: Moments) -> tuple[float, int, float, float]:
    return shape.sharpe, shape.n, shape.skew, shape.kurtosis


def _superior(
    days: pd.Series, simulation: SimulationResult, result: WalkForwardResult, seed: int
) -> dict[str, Any]:
    """SPA against standing aside and against the tabular-only model."""
    own, tabular = days.to_numpy(), day_returns(result.tabular_simulation).to_numpy()
    against = {"flat": np.zeros(len(own)), "tabular_only": tabular}
    found: dict[str, Any] = {}
    for name, benchmark in against.items():
        test = superior_ability(own, benchmark, block=block_length(own - benchmark), seed=seed)
        reason = NO_TRADES if simulation.trades.empty and not np.any(own) else test.reason
        found[name] = {
            "p": None if reason else test.p,
            "mean_daily_difference": test.mean_difference,
            "days": test.days,
            "reason": reason,
        }
    return found


def _known(predictions: pd.DataFrame, labels: pd.DataFrame) -> tuple[Any, Any, Any]:
    """Probabilities, class codes and times (microseconds) of the bars that have all three."""
    frame = predictions.dropna()
    frame = frame[frame.index.isin(labels.index)]
    outcomes = labels.loc[frame.index, "y"].to_numpy(np.int64)
    times = pd.DatetimeIndex(frame.index).as_unit("us").asi8
    return frame.to_numpy(np.float64), outcomes, times


def directional_skill(predictions: pd.DataFrame, labels: pd.DataFrame, seed: int = 7) -> dict[str, Any]:
    """Skill in direction on the bars that moved, with its lower bound over resampled days."""
    found = direction(*_known(predictions, labels), seed=seed)
    return {
        "n": found.n,
        "days": found.days,
        "log_loss": found.log_loss,
        "gain": found.gain,
        "gain_lower": found.gain_lower,
    }


def reliability(
    predictions: pd.DataFrame, labels: pd.DataFrame, horizon_bars: int, seed: int = 7
) -> dict[str, Any]:
    """Calibration of the top class on every (h + 1)-th prediction: overlapping labels are not facts."""
    every = horizon_bars + 1
    probabilities, outcomes, _ = _known(predictions, labels)
    found = calibration(probabilities[::every], outcomes[::every], seed=seed)
    return {
        "n": found.n,
        "every": every,
        "ece": found.ece,
        "quantile": found.quantile,
        "count": found.count.tolist(),
        "confidence": found.confidence.tolist(),
        "accuracy": found.accuracy.tolist(),
    }


def _months(simulation: SimulationResult) -> dict[str, Any]:
    """Growth by month, and the share of the whole that the best month made.

    In log growth, so that compounding does not make the last month of a good record look like all of it.
    """
    growth = monthly_growth(equity_series(simulation), simulation.initial_state.equity)
    total, best = float(growth.sum()), float(growth.max())
    return {
        "month": [f"{month:%Y-%m}" for month in growth.index],
        "return": np.expm1(growth).tolist(),
        "growth": growth.tolist(),
        "total_growth": total,
        "best_growth": best,
        "best_share": best / total if total > 0 else math.nan,
    }


def _stress(result: WalkForwardResult, name: str, simulation: SimulationResult) -> dict[str, Any]:
    """The grid of costs, delay and funding, its three telling cells, and the break-even cost."""
    if simulation.trades.empty:
        return {"reason": NO_TRADES, "rows": []}
    probabilities = result.by_calibration[name]
    grid = stress_grid(result.bars, probabilities, result.stretches, equity=result.config.equity)

    def cell(cost: float, delay: int) -> dict[str, Any]:
        row = grid.query("fee == @cost and slippage == @cost and delay == @delay and funding == 1.0")
        return dict(row[["trades", "net", "total_return"]].iloc[0])

    even = break_even(simulation, result.stretches)
    return {
        "reason": "",
        "double_cost": cell(2.0, 0),
        "one_bar_late": cell(1.0, 1),
        "both": cell(2.0, 1),
        "break_even": {"gross_bps": even.gross_bps, "cost_bps": even.cost_bps, "turnover": even.turnover},
        "rows": grid[["fee", "slippage", "delay", "funding", "trades", "net", "total_return"]].to_dict(
            "records"
        ),
    }


def held_out(
    record: SimulationResult, holdout: HeldOut | None, name: str, wanted_days: float, seed: int
) -> dict[str, Any]:
    """The last block. It contradicts the record when its mean day lies below what 19 of 20 stretches of
    the same length, drawn from the record in blocks, give."""
    if holdout is None:
        reason = "no last block was set aside" if wanted_days == 0 else "the last block was not touched yet"
        return {"reason": reason, "contradicts": None}
    simulation = holdout.simulations_by_calibration[name]
    own, days = day_returns(simulation), day_returns(record).to_numpy()
    rng = np.random.default_rng(seed)
    block = block_length(days)
    drawn = np.sort([_stretch(days, len(own), block, rng) for _ in range(_STRETCHES)])
    bound, mean = float(drawn[len(drawn) // 20]), float(own.mean())
    return {
        "reason": "",
        "start": holdout.start,
        "end": holdout.end,
        "days": len(own),
        "performance": performance(simulation),
        "log_loss": holdout.losses["log_loss"].to_dict(),
        "mean_day": mean,
        "bound": bound,
        "contradicts": bool(mean < bound - 1e-12),
    }


def _stretch(record: Any, length: int, block: float, rng: np.random.Generator) -> float:
    """Mean of one stationary-bootstrap stretch of `length` days."""
    values = np.empty(0)
    while len(values) < length:
        values = np.concatenate([values, record[stationary_indices(len(record), block, rng)]])
    return float(values[:length].mean())
