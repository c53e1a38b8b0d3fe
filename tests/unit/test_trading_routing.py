"""Probabilities -> signal, on and beside every boundary."""

import math

import pytest

from acmf_core.errors import InvalidPrediction
from acmf_core.trading import NO_SIGNAL, TradeParams, route


@pytest.mark.parametrize(
    ("p_long", "p_short", "confidence"), [(0.3, 0.2, 0.40), (0.4, 0.2, 0.50), (0.6, 0.2, 0.625)]
)
def test_the_articles_three_confidences_are_exact_at_exact_ratios(p_long, p_short, confidence):
    signal = route(p_long, p_short, 1 - p_long - p_short, TradeParams())
    assert signal.confidence == pytest.approx(confidence, abs=1e-15)


def test_confidence_is_exact_where_the_ratio_is_exact_in_binary():
    assert route(0.375, 0.25, 0.375, TradeParams()).confidence == 0.40
    assert route(0.5, 0.25, 0.25, TradeParams()).confidence == 0.50
    assert route(0.75, 0.25, 0.0, TradeParams()).confidence == 0.625
    assert route(0.25, 0.75, 0.0, TradeParams()).confidence == 0.625


@pytest.mark.parametrize(
    ("p_long", "p_short", "side"),
    [
        (0.15, 0.10, 1),  # 1.4999999999999998 and 0.04999999999999999 in float64: both must count
        (0.10, 0.15, -1),
        (0.30, 0.20, 1),  # ratio on the boundary, spread wide
        (0.2999, 0.20, 0),  # ratio just below
        (0.10, 0.05, 1),  # spread on the boundary, ratio 2
        (0.09, 0.045, 0),  # ratio 2, spread below
        (0.149999, 0.10, 0),
        (0.15, 0.100001, 0),
        (0.3, 0.3, 0),
        (0.05, 0.0, 1),  # opposite 0: the ratio is infinite
        (0.04, 0.0, 0),
        (0.0, 0.0, 0),
    ],
)
def test_a_signal_is_directional_at_the_boundary_and_not_below(p_long, p_short, side):
    assert route(p_long, p_short, 1.0 - p_long - p_short, TradeParams()).side == side


def test_a_ratio_with_nothing_below_it_is_infinite_and_fully_confident():
    signal = route(0.3, 0.0, 0.7, TradeParams())
    assert (signal.ratio, signal.confidence) == (math.inf, 1.0)


def test_two_zeros_have_ratio_one():
    signal = route(0.0, 0.0, 1.0, TradeParams())
    assert (signal.side, signal.ratio, signal.confidence) == (0, 1.0, 0.25)


def test_equal_chances_are_neutral_whatever_the_params():
    generous = TradeParams(min_ratio=1.0, min_spread=0.0)
    assert route(0.4, 0.4, 0.2, generous).side == 0
    assert route(0.41, 0.40, 0.19, generous).side == 1


def test_a_neutral_signal_keeps_its_confidence():
    signal = route(0.31, 0.29, 0.40, TradeParams())
    assert signal.side == 0
    assert signal.confidence == pytest.approx(1 - 1.5 / (0.31 / 0.29 + 1))


def test_tuning_the_routing_threshold_does_not_move_confidence():
    assert (
        route(0.5, 0.2, 0.3, TradeParams(min_ratio=1.1)).confidence
        == route(0.5, 0.2, 0.3, TradeParams(min_ratio=2.4)).confidence
    )
    assert route(0.5, 0.2, 0.3, TradeParams(min_ratio=2.6)).side == 0


def test_the_largest_of_the_three_is_reported():
    assert route(0.2, 0.1, 0.7, TradeParams()).max_probability == 0.7
    assert route(0.2, 0.45, 0.35, TradeParams()).max_probability == 0.45


@pytest.mark.parametrize(
    "triple",
    [
        (math.nan, 0.5, 0.5),
        (math.nan, math.nan, math.nan),
        (-0.1, 0.6, 0.5),
        (0.5, 0.5, 0.0002),
        (0.5, 0.4998, 0.0),
        (math.inf, 0.0, 0.0),
    ],
)
def test_what_is_no_probability_is_refused(triple):
    with pytest.raises(InvalidPrediction):
        route(*triple, TradeParams())


def test_a_sum_off_by_rounding_is_accepted():
    assert route(0.50005, 0.2, 0.3, TradeParams()).side == 1


def test_no_prediction_has_no_side_and_no_confidence():
    assert (NO_SIGNAL.side, NO_SIGNAL.confidence) == (0, 0.0)
    assert math.isnan(NO_SIGNAL.max_probability)
