"""Small hand-made markets for the tests of the trading kernel.

Prices stand around 10,000 with an ATR of 100, equity is 10,000: a lot in the trending regime risks 150,
its stop is 200 away, its target 300, so that the figures in the tests can be worked out by hand.
"""

import json
from typing import Any

import numpy as np

from acmf_core.domain import BAR_US
from acmf_core.trading import Bars, TradingState

NOON = 1_704_110_400_000_000  # 2024-01-01 12:00 UTC
MIDNIGHT = 1_704_067_200_000_000  # 2024-01-01 00:00 UTC
NAN = float("nan")

LONG = (0.55, 0.20, 0.25)  # ratio 2.75, confidence 1 - 1.5 / 3.75 = 0.6, scalar 1.0 in the trending regime
SHORT = (0.20, 0.55, 0.25)
NEUTRAL = (0.25, 0.25, 0.50)
NONE = (NAN, NAN, NAN)

TRENDING = {"adx": 30.0, "ema_distance": 1.5, "atr_ratio": 1.1, "vol_regime": 0.5}
RANGING = {"adx": 15.0, "ema_distance": 0.1, "atr_ratio": 0.9, "vol_regime": 0.5}
HIGH_VOLATILITY = {"adx": 22.0, "ema_distance": 0.7, "atr_ratio": 1.6, "vol_regime": 0.95}


def market(candles: Any, *, start: int = NOON, **columns: Any) -> Bars:
    """Bars from rows (open, high, low, close) or single prices, in the trending regime unless told."""
    rows = [row if isinstance(row, tuple) else (row,) * 4 for row in candles]
    n = len(rows)
    prices = np.array(rows, dtype=float).reshape(n, 4)
    defaults: dict[str, Any] = TRENDING | {
        "atr": 100.0,
        "volume_ratio": 1.0,
        "funding_bps": NAN,
        "book_imbalance": NAN,
        "book_spread_bps": NAN,
        "funding_event": 0.0,
        "data_ok": True,
        "entries_off": False,
    }
    columns = defaults | columns
    typed = {
        name: np.array(np.broadcast_to(value, n), dtype=bool if name in ("data_ok", "entries_off") else float)
        for name, value in columns.items()
    }
    times = start + BAR_US * np.arange(n, dtype=np.int64)
    return Bars(times, *(prices[:, k].copy() for k in range(4)), **typed)


def flat(n: int, price: float = 10_000.0) -> list[Any]:
    """n bars that do not move."""
    return [price] * n


def signals(*rows: Any, n: int | None = None) -> np.ndarray:
    """The rows given, then nothing (NaN) up to n."""
    filled = list(rows) + [NONE] * ((n or len(rows)) - len(rows))
    return np.array(filled, dtype=float).reshape(-1, 3)


def altered(state: TradingState, **values: Any) -> TradingState:
    """The state with some of its figures replaced."""
    return TradingState.from_json(json.dumps(json.loads(state.to_json()) | values))


def random_market(
    n: int, seed: int, *, start: int = NOON, volatility: float = 0.004
) -> tuple[Bars, np.ndarray]:
    """A restless market with every optional input, gaps between bars, funding, and signals to match."""
    rng = np.random.default_rng(seed)
    close = 10_000.0 * np.exp(np.cumsum(rng.normal(0, volatility, n)))
    opened = np.r_[10_000.0, close[:-1]] * np.exp(rng.normal(0, volatility / 8, n))
    reach = np.abs(rng.normal(0, volatility / 2, (2, n)))
    high = np.maximum(opened, close) * (1 + reach[0])
    low = np.minimum(opened, close) * (1 - reach[1])
    rare = rng.uniform(size=(3, n)) < 0.05
    bars = market(
        list(zip(opened, high, low, close, strict=True)),
        start=start,
        atr=close * volatility * rng.uniform(0.7, 1.4, n),
        adx=rng.uniform(10, 40, n),
        ema_distance=rng.normal(0, 1, n),
        atr_ratio=rng.uniform(0.7, 1.7, n),
        vol_regime=rng.uniform(0, 1, n),
        volume_ratio=rng.uniform(0.3, 2.5, n),
        funding_bps=np.where(rare[0], NAN, rng.normal(1, 2, n)),
        book_imbalance=np.where(rare[1], NAN, rng.uniform(-1, 1, n)),
        book_spread_bps=np.where(rare[2], NAN, rng.uniform(0, 5.5, n)),
        funding_event=np.where(np.arange(n) % 32 == 0, rng.normal(1e-4, 1e-4, n), 0.0),
        data_ok=rng.uniform(size=n) > 0.01,
        entries_off=rng.uniform(size=n) < 0.01,
    )
    lean = np.repeat(rng.normal(0, 0.7, -(-n // 6)), 6)[:n] + rng.normal(0, 0.3, n)
    weights = np.exp(np.column_stack([lean, -lean, np.full(n, 0.3)]))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    probabilities[rng.uniform(size=n) < 0.02] = NAN
    return bars, probabilities
