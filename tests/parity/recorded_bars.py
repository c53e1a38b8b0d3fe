"""The recorded 2023-2024 bars with indicators in a few lines of pandas, independent of the features room."""

from pathlib import Path

import numpy as np
import pandas as pd

BAR_US = 900_000_000


def recorded_bars(folder: Path, start: str, n: int) -> dict[str, np.ndarray]:
    """n bars from `start` on as the arrays of `acmf_core.trading.Bars`, after 2,000 bars of warm-up.

    The indicators are textbook ones (exponential averages instead of Wilder's seeds): close to the
    features room's, not the same bits, which is enough to drive two kernels with one input.
    """
    candles = pd.read_parquet(folder / "BTCUSDT_perp_15m_2023_2024.parquet").set_index("open_time")
    first = int(np.searchsorted(candles.index, pd.Timestamp(start, tz="UTC")))
    if first < 2_000:
        raise ValueError(f"{start} leaves {first} bars of warm-up, 2000 are needed")
    candles = candles.iloc[first - 2_000 : first + n]
    previous = candles.close.shift().fillna(candles.open)
    true_range = np.maximum(candles.high, previous) - np.minimum(candles.low, previous)
    atr = true_range.ewm(alpha=1 / 14, adjust=False).mean()
    returns = np.log(candles.close / previous)
    frame = candles[["open", "high", "low", "close"]].assign(
        atr=atr,
        adx=_adx(candles, atr),
        ema_distance=(candles.close - candles.close.ewm(span=21, adjust=False).mean()) / atr,
        atr_ratio=atr / atr.rolling(96).mean(),
        vol_regime=returns.rolling(20).std().rolling(672).rank(pct=True),
        volume_ratio=candles.volume / candles.volume.rolling(20).mean(),
    )
    funding = pd.read_parquet(folder / "BTCUSDT_perp_funding_8h_2023_2024.parquet")
    events = funding.assign(time=funding.funding_time.dt.floor("15min").astype(frame.index.dtype))
    rates = events.groupby("time").funding_rate.sum().reindex(frame.index)
    frame = frame.assign(
        funding_bps=1e4 * rates.ffill().shift(),  # known one bar later
        book_imbalance=np.nan,
        book_spread_bps=np.nan,
        funding_event=rates.fillna(0.0),
        data_ok=True,
        entries_off=False,
    ).iloc[2_000:]
    columns = {name: frame[name].to_numpy() for name in frame.columns}
    open_time = frame.index.as_unit("us").asi8
    return {"open_time": open_time, **columns}


def momentum_probabilities(close: np.ndarray, seed: int) -> np.ndarray:
    """(n, 3) views of a noisy momentum model: opinionated, often wrong, never a look into the future."""
    rng = np.random.default_rng(seed)
    change = np.zeros(len(close))
    change[8:] = np.log(close[8:] / close[:-8])
    logits = np.zeros((len(close), 3))
    logits[:, 0] = 120 * change + rng.normal(0, 0.8, len(close))
    logits[:, 1] = -logits[:, 0]
    weights = np.exp(np.clip(logits, -8, 8))
    return weights / weights.sum(axis=1, keepdims=True)


def _adx(candles: pd.DataFrame, atr: pd.Series) -> pd.Series:
    up, down = candles.high.diff(), -candles.low.diff()
    plus = up.where((up > down) & (up > 0), 0.0).ewm(alpha=1 / 14, adjust=False).mean() / atr
    minus = down.where((down > up) & (down > 0), 0.0).ewm(alpha=1 / 14, adjust=False).mean() / atr
    index = 100 * (plus - minus).abs() / (plus + minus).where(plus + minus > 0)
    return index.fillna(0.0).ewm(alpha=1 / 14, adjust=False).mean()
