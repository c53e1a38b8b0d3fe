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
from acmf_core.features.schema import Feature
from acmf_core.features.windows import STILL

BoolArray = NDArray[np.bool_]


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


def _existing(frame: pd.DataFrame, exists: BoolArray, values: FloatArray) -> Rows:
    stamps = pd.DatetimeIndex(frame["available_at"]).asi8
    return Rows(stamps[exists], np.ascontiguousarray(values[exists]))


def _levels(name: str) -> Callable[[pd.DataFrame], Rows]:
    def rows(frame: pd.DataFrame) -> Rows:
        values = _column(frame, name)
        return _existing(frame, np.isfinite(values), values)

    return rows


def _funding_rate(frame: pd.DataFrame) -> Rows:
    rate = _column(frame, "funding_rate")
    return _existing(frame, np.isfinite(rate), rate * 1e4)


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


def _dxy_return(frame: pd.DataFrame) -> Rows:
    dxy = _column(frame, "dxy")
    rows = _existing(frame, np.isfinite(dxy) & (dxy > 0.0), dxy)
    return Rows(rows.available_at, _log_returns(rows.values))


def _risk_appetite(frame: pd.DataFrame) -> Rows:
    stocks, gold = _column(frame, "sp500"), _column(frame, "gold")
    both = np.isfinite(stocks) & np.isfinite(gold) & (stocks > 0.0) & (gold > 0.0)
    rows = _existing(frame, both, stocks)
    return Rows(rows.available_at, _log_returns(rows.values) - _log_returns(gold[both]))


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
