"""Training: encoder on A, booster on frozen hidden states of B, early stopping and calibration on C.

The booster never sees a hidden state of a bar that the encoder learned from, and nothing here reads a bar
that opens at or after `end`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
import xgboost as xgb
from numpy.typing import NDArray

from acmf_core.config import TrainConfig
from acmf_core.domain import PROBABILITIES, Label, Span
from acmf_core.features import Features
from acmf_core.models import baselines as base
from acmf_core.models.baselines import Baselines
from acmf_core.models.booster import drop_sources, margins, optional_groups, select, train_booster
from acmf_core.models.calibration import Kind, fit_calibration
from acmf_core.models.checkpoint import Stages
from acmf_core.models.encoder import Encoder, Progress, Targets, one_thread, train_encoder, windows_ending
from acmf_core.models.problem import Block, Problem, prepare
from acmf_core.models.record import summarise
from acmf_core.models.stack import Stack, hidden_states, stacked

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

TUNING_PARTS: Final = 3  # parts of B predicted by a booster that has seen only what came before
GOLDEN_ROWS: Final = 32
_HELD_OUT_SHARE: Final = 0.15  # tail of A that picks the encoder's epoch
_BOOSTERS: Final = TUNING_PARTS + 3  # steps of the progress stage "stack"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained stack with its baselines and the record of its training.

    Attributes
    ----------
    stack : Stack
    baselines : Baselines
    config : TrainConfig
    spans : dict of Span
        Labels seen by each block: A, B, C.
    window : Span
        [start, end) as it was asked for.
    k : float or None
        Multiple of sigma of the volatility labels, set on A.
    golden : dict of arrays
        32 bars of C: windows, tabular features.
    tuning_margins : DataFrame (n, 3)
        Scores before calibration, see `tuning_predictions`.
    """

    stack: Stack
    baselines: Baselines
    config: TrainConfig
    spans: dict[str, Span]
    window: Span
    k: float | None
    golden: dict[str, NDArray[Any]]
    tuning_margins: pd.DataFrame
    record: dict[str, Any] = field(repr=False)

    def predict(self, features: Features, calibration: Kind | None = None) -> pd.DataFrame:
        """Probabilities (n, 3) of every row; NaN where the window is not complete."""
        return self.stack.predict(features, calibration or self.config.calibration)

    def baseline_predictions(
        self, features: Features, candles: pd.DataFrame, calibration: Kind | None = None
    ) -> dict[str, pd.DataFrame]:
        """class_prior, persistence, tabular_only, logistic, last_bar: probabilities (n, 3) each."""
        return self.baselines.predict(features, candles, calibration or self.config.calibration)

    @property
    def tuning_predictions(self) -> pd.DataFrame:
        """Probabilities (n, 3) for tuning trading parameters: B forward-chained, then C; never D.

        B is cut in four; each of the last three parts is predicted by a booster that has seen only the
        parts before it. C is predicted by the final booster. The calibrator is the final one.
        """
        return self.tuning(self.config.calibration)

    def tuning(self, calibration: Kind) -> pd.DataFrame:
        """`tuning_predictions` with either calibrator."""
        p = self.stack.calibration.probabilities(self.tuning_margins.to_numpy(), calibration)
        return pd.DataFrame(p, index=self.tuning_margins.index, columns=list(PROBABILITIES))

    def summary(self) -> dict[str, Any]:
        """What happened, as plain values: k, class balance, selected columns, losses on C, seconds."""
        return dict(self.record)

    def _repr_html_(self) -> str:
        losses = sorted(self.record["losses_on_c"].items(), key=lambda item: item[1])
        rows = "".join(f"<tr><td>{name}</td><td>{loss:.4f}</td></tr>" for name, loss in losses)
        unseen = ", ".join(self.record["sources_never_seen"]) or "none"
        return (
            f"<p>trained on {self.record['days']:.0f} days ({self.config.profile} profile), "
            f"direction scaled by {self.stack.calibration.direction:.2f}; sources never seen: {unseen}</p>"
            f"<table><tr><th>model</th><th>log-loss on C</th></tr>{rows}</table>"
        )

    def save(
        self,
        path: str | Path,
        *,
        params: Mapping[str, Any],
        evidence: Mapping[str, Any],
        lake_versions: Mapping[str, Any],
        commit: str = "",
    ) -> Path:
        """Write the bundle directory (`bundle.py`), aside and renamed; returns its path."""
        from acmf_core.models.bundle import write

        return write(
            self, Path(path), params=params, evidence=evidence, lake_versions=lake_versions, commit=commit
        )


def fit(
    features: Features,
    candles: pd.DataFrame,
    start: object,
    end: object,
    config: TrainConfig,
    *,
    workdir: Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Train the stack and its baselines inside [start, end).

    Parameters
    ----------
    features : Features
        May reach beyond the window: earlier rows serve as context, later ones are not read.
    candles : DataFrame
        15m OHLCV by open_time, for the labels; later ones are not read.
    start, end : time
        Anything pandas reads as a time; integers are microseconds.
    config : TrainConfig
    workdir : Path, optional
        Where finished stages and the encoder's epochs are kept; a training that was killed goes on there
        and ends with the same bits.
    progress : callable (stage, done, total), optional
        Stages: "encoder" (epochs), "hidden" (windows), "stack" (boosters).

    Raises
    ------
    DataError
        When the window is too short, or a block lacks labels or a class.
    SchemaMismatch
        When the features were built with another configuration than `config.features`.
    ModelNotReady
        When the encoder diverges or collapses.
    """
    problem = prepare(features, candles, start, end, config)
    training = _Training(
        problem, Stages(workdir, problem.fingerprint if workdir else ""), progress or _silent
    )
    seconds: dict[str, float] = {}
    with _reproducible(config.threads):
        with _timed(seconds, "encoder"):
            encoder, epochs = training.encoder()
        with _timed(seconds, "hidden"):
            hidden = training.hidden(encoder)
        with _timed(seconds, "stack"):
            stack = training.stack(encoder, hidden)
            tuning = training.tuning_margins(stack, hidden)
        with _timed(seconds, "baselines"):
            baselines = training.baselines()
        record = summarise(problem, stack, baselines, hidden, epochs, seconds)
    window = Span(problem.cuts.start, problem.cuts.end)
    golden = _golden(problem)
    return Fitted(stack, baselines, config, problem.spans, window, problem.k, golden, tuning, record)


@dataclass(frozen=True, eq=False)
class _Training:
    """The stages of one training, each kept in `stages` when it is done."""

    problem: Problem
    stages: Stages
    report: Progress

    def encoder(self) -> tuple[Encoder, list[dict[str, float]]]:
        """Trained on the first part of A; the tail of A, purged, picks the epoch."""
        problem, where, config = self.problem, self.problem.cuts, self.problem.config
        held_from = where.ab - round(_HELD_OUT_SHARE * (where.ab - where.start))
        n = len(problem.tabular)
        complete, y = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
        complete[problem.ends] = True
        weights = {}
        for name, span in (
            ("train", Span(where.start, held_from)),
            ("held_out", Span(held_from, where.ab)),
        ):
            part = problem.part(span)
            y[part.rows] = part.y
            weights[name] = np.zeros(n, dtype=np.float32)
            weights[name][part.rows] = part.weight
        data = Targets(problem.features.matrix, complete, y, weights["train"], weights["held_out"])
        kept = self.stages.path("encoder.safetensors")
        return train_encoder(data, config.encoder, config.seed, checkpoint=kept, progress=self.report)

    def hidden(self, encoder: Encoder) -> Float32Array:
        """Hidden states by row of the features (n, d_model); NaN outside B and C."""
        problem = self.problem
        rows = problem.rows_between(problem.cuts.ab, problem.cuts.end)

        def make() -> dict[str, NDArray[np.generic]]:
            def tell(done: int, total: int) -> None:
                self.report("hidden", done, total)

            return {"hidden": hidden_states(encoder, problem.features.matrix, rows, tell)}

        out = np.full((len(problem.tabular), encoder.config.d_model), np.nan, dtype=np.float32)
        out[rows] = self.stages.arrays("hidden", make)["hidden"]
        return out

    def stack(self, encoder: Encoder, hidden: Float32Array) -> Stack:
        """Select and boost on B, stop and calibrate on C."""
        problem, config = self.problem, self.problem.config
        b, c = problem.blocks["B"], problem.blocks["C"]

        def choose() -> dict[str, NDArray[np.generic]]:
            chosen = select(
                problem.tabular[b.rows], b.y, b.weight, config.stack, seed=config.seed, threads=config.threads
            )
            return {"columns": np.array(chosen, dtype=np.int64)}

        selected = tuple(int(i) for i in self.stages.arrays("selection", choose)["columns"])
        self.report("stack", 1, _BOOSTERS)
        on_c = stacked(hidden[c.rows], problem.tabular[c.rows][:, selected])
        booster = self._booster("booster", b, selected, hidden, held_out=(on_c, c.y, c.weight))
        self.report("stack", 2, _BOOSTERS)
        calibration = fit_calibration(margins(booster, on_c), c.y, c.weight)
        return Stack(encoder, booster, selected, calibration, problem.features.schema)

    def tuning_margins(self, stack: Stack, hidden: Float32Array) -> pd.DataFrame:
        """Forward-chained scores of B's last three quarters, and C's, by bar."""
        problem, where = self.problem, self.problem.cuts
        out = np.full((len(problem.tabular), len(Label)), np.nan)
        edges = np.linspace(where.ab, where.bc, TUNING_PARTS + 2)[1:]
        for i, (begin, end) in enumerate(pairwise(edges)):
            past = problem.blocks["B"].known_before(begin)
            rounds = stack.booster.num_boosted_rounds()
            chained = self._booster(f"chain{i}", past, stack.selected, hidden, rounds=rounds)
            rows = problem.rows_between(begin, end)
            out[rows] = margins(chained, stacked(hidden[rows], problem.tabular[rows][:, stack.selected]))
            self.report("stack", 3 + i, _BOOSTERS)
        rows = problem.rows_between(where.bc, where.end)
        out[rows] = stack.margins(hidden[rows], problem.tabular[rows])
        index = problem.features.tabular.index
        return pd.DataFrame(out, index=index, columns=list(PROBABILITIES)).dropna()

    def baselines(self) -> Baselines:
        """Fitted on A and B; last-bar on A, as the encoder is."""
        problem, config, features = self.problem, self.problem.config, self.problem.features
        a, c = problem.blocks["A"], problem.blocks["C"]
        both = a.joined(problem.blocks["B"])
        prior = np.bincount(both.y, both.weight, minlength=len(Label)) / both.weight.sum()
        before = base.last_known(problem.labels["y"], config.labels.horizon_bars, features.tabular.index)
        five = features.tabular[list(base.LOGISTIC_FEATURES)].to_numpy()[both.rows]
        columns = tuple(np.flatnonzero(~np.isnan(problem.tabular[both.rows]).all(axis=0)).tolist())
        on_c = problem.tabular[c.rows][:, columns]
        tabular_only = self._booster("tabular_only", both, columns, held_out=(on_c, c.y, c.weight))
        self.report("stack", _BOOSTERS, _BOOSTERS)
        rate = config.encoder.learning_rate
        return Baselines(
            prior=prior,
            transition=base.fit_transition(before[both.rows], both.y, both.weight, prior),
            logistic=base.fit_logistic(five, both.y, both.weight, base.LOGISTIC_FEATURES),
            last_bar=base.fit_last_bar(features.matrix[a.rows], a.y, a.weight, rate, config.seed),
            tabular_only=tabular_only,
            columns=columns,
            calibration=fit_calibration(margins(tabular_only, on_c), c.y, c.weight),
            labels=config.labels,
            k=problem.k,
        )

    def _booster(
        self,
        name: str,
        block: Block,
        columns: tuple[int, ...],
        hidden: Float32Array | None = None,
        *,
        held_out: tuple[Float32Array, IntArray, NDArray[np.float64]] | None = None,
        rounds: int | None = None,
    ) -> xgb.Booster:
        """Train on a block, with optional sources lost at random; read back from its bytes."""
        config, schema = self.problem.config, self.problem.features.schema

        def train() -> dict[str, NDArray[np.generic]]:
            share = config.stack.source_dropout
            lossy = drop_sources(self.problem.tabular, optional_groups(schema), share, config.seed)
            x = lossy[block.rows][:, columns]
            names = [schema.tabular[i] for i in columns]
            if hidden is not None:
                x = stacked(hidden[block.rows], x)
                names = [f"hidden_{i}" for i in range(hidden.shape[1])] + names
            booster = train_booster(
                x,
                block.y,
                block.weight,
                names,
                config.stack,
                seed=config.seed,
                threads=config.threads,
                held_out=held_out,
                rounds=rounds,
            )
            return {"ubj": np.frombuffer(booster.save_raw("ubj"), dtype=np.uint8)}

        raw = self.stages.arrays(name, train)["ubj"]
        booster = xgb.Booster({"nthread": config.threads})
        booster.load_model(bytearray(raw.tobytes()))
        return booster


def _golden(problem: Problem) -> dict[str, NDArray[Any]]:
    """32 bars of C, evenly spread."""
    rows = problem.blocks["C"].rows
    rows = rows[np.linspace(0, len(rows) - 1, GOLDEN_ROWS).astype(np.int64)]
    windows = windows_ending(problem.features.matrix, rows, problem.config.encoder.window)
    return {"windows": windows, "tabular": problem.tabular[rows]}


def _silent(stage: str, done: int, total: int) -> None:
    """No progress wanted."""


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Deterministic kernels, so many threads, and the caller's random state as it was."""
    before, state = torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    torch.use_deterministic_algorithms(True)
    try:
        with one_thread(threads):
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_rng_state(state)
