"""The report: one self-contained HTML file, verdict first, readable by someone who was not there.

No network, no script: style and pictures are inside. Words come from `story`, rows from `tables`, pictures
from `figures`, all of it from the evidence; only curves and the list of trades are read from the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from acmf_core.domain import Check
from acmf_core.trading import SimulationResult
from backtests import figures, pages, story, tables
from backtests.figures import Line
from backtests.measures import equity_series
from backtests.returns import daily_returns, drawdown
from backtests.typography import DASH, day
from backtests.walk_forward import WalkForwardResult

COLUMNS_SHOWN: Final = 18  # of the feature importance
ENCODER: Final = "Mamba state (128 values)"
NAMES: Final = {
    "directional": "this model, fully calibrated",
    "temperature": "this model, temperature only",
    "tabular_only": "tabular-only model",
    "class_prior": "class shares of the past",
    "persistence": "the last outcome repeats",
    "logistic": "logistic, 5 features",
    "last_bar": "last bar only",
}
_CONTENTS: Final = (
    ("gate", "Checks"),
    ("equity", "Equity"),
    ("trades", "Trades"),
    ("funnel", "Gates"),
    ("predictions", "Predictions"),
    ("stress", "Costs"),
    ("luck", "Luck"),
    ("last", "Last block"),
    ("folds", "Folds"),
    ("settings", "Settings"),
    ("assumptions", "Assumptions"),
)


def write(
    result: WalkForwardResult,
    evidence: Mapping[str, Any],
    checks: Sequence[Check],
    path: str | Path,
    *,
    replay: Any = None,
    timings: Mapping[str, float] | None = None,
    alternatives: Mapping[str, Sequence[Check]] | None = None,
    override_reason: str = "",
    bundle: str = "",
) -> Path:
    """Write the report aside and rename it; returns its path.

    Parameters
    ----------
    result : WalkForwardResult
    evidence : mapping
        `evidence.gather(result)`.
    checks : sequence of Check
        The gate's word on it (`production.promote.judge`).
    replay : ReplayResult or mapping, optional
        Its cycles and differences are shown.
    timings : mapping, optional
        Seconds by part of the run.
    alternatives : mapping, optional
        The gate's word on the other calibrations, by name (`Assessment.alternatives`).
    override_reason, bundle : str
        Shown where given; `bundle` is a hash.
    """
    context = _context(result, evidence, checks, alternatives or {}, override_reason)
    return pages.write(
        "report.html",
        path,
        **context,
        run_rows=tables.run_rows(evidence, _plain(replay)),
        timings=timings or {},
        bundle=bundle,
    )


def _plain(replay: Any) -> Mapping[str, Any] | None:
    if replay is None:
        return None
    return asdict(replay) if is_dataclass(replay) and not isinstance(replay, type) else dict(replay)


def _context(
    result: WalkForwardResult,
    evidence: Mapping[str, Any],
    checks: Sequence[Check],
    alternatives: Mapping[str, Sequence[Check]],
    override_reason: str,
) -> dict[str, Any]:
    view = evidence["by_calibration"][evidence["calibration"]]
    lines = growth_lines(result)
    importance = gain_shares([fold.model for fold in result.folds])
    return {
        "e": evidence,
        "v": view,
        "subject": evidence["symbol"] or "market",
        "span": f"{day(evidence['data']['start'])} {DASH} {day(evidence['data']['end'])}",
        "verdict": story.verdict(evidence, view, checks, override_reason),
        "override_reason": override_reason,
        "checks": checks,
        "explained": story.EXPLAINED,
        "tiles": tables.tiles(evidence, view),
        "cards": tables.cards(evidence, {**alternatives, evidence["calibration"]: checks}),
        "calibration_note": story.calibration_note(),
        "no_trades": story.no_trades(),
        "skill_note": story.skill(evidence),
        "stop_note": story.stops(view),
        "encoder_share": dict(importance).get(ENCODER, 0.0),
        "luck": tables.luck(evidence, view),
        "months": tables.months(view["months"]),
        "stress": tables.stress(view["stress"]),
        "trades": tables.trades(result.simulation),
        "params": tables.params(result.folds[-1].params),
        "data_rows": tables.data_rows(evidence),
        "assumptions": story.ASSUMPTIONS,
        "contents": _CONTENTS,
        "lines": [_legend(line) for line in lines],
        "figures": _pictures(result, evidence, view, lines, importance),
    }


def _pictures(
    result: WalkForwardResult,
    evidence: Mapping[str, Any],
    view: Mapping[str, Any],
    lines: Sequence[Line],
    importance: Sequence[tuple[str, float]],
) -> dict[str, str]:
    """Every picture as SVG; empty where there is nothing to draw."""
    starts = [fold.test_start for fold in result.folds][1:]
    depth = [Line(line.name, drawdown(line.values, 1.0), line.colour, line.front) for line in lines[:2]]
    trades, kept, tuning = result.simulation.trades, view["reliability"], evidence["tuning"]
    scores = [(NAMES.get(name, name), row["log_loss"]) for name, row in evidence["losses"].items()]
    return {
        "equity": figures.equity(lines, starts),
        "drawdown": figures.drawdowns(depth),
        "funnel": figures.funnel(view["gates"]["gates"], view["gates"]["bars"]),
        "reliability": figures.reliability(kept["confidence"], kept["accuracy"], kept["count"]),
        "results": figures.results((trades["net"] / trades["risk"]).to_numpy()) if len(trades) else "",
        "losses": figures.losses(scores, NAMES[evidence["calibration"]]) if scores else "",
        "importance": figures.importance(importance[:COLUMNS_SHOWN]) if importance else "",
        "logits": "" if tuning["reason"] else figures.logits(tuning["logits"], tuning["logit_edges"]),
        "plateau": _plateau(result),
    }


def growth_lines(result: WalkForwardResult) -> list[Line]:
    """Daily growth of the model, the coin, the tabular-only model, and the other calibration."""
    start = float(result.bars.open[0])
    held = daily_returns(pd.Series(result.bars.close, index=result.bars.times), start)
    chosen = result.config.train.calibration
    lines = [
        Line(NAMES[chosen], _growth(result.simulation), figures.OWN, front=True),
        Line("holding the coin", (1 + held).cumprod(), figures.HOLD),
        Line(NAMES["tabular_only"], _growth(result.tabular_simulation), figures.RIVAL),
    ]
    if chosen != "directional":
        honest = result.simulations_by_calibration["directional"]
        lines.append(Line(NAMES["directional"], _growth(honest), figures.OTHER))
    return lines


def _growth(simulation: SimulationResult) -> pd.Series:
    start = simulation.initial_state.equity
    return (1 + daily_returns(equity_series(simulation), start)).cumprod()


def _legend(line: Line) -> dict[str, Any]:
    colour = figures.variable(line.colour)
    return {"name": line.name, "colour": colour, "total": float(line.values.iloc[-1]) - 1}


def gain_shares(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Mean share of the gain over some fits (`Fitted.summary()`), the hidden states taken together,
    largest first."""
    shares: dict[str, float] = {}
    for model in models:
        gains = model.get("importance", {})
        total = sum(gains.values())
        for name, gain in gains.items():
            key = ENCODER if name.startswith("hidden_") else name
            shares[key] = shares.get(key, 0.0) + gain / total / len(models)
    return sorted(shares.items(), key=lambda item: -item[1])


def _plateau(result: WalkForwardResult) -> str:
    trials = result.trial_scores
    known = {"score", "sharpe", "trades", "max_drawdown", "feasible"}
    names = [str(name) for name in trials.columns if name not in known and trials[name].nunique() > 1]
    if trials.empty or not names:
        return ""
    feasible = trials[trials["feasible"].astype(bool)]
    chosen = int(feasible["score"].idxmax()) if len(feasible) else 0
    return figures.plateau(trials, names, chosen)
