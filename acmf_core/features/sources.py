"""The definitions of the features made of slow sources: values on the source's own rows, then joined as-of.

Each definition turns a frame (ordered, see `MarketData`) into the rows on which its column exists and their
values; a row where the column is missing does not exist.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from acmf_core.domain import DAY_US
from acmf_core.features import asof, indicators
from acmf_core.features.compiled import FloatArray, IntArray
from acmf_core.features.market import BOOK_LEVELS
from acmf_core.features.schema import SCHEMA, Feature
from acmf_core.features.windows import STILL

BoolArray = NDArray[np.bool_]

_FUNDING_HOURS: Final = 8.0  # the feature is per eight hours, whatever interval the venue pays by


class Rows(NamedTuple):
    """When each row could be known (microseconds, ascending), and its value."""

    available_at: IntArray
    values: FloatArray


def join(feature: Feature, frame: pd.DataFrame | None, closes: IntArray, out: FloatArray) -> None:
    """Write the feature's value as known at every bar's close; NaN where none is, or none young enough."""
    if frame is None or frame.empty:
        out[:] = np.nan
        return
    parameters = dict(feature.parameters)
    max_age_us = int(parameters.pop("max_age_s")) * 1_000_000
    days, min_rows = int(parameters.pop("days", 0)), int(parameters.pop("min_rows", 0))
    rows = _ROWS[feature.definition](frame, **parameters)
    known = asof.last_known(rows.available_at, closes, max_age_us)
    if days:
        rows = _zscores(rows, known, days, min_rows)
    asof.take(rows.values, known, out)


def span_us(source: str) -> int:
    """How long before a close a row of this source may have become known and still count, in microseconds.

    The maximum age of a value, and the days of its statistics before it.
    """
    spans = [dict(feature.parameters) for feature in SCHEMA.features if feature.source == source]
    seconds = max(int(of["max_age_s"]) for of in spans)
    return seconds * 1_000_000 + max(int(of.get("days", 0)) for of in spans) * DAY_US


def looks_back(source: str) -> bool:
    """Whether a feature of this source reads the row before those of its span, however old that is."""
    return any(f.definition in _ROW_BEFORE for f in SCHEMA.features if f.source == source)


def needed(source: str, frame: pd.DataFrame, first_close: int) -> BoolArray:
    """The rows that features of bars closing at `first_close` (microseconds) or later can depend on.

    Parameters
    ----------
    source : str
        A field of `MarketData`.
    frame : DataFrame
        Its rows, ordered as in `MarketData`.
    """
    stamps = pd.DatetimeIndex(frame["available_at"]).as_unit("us").asi8
    kept = stamps >= first_close - span_us(source)
    start = int(np.argmax(kept)) if kept.any() else len(kept)
    for feature in SCHEMA.features:
        if feature.source == source and feature.definition in _ROW_BEFORE:
            before = np.flatnonzero(_ROW_BEFORE[feature.definition](frame.iloc[:start]))
            kept[before[-1:]] = True
    return kept


def _zscores(rows: Rows, known: IntArray, days: int, min_rows: int) -> Rows:
    """The rows' values against those of their last `days`; only rows that some bar knows are computed."""
    wanted = np.unique(known)
    wanted = wanted[wanted >= 0]
    values = np.full(len(rows.values), np.nan)
    asof.trailing_zscores(rows.available_at, rows.values, wanted, days * DAY_US, min_rows, STILL, values)
    return Rows(rows.available_at, values)


def _column(frame: pd.DataFrame, name: str) -> FloatArray:
    values: FloatArray = frame[name].to_numpy(dtype=np.float64)
    return values


def _exist(*names: str) -> Callable[[pd.DataFrame], BoolArray]:
    """Rows in which all of these columns have a value."""

    def rows(frame: pd.DataFrame) -> BoolArray:
        there: BoolArray = np.ones(len(frame), dtype=np.bool_)
        for name in names:
            there &= np.isfinite(_column(frame, name))
        return there

    return rows


def _are_prices(*names: str) -> Callable[[pd.DataFrame], BoolArray]:
    """Rows in which all of these columns have a positive value."""
    exist = _exist(*names)

    def rows(frame: pd.DataFrame) -> BoolArray:
        there = exist(frame)
        for name in names:
            there &= _column(frame, name) > 0.0
        return there

    return rows


def _existing(frame: pd.DataFrame, exists: BoolArray, values: FloatArray) -> Rows:
    stamps = pd.DatetimeIndex(frame["available_at"]).asi8
    return Rows(stamps[exists], np.ascontiguousarray(values[exists]))


def _levels(name: str) -> Callable[[pd.DataFrame], Rows]:
    def rows(frame: pd.DataFrame) -> Rows:
        values = _column(frame, name)
        return _existing(frame, np.isfinite(values), values)

    return rows


def _funding_rate(frame: pd.DataFrame) -> Rows:
    """In bps per eight hours; the factor is exactly 1 where eight hours is the interval or none is said."""
    rate = _column(frame, "funding_rate")
    bps = rate * 1e4
    if "interval_hours" in frame.columns:
        hours = _column(frame, "interval_hours")
        bps *= _FUNDING_HOURS / np.where(np.isfinite(hours), hours, _FUNDING_HOURS)
    return _existing(frame, np.isfinite(rate), bps)


def _long_short_ratio(frame: pd.DataFrame) -> Rows:
    ratio = _column(frame, "long_short_ratio")
    rows = _existing(frame, np.isfinite(ratio) & (ratio > 0.0), ratio)
    logs = np.empty(len(rows.values))
    asof.logarithms(rows.values, logs)
    return Rows(rows.available_at, logs)


def _log_returns(prices: FloatArray) -> FloatArray:
    """Percent log returns since the row before; the first row has none."""
    returns = np.empty(len(prices))
    if len(prices):
        indicators.log_return(prices, np.array([0, len(prices)]), 1, returns)
    return returns


_DXY_EXISTS: Final = _are_prices("dxy")
_BOTH_EXIST: Final = _are_prices("sp500", "gold")


def _dxy_return(frame: pd.DataFrame) -> Rows:
    rows = _existing(frame, _DXY_EXISTS(frame), _column(frame, "dxy"))
    return Rows(rows.available_at, _log_returns(rows.values))


def _risk_appetite(frame: pd.DataFrame) -> Rows:
    both = _BOTH_EXIST(frame)
    stocks = _existing(frame, both, _column(frame, "sp500"))
    gold = _column(frame, "gold")[both]
    return Rows(stocks.available_at, _log_returns(stocks.values) - _log_returns(gold))


class _Book(NamedTuple):
    """Best levels of order book rows; 1 stands in where a row is not `whole`, so that no formula fails.

    exists: the row holds anything at all. whole: both sides are there and do not cross.
    """

    exists: BoolArray
    whole: BoolArray
    bid: FloatArray
    ask: FloatArray
    bid_qty: FloatArray
    ask_qty: FloatArray

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "_Book":
        best = [_column(frame, name) for name in ("bid_px_1", "ask_px_1", "bid_qty_1", "ask_qty_1")]
        there = [np.isfinite(values) for values in best]
        whole = np.logical_and.reduce([values > 0.0 for values in best]) & np.logical_and.reduce(there)
        whole &= best[1] >= best[0]
        return cls(np.logical_or.reduce(there), whole, *(np.where(whole, values, 1.0) for values in best))

    @property
    def mid(self) -> FloatArray:
        return (self.bid + self.ask) / 2.0

    def rows(self, frame: pd.DataFrame, values: FloatArray) -> Rows:
        return _existing(frame, self.exists, np.where(self.whole, values, np.nan))


def _quantity(frame: pd.DataFrame, side: str, levels: int) -> FloatArray:
    """Quantity over the best levels, best first; a level that is not there holds nothing."""
    total = np.zeros(len(frame))
    for level in range(1, levels + 1):
        quantity = _column(frame, f"{side}_qty_{level}")
        total += np.where(np.isfinite(quantity), quantity, 0.0)
    return total


def _book_imbalance(frame: pd.DataFrame, *, levels: int) -> Rows:
    book, bids, asks = _Book.of(frame), _quantity(frame, "bid", levels), _quantity(frame, "ask", levels)
    return book.rows(frame, (bids - asks) / np.where(book.whole, bids + asks, 1.0))


def _book_spread(frame: pd.DataFrame) -> Rows:
    book = _Book.of(frame)
    return book.rows(frame, (book.ask - book.bid) / book.mid * 1e4)


def _book_microprice(frame: pd.DataFrame) -> Rows:
    """The mid weighted by size: nearer to the ask where the bid is larger (Stoikov, 2018)."""
    book = _Book.of(frame)
    microprice = (book.bid * book.ask_qty + book.ask * book.bid_qty) / (book.bid_qty + book.ask_qty)
    return book.rows(frame, (microprice - book.mid) / book.mid * 1e4)


def book_summaries(frame: pd.DataFrame) -> pd.DataFrame:
    """Imbalance, spread and microprice of order book rows, by the formulas of the features.

    Parameters
    ----------
    frame : DataFrame
        `available_at` and the levels of `COLUMNS["book"]`, a level that is not there NaN.

    Returns
    -------
    DataFrame
        imbalance (-1..1, over 20 levels), spread_bps, microprice_bps (against the mid); on the index of
        `frame`. NaN where a side is empty or the sides cross.
    """
    exists = _Book.of(frame).exists
    rows = {
        "imbalance": _book_imbalance(frame, levels=BOOK_LEVELS),
        "spread_bps": _book_spread(frame),
        "microprice_bps": _book_microprice(frame),
    }
    summaries = pd.DataFrame(np.nan, index=frame.index, columns=list(rows))
    for name, known in rows.items():
        summaries.loc[exists, name] = known.values
    return summaries


_ROWS: Final[Mapping[str, Callable[..., Rows]]] = {
    "book_imbalance": _book_imbalance,
    "book_spread_bps": _book_spread,
    "book_microprice_bps": _book_microprice,
    "fear_greed": _levels("value"),
    "funding_rate": _funding_rate,
    "long_short_ratio": _long_short_ratio,
    "vix": _levels("vix"),
    "dxy_return_1d": _dxy_return,
    "risk_appetite": _risk_appetite,
    "whale_transfers_zscore": _levels("whale_transfers"),
    "exchange_netflow_zscore": _levels("exchange_netflow"),
    "news_sentiment": _levels("score"),
}

# Definitions that read the row before: which rows count as such.
_ROW_BEFORE: Final[Mapping[str, Callable[[pd.DataFrame], BoolArray]]] = {
    "dxy_return_1d": _DXY_EXISTS,
    "risk_appetite": _BOTH_EXIST,
    "whale_transfers_zscore": _exist("whale_transfers"),
    "exchange_netflow_zscore": _exist("exchange_netflow"),
}
