"""`gather`: plain, complete, repeatable, and honest where there is nothing to measure."""

import json
import math
from typing import Any

import pandas as pd
import pytest
from made_records import made_holdout, made_result

from acmf_core.trading import GATES
from backtests.evidence import gather, tuning_luck
from backtests.measures import held_out
from backtests.walk_forward import WalkForwardResult


@pytest.fixture(scope="module")
def noise() -> WalkForwardResult:
    return made_result(days=90, skill=0.0)


@pytest.fixture(scope="module")
def evidence(noise: WalkForwardResult) -> dict[str, Any]:
    return gather(noise, holdout=made_holdout(noise), symbol="BTCUSDT")


def test_the_evidence_is_plain_json_without_nan_and_comes_back_as_it_went(evidence: dict[str, Any]) -> None:
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


def test_the_same_result_gives_the_same_evidence(noise: WalkForwardResult, evidence: dict[str, Any]) -> None:
    before = noise.probabilities.copy()
    assert gather(noise, holdout=made_holdout(noise), symbol="BTCUSDT") == evidence
    pd.testing.assert_frame_equal(noise.probabilities, before)


def test_every_baseline_and_both_calibrations_are_scored_on_the_same_bars(evidence: dict[str, Any]) -> None:
    names = {
        "directional",
        "temperature",
        "class_prior",
        "persistence",
        "tabular_only",
        "logistic",
        "last_bar",
    }
    assert set(evidence["losses"]) == names
    assert len({scores["n"] for scores in evidence["losses"].values()}) == 1


def test_the_figures_of_the_record_are_those_of_the_kernel(
    noise: WalkForwardResult, evidence: dict[str, Any]
) -> None:
    found = evidence["by_calibration"]["temperature"]
    metrics = noise.simulation.metrics()
    assert evidence["trades"] == found["trades"] == metrics["trades"]
    assert found["sharpe"]["annual"] == pytest.approx(metrics["sharpe_daily_annualised"], rel=1e-9)
    assert found["performance"]["net"] == metrics["net"]
    assert found["costs"]["net"] == pytest.approx(noise.simulation.trades["net"].sum())
    compounded = math.prod(1 + r for r in found["daily"]["return"]) - 1
    assert compounded == pytest.approx(metrics["total_return"], rel=1e-9)
    assert sum(found["months"]["growth"]) == pytest.approx(math.log1p(metrics["total_return"]))


def test_the_funnel_ends_at_the_entries_and_never_widens(evidence: dict[str, Any]) -> None:
    funnel = evidence["by_calibration"]["temperature"]["gates"]
    left = [row["left"] for row in funnel["gates"]]
    assert [row["gate"] for row in funnel["gates"]] == list(GATES)
    assert left == sorted(left, reverse=True)
    assert left[-1] == funnel["entries"]
    assert all(row["alone"] <= row["closed"] or row["gate"] == "direction" for row in funnel["gates"])


def test_regimes_exits_and_sides_each_account_for_every_trade(evidence: dict[str, Any]) -> None:
    found = evidence["by_calibration"]["temperature"]
    for table in ("regimes", "exits", "sides"):
        assert sum(row["trades"] for row in found[table]) == found["trades"]
        assert sum(row["net"] for row in found[table]) == pytest.approx(found["costs"]["net"])
    assert sum(row["share"] for row in found["regimes"]) == pytest.approx(1.0)


def test_entries_without_a_book_are_counted_as_such(evidence: dict[str, Any]) -> None:
    found = evidence["by_calibration"]["temperature"]
    assert found["book"]["spread"] == found["book"]["book"] == found["gates"]["entries"] > 0


def test_the_plain_cell_of_the_stress_grid_is_the_record_itself(evidence: dict[str, Any]) -> None:
    found = evidence["by_calibration"]["temperature"]
    (plain,) = [
        row
        for row in found["stress"]["rows"]
        if (row["fee"], row["slippage"], row["delay"], row["funding"]) == (1.0, 1.0, 0, 1.0)
    ]
    assert plain["net"] == pytest.approx(found["performance"]["net"], rel=1e-12)
    assert found["stress"]["break_even"]["cost_bps"] == pytest.approx(7.0, rel=1e-3)


def test_sources_that_no_fold_saw_are_named(evidence: dict[str, Any]) -> None:
    assert evidence["data"]["sources_never_seen"] == ["book", "news", "onchain"]


def test_calibration_uses_every_ninth_prediction_because_labels_of_eight_bars_overlap(
    evidence: dict[str, Any],
) -> None:
    found = evidence["by_calibration"]["temperature"]["reliability"]
    assert found["every"] == 9
    assert found["n"] == sum(found["count"])
    assert found["n"] == pytest.approx(90 * 96 / 9, rel=0.02)


def test_without_a_single_trade_every_part_says_so_and_nothing_is_invented(
    evidence: dict[str, Any],
) -> None:
    found = evidence["by_calibration"]["directional"]
    assert found["trades"] == 0
    for part in ("sharpe", "stress"):
        assert "no trades" in found[part]["reason"]
    assert found["sharpe"]["dsr"] is None
    assert all(test["p"] is None and "no trades" in test["reason"] for test in found["superior"].values())
    assert found["months"]["best_share"] is None
    assert found["performance"]["total_return"] == 0.0
    assert found["gates"]["entries"] == 0
    assert found["direction"]["log_loss"] is not None  # predictions exist without trades


def test_tuning_trials_that_never_traded_give_a_reason_instead_of_a_probability(
    noise: WalkForwardResult,
) -> None:
    returns = noise.trial_returns
    assert "none of 12 tuning trials made a trade" in tuning_luck(returns * 0.0)["reason"]
    assert "groups" in tuning_luck(returns.iloc[:5])["reason"]
    found = tuning_luck(returns)
    assert found["reason"] == ""
    assert sum(found["logits"]) == found["splits"]


def test_a_last_block_far_below_the_record_contradicts_it_and_a_like_one_does_not(
    noise: WalkForwardResult,
) -> None:
    good = made_result(days=60, skill=1.2)
    bad, same = (made_holdout(good, skill=skill) for skill in (0.0, 1.2))
    assert held_out(good.simulation, bad, "temperature", 20, 7)["contradicts"] is True
    assert held_out(good.simulation, same, "temperature", 20, 7)["contradicts"] is False
    assert "not touched" in held_out(noise.simulation, None, "temperature", 20, 7)["reason"]
    assert "set aside" in held_out(noise.simulation, None, "temperature", 0, 7)["reason"]


def test_buy_and_hold_is_the_price_itself(noise: WalkForwardResult, evidence: dict[str, Any]) -> None:
    close, opened = noise.bars.close, noise.bars.open
    assert evidence["buy_and_hold"]["total_return"] == pytest.approx(close[-1] / opened[0] - 1)
