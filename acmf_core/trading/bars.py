"""What the kernel knows of a bar, and how market data and features become it."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import BAR_US
from acmf_core.errors import BadCandle, DataError, MissingBars
from acmf_core.trading.compiled import compiled

Floats = npt.NDArray[np.float64]


class Bar(NamedTuple):
    """One closed bar: candle, regime and gate inputs, and what is booked at its open.

    open_time: microseconds. atr: ATR 14 in price units. ema_distance: (close - EMA 21) / ATR 14.
    funding_bps: last known rate in bps per 8 h, NaN if missing (as book_imbalance, book_spread_bps).
    funding_event: sum of the rates (fractions) to pay at this bar's open, 0 if none.
    data_ok: gate 10 from outside. entries_off: observe-only or an operator's word (gate 11).
    """

    open_time: int
    open: float
    high: float
    low: float
    close: float
    atr: float
    adx: float
    ema_distance: float
    atr_ratio: float
    vol_regime: float
    volume_ratio: float
    funding_bps: float
    book_imbalance: float
    book_spread_bps: float
    funding_event: float = 0.0
    data_ok: bool = True
    entries_off: bool = False

    def exact(self) -> "Bar":
        """The same with every field of its declared type, so that one compiled form serves all."""
        numbers = (float(value) for value in self[1:15])
        return Bar._make((int(self.open_time), *numbers, bool(self.data_ok), bool(self.entries_off)))


class Bars(NamedTuple):
    """Bars as columns of equal length; the meaning of each is in `Bar`."""

    open_time: npt.NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    atr: Floats
    adx: Floats
    ema_distance: Floats
    atr_ratio: Floats
    vol_regime: Floats
    volume_ratio: Floats
    funding_bps: Floats
    book_imbalance: Floats
    book_spread_bps: Floats
    funding_event: Floats
    data_ok: npt.NDArray[np.bool_]
    entries_off: npt.NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Number of bars (`len` of a NamedTuple is its number of columns)."""
        return len(self.open_time)

    @property
    def times(self) -> pd.DatetimeIndex:
        """Open times as datetime64[us, UTC]."""
        return time_index(self.open_time)

    def slice(self, start: int, stop: int) -> "Bars":
        """Bars start..stop-1, as views."""
        return Bars._make(column[start:stop] for column in self)

    def bar(self, i: int) -> Bar:
        """One bar as plain scalars."""
        return Bar._make(column[i].item() for column in self)

    def checked(self) -> "Bars":
        """The same bars as contiguous writable arrays of the declared types.

        Raises
        ------
        DataError
            When columns differ in length.
        MissingBars
            When open times are not exactly 15 minutes apart.
        """
        columns = [
            np.require(column, dtype=_DTYPES[name], requirements=["C", "A", "W"])
            for name, column in zip(self._fields, self, strict=True)
        ]
        lengths = {name: len(column) for name, column in zip(self._fields, columns, strict=True)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns of bars differ in length: {lengths}", "build them from one index")
        bars = Bars._make(columns)
        check_contiguous(bars.open_time)
        return bars


_DTYPES: dict[str, Any] = {name: np.float64 for name in Bars._fields} | {
    "open_time": np.int64,
    "data_ok": np.bool_,
    "entries_off": np.bool_,
}


@compiled
def bar_at(bars: Bars, i: int) -> Bar:
    """Bar i of the columns, inside compiled code."""
    return Bar(
        bars.open_time[i],
        bars.open[i],
        bars.high[i],
        bars.low[i],
        bars.close[i],
        bars.atr[i],
        bars.adx[i],
        bars.ema_distance[i],
        bars.atr_ratio[i],
        bars.vol_regime[i],
        bars.volume_ratio[i],
        bars.funding_bps[i],
        bars.book_imbalance[i],
        bars.book_spread_bps[i],
        bars.funding_event[i],
        bars.data_ok[i],
        bars.entries_off[i],
    )


@compiled
def has_prices(bar: Bar) -> bool:
    """Whether the bar has all four prices; without them nothing can fill."""
    return (
        math.isfinite(bar.open)
        and math.isfinite(bar.high)
        and math.isfinite(bar.low)
        and math.isfinite(bar.close)
    )


def time_index(times: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    """Microseconds since the epoch as a DatetimeIndex, datetime64[us, UTC]."""
    return pd.DatetimeIndex(np.asarray(times, dtype=np.int64).view("datetime64[us]")).tz_localize("UTC")


def microseconds(index: Any) -> npt.NDArray[np.int64]:
    """Time stamps of any unit as microseconds since the epoch, UTC."""
    stamps = pd.DatetimeIndex(index)
    if stamps.tz is None:
        raise DataError("time stamps without a time zone", "localise them to UTC")
    return stamps.tz_convert("UTC").as_unit("us").asi8.astype(np.int64)


def check_contiguous(open_time: npt.NDArray[np.int64]) -> None:
    """Raise MissingBars at the first step that is not exactly one bar."""
    wrong = np.flatnonzero(np.diff(open_time) != BAR_US)
    if len(wrong):
        before, after = time_index(open_time[wrong[0] : wrong[0] + 2])
        raise MissingBars(
            f"the bar after {before:%Y-%m-%d %H:%M} is {after:%Y-%m-%d %H:%M}, not 15 minutes later",
            "fill the gap (acmf data pull) or bridge it (acmf data check --bridge)",
        )


def funding_at_open(open_time: npt.NDArray[np.int64], funding: pd.DataFrame | None) -> Floats:
    """Sum of the funding rates (fractions per event) to pay at each bar's open.

    An event belongs to the bar with open_time <= event < open_time + 15 min; one that falls into a gap
    is booked at the next open; events before the first or after the last bar belong to none.
    """
    paid = np.zeros(len(open_time))
    if funding is None or not len(funding) or not len(open_time):
        return paid
    events = microseconds(funding["event_time"])
    rates = funding["funding_rate"].to_numpy(dtype=np.float64)
    # the first bar that closes after the event: the bar that holds it, or the first after a gap
    bar = np.searchsorted(open_time + BAR_US, events, side="right")
    inside = np.isfinite(rates) & (events >= open_time[0]) & (bar < len(open_time))
    np.add.at(paid, bar[inside], rates[inside])
    return paid


def trading_bars(market: Any, features: Any) -> Bars:
    """Join candles, features and funding events into the kernel's bars.

    Parameters
    ----------
    market : MarketData
        `.candles` (index open_time; open high low close) and `.funding` (event_time, funding_rate) or None.
    features : Features
        `.tabular` and `.sequence`, indexed by open_time. Bars without a row of features get NaN.

    Notes
    -----
    ATR is atr_14 (percent of the close) x close / 100; (close - EMA 21) / ATR = -ema_21 / atr_14.
    data_ok: candle and all sequence channels of the row are finite.
    """
    candles = market.candles
    tabular = features.tabular.reindex(candles.index)
    sequence = features.sequence.reindex(candles.index)
    price = {name: _column(candles, name) for name in ("open", "high", "low", "close")}
    _check_candles(candles.index, price)
    atr_percent = _column(tabular, "atr_14")
    with np.errstate(divide="ignore", invalid="ignore"):
        ema_distance = -_column(tabular, "ema_21") / atr_percent
    ema_distance[~np.isfinite(ema_distance)] = np.nan  # a market that never moved has no distance
    open_time = microseconds(candles.index)
    finite = np.isfinite(sequence.to_numpy(dtype=np.float64)).all(axis=1)
    return Bars(
        open_time=open_time,
        **price,
        atr=atr_percent * price["close"] / 100.0,
        adx=_column(tabular, "adx_14"),
        ema_distance=ema_distance,
        atr_ratio=_column(tabular, "atr_ratio"),
        vol_regime=_column(tabular, "vol_regime"),
        volume_ratio=_column(tabular, "volume_sma_ratio"),
        funding_bps=_column(tabular, "funding_rate"),
        book_imbalance=_column(tabular, "book_imbalance"),
        book_spread_bps=_column(tabular, "book_spread_bps"),
        funding_event=funding_at_open(open_time, market.funding),
        data_ok=finite & np.isfinite(np.column_stack(list(price.values()))).all(axis=1),
        entries_off=np.zeros(len(open_time), dtype=np.bool_),
    )


def _column(frame: pd.DataFrame, name: str) -> Floats:
    return frame[name].to_numpy(dtype=np.float64, copy=True)


def _check_candles(index: pd.Index, price: dict[str, Floats]) -> None:
    high, low = price["high"], price["low"]
    wrong = np.flatnonzero(
        (low > high)
        | (price["open"] > high)
        | (price["open"] < low)
        | (price["close"] > high)
        | (price["close"] < low)
    )
    if len(wrong):
        i = wrong[0]
        shown = ", ".join(f"{name} {column[i]:g}" for name, column in price.items())
        raise BadCandle(f"bar {index[i]}: {shown}", "look at the source; no bar may contradict itself")
