"""A small golden matrix: it sees what changes a number even where no name and no parameter changes.

`python tests/unit/test_features_golden.py` writes it anew. Do so only together with a new FEATURE_VERSION: no
bundle trained before may be used after.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from acmf_core.features import SCHEMA, MarketData, build_features

GOLDEN = Path(__file__).with_name("features_golden.csv")
ROWS = (-1, -300, -1_000)  # of three blocks


def market():
    """Invented bars on a tick of 0.1 and invented slow rows, from whole random numbers only."""
    rng = np.random.default_rng(20_240_101)
    count = 13_056 + 1_500
    steps = rng.integers(-400, 401, size=(count, 4))
    close = 300_000 + np.cumsum(steps[:, 0])
    open_ = np.concatenate(([300_000], close[:-1])) + steps[:, 3] // 40
    high, low = np.maximum(open_, close) + abs(steps[:, 1]), np.minimum(open_, close) - abs(steps[:, 2])
    candles = pd.DataFrame({"open": open_, "high": high, "low": low, "close": close}) / 10
    candles["volume"] = rng.integers(0, 500_000, count) / 1_000
    candles.index = pd.date_range("2024-01-01", periods=count, freq="15min", tz="UTC", name="open_time")

    def known(freq, **columns):
        stamps = pd.date_range(candles.index[0], candles.index[-1] + pd.Timedelta("15min"), freq=freq)
        values = {
            name: rng.integers(low, high, len(stamps)) / scale for name, (low, high, scale) in columns.items()
        }
        return pd.DataFrame({"available_at": stamps, "event_time": stamps, **values})

    levels = {}
    for i in range(1, 21):
        levels |= {f"bid_px_{i}": (299_000 - 10 * i, 299_001 - 10 * i, 10), f"bid_qty_{i}": (1, 9_000, 1_000)}
        levels |= {f"ask_px_{i}": (299_010 + 10 * i, 299_020 + 10 * i, 10), f"ask_qty_{i}": (1, 9_000, 1_000)}
    return MarketData.from_candles(
        candles,
        book=known("15min", **levels),
        funding=known("8h", funding_rate=(-300, 300, 1e6)),
        long_short=known("15min", long_short_ratio=(500, 2_500, 1e3)),
        fear_greed=known("1D", value=(5, 95, 1)),
        macro=known(
            "1D",
            vix=(1_000, 3_000, 100),
            dxy=(9_900, 10_300, 100),
            sp500=(480_000, 500_000, 100),
            gold=(2_000, 2_100, 1),
        ),
        onchain=known("3h", whale_transfers=(0, 60, 1), exchange_netflow=(-90_000, 90_000, 10)),
        news=known("4h", score=(-100, 101, 100)),
    )


def rows():
    return build_features(market()).tabular.iloc[list(ROWS)]


def test_the_golden_matrix_has_not_changed():
    golden = pd.read_csv(GOLDEN, index_col=0)
    features = rows()
    assert list(golden.index) == list(SCHEMA.tabular)
    assert list(golden.columns) == [f"{time:%Y-%m-%d %H:%M}" for time in features.index]
    assert golden.notna().all().all()
    np.testing.assert_allclose(features.to_numpy(), golden.to_numpy().T, rtol=1e-11, atol=1e-13)


if __name__ == "__main__":
    table = rows().T
    table.columns = [f"{time:%Y-%m-%d %H:%M}" for time in table.columns]
    table.to_csv(GOLDEN, index_label="feature")
