"""A training window: labelled, cut into A | B | C and purged, before anything is fitted but k."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
import torch
import xgboost as xgb
from numpy.typing import NDArray

from acmf_core.config import TrainConfig
from acmf_core.domain import Span
from acmf_core.errors import DataError, SchemaMismatch
from acmf_core.features import Features, schema_for
from acmf_core.fingerprint import fingerprint
from acmf_core.models.labels import label, label_weights, micros, neutral_multiple
from acmf_core.models.splits import Cuts, cuts, fit_spans, prove_no_overlap, purge, stage_spans
from acmf_core.models.stack import check_columns

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MODEL_VERSION: Final = 1  # raise it when the same data and configuration give another model


@dataclass(frozen=True, eq=False)
class Block:
    """Labelled bars: their rows in the features, class codes, when they were known, sample weights."""

    rows: IntArray
    y: IntArray
    t1: IntArray
    weight: FloatArray

    def joined(self, later: "Block") -> "Block":
        """This block and a later one."""
        return Block(
            np.concatenate([self.rows, later.rows]),
            np.concatenate([self.y, later.y]),
            np.concatenate([self.t1, later.t1]),
            np.concatenate([self.weight, later.weight]),
        )

    def known_before(self, time: float) -> "Block":
        """The labels that were known before a time."""
        keep = self.t1 < time
        return Block(self.rows[keep], self.y[keep], self.t1[keep], self.weight[keep])


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learned, and from which rows.

    labels : of bars with a complete window inside [start, end). k : multiple of sigma, set on A.
    spans : [first t0, last t1] of A, B and C. ends : rows of the features that end a complete window.
    tabular : (n, 66) float32.
    """

    features: Features
    candles: pd.DataFrame
    config: TrainConfig
    cuts: Cuts
    labels: pd.DataFrame
    k: float | None
    spans: dict[str, Span]
    ends: IntArray
    tabular: Float32Array

    @cached_property
    def blocks(self) -> dict[str, Block]:
        """The labelled rows of A, B and C."""
        return {name: self.part(span) for name, span in self.cuts.blocks.items()}

    @cached_property
    def open_time(self) -> IntArray:
        """Open time of every row of the features."""
        return micros(pd.DatetimeIndex(self.features.tabular.index))

    def part(self, span: Span) -> Block:
        """The labels that lie inside a span, with weights of their own."""
        inside = self.labels[purge(micros(self.labels["t0"]), micros(self.labels["t1"]), span)]
        rows = self.features.tabular.index.get_indexer(inside.index).astype(np.int64)
        weight = label_weights(inside, self.candles)
        return Block(rows, inside["y"].to_numpy(np.int64), micros(inside["t1"]), weight)

    def rows_between(self, start: float, end: float) -> IntArray:
        """Rows with a complete window whose bars open in [start, end), labelled or not."""
        opens = self.open_time[self.ends]
        return self.ends[(opens >= start) & (opens < end)]

    @property
    def fingerprint(self) -> str:
        """Of everything the result depends on: data, configuration, code and library versions."""
        upto = int(np.searchsorted(self.open_time, self.cuts.end))
        since = max(0, int(np.searchsorted(self.open_time, self.cuts.start)) - self.config.encoder.window)
        used = slice(since, upto)
        digest = hashlib.sha256()
        for array in (
            self.open_time[used],
            self.features.tabular.to_numpy()[used],
            self.features.sequence.to_numpy()[used],
            micros(pd.DatetimeIndex(self.labels.index)),
            self.labels["y"].to_numpy(),
            micros(self.labels["t1"]),
            label_weights(self.labels, self.candles),
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        return fingerprint(
            {
                "data": digest.hexdigest(),
                "window": [self.cuts.start, self.cuts.end],
                "config": self.config.model_dump(mode="json"),
                "schema": self.features.schema.fingerprint,
                "versions": [MODEL_VERSION, torch.__version__, xgb.__version__, np.__version__],
            }
        )


def prepare(
    features: Features, candles: pd.DataFrame, start: object, end: object, config: TrainConfig
) -> Problem:
    """Label, cut and purge [start, end); no bar that opens at or after `end` is read.

    Raises
    ------
    DataError
        When the window is too short, or a block lacks labels or a class.
    SchemaMismatch
        When the features were built with another configuration than `config.features`.
    """
    begin, stop = as_micros(start), as_micros(end)
    if begin >= stop:
        raise DataError(f"the training window ends ({end}) before it begins ({start})", "swap start and end")
    _check_schema(features, config)
    where = cuts(begin, stop, config)
    open_time = micros(pd.DatetimeIndex(candles.index))
    candles, open_time = candles[open_time < stop], open_time[open_time < stop]
    k = None
    if config.labels.kind == "volatility":
        in_a = (open_time >= where.start) & (open_time < where.ab)
        k = neutral_multiple(candles[in_a], config.labels)
    known = label(candles, config.labels, k)
    known = known[purge(micros(known["t0"]), micros(known["t1"]), Span(begin, stop))]
    ends = features.window_ends(config.encoder.window)
    known = known[known.index.isin(features.tabular.index[ends])]
    spans = fit_spans(known, where)
    prove_no_overlap(stage_spans(spans))
    tabular = features.tabular.to_numpy().astype(np.float32)
    return Problem(features, candles, config, where, known, k, spans, ends, tabular)


def as_micros(time: object) -> int:
    """Microseconds since the epoch of anything pandas reads as a time; naive means UTC."""
    if isinstance(time, (int, np.integer)):
        return int(time)
    stamp = pd.Timestamp(time)  # type: ignore[arg-type]
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
    return int(micros(pd.DatetimeIndex([stamp]))[0])


def _check_schema(features: Features, config: TrainConfig) -> None:
    expected = schema_for(config.features)
    if features.schema.fingerprint != expected.fingerprint:
        raise SchemaMismatch(
            "the features were built with another configuration than train.features",
            "build_features(market, config.features)",
        )
    check_columns(features, expected)
