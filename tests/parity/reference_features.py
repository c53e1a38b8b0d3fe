"""The slow, plain twin of `acmf_core.features`: the design page written out once more, with other tools.

Python loops and pandas, one block at a time, nothing shared with the fast code but the names of the columns.
"""

import math

import numpy as np
import pandas as pd

DAY = pd.Timedelta(days=1)
BAR = pd.Timedelta(minutes=15)
WARMUP = {"15m": 8 * DAY, "1h": 16 * DAY, "4h": 48 * DAY, "1d": 128 * DAY}
LENGTH = {"1h": pd.Timedelta(hours=1), "4h": pd.Timedelta(hours=4), "1d": DAY}


def reference_block(candles: pd.DataFrame, start: pd.Timestamp) -> pd.DataFrame:
    """All columns made of candles for the block of 8 days from `start`; its window must be loaded."""
    end = start + 8 * DAY
    window = candles[(candles.index >= start - WARMUP["15m"]) & (candles.index < end)]
    block = window[window.index >= start]
    columns = pd.concat([channels(window), stacked(window)], axis=1).loc[block.index]
    for timeframe, length in LENGTH.items():
        history = candles[(candles.index >= start - WARMUP[timeframe]) & (candles.index < end)]
        columns = columns.join(higher(history, timeframe, length, block))
    return columns


def ema(x: pd.Series, period: int) -> pd.Series:
    return x.ewm(span=period, adjust=False).mean()


def wilder(values: list[float], period: int) -> list[float]:
    """Mean of the first `period` values, then (old * (period - 1) + new) / period."""
    averages = [sum(values[:period]) / period]
    for value in values[period:]:
        averages.append((averages[-1] * (period - 1) + value) / period)
    return averages


def rsi(close: pd.Series, period: int) -> pd.Series:
    changes = close.diff().iloc[1:]
    gains = wilder([max(change, 0.0) for change in changes], period)
    losses = wilder([max(-change, 0.0) for change in changes], period)
    values = [50.0 if g + l == 0.0 else 100.0 * g / (g + l) for g, l in zip(gains, losses, strict=True)]  # noqa: E741
    return pd.Series([np.nan] * period + values, index=close.index)


def true_range(bars: pd.DataFrame) -> pd.Series:
    before = bars["close"].shift()
    ranges = [bars["high"] - bars["low"], (bars["high"] - before).abs(), (bars["low"] - before).abs()]
    return pd.concat(ranges, axis=1).max(axis=1)


def atr(bars: pd.DataFrame, period: int) -> pd.Series:
    averages = wilder(list(true_range(bars).iloc[1:]), period)
    return pd.Series([np.nan] * period + averages, index=bars.index)


def adx(bars: pd.DataFrame, period: int) -> pd.Series:
    up, down = bars["high"].diff(), -bars["low"].diff()
    plus = list(up.where((up > down) & (up > 0), 0.0).iloc[1:])
    minus = list(down.where((down > up) & (down > 0), 0.0).iloc[1:])
    ranges = list(true_range(bars).iloc[1:])

    def smoothed(values: list[float]) -> list[float]:
        totals = [sum(values[: period - 1])]
        for value in values[period - 1 :]:
            totals.append(totals[-1] - totals[-1] / period + value)
        return totals[1:]

    dx: list[float | None] = []
    for p, m, r in zip(smoothed(plus), smoothed(minus), smoothed(ranges), strict=True):
        dx.append(100.0 * abs(p - m) / (p + m) if r > 0 and p + m > 0 else None)
    values = [sum(d or 0.0 for d in dx[:period]) / period]
    for d in dx[period:]:
        values.append(values[-1] if d is None else (values[-1] * (period - 1) + d) / period)
    return pd.Series([np.nan] * (2 * period - 1) + values, index=bars.index)


def relative(price: pd.Series, close: pd.Series) -> pd.Series:
    return (price - close) / close * 100


def spread(values: pd.Series, threshold: float = 1e-24) -> float:
    """Standard deviation (ddof 0) of percent returns."""
    variance = float(np.mean((values - np.mean(values)) ** 2))
    return math.sqrt(variance) if variance >= threshold else 0.0


def channels(bars: pd.DataFrame) -> pd.DataFrame:
    close, volume = bars["close"], bars["volume"]
    returns = 100 * np.log(close / close.shift())
    mean_volume = volume.rolling(20).apply(np.mean, raw=True)
    line = ema(close, 12) - ema(close, 26)
    signal = ema(line, 9)
    middle = close.rolling(10).apply(np.mean, raw=True)
    sigma = close.rolling(10).apply(np.std, raw=True)
    volatility = returns.rolling(20).apply(spread, raw=True)
    columns = {
        "rsi_7": rsi(close, 7),
        "rsi_14": rsi(close, 14),
        "ema_9": relative(ema(close, 9), close),
        "ema_21": relative(ema(close, 21), close),
        "atr_7": atr(bars, 7) / close * 100,
        "atr_14": atr(bars, 14) / close * 100,
        "bb_upper_10": relative(middle + 2 * sigma, close),
        "bb_lower_10": relative(middle - 2 * sigma, close),
        "bb_mid_10": relative(middle, close),
        "macd_line": line / close * 100,
        "macd_hist": (line - signal) / close * 100,
        "macd_signal": signal / close * 100,
        "vwap": relative(daily_vwap(bars), close),
        "volume_sma_ratio": over(volume, mean_volume),
        "close_vs_vwap": relative(close, rolling_vwap(bars, 96)),
        "adx_14": adx(bars, 14),
        "obv": over(np.sign(close.diff()) * volume, mean_volume),
        "obv_slope": over(obv_slope(bars), mean_volume),
        "realized_vol_15m": volatility,
        "garman_klass_vol": garman_klass(bars),
        "atr_ratio": over(atr(bars, 14), atr(bars, 14).rolling(96).apply(np.mean, raw=True), undefined=1.0),
        "vol_regime": volatility.rolling(672).apply(rank, raw=True),
    }
    return pd.DataFrame(columns)


def over(part: pd.Series, whole: pd.Series, undefined: float = 0.0) -> pd.Series:
    return (part / whole).where(whole != 0, undefined)


def typical(bars: pd.DataFrame) -> pd.Series:
    return (bars["high"] + bars["low"] + bars["close"]) / 3


def daily_vwap(bars: pd.DataFrame) -> pd.Series:
    day = bars.index.floor("D")
    money = (typical(bars) * bars["volume"]).groupby(day).cumsum()
    traded = bars["volume"].groupby(day).cumsum()
    return (money / traded).where(traded > 0, bars["close"])


def rolling_vwap(bars: pd.DataFrame, n: int) -> pd.Series:
    money = (typical(bars) * bars["volume"]).rolling(n).apply(np.sum, raw=True)
    traded = bars["volume"].rolling(n).apply(np.sum, raw=True)
    return (money / traded).where(traded > 0, bars["close"])


def obv_slope(bars: pd.DataFrame) -> pd.Series:
    obv = (np.sign(bars["close"].diff()).fillna(0.0) * bars["volume"]).cumsum()
    return obv.rolling(10).apply(lambda levels: np.polyfit(np.arange(10), levels - levels[0], 1)[0], raw=True)


def garman_klass(bars: pd.DataFrame) -> pd.Series:
    span = np.log(bars["high"] / bars["low"])
    body = np.log(bars["close"] / bars["open"])
    variance = 0.5 * span**2 - (2 * math.log(2) - 1) * body**2
    return np.sqrt(variance.rolling(20).apply(np.mean, raw=True).clip(lower=0)) * 100


def rank(values: np.ndarray) -> float:
    less, equal = int((values < values[-1]).sum()), int((values == values[-1]).sum())
    return (less + 0.5 * (equal - 1)) / (len(values) - 1)


def autocorrelation(values: np.ndarray) -> float:
    d = values - values.mean()
    return float((d[1:] * d[:-1]).sum() / (d**2).sum()) if (d**2).mean() >= 1e-24 else 0.0


def moment_ratio(values: np.ndarray, power: int) -> float:
    """Central moment over sigma to the same power; excess for the fourth."""
    d = values - values.mean()
    variance = (d**2).mean()
    if variance < 1e-24:
        return 0.0
    return float((d**power).mean() / variance ** (power / 2)) - (3.0 if power == 4 else 0.0)


def zscore(values: np.ndarray) -> float:
    d = values - values.mean()
    variance = (d**2).mean()
    return float(d[-1] / math.sqrt(variance)) if variance > 1e-24 * (values**2).mean() else 0.0


def stacked(bars: pd.DataFrame) -> pd.DataFrame:
    close, volume = bars["close"], bars["volume"]
    returns = 100 * np.log(close / close.shift())
    top, bottom = bars["high"].rolling(96).max(), bars["low"].rolling(96).min()
    ratio = over(volume, volume.rolling(20).apply(np.mean, raw=True))
    columns = {f"log_return_{n}": 100 * np.log(close / close.shift(n)) for n in (1, 4, 16, 96)}
    columns |= {f"log_return_1_lag_{lag}": returns.shift(lag) for lag in (1, 2, 3, 4)}
    columns |= {
        "rsi_14_lag_1": rsi(close, 14).shift(1),
        "rsi_14_lag_4": rsi(close, 14).shift(4),
        "adx_14_lag_4": adx(bars, 14).shift(4),
        "volume_sma_ratio_lag_1": ratio.shift(1),
        "return_autocorr_96": returns.rolling(96).apply(autocorrelation, raw=True),
        "range_position_96": ((close - bottom) / (top - bottom)).where(top != bottom, 0.5),
        "return_std_16": returns.rolling(16).apply(spread, raw=True),
        "return_std_96": returns.rolling(96).apply(spread, raw=True),
        "return_skew_96": returns.rolling(96).apply(moment_ratio, raw=True, args=(3,)),
        "return_kurt_96": returns.rolling(96).apply(moment_ratio, raw=True, args=(4,)),
        "close_zscore_96": close.rolling(96).apply(zscore, raw=True),
        "volume_zscore_96": volume.rolling(96).apply(zscore, raw=True),
    }
    return pd.DataFrame(columns)


def higher(history: pd.DataFrame, timeframe: str, length: pd.Timedelta, block: pd.DataFrame) -> pd.DataFrame:
    """The columns of one higher timeframe on the block's rows, from the last candle closed by each close."""
    groups = history.resample(length)
    candles = groups.agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    candles = candles[groups["close"].count() == length // BAR]
    close = candles["close"]
    if timeframe == "1d":
        levels = {"ema_20": ema(close, 20)}
        values = {}
    else:
        line = ema(close, 12) - ema(close, 26)
        levels = {"ema_21": ema(close, 21)}
        values = {
            "rsi_14": rsi(close, 14),
            "atr_14": atr(candles, 14) / close * 100,
            "macd_hist": (line - ema(line, 9)) / close * 100,
            "log_return": 100 * np.log(close / close.shift()),
        }
        if timeframe == "4h":
            values["adx_14"] = adx(candles, 14)
    known = pd.DataFrame(levels | values)
    known.index = known.index + length  # from the candle's close on
    rows = known.reindex(block.index + BAR, method="ffill").set_axis(block.index)
    for name in levels:
        rows[name] = relative(rows[name], block["close"])
    return rows.add_suffix(f"_{timeframe}")


MAX_AGE = {
    "book": pd.Timedelta(seconds=60),
    "fear_greed": pd.Timedelta(hours=36),
    "funding": pd.Timedelta(hours=9),
    "long_short": pd.Timedelta(hours=1),
    "macro": pd.Timedelta(days=4),
    "onchain": pd.Timedelta(hours=6),
    "news": pd.Timedelta(hours=8),
}


def reference_slow(index: pd.DatetimeIndex, slow: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The columns made of slow sources for the given bars, by `pandas.merge_asof`."""
    columns = {}
    for source, frame in slow.items():
        order = [column for column in ("available_at", "event_time") if column in frame]
        rows = frame.sort_values(order, kind="stable").reset_index(drop=True)
        for name, values in SLOW[source](rows).items():
            table = pd.DataFrame({"available_at": rows["available_at"], name: values})
            table = table[table[name].notna() | values.isin([np.inf])].dropna(subset=["available_at"])
            columns[name] = known_at_close(index, table, MAX_AGE[source])
    return pd.DataFrame(columns, index=index)


def known_at_close(index: pd.DatetimeIndex, table: pd.DataFrame, max_age: pd.Timedelta) -> np.ndarray:
    closes = pd.DataFrame({"close": index + BAR})
    table = table.assign(available_at=table["available_at"].astype("datetime64[us, UTC]"))
    joined = pd.merge_asof(closes, table, left_on="close", right_on="available_at", tolerance=max_age)
    return joined.iloc[:, -1].replace(np.inf, np.nan).to_numpy()


NOTHING = np.inf  # a row that exists, but whose feature is NaN: it hides the rows before it


def book_columns(rows: pd.DataFrame) -> dict[str, pd.Series]:
    bid, ask, bid_qty, ask_qty = (rows[c] for c in ("bid_px_1", "ask_px_1", "bid_qty_1", "ask_qty_1"))
    whole = (bid > 0) & (ask >= bid) & (bid_qty > 0) & (ask_qty > 0)
    bids = rows[[f"bid_qty_{i}" for i in range(1, 21)]].sum(axis=1)
    asks = rows[[f"ask_qty_{i}" for i in range(1, 21)]].sum(axis=1)
    mid = (bid + ask) / 2
    microprice = (bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty)
    columns = {
        "book_imbalance": (bids - asks) / (bids + asks),
        "book_spread_bps": (ask - bid) / mid * 1e4,
        "book_microprice_bps": (microprice - mid) / mid * 1e4,
    }
    return {name: values.where(whole, NOTHING) for name, values in columns.items()}


def log_change(prices: pd.Series) -> pd.Series:
    there = prices.dropna()
    return (100 * np.log(there / there.shift())).fillna(NOTHING).reindex(prices.index)


def macro_columns(rows: pd.DataFrame) -> dict[str, pd.Series]:
    both = rows[["sp500", "gold"]].dropna()
    appetite = 100 * np.log(both["sp500"] / both["sp500"].shift())
    appetite -= 100 * np.log(both["gold"] / both["gold"].shift())
    return {
        "vix": rows["vix"],
        "dxy_return_1d": log_change(rows["dxy"]),
        "risk_appetite": appetite.fillna(NOTHING).reindex(rows.index),
    }


def month_zscore(rows: pd.DataFrame, column: str) -> pd.Series:
    there = rows[["available_at", column]].dropna()
    values = {}
    for i, (at, x) in enumerate(there.itertuples(index=False)):
        earlier = there.iloc[: i + 1]
        recent = earlier.loc[earlier["available_at"] > at - 30 * DAY, column].to_numpy()
        reaches_back = (earlier["available_at"] <= at - 30 * DAY).any()
        values[there.index[i]] = zscore(recent) if len(recent) >= 20 and reaches_back else NOTHING
        assert recent[-1] == x
    return pd.Series(values, dtype=float).reindex(rows.index)


SLOW = {
    "book": book_columns,
    "fear_greed": lambda rows: {"fear_greed": rows["value"]},
    "funding": lambda rows: {"funding_rate": rows["funding_rate"] * 1e4},
    "long_short": lambda rows: {"long_short_ratio": np.log(rows["long_short_ratio"])},
    "macro": macro_columns,
    "onchain": lambda rows: {
        "whale_transfers_zscore": month_zscore(rows, "whale_transfers"),
        "exchange_netflow_zscore": month_zscore(rows, "exchange_netflow"),
    },
    "news": lambda rows: {"news_sentiment": rows["score"]},
}
