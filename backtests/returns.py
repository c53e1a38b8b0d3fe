"""Returns by day and month of an equity record, and what resampling says about them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from arch.bootstrap import SPA, optimal_block_length

from backtests.overfitting import stationary_indices

DAYS_A_YEAR: Final = 365  # the market never closes
_LEAST_DAYS: Final = 20

Floats = npt.NDArray[np.float64]


def daily_returns(equity: pd.Series, start: float) -> pd.Series:
    """Simple returns by UTC day of the bars' open times.

    Parameters
    ----------
    equity : Series
        Marked at each bar's close, index `open_time` (datetime64[us, UTC]).
    start : float
        Equity before the first bar.
    """
    last = equity.groupby(equity.index.floor("D")).last()
    before = last.shift(1, fill_value=start)
    return (last / before - 1.0).rename("return")


def monthly_returns(days: pd.Series) -> pd.Series:
    """Compounded by calendar month (UTC), index the month's first day."""
    month = days.index.tz_localize(None).to_period("M").to_timestamp()
    return (1.0 + days).groupby(month).prod() - 1.0


def monthly_growth(equity: pd.Series, start: float) -> pd.Series:
    """Log growth of the equity by calendar month (UTC), index the month's first day; -inf in ruin."""
    month = equity.index.tz_localize(None).to_period("M").to_timestamp()
    last = equity.groupby(month).last()
    ratio = (last / last.shift(1, fill_value=start)).clip(lower=0.0)
    with np.errstate(divide="ignore"):
        return np.log(ratio).rename("growth")


def drawdown(equity: pd.Series, start: float) -> pd.Series:
    """Distance below the running peak, as a fraction (0 or negative)."""
    peak = equity.cummax().clip(lower=start)
    return equity / peak - 1.0


def calmar(days: pd.Series) -> float:
    """Annual compound return over the deepest daily drawdown; NaN where there is none."""
    if days.empty:
        return math.nan
    curve = (1.0 + days).cumprod()
    deepest = -float(drawdown(curve, 1.0).min())
    growth = float(curve.iloc[-1])
    if deepest <= 0 or growth <= 0:
        return math.nan
    return (growth ** (DAYS_A_YEAR / len(days)) - 1.0) / deepest


def block_length(series: npt.ArrayLike) -> float:
    """Mean block of the stationary bootstrap (Politis & White 2004), in rows, between 1 and T / 4.

    Falls back to T^(1/3) where the estimate does not exist (a series that hardly moves).
    """
    values = np.asarray(series, dtype=np.float64)
    fallback = max(1.0, len(values) ** (1 / 3))
    if len(values) < _LEAST_DAYS or np.ptp(values) == 0.0:
        return fallback
    with np.errstate(all="ignore"):
        found = float(optimal_block_length(values)["stationary"].iloc[0])
    return min(max(found, 1.0), len(values) / 4) if math.isfinite(found) else fallback


def interval(
    days: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    block: float,
    level: float = 0.90,
    draws: int = 2000,
    seed: int = 7,
) -> tuple[float, float]:
    """Percentile interval of a statistic over stationary-bootstrap resamples of days.

    Parameters
    ----------
    days : (T,)
        Daily returns.
    statistic : callable
        (draws, T) resampled returns -> (draws,) values.
    level : float
        Share of the resamples inside.
    """
    if len(days) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    rows = np.array([stationary_indices(len(days), block, rng) for _ in range(draws)])
    values = statistic(days[rows])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def annual_sharpe(samples: Floats) -> Floats:
    """(draws, T) daily returns -> (draws,) Sharpe ratios, annualised with sqrt(365); 0 where still."""
    spread = samples.std(axis=1, ddof=1)
    still = spread <= 0
    ratio = samples.mean(axis=1) / np.where(still, 1.0, spread)
    return np.asarray(np.where(still, 0.0, ratio) * math.sqrt(DAYS_A_YEAR))


def total_return(samples: Floats) -> Floats:
    """(draws, T) daily returns -> (draws,) compounded returns."""
    return np.asarray(np.prod(1.0 + samples, axis=1) - 1.0)


@dataclass(frozen=True, slots=True)
class SuperiorAbility:
    """Hansen's test of superior predictive ability; p is the consistent p-value, NaN with a reason."""

    p: float
    mean_difference: float
    days: int
    reason: str = ""


def superior_ability(
    days: Floats, benchmark: Floats, *, block: float, reps: int = 2000, seed: int = 7
) -> SuperiorAbility:
    """Does the record beat the benchmark's daily returns by more than luck (SPA, Hansen 2005)?

    Losses are minus the returns; a flat benchmark is zeros.

    Parameters
    ----------
    days, benchmark : (T,)
        Daily returns over the same days.
    block : float
        Mean block of the stationary bootstrap, in days.
    """
    difference = days - benchmark
    mean = float(difference.mean()) if len(difference) else math.nan
    if len(difference) < _LEAST_DAYS:
        return SuperiorAbility(math.nan, mean, len(days), f"only {len(days)} days, {_LEAST_DAYS} needed")
    if np.ptp(difference) == 0.0:
        return SuperiorAbility(math.nan, mean, len(days), "the two records do not differ on any day")
    test = SPA(-benchmark, -days, block_size=max(1, round(block)), reps=reps, seed=seed)
    test.compute()
    return SuperiorAbility(float(test.pvalues["consistent"]), mean, len(days))
