"""The circuit breaker: when trading stops by itself, and when it goes on again."""

import math
from typing import Final

from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import Record
from acmf_core.trading.params import Rules
from acmf_core.trading.routing import Signal, reaches
from acmf_core.trading.sizing import daily_drawdown
from acmf_core.trading.state import Cause

NONE: Final = int(Cause.NONE)
DAILY_DRAWDOWN: Final = int(Cause.DAILY_DRAWDOWN)
LOSS_STREAK: Final = int(Cause.LOSS_STREAK)
LOW_PROBABILITY: Final = int(Cause.LOW_PROBABILITY)
OPERATOR: Final = int(Cause.OPERATOR)


@compiled
def lift_stop(state: Record) -> None:
    """Trading goes on: streak, counter and the day's reference start anew; the peak stays."""
    state.stopped = 0
    state.paused = 0
    state.cause = NONE
    state.bars_stopped = 0
    state.streak = 0
    state.low_probability = 0
    state.day_reference = state.equity


@compiled
def resume_when_due(state: Record, rules: Rules) -> None:
    """The stand-in for a person (or the end of a pause), `resume_after` bars after the trip."""
    if not state.stopped:
        return
    state.bars_stopped += 1
    by_itself = state.paused or (not rules.person_resumes and state.cause != OPERATOR)
    if by_itself and rules.resume_after > 0 and state.bars_stopped >= rules.resume_after:
        lift_stop(state)


@compiled
def count_low_probability(state: Record, signal: Signal, rules: Rules) -> None:
    """Predictions in a row in which no class is likely; a bar without a prediction changes nothing."""
    if math.isnan(signal.max_probability):
        return
    if reaches(signal.max_probability, rules.min_probability):
        state.low_probability = 0
    else:
        state.low_probability += 1


@compiled
def stop_trading(state: Record, cause: int, paused: bool) -> None:
    """No entries from here on; the caller closes what is open."""
    state.stopped = 1
    state.paused = 1 if paused else 0
    state.cause = cause
    state.bars_stopped = 0


@compiled
def trip_when_due(state: Record, rules: Rules) -> None:
    """Trip on drawdown, streak or a model that knows nothing; the first cause is recorded."""
    if state.stopped:
        return
    drawn_down = daily_drawdown(state) > rules.max_daily_drawdown
    streak = state.streak >= rules.max_losses
    unsure = state.low_probability >= rules.low_probability_bars
    if drawn_down:
        stop_trading(state, DAILY_DRAWDOWN, False)
    elif streak:
        stop_trading(state, LOSS_STREAK, rules.pause_on_losses and not unsure)
    elif unsure:
        stop_trading(state, LOW_PROBABILITY, False)
