"""What a notebook concludes, from computed values only: figures for its result file, sentences to read."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from acmf_core.domain import Check
from acmf_core.trading import SimulationResult
from backtests import story
from backtests.candidate import Candidate, HeldOut
from backtests.canvas import Sentences
from backtests.measures import directional_skill
from backtests.report import NAMES
from backtests.typography import number, percent, typeset

_COIN: Final = float(np.log(2))


def training_figures(candidate: Candidate, held_out: HeldOut) -> dict[str, Any]:
    """Of one training and the bars after it, plain values by name."""
    losses = held_out.losses["log_loss"].astype(float)
    stack, metrics = losses[candidate.fitted.config.calibration], held_out.simulation.metrics()
    return {
        "log_loss": float(stack),
        "log_loss_tabular_only": float(losses["tabular_only"]),
        "log_loss_class_prior": float(losses["class_prior"]),
        "beats_tabular_only": bool(stack < losses["tabular_only"]),
        "beats_class_prior": bool(stack < losses["class_prior"]),
        "trades_out_of_sample": int(metrics["trades"]),
        "return_out_of_sample": float(metrics["total_return"]),
    }


def record_figures(evidence: Mapping[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """Of a walk-forward record and the gate's word on it, plain values by name."""
    found = evidence["by_calibration"][evidence["calibration"]]["performance"]
    counted = story.asked(checks)
    return {
        "trades": int(found["trades"]),
        "total_return": float(found["total_return"]),
        "max_drawdown": float(found["max_drawdown"]),
        "checks_passed": sum(check.verdict is True for check in counted),
        "checks": len(counted),
    }


def training_conclusions(candidate: Candidate, held_out: HeldOut) -> Sentences:
    """What one training says, from its figures.

    Parameters
    ----------
    candidate : Candidate
    held_out : HeldOut
        Of `candidate.trade` on bars after its training window.
    """
    chosen = candidate.fitted.config.calibration
    rows = held_out.losses.astype(float).to_dict("index")
    sentences = [
        story.skill({"losses": rows, "calibration": chosen}),
        _side(
            directional_skill(held_out.by_calibration[chosen], held_out.labels),
            candidate.fitted.summary()["direction"] if chosen == "directional" else 1.0,
        ),
    ]
    days = (held_out.end - held_out.start) / pd.Timedelta(days=1)
    for name, simulation in held_out.simulations_by_calibration.items():
        sentences.append(f"{_capital(NAMES[name])}: {_traded(simulation, days)}")
    if held_out.simulation.trades.empty:
        sentences.append(story.no_trades().removesuffix(" Which gate kept it out is shown below."))
    sentences.append(
        "This is one window and one draw: whether it holds is asked fold by fold in 05_walk_forward."
    )
    return Sentences(tuple(typeset(sentence) for sentence in sentences))


def _side(found: Mapping[str, Any], kept: float) -> str:
    """What the choice of side was worth, against a coin and against noise."""
    if not np.isfinite(found["gain"]):
        return "Too few bars moved to say anything about direction."
    better = "better than" if found["gain"] > 0 else "no better than"
    noise = "above zero" if found["gain_lower"] > 0 else "not above zero, so it may be luck"
    lower = f"; its lower bound over resampled days is {found['gain_lower']:+.4f}, {noise}"
    return (
        f"On the {number(found['n'])} bars that moved, its choice of side is {better} a coin's (log-loss "
        f"{found['log_loss']:.4f} against {_COIN:.4f}, a gain of {found['gain']:+.4f} nats"
        f"{lower if found['gain'] > 0 else ''}). "
        f"Calibration kept {percent(kept, 0)} of its opinion on direction."
    )


def _traded(simulation: SimulationResult, days: float) -> str:
    found = simulation.metrics()
    if not found["trades"]:
        return f"no trade in {number(days)} days out of sample, so there is no return to speak of."
    word = "gained" if found["total_return"] >= 0 else "lost"
    return (
        f"{number(found['trades'])} trades in {number(days)} days out of sample {word} "
        f"{percent(abs(found['total_return']))} of the equity after costs; deepest fall "
        f"{percent(found['max_drawdown'])}."
    )


def record_conclusions(evidence: Mapping[str, Any], checks: Sequence[Check]) -> Sentences:
    """What the record is worth, from the evidence and the gate's word.

    Parameters
    ----------
    evidence : mapping
        `evidence.gather(result)`.
    checks : sequence of Check
        `production.promote.judge(evidence)`.
    """
    view = evidence["by_calibration"][evidence["calibration"]]
    word = story.verdict(evidence, view, checks, "")
    sentences = [f"{word.headline} {word.answer}", story.skill(evidence), word.margin]
    if not view["trades"]:
        sentences.append(story.no_trades().replace("below", "above"))
    more = f" {word.more} more are in the table." if word.more else ""
    verdict = "passes" if word.passed else "refuses"
    sentences.append(f"The gate {verdict} it ({story.tally(checks)}). {' '.join(word.reasons)}{more}")
    return Sentences(tuple(sentences))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
