"""TradeParams: defaults of the design, validation, plain values, and the compiled form."""

import json
import math
from dataclasses import FrozenInstanceError

import pytest

from acmf_core.domain import SymbolRules
from acmf_core.errors import ConfigError
from acmf_core.trading import TradeParams


def test_the_defaults_are_those_of_the_design():
    p = TradeParams()
    assert (p.min_ratio, p.min_spread, p.opposite_min_confidence) == (1.5, 0.05, 0.40)
    assert p.min_confidence == (0.45, 0.55, 0.60)
    assert p.cooldown == (2, 4, 6)
    assert p.max_positions == (3, 2, 1)
    assert (p.stop_atr, p.target_atr, p.trail_atr) == ((2, 1.5, 2.5), (3, 2, 3.5), (1.5, 1, 2))
    assert p.time_exit == (16, 12, 8)
    assert (p.risk_per_trade, p.max_leverage, p.max_open_risk) == (0.015, 3, 0.045)
    assert (p.max_losses, p.max_daily_drawdown, p.fee_bps, p.slippage_bps) == (3, 0.05, 5, 2)
    assert (p.min_probability, p.low_probability_bars, p.resume_after, p.streak_action) == (
        0.35,
        5,
        96,
        "kill",
    )
    assert (p.min_volume_ratio, p.max_funding_bps, p.max_adverse_funding_bps) == (0.5, 10, 3)
    assert (p.max_spread_bps, p.max_adverse_imbalance, p.reward_cost_multiple) == (5, 0.85, 3)
    assert (p.tick, p.step, p.min_quantity, p.min_notional, p.max_market_quantity) == (
        0.1,
        0.001,
        0.001,
        100,
        120,
    )
    assert p.cost_in_risk is False


def test_params_are_frozen():
    with pytest.raises(FrozenInstanceError):
        TradeParams().min_ratio = 2.0


def test_plain_values_come_back_exactly_and_name_the_same_set():
    p = TradeParams(min_ratio=1.7, cooldown=(1, 2, 3), resume_after=None, cost_in_risk=True)
    again = TradeParams.from_dict(json.loads(json.dumps(p.to_dict())))
    assert again == p
    assert again.fingerprint == p.fingerprint
    assert again.fingerprint != TradeParams().fingerprint


def test_whole_numbers_and_their_floats_are_the_same_set():
    assert TradeParams(max_leverage=3, cooldown=(2.0, 4, 6)).fingerprint == TradeParams().fingerprint


def test_an_unknown_name_is_refused_with_the_nearest_known():
    with pytest.raises(
        ConfigError, match=r'unknown trading parameter "min_ration".*did you mean "min_ratio"'
    ):
        TradeParams.from_dict({"min_ration": 1.5})


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"min_ratio": 0.9}, "min_ratio is 0.9, must be >= 1"),
        ({"min_ratio": math.nan}, "min_ratio is nan, not a finite number"),
        ({"risk_per_trade": 0.0}, "risk_per_trade is 0.0, must be > 0 and <= 1"),
        ({"max_positions": (4, 2, 1)}, "max_positions is 4, must be >= 1 and <= 3"),
        ({"cooldown": (1.5, 2, 3)}, "cooldown is 1.5, not a whole number"),
        ({"stop_atr": (2.0, 1.5)}, "not three values"),
        ({"stop_atr": 2.0}, "not three values"),
        ({"fee_bps": "5"}, "fee_bps is '5', not a finite number"),
        ({"fee_bps": True}, "fee_bps is True, not a finite number"),
        ({"cost_in_risk": 1}, "cost_in_risk is 1, not true or false"),
        ({"streak_action": "stop"}, "streak_action is 'stop'"),
        ({"streak_action": "pause", "resume_after": None}, "would never end"),
        ({"resume_after": 0}, "resume_after is 0, must be >= 1"),
        ({"step": 0.0}, "step is 0.0, must be > 0"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_cause_and_mend(values, cause):
    with pytest.raises(ConfigError) as refusal:
        TradeParams(**values)
    assert cause in refusal.value.cause
    assert refusal.value.fix


def test_the_venues_filters_replace_the_defaults():
    p = TradeParams().with_rules(SymbolRules("ETHUSDT", 0.01, 0.002, 0.004, 20.0, 2000.0))
    assert (p.tick, p.step, p.min_quantity, p.min_notional, p.max_market_quantity) == (
        0.01,
        0.002,
        0.004,
        20,
        2000,
    )
    assert p.diff(TradeParams()).keys() == {
        "tick",
        "step",
        "min_quantity",
        "min_notional",
        "max_market_quantity",
    }


def test_a_diff_names_mine_and_the_other():
    assert TradeParams(max_losses=5).diff(TradeParams()) == {"max_losses": (5, 3)}
    assert TradeParams().diff(TradeParams()) == {}


def test_a_set_prints_as_a_table_that_marks_what_was_changed():
    p = TradeParams(max_losses=5)
    assert "<tr><td>max_losses</td><td><b>5</b></td><td>3</td></tr>" in p._repr_html_()
    assert "max_losses               5" in str(p)
    assert "min_confidence           0.45, 0.55, 0.6" in str(p)


def test_the_compiled_form_holds_fractions_and_one_group_per_regime():
    rules = TradeParams(resume_after=None).rules
    assert rules.fee == pytest.approx(0.0005, rel=1e-15)
    assert rules.slippage == pytest.approx(0.0002, rel=1e-15)
    assert rules.resume_after == 0
    assert rules.pause_on_losses is False
    assert rules.regimes[2] == (0.60, 6, 1, 2.5, 3.5, 2.0, 8)
