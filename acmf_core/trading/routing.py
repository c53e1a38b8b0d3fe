"""Probabilities -> signal: is one direction clearly more likely than the other?

Source: the article's step 4 ("spread-based directional routing"), with the confidence formula of
docs/adr/010-confidence-formula.md.
"""

import math
from typing import Any, Final, NamedTuple

from acmf_core.domain import Side
from acmf_core.errors import InvalidPrediction
from acmf_core.trading.compiled import compiled
from acmf_core.trading.params import CONFIDENCE_RATIO, Rules, TradeParams

CONFIDENCE_TOLERANCE: Final = 1e-9  # 0.57 / 0.33 gives 0.44999999999999996, and means 0.45
SUM_TOLERANCE: Final = 1e-4


class Signal(NamedTuple):
    """What one prediction says.

    side: -1, 0 (neutral) or 1. confidence in [0.25, 1]; ratio of the larger to the smaller of
    P(LONG), P(SHORT); max_probability: the largest of the three, NaN where there was no prediction.
    """

    side: int
    confidence: float
    ratio: float
    max_probability: float


NO_SIGNAL: Final = Signal(0, 0.0, math.nan, math.nan)  # a bar without a prediction


@compiled
def reaches(confidence: float, threshold: float) -> bool:
    """Whether a confidence meets a threshold, forgiving float noise."""
    return confidence - threshold >= -CONFIDENCE_TOLERANCE


@compiled
def routed(p_long: float, p_short: float, p_neutral: float, rules: Rules) -> Signal:
    """Route a valid triple, or three NaN (no prediction)."""
    if math.isnan(p_long):
        return Signal(0, 0.0, math.nan, math.nan)
    dominant = max(p_long, p_short)
    opposite = min(p_long, p_short)
    if opposite > 0.0:
        ratio = dominant / opposite
    elif dominant > 0.0:
        ratio = math.inf
    else:
        ratio = 1.0

    clear = (
        dominant - rules.min_ratio * opposite >= -CONFIDENCE_TOLERANCE
        and dominant - opposite >= rules.min_spread - CONFIDENCE_TOLERANCE
    )
    side = 0
    if clear and p_long > p_short:
        side = 1
    elif clear and p_short > p_long:
        side = -1
    confidence = 1.0 - CONFIDENCE_RATIO / (ratio + 1.0)
    return Signal(side, confidence, ratio, max(dominant, p_neutral))


@compiled
def first_invalid(probabilities: Any) -> int:
    """Row of the first triple that is neither three probabilities nor three NaN; -1 where there is none."""
    for i in range(len(probabilities)):
        p_long, p_short, p_neutral = probabilities[i, 0], probabilities[i, 1], probabilities[i, 2]
        valid = (
            p_long >= 0.0
            and p_short >= 0.0
            and p_neutral >= 0.0
            and abs(p_long + p_short + p_neutral - 1.0) <= SUM_TOLERANCE
        )
        missing = math.isnan(p_long) and math.isnan(p_short) and math.isnan(p_neutral)
        if not (valid or missing):
            return i
    return -1


def check_probabilities(p_long: float, p_short: float, p_neutral: float) -> None:
    """Raise InvalidPrediction for NaN, a negative value, or a sum off 1 by more than 1e-4."""
    triple = (p_long, p_short, p_neutral)
    shown = f"({p_long:.6g}, {p_short:.6g}, {p_neutral:.6g})"
    if any(math.isnan(p) for p in triple):
        raise InvalidPrediction(
            f"prediction {shown} holds NaN", "do not trade on it; look at the model's inputs"
        )
    if min(triple) < 0.0:
        raise InvalidPrediction(f"prediction {shown} holds a negative value", "look at the calibration")
    if not abs(sum(triple) - 1.0) <= SUM_TOLERANCE:
        raise InvalidPrediction(
            f"prediction {shown} sums to {sum(triple):.6g}, not 1", "look at the calibration"
        )


def route(p_long: float, p_short: float, p_neutral: float, params: TradeParams | None = None) -> Signal:
    """Turn three class probabilities into a signal.

    Directional iff the larger of P(LONG), P(SHORT) is at least `min_ratio` times the other and at least
    `min_spread` above it (both with 1e-9 of tolerance); otherwise side 0, with its confidence kept.
    confidence = 1 - 1.5 / (ratio + 1): ratio 1.5 -> 0.40, 2 -> 0.50, 3 -> 0.625.

    Raises
    ------
    InvalidPrediction
        NaN, a negative value, or a sum off 1 by more than 1e-4. (`NO_SIGNAL` is for a bar without
        a prediction.)
    """
    check_probabilities(p_long, p_short, p_neutral)
    rules = (params or TradeParams()).rules
    side, confidence, ratio, largest = routed(float(p_long), float(p_short), float(p_neutral), rules)
    return Signal(int(Side(side)), confidence, ratio, largest)
