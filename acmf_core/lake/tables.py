"""Every table of the lake, declared once: columns, keys, partitions and the two times.

* event time (`open_time`, `event_time`): when it happened.
* `available_at`: when a trader could first have known it. Joins into features use this one only.

A new table is one more entry in `TABLES`; nothing else in the lake knows a table by name.
"""

from dataclasses import dataclass
from typing import Final

import pandas as pd
import pyarrow as pa

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError

STAMP: Final = pa.timestamp("us", tz="UTC")
AVAILABLE: Final = "available_at"
BOOK_LEVELS: Final = 20
KLINE_EXTRAS: Final = ("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
OHLCV: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what a row is and what makes it unique.

    Attributes
    ----------
    time : str
        The event time column; with `partitions` it is the key.
    partitions : tuple of str
        Columns whose values select a folder; part of the key.
    optional : tuple of str
        Columns that may be null; a null there never conflicts and is filled when the value comes.
    placeholder : str
        Boolean column that marks rows which stand in for data that never came; "" where there is none.
        A real row takes a placeholder's place.

    `available_at` is no value: a row that comes again is known since it first came: the stored moment stays.
    """

    name: str
    schema: pa.Schema
    time: str
    partitions: tuple[str, ...]
    optional: tuple[str, ...] = ()
    placeholder: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that identify a row."""
        return (*self.partitions, self.time)

    @property
    def values(self) -> tuple[str, ...]:
        """Columns that a second delivery of the same row must repeat."""
        beside = (*self.keys, AVAILABLE, self.placeholder)
        return tuple(n for n in self.schema.names if n not in beside)


def _schema(required: dict[str, pa.DataType], optional: dict[str, pa.DataType]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    return pa.schema(fields + [pa.field(name, kind) for name, kind in optional.items()])


def _slow(
    name: str,
    required: dict[str, pa.DataType],
    optional: dict[str, pa.DataType],
    partitions: tuple[str, ...] = (),
) -> Table:
    """A table of things that happen at an `event_time` and are known at an `available_at`."""
    keys = dict.fromkeys(partitions, pa.string()) | {"event_time": STAMP, AVAILABLE: STAMP}
    return Table(name, _schema(keys | required, optional), "event_time", partitions, tuple(optional))


_F8: Final = pa.float64()
_TEXT: Final = pa.string()
_CANDLES: Final = Table(
    name="candles",
    schema=_schema(
        {"symbol": pa.string(), "interval": pa.string(), "open_time": STAMP, "available_at": STAMP}
        | dict.fromkeys(OHLCV, _F8)
        | {"bridged": pa.bool_()},
        {"quote_volume": _F8, "trades": pa.int64(), "taker_buy_volume": _F8, "taker_buy_quote_volume": _F8},
    ),
    time="open_time",
    partitions=("symbol", "interval"),
    optional=KLINE_EXTRAS,
    placeholder="bridged",
)
_FUNDING: Final = Table(
    name="funding",
    schema=_schema(
        {"symbol": pa.string(), "event_time": STAMP, "available_at": STAMP, "funding_rate": _F8},
        {"interval_hours": pa.int64()},
    ),
    time="event_time",
    partitions=("symbol",),
    optional=("interval_hours",),
)
# Ratio of accounts (or of volume) long to short. "5m": the archive's daily files; "15m": asked live.
_LONG_SHORT: Final = _slow(
    "long_short",
    {"long_short_ratio": _F8},
    dict.fromkeys(("top_account_ratio", "top_position_ratio", "taker_volume_ratio"), _F8),
    ("symbol", "interval"),
)
_OPEN_INTEREST: Final = _slow(
    "open_interest", {"open_interest": _F8}, {"open_interest_value": _F8}, ("symbol", "interval")
)
# Best level first; a level that is not there is null.
_LEVELS: Final = tuple(
    f"{side}_{what}_{i}"
    for side in ("bid", "ask")
    for what in ("px", "qty")
    for i in range(1, BOOK_LEVELS + 1)
)
_BOOK: Final = _slow(
    "book",
    {},
    dict.fromkeys(("imbalance", "spread_bps", "microprice_bps", *_LEVELS), _F8),
    ("symbol",),
)
_FEAR_GREED: Final = _slow("fear_greed", {"value": _F8}, {"classification": _TEXT})
_MACRO: Final = _slow("macro", {}, dict.fromkeys(("vix", "dxy", "sp500", "gold"), _F8))
# Trailing 24 hours, in US dollars but for the count; exchange_netflow = inflow - outflow.
_ONCHAIN: Final = _slow(
    "onchain",
    {"whale_transfers": _F8, "exchange_netflow": _F8},
    dict.fromkeys(("exchange_inflow", "exchange_outflow", "whale_volume"), _F8),
    ("symbol",),
)
# `available_at` is when the score was made. drivers and headline_hashes are JSON lists.
_NEWS: Final = _slow(
    "news",
    {"score": _F8, "confidence": _F8, "headlines": pa.int64(), "model": _TEXT, "prompt_version": _TEXT},
    {"drivers": _TEXT, "headline_hashes": _TEXT, "input_tokens": pa.int64(), "output_tokens": pa.int64()},
    ("symbol",),
)
# The flight recorder: one row a cycle, what the daemon saw (health, features, the newest bar) and decided.
# event_time is the bar's close, available_at when the row was written; nested things are JSON.
_CYCLES: Final = _slow(
    "cycles",
    {"cycle_id": _TEXT, "status": _TEXT, "bundle": _TEXT, "params": _TEXT},
    {
        **dict.fromkeys(("p_long", "p_short", "p_neutral", "confidence", "equity", "clock_offset_s"), _F8),
        **dict.fromkeys(("side", "regime", "gates"), pa.int64()),
        **dict.fromkeys(
            ("scores", "bar", "features", "health", "orders", "fills", "trades", "timings"), _TEXT
        ),
        **dict.fromkeys(("features_hash", "state", "error"), _TEXT),
    },
    ("symbol", "mode"),
)
TABLES: Final = {
    table.name: table
    for table in (
        _CANDLES,
        _FUNDING,
        _LONG_SHORT,
        _OPEN_INTEREST,
        _BOOK,
        _FEAR_GREED,
        _MACRO,
        _ONCHAIN,
        _NEWS,
        _CYCLES,
    )
}


def table(name: str) -> Table:
    """The declaration of one table; DataError where there is none of that name."""
    if name not in TABLES:
        raise DataError(f'the lake has no table "{name}"', f"tables: {', '.join(TABLES)}")
    return TABLES[name]


def candle_rows(bars: pd.DataFrame, symbol: str, interval: str = "15m") -> pd.DataFrame:
    """Bars as rows of the candles table.

    Parameters
    ----------
    bars : DataFrame
        `open_time` (UTC) as a column or as the index, open high low close volume, any of the kline
        extras, and `bridged` where some bars stand in for an outage.

    Returns
    -------
    DataFrame
        With symbol, interval and `available_at` = open_time + interval: a bar is known when it closes.
    """
    rows = bars.reset_index() if "open_time" not in bars.columns else bars.reset_index(drop=True)
    known = [c for c in ("open_time", *OHLCV, *KLINE_EXTRAS, "bridged") if c in rows.columns]
    rows = rows[known].assign(symbol=symbol, interval=interval)
    rows["open_time"] = rows["open_time"].dt.as_unit("us")
    rows["available_at"] = rows["open_time"] + pd.Timedelta(seconds=INTERVAL_SECONDS[interval])
    if "bridged" not in rows.columns:
        rows["bridged"] = False
    return rows


def funding_rows(funding: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Funding payments as rows of the funding table.

    Parameters
    ----------
    funding : DataFrame
        `event_time` (UTC), `funding_rate` (fraction paid at that time), optionally `interval_hours`.

    Returns
    -------
    DataFrame
        Stamps floored to the second (the venue's carry a jitter of milliseconds); known when paid.
    """
    rows = funding.reset_index(drop=True)
    rows = rows[[c for c in ("event_time", "funding_rate", "interval_hours") if c in rows.columns]]
    rows = rows.assign(symbol=symbol)
    rows["event_time"] = rows["event_time"].dt.as_unit("us").dt.floor("s")
    rows["available_at"] = rows["event_time"]
    return rows
