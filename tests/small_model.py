"""A small trained model on made-up bars, made once a test process and shared by the model tests."""

from functools import cache

import numpy as np
import pandas as pd

from acmf_core.config import EncoderConfig, StackConfig, TrainConfig
from acmf_core.features import Features, MarketData, build_features
from acmf_core.models import Fitted, fit

BARS = 5_000
START, END = "2024-01-17", "2024-02-18"
WINDOW = 64
CONFIG = TrainConfig(
    profile="quick",
    min_days_c=5.0,
    encoder=EncoderConfig(d_model=16, n_layers=2, window=WINDOW, epochs=2, stride=64, batch=16),
    stack=StackConfig(rounds=15, early_stopping=5, bootstraps=2, learning_rate=0.1),
)


@cache
def candles() -> pd.DataFrame:
    """52 days of 15m bars whose volatility drifts slowly; read-only by convention."""
    rng = np.random.default_rng(11)
    swing = np.exp(0.5 * np.sin(np.arange(BARS) / 300.0) + 0.2 * rng.standard_normal(BARS))
    close = 40_000.0 * np.exp(np.cumsum(0.002 * swing * rng.standard_normal(BARS)))
    before = np.concatenate([[40_000.0], close[:-1]])
    wick = 1.0 + 0.001 * np.abs(rng.standard_normal((2, BARS)))
    return pd.DataFrame(
        {
            "open": before,
            "high": np.maximum(before, close) * wick[0],
            "low": np.minimum(before, close) / wick[1],
            "close": close,
            "volume": 100.0 * swing * rng.lognormal(size=BARS),
        },
        index=pd.date_range("2024-01-01", periods=BARS, freq="15min", tz="UTC", unit="us", name="open_time"),
    )


@cache
def features() -> Features:
    """Features of `candles`, from candles alone."""
    return build_features(MarketData(candles()))


@cache
def fitted() -> Fitted:
    """The stack trained on 32 of those days."""
    return fit(features(), candles(), START, END, CONFIG)


def rows(first: int, last: int) -> Features:
    """The features of some bars only."""
    whole = features()
    return Features(whole.sequence.iloc[first:last], whole.tabular.iloc[first:last], whole.schema)
