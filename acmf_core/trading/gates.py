"""The twelve gates of an entry: all evaluated on every bar, none short-circuits another."""

import math
from typing import Final

from acmf_core.domain import BAR_US
from acmf_core.trading.bars import Bar, has_prices
from acmf_core.trading.compiled import compiled
from acmf_core.trading.exits import Record
from acmf_core.trading.params import RegimeRules, Rules
from acmf_core.trading.routing import Signal, reaches
from acmf_core.trading.sizing import Exposure, daily_drawdown, round_trip_cost
from acmf_core.trading.state import NEVER, SLOTS

GATES: Final = (  # bit k of a mask is GATES[k]
    "direction",
    "confidence",
    "cooldown",
    "capacity",
    "volume",
    "daily_drawdown",
    "loss_streak",
    "funding",
    "spread",
    "book",
    "data",
    "enabled",
)
ALL_GATES: Final = (1 << len(GATES)) - 1  # 4095: an entry is sent exactly there


@compiled
def cooled_down(state: Record, bar: Bar, limits: RegimeRules) -> bool:
    """Gate 2: enough bars since the last market decision or resting fill."""
    return bool(state.active == NEVER or bar.open_time - state.active >= limits.cooldown * BAR_US)


@compiled
def has_capacity(state: Record, held: Exposure, signal: Signal, limits: RegimeRules) -> bool:
    """Gate 3: fewer staying lots than the regime allows, none on the other side, leaving or not."""
    other_side = signal.side * state.lots[0].side < 0  # all lots are of one side, an empty slot's is 0
    full = state.n_lots == SLOTS  # live only: exits that the venue has not filled yet
    return bool((held.lots < limits.max_positions) & (not other_side) & (not full))


@compiled
def funding_is_sane(bar: Bar, side: int, rules: Rules) -> bool:
    """Gate 7: funding neither extreme nor expensive for this side; missing passes."""
    if math.isnan(bar.funding_bps):
        return True
    return (
        abs(bar.funding_bps) <= rules.max_funding_bps
        and side * bar.funding_bps <= rules.max_adverse_funding_bps
    )


@compiled
def spread_is_narrow(bar: Bar, rules: Rules) -> bool:
    """Gate 8; missing passes."""
    return math.isnan(bar.book_spread_bps) or bar.book_spread_bps <= rules.max_spread_bps


@compiled
def book_is_not_against(bar: Bar, side: int, rules: Rules) -> bool:
    """Gate 9; missing passes."""
    return math.isnan(bar.book_imbalance) or side * bar.book_imbalance >= -rules.max_adverse_imbalance


@compiled
def data_are_complete(bar: Bar) -> bool:
    """Gate 10: the caller's word, and everything finite that the kernel cannot do without."""
    return (
        bar.data_ok
        and has_prices(bar)
        and math.isfinite(bar.atr)
        and math.isfinite(bar.adx)
        and math.isfinite(bar.ema_distance)
        and math.isfinite(bar.atr_ratio)
        and math.isfinite(bar.vol_regime)
        and math.isfinite(bar.volume_ratio)
    )


@compiled
def target_pays(bar: Bar, limits: RegimeRules, rules: Rules) -> bool:
    """The reward of gate 11: the target is worth several round trips."""
    return bar.atr * limits.target_atr >= rules.reward_cost_multiple * round_trip_cost(bar.close, rules)


@compiled
def gate_mask(
    state: Record,
    held: Exposure,
    quantity: float,
    bar: Bar,
    signal: Signal,
    limits: RegimeRules,
    rules: Rules,
) -> int:
    """Twelve bits, 1 = passes. `quantity` is what sizing allows, 0 for none."""
    side = signal.side
    enabled = (
        not state.stopped
        and not bar.entries_off
        and state.equity > 0.0
        and quantity > 0.0
        and target_pays(bar, limits, rules)
    )
    mask = 0
    mask |= (side != 0) << 0
    mask |= reaches(signal.confidence, limits.min_confidence) << 1
    mask |= cooled_down(state, bar, limits) << 2
    mask |= has_capacity(state, held, signal, limits) << 3
    mask |= (bar.volume_ratio >= rules.min_volume_ratio) << 4
    mask |= (daily_drawdown(state) < rules.max_daily_drawdown) << 5
    mask |= (state.streak < rules.max_losses) << 6
    mask |= funding_is_sane(bar, side, rules) << 7
    mask |= spread_is_narrow(bar, rules) << 8
    mask |= book_is_not_against(bar, side, rules) << 9
    mask |= data_are_complete(bar) << 10
    mask |= enabled << 11
    return int(mask)


def gate_names(mask: int, *, passed: bool = False) -> tuple[str, ...]:
    """Names of the gates that a mask shows closed (or, with `passed`, open)."""
    return tuple(name for bit, name in enumerate(GATES) if bool(int(mask) >> bit & 1) is passed)
