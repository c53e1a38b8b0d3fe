"""Each of the twelve checks at, below and above its bound; what cannot be computed never passes."""

import copy
from typing import Any

import numpy as np
import pytest

from acmf_core.domain import Check
from acmf_core.errors import ModelNotReady
from production.gate import PAPER_RECORD, judge, paired_difference, passed, required, summary


class Intact:
    hash = "a" * 64


REPLAY = {"cycles": 2880, "trades": 3, "differences": 0, "seconds": 1.0}
PAPER = {"days": 14, "differences": 0, "median_bps": 4.0, "p95_bps": 15.0}


def good_evidence() -> dict[str, Any]:
    """Evidence that passes everything, by a little."""
    rng = np.random.default_rng(0)
    days = [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(112)]
    return {
        "calibration": "directional",
        "losses": {
            "directional": {"log_loss": 0.95},
            "class_prior": {"log_loss": 0.97},
            "persistence": {"log_loss": 0.98},
            "tabular_only": {"log_loss": 0.96},
        },
        "tuning": {
            "reason": "", "splits": 12870, "trials": 20, "loss_probability": 0.05, "pbo": 0.2,
            "dispersion_p": 0.01, "in_sample_dsr": 0.99,
        },
        "by_calibration": {
            "directional": {
                "trades": 100,
                "sharpe": {
                    "reason": "", "days": 112, "annual": 9.0, "dsr": 0.95, "evaluations": 3,
                    "min_track_days": 40.0,
                },
                "holdout": {"reason": "", "contradicts": False, "days": 20},
                "superior": {
                    "flat": {"p": 0.05, "reason": ""},
                    "tabular_only": {"p": 0.01, "reason": ""},
                },
                "direction": {"gain": 0.001, "gain_lower": 0.0002},
                "stress": {
                    "reason": "",
                    "double_cost": {"net": 1.0, "total_return": 0.0001},
                    "one_bar_late": {"net": 5.0, "total_return": 0.0005},
                    "break_even": {"gross_bps": 20.0, "cost_bps": 7.0},
                },
                "reliability": {"ece": 0.04, "quantile": 0.04, "every": 9, "n": 1000},
                "months": {"best_share": 0.5, "month": ["2024-01", "2024-02", "2024-03", "2024-04"]},
                "daily": {"day": days, "return": rng.normal(0.005, 0.01, 112).tolist()},
            }
        },
    }  # fmt: skip


def checks(evidence: dict[str, Any], **given: Any) -> dict[str, Check]:
    found = judge(evidence, **({"bundle": Intact(), "replay": REPLAY} | given))
    assert len(found) == 12
    return {check.name: check for check in found}


def view(evidence: dict[str, Any]) -> dict[str, Any]:
    return evidence["by_calibration"]["directional"]


def test_evidence_just_inside_every_bound_passes_for_paper() -> None:
    found = judge(good_evidence(), bundle=Intact(), replay=REPLAY)
    assert passed(found)
    assert summary(found) == "all 11 checks passed"
    assert not passed(found, live=True)


def test_for_live_the_paper_record_counts_too() -> None:
    found = judge(good_evidence(), bundle=Intact(), replay=REPLAY, live=True, paper=PAPER)
    assert passed(found, live=True)
    assert len(required(found, live=True)) == 12
    for worse in ({"days": 13}, {"differences": 1}, {"median_bps": 5.1}, {"p95_bps": 15.1}):
        refused = judge(good_evidence(), bundle=Intact(), replay=REPLAY, live=True, paper=PAPER | worse)
        assert not passed(refused, live=True)


def _spoil(path: str, value: Any) -> dict[str, Any]:
    evidence = copy.deepcopy(good_evidence())
    where: Any = evidence
    *folders, leaf = path.split("/")
    for folder in folders:
        where = where[folder]
    where[leaf] = value
    return evidence


V = "by_calibration/directional"


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (f"{V}/trades", 99, "out-of-sample trades"),
        (f"{V}/sharpe/dsr", 0.9499, "deflated Sharpe"),
        (f"{V}/holdout/contradicts", True, "deflated Sharpe"),
        ("tuning/loss_probability", 0.051, "overfitting"),
        ("tuning/pbo", 0.21, "overfitting"),
        (f"{V}/superior/flat/p", 0.051, "superior ability"),
        (f"{V}/superior/tabular_only/p", 0.2, "superior ability"),
        ("losses/tabular_only/log_loss", 0.95, "predictive skill"),
        ("losses/class_prior/log_loss", 0.94, "predictive skill"),
        (f"{V}/direction/gain_lower", 0.0, "predictive skill"),
        (f"{V}/stress/double_cost/net", 0.0, "costs and delay"),
        (f"{V}/stress/one_bar_late/net", -1.0, "costs and delay"),
        (f"{V}/reliability/ece", 0.0401, "calibration"),
        (f"{V}/months/best_share", 0.51, "spread over months"),
        (f"{V}/months/best_share", None, "spread over months"),
    ],
)
def test_one_figure_outside_its_bound_fails_its_check_and_only_that(path: str, value: Any, name: str) -> None:
    found = checks(_spoil(path, value))
    assert found[name].verdict is False
    rest = [check.verdict for other, check in found.items() if other not in (name, PAPER_RECORD)]
    assert all(verdict is True for verdict in rest)
    assert not passed(list(found.values()))
    assert name in summary(list(found.values()))


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (
            f"{V}/sharpe",
            {"reason": "no trades", "days": 112, "dsr": None, "min_track_days": None},
            "deflated Sharpe",
        ),
        (f"{V}/holdout", {"reason": "not touched yet", "contradicts": None}, "deflated Sharpe"),
        ("tuning/reason", "none of 20 trials traded", "overfitting"),
        (f"{V}/superior/flat", {"p": None, "reason": "no trades"}, "superior ability"),
        (f"{V}/direction", {"gain": None, "gain_lower": None}, "predictive skill"),
        (f"{V}/stress", {"reason": "no trades", "rows": []}, "costs and delay"),
        (f"{V}/reliability", {"ece": None, "quantile": None}, "calibration"),
    ],
)
def test_what_cannot_be_computed_is_unknown_says_why_and_is_no_pass(path: str, value: Any, name: str) -> None:
    found = checks(_spoil(path, value))
    assert found[name].verdict is None
    assert found[name].detail
    assert not passed(list(found.values()))
    assert "could not be computed" in summary(list(found.values()))


def test_without_trades_no_month_can_have_made_a_profit() -> None:
    found = checks(_spoil(f"{V}/trades", 0))
    assert found["out-of-sample trades"].verdict is False
    assert found["spread over months"].verdict is None


def test_pbo_counts_only_where_the_trials_truly_differ() -> None:
    evidence = _spoil("tuning/pbo", 0.55)
    evidence["tuning"]["dispersion_p"] = 0.4
    found = checks(evidence)["overfitting"]
    assert found.verdict is True
    assert "do not truly differ" in found.detail


def test_a_small_sample_may_show_a_larger_calibration_error_but_never_a_free_pass() -> None:
    small = _spoil(f"{V}/reliability", {"ece": 0.15, "quantile": 0.18, "every": 9, "n": 50})
    assert checks(small)["calibration"].verdict is True
    large = _spoil(f"{V}/reliability", {"ece": 0.029, "quantile": 0.01, "every": 9, "n": 9000})
    assert checks(large)["calibration"].verdict is True
    assert checks(large)["calibration"].bound == "<= 0.0300"


def test_a_bundle_that_failed_to_load_fails_with_the_reason_it_gave() -> None:
    found = checks(good_evidence(), bundle=ModelNotReady("booster.ubj was changed", "train again"))
    assert found["bundle intact"].verdict is False
    assert found["bundle intact"].detail == "booster.ubj was changed"
    assert checks(good_evidence(), bundle=None)["bundle intact"].verdict is None


def test_a_replay_must_be_long_enough_and_without_a_difference() -> None:
    assert checks(good_evidence(), replay=None)["replay parity"].verdict is None
    assert checks(good_evidence(), replay=REPLAY | {"cycles": 2879})["replay parity"].verdict is None
    assert checks(good_evidence(), replay=REPLAY | {"differences": 1})["replay parity"].verdict is False
    short_and_wrong = REPLAY | {"cycles": 10, "differences": 2}
    assert checks(good_evidence(), replay=short_and_wrong)["replay parity"].verdict is False


def test_a_replay_of_another_bundle_proves_nothing_for_this_one() -> None:
    mine, other = REPLAY | {"bundle": Intact.hash}, REPLAY | {"bundle": "b" * 64}
    assert checks(good_evidence(), replay=mine)["replay parity"].verdict is True
    refused = checks(good_evidence(), replay=other)["replay parity"]
    assert refused.verdict is False
    assert "bbbbbbbbbbbb" in refused.figure


def test_the_challenger_must_beat_the_champion_on_the_days_they_share() -> None:
    name = "against the champion"
    worse, same = good_evidence(), good_evidence()
    view(worse)["daily"]["return"] = [r - 0.004 for r in view(worse)["daily"]["return"]]
    assert checks(good_evidence(), champion=worse)[name].verdict is True
    assert checks(worse, champion=good_evidence())[name].verdict is False
    assert checks(good_evidence(), champion=same)[name].verdict is False
    other_days = good_evidence()
    view(other_days)["daily"]["day"] = [f"2020-01-{i:03d}" for i in range(112)]
    assert checks(good_evidence(), champion=other_days)[name].verdict is None
    assert checks(good_evidence(), champion={})[name].verdict is None


def test_the_paired_bootstrap_finds_an_edge_and_not_noise() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.02, 200)
    assert paired_difference(base + 0.002 + rng.normal(0, 0.004, 200), base)[1] > 0
    assert paired_difference(base + rng.normal(0, 0.004, 200), base)[1] < 0


def test_evidence_that_is_empty_or_of_another_calibration_leaves_nothing_to_pass() -> None:
    for found in (
        judge({}, bundle=Intact()),
        judge(good_evidence(), bundle=Intact(), calibration="temperature"),
    ):
        assert len(found) == 12
        assert [check.verdict for check in found[1:9]] == [None] * 8
        assert not passed(found)


def test_the_whole_machine_says_no_to_noise_and_yes_to_a_planted_edge() -> None:
    from made_records import made_holdout, made_result

    from backtests.evidence import gather

    planted = made_result(days=90, skill=0.8, calibration="directional")
    evidence = gather(planted, holdout=made_holdout(planted, skill=0.8))
    evidence["by_calibration"]["directional"]["reliability"]["ece"] = 0.01  # its scores are no probabilities
    assert passed(judge(evidence, bundle=Intact(), replay=REPLAY))
    noise = made_result(days=90, skill=0.0)
    refused = judge(gather(noise, holdout=made_holdout(noise)), bundle=Intact(), replay=REPLAY)
    assert sum(check.verdict is False for check in refused) >= 5
