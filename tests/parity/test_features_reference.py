"""Every column against its slow twin, on recorded data."""

import numpy as np
import pandas as pd
import pytest
from recorded_market import (
    recorded_book,
    recorded_candles,
    recorded_fear_greed,
    recorded_funding,
    recorded_macro,
)
from reference_features import reference_block, reference_slow

from acmf_core.features import SCHEMA, MarketData, build_features

EPOCH_BLOCK = pd.Timedelta(days=8)
# A crash of 10.9 % in a bar, a hole of four flat bars without volume, and a common week.
BLOCKS = ("2023-08-17 21:30", "2024-10-28 20:00", "2024-03-11 09:00")
ONE_RANK = 1 / 671


def block_of(moment: str) -> pd.Timestamp:
    stamp = pd.Timestamp(moment, tz="UTC")
    return stamp - (stamp - pd.Timestamp(0, tz="UTC")) % EPOCH_BLOCK


@pytest.fixture(scope="module")
def candles(real_data):
    frame = recorded_candles(real_data)
    return frame.set_axis(frame.index.as_unit("us"))


@pytest.mark.parametrize("moment", BLOCKS)
def test_every_candle_column_equals_the_plain_computation(candles, moment):
    start = block_of(moment)
    fast = build_features(MarketData(candles)).tabular
    slow = reference_block(candles, start)
    assert set(slow.columns) == {f.name for f in SCHEMA.features if f.source == "candles"}
    fast = fast.loc[slow.index, slow.columns]
    assert np.isfinite(slow.to_numpy()).all()
    for name in slow.columns:
        atol = ONE_RANK * 1.001 if name == "vol_regime" else 1e-9 * (slow[name].std() + 1)
        np.testing.assert_allclose(fast[name], slow[name], rtol=1e-9, atol=atol, err_msg=name)
    flipped = (fast["vol_regime"] - slow["vol_regime"]).abs() > 1e-12
    assert flipped.mean() < 0.02


def ragged(columns: tuple[str, ...], seed: int, every: str, low: float, high: float) -> pd.DataFrame:
    """Rows at odd moments, some doubled, some out of order, with holes in every column."""
    rng = np.random.default_rng(seed)
    event = pd.date_range("2024-01-01", "2024-03-31", freq=every, tz="UTC")
    event = event[rng.random(len(event)) > 0.1]
    delay = pd.to_timedelta(rng.choice([0, 1, 60, 900, 3_600], len(event)), unit="s")
    frame = pd.DataFrame({"event_time": event, "available_at": (event + delay).floor("15min")})
    for column in columns:
        values = rng.uniform(low, high, len(frame))
        frame[column] = np.where(rng.random(len(frame)) < 0.2, np.nan, values)
    return frame.sample(frac=1.0, random_state=seed)


def test_every_slow_column_equals_a_merge_asof(candles, real_data):
    slow = {
        "book": recorded_book(real_data),
        "funding": recorded_funding(real_data),
        "fear_greed": recorded_fear_greed(real_data),
        "macro": recorded_macro(real_data),
        "long_short": ragged(("long_short_ratio",), 1, "20min", 0.5, 3.0),
        "onchain": ragged(("whale_transfers", "exchange_netflow"), 2, "3h", -1e3, 1e3),
        "news": ragged(("score",), 3, "4h", -1.0, 1.0),
    }
    market = MarketData(candles, **slow).between(None, "2024-04-10")
    fast = build_features(market).tabular
    slow = reference_slow(fast.index, slow)
    assert set(slow.columns) == {f.name for f in SCHEMA.features if f.source != "candles"}
    for name in slow.columns:
        known = slow[name].notna().sum()
        assert known > 0, name
        np.testing.assert_allclose(fast[name], slow[name], rtol=1e-9, atol=1e-9, err_msg=name)
