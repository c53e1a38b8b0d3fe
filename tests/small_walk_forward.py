"""A walk-forward small enough for tests: two folds of a week on 75 made-up days, two seconds each."""

from functools import cache

import numpy as np
import pandas as pd

from acmf_core.collect.synthetic import synthetic_market
from acmf_core.config import EncoderConfig, StackConfig, TrainConfig, TuneConfig, WalkForwardConfig
from acmf_core.domain import BARS_PER_DAY, PROBABILITIES
from acmf_core.features import Features, MarketData, build_features
from acmf_core.trading import Bars, trading_bars

DAYS = 75
RECORD_BARS = 1_500
TRAIN = TrainConfig(
    profile="quick",
    min_days_c=8.0,
    calibration="temperature",
    encoder=EncoderConfig(d_model=8, n_layers=1, d_state=4, window=32, epochs=1, stride=32),
    stack=StackConfig(rounds=20, early_stopping=5, learning_rate=0.2, n_selected=10, bootstraps=1),
)
CONFIG = WalkForwardConfig(
    folds=2,
    train_days=35,
    test_days=7,
    holdout_days=7,
    workers=1,
    train=TRAIN,
    tune=TuneConfig(trials=4, min_trades=1),
)


@cache
def market() -> MarketData:
    """Bars with a planted edge, so that something is traded; read-only by convention."""
    return synthetic_market(DAYS * BARS_PER_DAY, seed=3, edge=0.5)


@cache
def features() -> Features:
    """Features of `market`."""
    return build_features(market())


@cache
def record_bars() -> Bars:
    """Two weeks of `market` as the kernel reads them."""
    return trading_bars(market(), features()).slice(2_000, 2_000 + RECORD_BARS)


@cache
def record_signals() -> pd.DataFrame:
    """Random predictions on `record_bars`; a few bars have none."""
    p = np.random.default_rng(1).dirichlet([2, 2, 1], size=RECORD_BARS)
    p[100:110] = np.nan
    return pd.DataFrame(p, index=record_bars().times, columns=list(PROBABILITIES))
