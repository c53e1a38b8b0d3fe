"""The stack: 128 hidden values and 40 selected tabular features -> XGBoost -> calibration -> P(L, S, N).

This is what predicts, in research and in production; training makes one (`fit.py`), a bundle holds one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray

from acmf_core.domain import PROBABILITIES
from acmf_core.errors import SchemaMismatch
from acmf_core.features import Features, Schema
from acmf_core.models.booster import margins
from acmf_core.models.calibration import Calibration, Kind
from acmf_core.models.encoder import Encoder, windows_ending

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_CHUNK: Final = 2048  # windows copied out at a time: 35 MB


@dataclass(frozen=True, eq=False)
class Stack:
    """A trained model without its history.

    selected : columns of the tabular features, ascending. schema : what the columns are.
    """

    encoder: Encoder
    booster: xgb.Booster
    selected: tuple[int, ...]
    calibration: Calibration
    schema: Schema

    @property
    def window(self) -> int:
        """Bars that one decision reads."""
        return self.encoder.config.window

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the booster's columns, in order."""
        hidden = tuple(f"hidden_{i}" for i in range(self.encoder.config.d_model))
        return hidden + tuple(self.schema.tabular[i] for i in self.selected)

    def predict(self, features: Features, kind: Kind) -> pd.DataFrame:
        """Probabilities (n, 3) of every row of the features; NaN where the window is not complete.

        A row's bits depend on its own window and tabular features alone: a live bar and a year of bars
        give the same.

        Raises
        ------
        SchemaMismatch
            When the features are not the columns the model was trained with, in that order.
        """
        return self.predictions(features, (kind,))[kind]

    def predictions(self, features: Features, kinds: Sequence[Kind]) -> dict[Kind, pd.DataFrame]:
        """`predict` for several calibrations at the price of one."""
        check_columns(features, self.schema)
        ends = features.window_ends(self.window)
        scores = np.empty((0, 3))
        if len(ends):
            hidden = hidden_states(self.encoder, features.matrix, ends)
            scores = self.margins(hidden, features.tabular.to_numpy()[ends].astype(np.float32))
        answers: dict[Kind, pd.DataFrame] = {}
        for kind in kinds:
            out = np.full((len(features.tabular), 3), np.nan)
            if len(ends):
                out[ends] = self.calibration.probabilities(scores, kind)
            answers[kind] = pd.DataFrame(out, index=features.tabular.index, columns=list(PROBABILITIES))
        return answers

    def probabilities(self, hidden: Float32Array, tabular: Float32Array, kind: Kind) -> FloatArray:
        """(m, 3) from hidden states (m, d_model) and all tabular features (m, 66)."""
        return self.calibration.probabilities(self.margins(hidden, tabular), kind)

    def margins(self, hidden: Float32Array, tabular: Float32Array) -> FloatArray:
        """Raw scores (m, 3) before calibration."""
        return margins(self.booster, stacked(hidden, tabular[:, list(self.selected)]))


def hidden_states(
    encoder: Encoder,
    sequence: Float32Array,
    ends: IntArray,
    progress: Callable[[int, int], None] | None = None,
) -> Float32Array:
    """Hidden states (m, d_model) of the windows that end at rows `ends` of a sequence (n, 22)."""
    out = np.empty((len(ends), encoder.config.d_model), dtype=np.float32)
    for i in range(0, len(ends), _CHUNK):
        part = ends[i : i + _CHUNK]
        out[i : i + len(part)] = encoder.hidden(windows_ending(sequence, part, encoder.config.window))
        if progress:
            progress(i + len(part), len(ends))
    return out


def stacked(hidden: Float32Array, tabular: Float32Array) -> Float32Array:
    """The booster's input (m, 128 + 40)."""
    return np.hstack([hidden, tabular]).astype(np.float32, copy=False)


def check_columns(features: Features, schema: Schema) -> None:
    """Refuse features whose schema or actual columns differ from the model's.

    Raises
    ------
    SchemaMismatch
        Naming the first difference.
    """
    if features.schema.fingerprint != schema.fingerprint:
        features.schema.compare(schema)
    pairs = (
        ("channel", features.sequence, schema.sequence),
        ("tabular feature", features.tabular, schema.tabular),
    )
    for what, frame, names in pairs:
        given = [str(column) for column in frame.columns]
        if given != list(names):
            at = next((i for i, (a, b) in enumerate(zip(given, names, strict=False)) if a != b), len(names))
            here = given[at] if at < len(given) else "missing"
            there = names[at] if at < len(names) else "no such column"
            raise SchemaMismatch(
                f"{what} {at} is {here}, the model was trained with {there}", "build the features again"
            )
