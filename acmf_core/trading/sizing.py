"""How much to buy or sell: a fixed share of equity at risk, then caps, scalars and the venue's filters."""

from typing import Final, NamedTuple

from acmf_core.trading.bars import Bar
from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import NONE, STEP_TOLERANCE, Record, whole_steps
from acmf_core.trading.params import RegimeRules, Rules
from acmf_core.trading.routing import reaches

LOW_SCALAR: Final = 0.8
HIGH_SCALAR: Final = 1.2
FULL_CONFIDENCE: Final = 0.75  # where the scalar reaches its upper end
DRAWDOWN_THRESHOLD: Final = 0.02
DRAWDOWN_FACTOR: Final = 0.5
LEAST_CUT: Final = 0.5  # of what was wanted; less than that is not worth the fee
NOTIONAL_TOLERANCE: Final = 1e-9


class Exposure(NamedTuple):
    """What open lots without a pending exit hold: count, quantity (unsigned), risk in quote units."""

    lots: int
    quantity: float
    risk: float


@compiled
def exposure(state: Record) -> Exposure:
    """Sum over the lots that stay; one whose stop is past its entry risks nothing."""
    lots = 0
    quantity = 0.0
    risk = 0.0
    for i in range(state.n_lots):
        lot = state.lots[i]
        if lot.exit_reason == NONE:
            lots += 1
            quantity += lot.quantity
            risk += lot.quantity * max(0.0, lot.side * (lot.entry - lot.stop))
    return Exposure(lots, quantity, risk)


@compiled
def round_trip_cost(close: float, rules: Rules) -> float:
    """Fees and slippage of an entry and an exit, per unit, in quote units."""
    return 2.0 * (rules.fee + rules.slippage) * close


@compiled
def confidence_scalar(confidence: float, min_confidence: float) -> float:
    """Linear from 0.8 at the regime's minimum to 1.2 at 0.75, clipped."""
    if min_confidence >= FULL_CONFIDENCE:
        return HIGH_SCALAR if reaches(confidence, min_confidence) else LOW_SCALAR
    share = (confidence - min_confidence) / (FULL_CONFIDENCE - min_confidence)
    return min(HIGH_SCALAR, max(LOW_SCALAR, LOW_SCALAR + (HIGH_SCALAR - LOW_SCALAR) * share))


@compiled
def drawdown(state: Record) -> float:
    """Of equity from its peak, as a fraction; a peak that is not positive counts as 100 %."""
    return (state.peak - state.equity) / state.peak if state.peak > 0.0 else 1.0


@compiled
def daily_drawdown(state: Record) -> float:
    """Of equity from the day's reference, as a fraction; a reference <= 0 counts as 100 %."""
    reference = state.day_reference
    return (reference - state.equity) / reference if reference > 0.0 else 1.0


@compiled
def wanted_quantity(state: Record, bar: Bar, confidence: float, limits: RegimeRules, rules: Rules) -> float:
    """Risk-based quantity after lot cap, confidence scalar and drawdown factor, in this order."""
    equity: float = state.equity
    distance = bar.atr * limits.stop_atr
    if rules.cost_in_risk:
        distance += round_trip_cost(bar.close, rules)
    quantity = equity * rules.risk_per_trade / distance
    lot_cap = equity * rules.max_leverage / limits.max_positions
    quantity = min(quantity, lot_cap / bar.close)
    quantity *= confidence_scalar(confidence, limits.min_confidence)
    if drawdown(state) > DRAWDOWN_THRESHOLD:
        quantity *= DRAWDOWN_FACTOR
    return quantity


@compiled
def entry_quantity(
    state: Record, held: Exposure, bar: Bar, confidence: float, limits: RegimeRules, rules: Rules
) -> float:
    """The quantity to send, or 0 where caps or the venue's filters allow no entry."""
    risk_distance = bar.atr * limits.stop_atr
    if not (state.equity > 0.0 and risk_distance > 0.0 and bar.close > 0.0):
        return 0.0
    wanted = wanted_quantity(state, bar, confidence, limits, rules)
    notional_room = state.equity * rules.max_leverage - held.quantity * bar.close
    risk_room = state.equity * rules.max_open_risk - held.risk
    quantity = min(wanted, notional_room / bar.close, risk_room / risk_distance)
    if not quantity >= LEAST_CUT * wanted - STEP_TOLERANCE * rules.step:
        return 0.0
    quantity = whole_steps(min(quantity, rules.max_market_quantity), rules.step)
    if quantity < rules.min_quantity - STEP_TOLERANCE * rules.step or quantity <= 0.0:
        return 0.0
    if quantity * bar.close < rules.min_notional - NOTIONAL_TOLERANCE:
        return 0.0
    return quantity
