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
        return tuple(n for n in self.schema.names if n not in self.keys and n != self.placeholder)


def _schema(required: dict[str, pa.DataType], optional: dict[str, pa.DataType]) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    return pa.schema(fields + [pa.field(name, kind) for name, kind in optional.items()])


_F8: Final = pa.float64()
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
TABLES: Final = {table.name: table for table in (_CANDLES, _FUNDING)}


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
