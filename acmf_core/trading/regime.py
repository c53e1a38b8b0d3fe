"""The market's state by rule-based scoring: trending, ranging or high volatility.

Every comparison with a missing (NaN) input is false, so that a missing input scores 0.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from acmf_core.domain import Regime
from acmf_core.trading.bars import Bar
from acmf_core.trading.compiled import compiled
from acmf_core.trading.params import TradeParams

TRENDING: Final = int(Regime.TRENDING)
RANGING: Final = int(Regime.RANGING)
HIGH_VOLATILITY: Final = int(Regime.HIGH_VOLATILITY)
NEUTRAL_FUNDING_BPS: Final = 1.0  # funding is positive in 91 % of bars: its usual level is no signal


@compiled
def move_is_backed(bar: Bar) -> float:
    """0.5 for funding on the side of the move away from EMA 21, another 0.5 for the book."""
    side = np.sign(bar.ema_distance)  # at exactly 0 there is no side
    if abs(side) != 1.0:
        return 0.0
    score = 0.0
    if side * (bar.funding_bps - NEUTRAL_FUNDING_BPS) >= 1.0:
        score += 0.5
    if side * bar.book_imbalance >= 0.2:
        score += 0.5
    return score


@compiled
def regime_scores(bar: Bar) -> tuple[float, float, float]:
    """Points for trending, ranging, high volatility."""
    distance = abs(bar.ema_distance)

    trending = move_is_backed(bar)
    if bar.adx >= 25.0:
        trending += 2.0
    elif bar.adx >= 20.0:
        trending += 1.0
    if distance >= 1.0:
        trending += 1.0

    ranging = 0.0
    if bar.adx < 20.0:
        ranging += 2.0
    if distance < 0.5:
        ranging += 1.0
    if bar.atr_ratio < 1.0:
        ranging += 1.0

    high_volatility = 0.0
    if bar.atr_ratio >= 1.5:
        high_volatility += 2.0
    elif bar.atr_ratio >= 1.25:
        high_volatility += 1.0
    if bar.vol_regime >= 0.9:
        high_volatility += 2.0
    elif bar.vol_regime >= 0.75:
        high_volatility += 1.0
    if abs(bar.funding_bps) >= 5.0:
        high_volatility += 1.0

    return trending, ranging, high_volatility


@compiled
def strictest_best(scores: tuple[float, float, float]) -> int:
    """The regime of the highest score; ties go to the stricter one."""
    trending, ranging, high_volatility = scores
    if high_volatility >= ranging and high_volatility >= trending:
        return HIGH_VOLATILITY
    if ranging >= trending:
        return RANGING
    return TRENDING


@compiled
def classified(bar: Bar) -> tuple[int, tuple[float, float, float]]:
    """Regime code and scores of a bar."""
    scores = regime_scores(bar)
    return strictest_best(scores), scores


def classify_regime(bar: Bar, params: TradeParams | None = None) -> tuple[int, npt.NDArray[np.float64]]:
    """The regime of a bar and the scores that chose it.

    Returns
    -------
    regime : int
        0 trending, 1 ranging, 2 high_volatility.
    scores : (3,) float64
        In the same order.
    """
    del params  # the scoring has no tunable number; the argument keeps the kernel's calls alike
    regime, scores = classified(bar.exact())
    return int(regime), np.array(scores)
