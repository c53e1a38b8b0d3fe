"""Features have no unit: prices or volumes times a constant leave them as they are."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_market import recorded_candles

from acmf_core.features import SCHEMA, MarketData, build_features

PRICES = ["open", "high", "low", "close"]
EXACT = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def bars(real_data):
    """Enough for every timeframe, with the data hole of four flat bars at its end."""
    return recorded_candles(real_data)[:"2024-10-29"].iloc[-15_000:]


def book(bars):
    """An order book at every close."""
    rng = np.random.default_rng(3)
    n = len(bars)
    frame = pd.DataFrame({"available_at": bars.index + pd.Timedelta(minutes=15)})
    for side, sign in (("bid", -1), ("ask", 1)):
        for level in range(1, 21):
            frame[f"{side}_px_{level}"] = np.round(
                bars["close"].to_numpy() + sign * 0.1 * (level + rng.random(n)), 2
            )
            frame[f"{side}_qty_{level}"] = rng.gamma(1.0, 2.0, n)
    return frame


@pytest.fixture(scope="module")
def books(bars):
    return book(bars)


def scaled(bars, books, prices, volumes):
    candles = bars.copy()
    candles[PRICES] *= prices
    candles["volume"] *= volumes
    book = books.copy()
    book[[c for c in book if "_px_" in c]] *= prices
    book[[c for c in book if "_qty_" in c]] *= volumes
    return build_features(MarketData(candles, book=book)).tabular


@pytest.fixture(scope="module")
def unscaled(bars, books):
    tabular = scaled(bars, books, 1.0, 1.0)
    known = tabular.columns[tabular.notna().any()]
    assert set(known) == {f.name for f in SCHEMA.features if f.source in ("candles", "book")}
    return tabular


@EXACT
@given(prices=st.integers(-40, 40), volumes=st.integers(-40, 40))
def test_a_power_of_two_changes_no_bit(bars, books, unscaled, prices, volumes):
    other = scaled(bars, books, 2.0**prices, 2.0**volumes)
    pd.testing.assert_frame_equal(other, unscaled, check_exact=True)


@EXACT
@given(prices=st.floats(1e-6, 1e6), volumes=st.floats(1e-6, 1e6))
def test_any_factor_changes_only_the_rounding(bars, books, unscaled, prices, volumes):
    other = scaled(bars, books, prices, volumes)
    assert (other.isna() == unscaled.isna()).all().all()
    for name in unscaled:
        difference, sd = (other[name] - unscaled[name]).abs(), unscaled[name].std()
        if name == "vol_regime":
            assert difference.max() < 1.001 / 671
        elif name.startswith("adx"):
            # Where up and down move are one number, rounding decides, as it does in TA-Lib (ADR 022).
            assert (difference > 0.1 * sd).mean() < 0.002
            assert difference.max() < sd
        else:
            assert not (difference > 1e-9 * (unscaled[name].abs() + sd)).any(), name


def test_rounding_decides_few_ties_of_directional_movement(real_data):
    bars = recorded_candles(real_data)
    up, down = bars["high"].diff(), -bars["low"].diff()
    tie = (up > 0) & ((up - down).abs() < 1e-9 * bars["close"])
    assert 0 < (tie & (up != down)).sum() < 10
