"""A model whose answer is plain arithmetic on the features, for tests of everything around a model."""

import numpy as np
import pandas as pd

from acmf_core.config import TrainConfig
from acmf_core.domain import PROBABILITIES
from acmf_core.fingerprint import fingerprint


class Standin:
    """Momentum against its own noise: deterministic, the same bits for one row and for many.

    Opinionated on purpose: it trades often, in both directions, and is quiet where a window is incomplete.
    """

    def __init__(self, gain: float = 0.8, **params) -> None:
        self.gain = gain
        self.params = params
        self.config = TrainConfig()

    @property
    def hash(self) -> str:
        return fingerprint({"standin": self.gain})

    def predict(self, features) -> pd.DataFrame:
        rows = np.full((len(features.tabular), 3), np.nan)
        ends = features.window_ends(192)
        tabular = features.tabular
        lean = self.gain * (tabular["rsi_7"].to_numpy()[ends] - 50.0) / 25.0
        calm = tabular["vol_regime"].to_numpy()[ends]
        weights = np.exp(np.column_stack([lean, -lean, 0.4 * calm]))
        rows[ends] = weights / weights.sum(axis=1, keepdims=True)
        return pd.DataFrame(rows, index=tabular.index, columns=list(PROBABILITIES))
