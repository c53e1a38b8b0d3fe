"""What a training did, in plain values for people and reports."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from acmf_core.domain import DAY_US, Label
from acmf_core.features import Features, Schema
from acmf_core.models.baselines import Baselines
from acmf_core.models.booster import optional_groups
from acmf_core.models.calibration import Kind
from acmf_core.models.problem import Problem
from acmf_core.models.scores import log_loss
from acmf_core.models.stack import Stack

Float32Array = NDArray[np.float32]


def summarise(
    problem: Problem,
    stack: Stack,
    baselines: Baselines,
    hidden: Float32Array,
    epochs: list[dict[str, float]],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Figures of one training; losses on C are in-sample by the two numbers of the calibration."""
    schema = problem.features.schema
    return {
        "profile": problem.config.profile,
        "days": (problem.cuts.end - problem.cuts.start) / DAY_US,
        "k": problem.k,
        "rows": {name: len(block.rows) for name, block in problem.blocks.items()},
        "class_balance": {
            name: (np.bincount(block.y, minlength=len(Label)) / len(block.y)).tolist()
            for name, block in problem.blocks.items()
        },
        "spans": {name: [span.start, span.end] for name, span in problem.spans.items()},
        "selected": [schema.tabular[i] for i in stack.selected],
        "sources_never_seen": sources_never_seen(problem, schema),
        "temperature": stack.calibration.temperature,
        "direction": stack.calibration.direction,
        "rounds": stack.booster.num_boosted_rounds(),
        "importance": importance(stack),
        "encoder_epochs": epochs,
        "losses_on_c": _losses(problem, stack, baselines, hidden),
        "losses_on_c_without": _losses_without(problem, stack, hidden),
        "seconds": {**seconds, "total": sum(seconds.values())},
    }


def importance(stack: Stack) -> dict[str, float]:
    """Total gain of each input the booster splits on, the largest first."""
    gains: dict[str, float] = {
        name: float(gain)
        for name, gain in stack.booster.get_score(importance_type="total_gain").items()
        if isinstance(gain, float)
    }
    return dict(sorted(gains.items(), key=lambda item: -item[1]))


def sources_never_seen(problem: Problem, schema: Schema) -> list[str]:
    """Sources of which A and B hold not one value."""
    rows = problem.blocks["A"].joined(problem.blocks["B"]).rows
    seen = set(np.flatnonzero(~np.isnan(problem.tabular[rows]).all(axis=0)).tolist())
    return [
        source
        for source, columns in schema.sources.items()
        if not any(schema.tabular.index(name) in seen for name in columns)
    ]


def _losses(problem: Problem, stack: Stack, baselines: Baselines, hidden: Float32Array) -> dict[str, float]:
    """Log-loss on C of the stack with either calibrator, the encoder's own head and every baseline."""
    c, features = problem.blocks["C"], problem.features
    on_c = Features(features.sequence.iloc[c.rows], features.tabular.iloc[c.rows], features.schema)
    with torch.inference_mode():
        logits = stack.encoder.logits(torch.from_numpy(hidden[c.rows])).double()
    kinds: dict[str, Kind] = {"stack": "directional", "stack_temperature": "temperature"}
    answers = {
        name: stack.probabilities(hidden[c.rows], problem.tabular[c.rows], kind)
        for name, kind in kinds.items()
    }
    answers["encoder_head"] = torch.softmax(logits, dim=-1).numpy()
    for name, frame in baselines.predict(on_c, problem.candles, "directional").items():
        answers[name] = frame.to_numpy()
    return {name: log_loss(p, c.y, c.weight) for name, p in answers.items()}


def _losses_without(problem: Problem, stack: Stack, hidden: Float32Array) -> dict[str, float]:
    """Log-loss of the stack on C with each optional source group off, where the model reads any of it."""
    c, losses = problem.blocks["C"], {}
    for group, columns in optional_groups(problem.features.schema).items():
        if set(columns.tolist()) & set(stack.selected):
            table = problem.tabular[c.rows]
            table[:, columns] = np.nan
            p = stack.probabilities(hidden[c.rows], table, "directional")
            losses[group] = log_loss(p, c.y, c.weight)
    return losses
