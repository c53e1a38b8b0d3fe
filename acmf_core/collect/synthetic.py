"""A made-up market for trying things out where no real bars are at hand. It is marked as such everywhere.

What it has of a real one: volatility that clusters (log-normal, slowly mean-reverting), three regimes of
volatility that switch as a Markov chain, fat tails (Student t, 5 degrees of freedom), a daily rhythm that
peaks with the US session, volume that follows volatility, and funding every eight hours that leans on the
past returns.

What it has not: any way to earn money. With `edge` = 0 the return of a bar has mean zero given everything
before it; only its size can be foreseen. `edge` > 0 plants a momentum of known strength, so that a test can
ask whether a method finds what is there.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import BAR_US, BARS_PER_DAY
from acmf_core.features import MarketData
from acmf_core.lake import Lake, MergeReport
from acmf_core.lake.tables import candle_rows, funding_rows

SYMBOL: Final = "SYNTHETIC-BTCUSDT"  # no venue has it, no configuration accepts it as a symbol to trade
_STEPS: Final = 15  # one-minute steps inside a bar, for its high and low
_FUNDING_BARS: Final = 32  # eight hours
_TICK_DECIMALS: Final = 1
_STEP_DECIMALS: Final = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Regime:
    """Multiple of the usual volatility, and the mean stay in bars."""

    scale: float
    bars: float


_REGIMES: Final = (_Regime(1.0, 480), _Regime(0.6, 640), _Regime(2.2, 160))
_SIGMA: Final = 0.0022  # of one 15m return: about 40 % a year
_LOG_VOL_STAY: Final = 0.985
_LOG_VOL_NOISE: Final = 0.06
_TAIL: Final = 5.0
_MOMENTUM_BARS: Final = 16
_FUNDING_BASE: Final = 0.0001
_FUNDING_CAP: Final = 0.003


def synthetic_market(
    n_bars: int,
    seed: int,
    edge: float = 0.0,
    *,
    start: str | pd.Timestamp = "2020-01-01",
    first_price: float = 20_000.0,
) -> MarketData:
    """15m candles and funding of a market that never was; the same arguments give the same bits.

    Parameters
    ----------
    n_bars : int
        Length.
    seed : int
        Of numpy's PCG64.
    edge : float
        Drift of a bar in units of its own volatility, at full momentum: the sign of the 16-bar
        momentum is right with a chance of about 0.5 + 0.25 edge. 0 is a fair game, 0.1 is much.
    start : str or Timestamp
        First opening time (UTC), on the 15-minute grid.
    first_price : float
        Quote units.

    Returns
    -------
    MarketData
        `candles.attrs["synthetic"]` is True.
    """
    if n_bars < 1:
        raise ValueError("n_bars must be positive")
    rng = np.random.Generator(np.random.PCG64(seed))
    first = pd.Timestamp(start)
    first = first.tz_localize("UTC") if first.tzinfo is None else first.tz_convert("UTC")
    times = pd.date_range(first, periods=n_bars, freq="15min", unit="us", name="open_time")
    slot = (times.asi8 // BAR_US) % BARS_PER_DAY
    sigma = _SIGMA * _volatility(rng, n_bars) * _daily_rhythm(slot)
    returns, paths = _returns(rng, sigma, edge)
    candles = _candles(times, first_price, returns, paths, _volume(rng, sigma, slot))
    candles.attrs["synthetic"] = True
    market = MarketData(candles=candles, funding=_funding(rng, candles))
    market.candles.attrs["synthetic"] = True
    return market


def store_synthetic(lake: Lake, market: MarketData) -> tuple[MergeReport, MergeReport]:
    """Keep a synthetic market in the lake, under the symbol that says what it is."""
    if market.funding is None:
        raise ValueError("a synthetic market has funding")
    bars = lake.merge("candles", candle_rows(market.candles, SYMBOL), source="synthetic")
    paid = lake.merge("funding", funding_rows(market.funding, SYMBOL), source="synthetic")
    return bars, paid


def is_synthetic(symbol: str) -> bool:
    """Whether a symbol of the lake is a made-up one."""
    return symbol.startswith("SYNTHETIC")


def _volatility(rng: np.random.Generator, n: int) -> Floats:
    """Multiples of the usual sigma: regime times log-normal AR(1). Shape (n,)."""
    leave = rng.random(n)
    where = rng.integers(1, len(_REGIMES), size=n)  # one of the other regimes
    noise = rng.standard_normal(n) * _LOG_VOL_NOISE
    level = np.empty(n)
    regime, log_vol = 0, 0.0
    for t in range(n):
        if leave[t] < 1.0 / _REGIMES[regime].bars:
            regime = int(regime + where[t]) % len(_REGIMES)
        log_vol = _LOG_VOL_STAY * log_vol + noise[t]
        level[t] = _REGIMES[regime].scale * np.exp(log_vol)
    return level


def _daily_rhythm(slot: npt.NDArray[np.int64]) -> Floats:
    """0.7 to 1.3, highest at 14:30 UTC."""
    peak = 58  # the 15-minute slot that opens at 14:30
    rhythm: Floats = 1.0 + 0.3 * np.cos(2 * np.pi * (slot - peak) / BARS_PER_DAY)
    return rhythm


def _returns(rng: np.random.Generator, sigma: Floats, edge: float) -> tuple[Floats, Floats]:
    """Log returns (n,) and the path of the log price inside each bar (n, steps), both from the open."""
    n = len(sigma)
    spread = np.sqrt(
        (_TAIL - 2) / rng.chisquare(_TAIL, n)
    )  # Student t of unit variance, drawn a bar at a time
    steps = rng.standard_normal((n, _STEPS)) / np.sqrt(_STEPS) * spread[:, None]
    shocks = steps.sum(axis=1)
    drift = np.zeros(n)
    if edge:
        keep, momentum = 1 - 1 / _MOMENTUM_BARS, 0.0
        for t in range(n):
            drift[t] = edge * np.tanh(4 * momentum)
            momentum = keep * momentum + (shocks[t] + drift[t]) / _MOMENTUM_BARS
    steps += (drift / _STEPS)[:, None]
    paths = np.cumsum(steps, axis=1) * sigma[:, None]
    return paths[:, -1], paths


def _candles(
    times: pd.DatetimeIndex, first_price: float, returns: Floats, paths: Floats, volume: Floats
) -> pd.DataFrame:
    closes = np.log(first_price) + np.cumsum(returns)
    opens = np.concatenate([[np.log(first_price)], closes[:-1]])
    high = opens + np.maximum(paths.max(axis=1), 0.0)
    low = opens + np.minimum(paths.min(axis=1), 0.0)
    prices = np.exp(np.column_stack([opens, high, low, closes]))
    prices = np.maximum(np.round(prices, _TICK_DECIMALS), 10.0**-_TICK_DECIMALS)  # rounding keeps the order
    frame = pd.DataFrame(prices, index=times, columns=["open", "high", "low", "close"])
    return frame.assign(volume=np.round(volume, _STEP_DECIMALS))


def _volume(rng: np.random.Generator, sigma: Floats, slot: npt.NDArray[np.int64]) -> Floats:
    volume: Floats = (
        1_500 * (sigma / _SIGMA) * _daily_rhythm(slot) * np.exp(0.4 * rng.standard_normal(len(sigma)))
    )
    return volume


def _funding(rng: np.random.Generator, candles: pd.DataFrame) -> pd.DataFrame:
    """Every eight hours: the base rate, more after a rise and less after a fall, known when it is paid."""
    times = pd.DatetimeIndex(candles.index)
    paid = np.flatnonzero((times.asi8 // BAR_US) % _FUNDING_BARS == 0)
    close = np.log(candles["close"].to_numpy())
    before = np.maximum(paid - 1, 0)  # the last bar that had closed
    rise = close[before] - close[np.maximum(before - 3 * BARS_PER_DAY, 0)]
    rate = _FUNDING_BASE + 0.0015 * rise + 0.00003 * rng.standard_normal(len(paid))
    rate = np.round(np.clip(rate, -_FUNDING_CAP, _FUNDING_CAP), 8)
    return pd.DataFrame({"event_time": times[paid], "available_at": times[paid], "funding_rate": rate})
