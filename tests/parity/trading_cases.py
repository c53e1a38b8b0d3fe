"""Random markets, predictions and parameters that walk through every corner of the trading page.

A case is a pure function of its seed. Prices lie on the tick, so that levels meet prices exactly as
often as they do at a real venue; indicators and probabilities are drawn so that a good part of them
sits exactly on a threshold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

BAR_US = 900_000_000
STYLES = ("calm", "trending", "gappy", "violent", "crash", "flat")
NAN = float("nan")

# (P(LONG), P(SHORT), P(NEUTRAL)) on and around the thresholds of routing and of the breaker.
BOUNDARY_TRIPLES = (
    (0.60, 0.40, 0.00), (0.15, 0.10, 0.75), (0.10, 0.15, 0.75), (0.57, 0.33, 0.10), (0.33, 0.57, 0.10),
    (0.50, 0.50, 0.00), (1.00, 0.00, 0.00), (0.00, 1.00, 0.00), (0.00, 0.00, 1.00), (0.40, 0.35, 0.25),
    (0.35, 0.30, 0.35), (0.35, 0.325, 0.325), (0.34, 0.33, 0.33), (0.33, 0.33, 0.34), (0.45, 0.30, 0.25),
    (0.30, 0.45, 0.25), (0.63, 0.27, 0.10), (0.275, 0.10, 0.625), (0.10, 0.275, 0.625), (0.05, 0.00, 0.95),
    (0.55, 0.20, 0.25), (0.20, 0.55, 0.25), (0.75, 0.15, 0.10), (0.15, 0.75, 0.10), (0.04, 0.00, 0.96),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One differential test: what goes into both kernels."""

    seed: int
    bars: dict[str, np.ndarray]
    probabilities: np.ndarray
    params: dict[str, Any]
    equity: float


def random_case(seed: int, n: int = 300) -> Case:
    """Draw bars, predictions, parameters and equity from one seed."""
    rng = np.random.default_rng(seed)
    params = random_params(rng)
    price = float(rng.choice([40.0, 900.0, 27_000.0, 65_000.0]))
    tick = price * float(rng.choice([3e-6, 1e-5, 1e-4, 1e-3]))
    params["tick"] = float(f"{tick:.0e}") if rng.random() < 0.9 else 0.1 if price > 500 else 0.01
    equity, filters = random_filters(rng, price)
    params |= filters
    bars = random_bars(rng, n, price, params["tick"])
    if rng.random() < 0.15:  # levels exactly on the tick, up to float noise
        params["slippage_bps"] = 0.0
        bars["atr"] = np.maximum(np.round(bars["atr"] / params["tick"]), 1) * params["tick"]
    return Case(seed, bars, random_probabilities(rng, n, bars["close"]), params, equity)


def random_filters(rng: np.random.Generator, price: float) -> tuple[float, dict[str, float]]:
    """Equity and venue filters: ordinary, too poor for the minimum notional, richer than one order."""
    equity = float(rng.choice([10_000.0, 10_000.0, 123_456.78, 350.0, 4e6]))
    step = float(rng.choice([0.001, 0.001, 0.01, 0.1, 1.0]))
    step = step if equity / price > 20 * step else 0.001
    filters = {
        "step": step,
        "min_quantity": step * float(rng.choice([1, 1, 3, 10])),
        "min_notional": float(rng.choice([0.0, 5.0, 100.0, 300.0])),
        "max_market_quantity": float(rng.choice([120.0, 120.0, 2.0 * equity / price, 0.5 * equity / price])),
    }
    if rng.random() < 0.3:  # a limit that is a whole number of steps, up to float noise
        filters["max_market_quantity"] = step * max(1.0, round(filters["max_market_quantity"] / step))
    if rng.random() < 0.05:
        filters["min_quantity"] = 0.0
    filters["max_market_quantity"] = max(filters["max_market_quantity"], filters["min_quantity"])
    return equity, filters


def random_params(rng: np.random.Generator) -> dict[str, Any]:
    """Half of the cases keep most defaults, the others move everything."""

    def three(values: list[float]) -> tuple[Any, Any, Any]:
        a, b, c = (rng.choice(values).item() for _ in range(3))
        return a, b, c

    params: dict[str, Any] = {
        "resume_after": [96, 3, None, 1, 20][rng.integers(5)],
        "streak_action": str(rng.choice(["kill", "pause"])),
        "cost_in_risk": bool(rng.random() < 0.3),
        "person_resumes": bool(rng.random() < 0.25),
    }
    if params["resume_after"] is None:
        params["streak_action"] = "kill"
    if rng.random() < 0.5:
        params["max_losses"] = int(rng.choice([3, 5, 1000]))
        params["reward_cost_multiple"] = float(rng.choice([3.0, 0.0]))
        return params
    params |= {
        "min_ratio": float(rng.choice([1.5, 1.0, 1.2, 2.0])),
        "min_spread": float(rng.choice([0.05, 0.0, 0.1])),
        "min_confidence": three([0.25, 0.40, 0.45, 0.55, 0.60, 0.75, 0.80]),
        "cooldown": three([0, 1, 2, 4, 6]),
        "max_positions": three([1, 2, 3]),
        "stop_atr": three([0.5, 1.0, 1.5, 2.0, 2.5]),
        "target_atr": three([0.5, 1.0, 2.0, 3.0, 3.5]),
        "trail_atr": three([0.25, 0.5, 1.0, 1.5, 2.0]),
        "time_exit": three([1, 2, 8, 12, 16, 40]),
        "opposite_min_confidence": float(rng.choice([0.25, 0.40, 0.625, 0.9])),
        "risk_per_trade": float(rng.choice([0.015, 0.005, 0.04])),
        "max_leverage": float(rng.choice([3.0, 1.0, 2.0])),
        "max_open_risk": float(rng.choice([0.045, 0.02, 0.1])),
        "max_losses": int(rng.choice([1, 2, 3, 3, 50])),
        "max_daily_drawdown": float(rng.choice([0.05, 0.01, 0.2])),
        "fee_bps": float(rng.choice([5.0, 0.0, 20.0])),
        "slippage_bps": float(rng.choice([2.0, 0.0, 15.0])),
        "min_volume_ratio": float(rng.choice([0.5, 0.0])),
        "max_funding_bps": float(rng.choice([10.0, 5.0])),
        "max_adverse_funding_bps": float(rng.choice([3.0, 5.0])),
        "max_spread_bps": float(rng.choice([5.0, 1.0])),
        "max_adverse_imbalance": float(rng.choice([0.85, 0.3])),
        "min_probability": float(rng.choice([0.35, 0.45])),
        "low_probability_bars": int(rng.choice([5, 2, 1])),
        "reward_cost_multiple": float(rng.choice([3.0, 0.0, 1.0])),
    }
    if rng.random() < 0.2:  # the risk of all lots together binds
        params["max_open_risk"] = params["risk_per_trade"] * float(rng.choice([0.9, 1.3, 1.8]))
    if rng.random() < 0.1:  # reckless enough to lose more than everything
        params |= {"risk_per_trade": 0.5, "max_open_risk": 1.0, "max_leverage": 60.0}
        params |= {"max_losses": 1000, "max_daily_drawdown": float(rng.choice([0.9, 1.0]))}
    return params


def random_bars(rng: np.random.Generator, n: int, price: float, tick: float) -> dict[str, np.ndarray]:
    """Open, high, low, close on the tick, with indicators around their thresholds."""
    style = STYLES[rng.integers(len(STYLES))]
    bars = _prices(rng, n, price, tick, style)
    bars["open_time"] = 1_700_000_100_000_000 // BAR_US * BAR_US + BAR_US * (
        int(rng.integers(96)) + np.arange(n, dtype=np.int64)
    )
    bars["atr"] = _average_true_range(bars, floor=0.0 if rng.random() < 0.5 else 0.002 * price)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (bars["close"] - _ema(bars["close"], 21)) / bars["atr"]
    bars["ema_distance"] = _touched_up(rng, distance, [0.0, 0.5, -0.5, 1.0, -1.0, 0.999])
    bars["adx"] = _touched_up(rng, _slow(rng, n, 10.0, 40.0), [20.0, 25.0, 19.999])
    bars["atr_ratio"] = _touched_up(rng, _slow(rng, n, 0.6, 1.8), [1.0, 1.25, 1.5])
    bars["vol_regime"] = _touched_up(rng, _slow(rng, n, 0.0, 1.0), [0.75, 0.9])
    bars["volume_ratio"] = _touched_up(rng, rng.gamma(4.0, 0.3, n), [0.5, 0.0, 0.4999])
    bars["funding_bps"] = _touched_up(
        rng, _slow(rng, n, -4.0, 7.0), [0.0, 1.0, 2.0, 3.0, -3.0, 5.0, -5.0, 10.0, -10.0, 10.001]
    )
    bars["book_imbalance"] = _touched_up(rng, rng.uniform(-1, 1, n), [0.2, -0.2, 0.85, -0.85, 0.0])
    bars["book_spread_bps"] = _touched_up(rng, rng.gamma(2.0, 1.0, n), [5.0, 5.001])
    for name in ("funding_bps", "book_imbalance", "book_spread_bps"):  # sources that may be absent
        if rng.random() < 0.3:
            bars[name] = np.full(n, NAN)
    _spoil(rng, n, bars)
    return bars


def _spoil(rng: np.random.Generator, n: int, bars: dict[str, np.ndarray]) -> None:
    """Missing values, funding events and the two flags of gates 10 and 11."""
    spoiled = ("adx", "ema_distance", "atr_ratio", "vol_regime", "volume_ratio", "atr")
    if rng.random() < 0.1:
        unpriced = rng.random(n) < 0.02
        for name in ("open", "high", "low", "close"):
            bars[name] = np.where(unpriced, NAN, bars[name])
    if rng.random() < 0.1:
        for name in spoiled:
            bars[name] = np.where(rng.random(n) < 0.01, rng.choice([np.inf, -np.inf, 0.0]), bars[name])
    if rng.random() < 0.5:
        for name in (*spoiled, "funding_bps", "book_imbalance", "book_spread_bps"):
            bars[name] = np.where(rng.random(n) < 0.01, NAN, bars[name])
    events = np.zeros(n)
    if rng.random() < 0.7:
        paying = np.arange(n) % int(rng.choice([32, 16, 5])) == 0
        events[paying] = rng.normal(0, 3e-4, paying.sum())
    bars["funding_event"] = events
    bars["data_ok"] = rng.random(n) >= rng.choice([0.0, 0.02])
    bars["entries_off"] = rng.random(n) < rng.choice([0.0, 0.02])


def random_probabilities(rng: np.random.Generator, n: int, close: np.ndarray) -> np.ndarray:
    """Views that last a while, a share of them on a boundary, absent, flat for a while, or informed."""
    view = np.repeat(rng.choice([-1, 0, 1], n, p=[0.4, 0.2, 0.4]), int(rng.choice([1, 3, 12, 40])))[:n]
    if rng.random() < 0.3:  # knows the next bars: winners, targets and trailing stops
        ahead = np.append(close[8:], np.full(min(8, n), close[-1]))[:n]
        view = np.sign(ahead - close)
    strength = rng.uniform(0.0, 1.0, n)
    rows = rng.dirichlet((2, 2, 2), n)
    ahead_of = np.where(view > 0, 0, 1)
    rows[np.arange(n), ahead_of] += np.where(view == 0, 0.0, 3 * strength)
    rows /= rows.sum(axis=1, keepdims=True)
    boundary = rng.random(n) < rng.choice([0.05, 0.3])
    rows[boundary] = np.array(BOUNDARY_TRIPLES)[rng.integers(len(BOUNDARY_TRIPLES), size=boundary.sum())]
    if rng.random() < 0.2:  # sums that are off 1 by what is still allowed
        rows *= rng.uniform(1 - 9e-5, 1 + 9e-5, (n, 1))
    rows[rng.random(n) < rng.choice([0.0, 0.03])] = NAN
    if rng.random() < 0.2:  # a broken model
        start = int(rng.integers(n))
        rows[start : start + 7] = (0.34, 0.33, 0.33)
        rows[min(start + 3, n - 1)] = NAN
    return rows


def _prices(rng: np.random.Generator, n: int, price: float, tick: float, style: str) -> dict[str, np.ndarray]:
    sigma = {"calm": 0.001, "trending": 0.002, "gappy": 0.003, "violent": 0.01, "crash": 0.003, "flat": 5e-4}
    moves = rng.normal(0.0, sigma[style], n)
    if style == "trending":
        moves += np.repeat(rng.choice([-1, 1], n), 30)[:n] * 0.0015
    gaps = np.zeros(n)
    if style == "crash":
        moves[rng.random(n) < 0.03] += rng.choice([-0.06, 0.04])
        gaps[rng.random(n) < 0.02] += rng.choice([-0.08, 0.05])
    if style in ("gappy", "violent"):
        gaps = rng.normal(0.0, sigma[style], n) * (rng.random(n) < 0.3)
    close = price * np.exp(np.cumsum(moves + gaps))
    open_ = np.concatenate(([price], close[:-1])) * np.exp(gaps)
    up, down = rng.exponential(sigma[style] * 0.6, (2, n))
    high, low = np.maximum(open_, close) * np.exp(up), np.minimum(open_, close) * np.exp(-down)
    rounded = {"open": open_, "high": high, "low": low, "close": close}
    bars = {name: np.round(values / tick) * tick for name, values in rounded.items()}
    if style == "flat":  # a data hole: zero-volume bars without a range
        hole = np.repeat(rng.random(n // 10 + 1) < 0.2, 10)[:n]
        for name in ("open", "high", "low"):
            bars[name] = np.where(hole, bars["close"], bars[name])
    return {name: np.maximum(values, tick) for name, values in bars.items()}


def _average_true_range(bars: dict[str, np.ndarray], floor: float) -> np.ndarray:
    previous = np.concatenate((bars["open"][:1], bars["close"][:-1]))
    true_range = np.maximum(bars["high"], previous) - np.minimum(bars["low"], previous)
    return np.maximum(_ema(true_range, 27), floor)


def _ema(values: np.ndarray, span: int) -> np.ndarray:
    out, alpha, level = np.empty(len(values)), 2.0 / (span + 1.0), values[0]
    for i, value in enumerate(values):
        level += alpha * (value - level)
        out[i] = level
    return out


def _slow(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    """A wandering indicator inside its range."""
    return low + (high - low) * (0.5 + 0.5 * np.sin(np.cumsum(rng.normal(0, 0.25, n)) + rng.uniform(0, 6)))


def _touched_up(rng: np.random.Generator, values: np.ndarray, boundary: list[float]) -> np.ndarray:
    """Put a twentieth of the values exactly on a threshold."""
    return np.where(rng.random(len(values)) < 0.05, rng.choice(boundary, len(values)), values)
