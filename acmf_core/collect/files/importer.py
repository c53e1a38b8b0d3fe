"""Candles and funding from a user's CSV or Parquet file, refused in one line where they make no sense.

Nothing is repaired in silence: what was guessed (columns, time unit, zone) is in `mapping` and `notes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.collect.files.columns import (
    in_order,
    left_out,
    map_columns,
    market_named,
    numbers,
    plain,
    when,
)
from acmf_core.collect.files.filetypes import read_table
from acmf_core.collect.files.slow import KNOWN_NAMES, known_by_file, slow_table_of
from acmf_core.collect.files.stamps import to_utc
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import BadCandle, DataError
from acmf_core.lake.quality import gaps, missing_bars
from acmf_core.lake.tables import AVAILABLE, KLINE_EXTRAS, OHLCV

# Field -> the names it goes by, most telling first; compared without case, blanks and punctuation.
_CANDLE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "open_time": (
        "opentime",
        "timestamp",
        "time",
        "datetime",
        "date",
        "ts",
        "unix",
        "start",
        "index",
        "indexlevel0",
    ),
    "open": ("open", "o", "openprice"),
    "high": ("high", "h", "highprice", "max"),
    "low": ("low", "l", "lowprice", "min"),
    "close": ("close", "c", "closeprice", "price", "last"),
    "volume": ("volume", "v", "vol", "basevolume", "volumebtc", "basevol"),
    "quote_volume": ("quotevolume", "quoteassetvolume", "qav", "volumeusdt", "turnover"),
    "trades": ("trades", "count", "numberoftrades", "numtrades", "tradecount"),
    "taker_buy_volume": ("takerbuyvolume", "takerbuybaseassetvolume", "takerbasevol", "takerbuybasevolume"),
    "taker_buy_quote_volume": ("takerbuyquotevolume", "takerbuyquoteassetvolume", "takerquotevol"),
    "bridged": ("bridged",),
}
_FUNDING_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "event_time": ("fundingtime", "calctime", "eventtime", *_CANDLE_NAMES["open_time"]),
    "funding_rate": ("fundingrate", "lastfundingrate", "rate", "funding"),
    "interval_hours": ("fundingintervalhours", "intervalhours"),
    AVAILABLE: KNOWN_NAMES,
}
_MAX_COUNT: Final = 2.0**53  # the last count that a float holds exactly
_ROUNDED: Final = 1 + 1e-9  # a sum of rounded parts may pass the rounded whole
_HOURS: Final = range(1, 25)  # between payments
_MAX_FUNDING: Final = 0.05  # the venue caps BTC at 0.3 % and others at 3 % per interval; more is a percentage
_USUAL_FUNDING: Final = 0.002  # the median payment is far below; one in percent is above


@dataclass(frozen=True)
class ImportedCandles:
    """Bars of a file.

    Attributes
    ----------
    frame : DataFrame
        Index open_time (datetime64[us, UTC], ascending, unique, on the grid); float64 open high low close
        volume, and the kline extras that the file has; bool bridged where it says which bars stand in for
        an outage.
    mapping : dict
        Our name to the file's column.
    notes : tuple of str
        What was assumed, for a person to read.
    market : str
        What the file says these are bars of; "" where it does not.
    """

    frame: pd.DataFrame
    mapping: dict[str, str]
    notes: tuple[str, ...]
    market: str = ""


@dataclass(frozen=True)
class ImportedFunding:
    """Funding payments of a file: event_time (UTC), funding_rate (fraction), interval_hours where known,
    available_at (UTC) where the file says it.

    market: what the file says these are payments of; "" where it does not.
    """

    frame: pd.DataFrame
    mapping: dict[str, str]
    notes: tuple[str, ...]
    market: str = ""


def read_candles(
    path: str | Path,
    interval: str = "15m",
    *,
    sort: bool = False,
    allow_gaps: bool = False,
    min_bars: int = 1,
) -> ImportedCandles:
    """Bars from a CSV (also .gz, .zip) or Parquet file.

    Parameters
    ----------
    path : str or Path
        The file. Columns are guessed; Binance's kline files also without a header.
    interval : str
        The bar length that the file must have.
    sort : bool
        Put unsorted rows in order and drop identical doubles instead of refusing.
    allow_gaps : bool
        Accept missing bars (noted) instead of refusing.
    min_bars : int
        Fewer bars than this are refused.

    Raises
    ------
    DataError
        No such file, not a table, a missing column, wrong or mixed time units, unsorted or doubled rows,
        off-grid stamps, another interval, too few bars.
    BadCandle
        A bar that contradicts itself, a price that is no positive number, a count or turnover that cannot be.
    MissingBars
        Bars are missing and `allow_gaps` is off.
    OSError
        The file cannot be read.
    """
    path = Path(path)
    raw = read_table(path)
    notes = list(raw.notes)
    mapping = map_columns(raw.frame, _CANDLE_NAMES, (*KLINE_EXTRAS, "bridged"), path.name)
    market = market_named(raw.frame, path.name)
    times, said = to_utc(raw.frame[mapping["open_time"]], path.name)
    notes += said
    frame = numbers(raw.frame, {k: v for k, v in mapping.items() if k != "open_time"}, path.name)
    frame.index = pd.DatetimeIndex(times, name="open_time")
    frame, said = in_order(frame, path.name, sort)
    notes += said
    _check_grid(pd.DatetimeIndex(frame.index), interval, path.name)
    check_bars(frame, path.name)
    _check_extras(frame, path.name)
    if "bridged" in frame:
        frame["bridged"] = _marks(frame["bridged"], path.name)
    holes = gaps(pd.DatetimeIndex(frame.index), interval)
    if len(holes) and not allow_gaps:
        raise missing_bars(
            holes,
            path.name,
            "acmf data import --bridge fills outages with flat bars, --allow-gaps takes the file as it is",
        )
    if len(holes):
        notes.append(f"{int(holes['bars'].sum())} bar(s) are missing in {len(holes)} place(s)")
    notes += left_out(raw.frame, mapping)
    if len(frame) < min_bars:
        raise DataError(
            f"{path.name} holds {len(frame):,} bars, one decision of a model needs {min_bars:,}",
            "bring a longer history; acmf data import --allow-short stores it all the same",
        )
    return ImportedCandles(frame, mapping, tuple(notes), market)


def read_funding(path: str | Path, *, sort: bool = False) -> ImportedFunding:
    """Funding rates from a CSV or Parquet file; other columns (mark prices) are left out.

    Parameters
    ----------
    path : str or Path
        The file.
    sort : bool
        Put unsorted rows in order and drop identical doubles instead of refusing.

    Raises
    ------
    DataError
        As `read_candles`; rates that look like percent, or payments every so many hours as cannot be.
    OSError
        The file cannot be read.
    """
    path = Path(path)
    raw = read_table(path)
    mapping = map_columns(raw.frame, _FUNDING_NAMES, ("interval_hours", AVAILABLE), path.name)
    market = market_named(raw.frame, path.name)
    times, said = to_utc(raw.frame[mapping["event_time"]], path.name)
    values = {k: v for k, v in mapping.items() if k not in {"event_time", AVAILABLE}}
    frame = numbers(raw.frame, values, path.name)
    frame.index = pd.DatetimeIndex(times, name="event_time").floor("s")
    if AVAILABLE in mapping:
        known, moments = known_by_file(
            raw.frame, mapping[AVAILABLE], pd.DatetimeIndex(frame.index), path.name
        )
        frame[AVAILABLE], said = known, [*said, *moments]
    frame, more = in_order(frame, path.name, sort)
    rate = frame["funding_rate"].to_numpy()
    bad = np.flatnonzero(~np.isfinite(rate) | (np.abs(rate) > _MAX_FUNDING))
    if len(bad):
        raise DataError(
            f"{path.name}: funding rate {rate[bad[0]]:g} of {when(frame.index[bad[0]])} is no fraction",
            "write 0.01 % as 0.0001",
        )
    usual = float(np.median(np.abs(rate)))
    if usual > _USUAL_FUNDING:
        raise DataError(
            f"{path.name}: half of the funding rates are beyond {usual:.2%}, which looks like percent",
            "write 0.01 % as 0.0001",
        )
    if "interval_hours" in frame:
        _refuse_odd_hours(frame["interval_hours"], path.name)
    notes = [*raw.notes, *said, *more, *left_out(raw.frame, mapping)]
    return ImportedFunding(frame.reset_index(), mapping, tuple(notes), market)


def table_of(path: str | Path) -> str:
    """Which table a file belongs to, by its columns; "candles" where nothing else is recognised.

    Raises
    ------
    DataError
        It holds several tables' columns, or as `read_table`.
    """
    slow = slow_table_of(path)
    if slow is not None:
        return slow
    names = {plain(c) for c in read_table(Path(path), head=True).frame.columns}
    rates = {"fundingrate", "lastfundingrate"}
    return "funding" if names & rates and not {"open", "high", "low", "close"} <= names else "candles"


def check_bars(frame: pd.DataFrame, name: str) -> None:
    """Every bar possible in itself: finite positive prices, volume >= 0, low <= open, close <= high.

    Raises
    ------
    BadCandle
        Naming the first bad bar and what is wrong with it.
    """
    o, h, low, c, v = (frame[column].to_numpy(float) for column in OHLCV)
    prices = np.column_stack([o, h, low, c])
    rules = (
        (~np.isfinite(prices).all(axis=1), "has an empty or infinite price"),
        ((prices <= 0).any(axis=1), "has a price that is not positive"),
        (~np.isfinite(v), "has an empty or infinite volume"),
        (v < 0, "has a negative volume"),
        (h < low, "has high below low"),
        ((o > h) | (o < low), "has its open outside low..high"),
        ((c > h) | (c < low), "has its close outside low..high"),
    )
    for broken, text in rules:
        rows = np.flatnonzero(broken)
        if len(rows):
            i = rows[0]
            raise BadCandle(
                f"{name}: bar {when(frame.index[i])} {text} "
                f"(o {o[i]:g} h {h[i]:g} l {low[i]:g} c {c[i]:g} v {v[i]:g}); {len(rows)} such bar(s)",
                "mend or drop them at the source",
            )


def _check_extras(frame: pd.DataFrame, file: str) -> None:
    """Turnover and counts: empty or finite and >= 0, trades whole, takers' no more than everybody's."""
    for column in (c for c in KLINE_EXTRAS if c in frame):
        values = frame[column].to_numpy(float)
        possible, text = (values >= 0) & np.isfinite(values), "is no amount"
        if column == "trades":
            possible, text = possible & (values == np.floor(values)) & (values < _MAX_COUNT), "is no count"
        wrong = ~np.isnan(values) & ~possible
        whole = {"taker_buy_volume": "volume", "taker_buy_quote_volume": "quote_volume"}.get(column)
        if whole in frame and not wrong.any():
            wrong, text = values > frame[whole].to_numpy(float) * _ROUNDED, f"is more than its {whole}"
        if wrong.any():
            i = int(np.argmax(wrong))
            raise BadCandle(
                f"{file}: {column} {values[i]:g} of bar {when(frame.index[i])} {text}; "
                f"{int(wrong.sum())} such bar(s)",
                f"mend them, or drop the column {column}",
            )


def _marks(bridged: pd.Series, file: str) -> pd.Series:
    """The file's own marks of stand-ins as booleans."""
    odd = np.flatnonzero(~bridged.isin([0, 1]).to_numpy())
    if len(odd):
        raise DataError(
            f"{file}: bridged of {when(bridged.index[odd[0]])} is neither true nor false", "mend that row"
        )
    return bridged.astype(bool)


def _refuse_odd_hours(hours: pd.Series, file: str) -> None:
    """Hours between payments are whole and at most a day, or empty."""
    odd = np.flatnonzero(hours.notna().to_numpy() & ~hours.isin(_HOURS).to_numpy())
    if len(odd):
        raise DataError(
            f"{file}: funding of {when(hours.index[odd[0]])} is paid every {hours.iloc[odd[0]]:g} hours",
            f"give whole hours from {_HOURS[0]} to {_HOURS[-1]}, or nothing where they are not known",
        )


def _check_grid(times: pd.DatetimeIndex, interval: str, file: str) -> None:
    step = INTERVAL_SECONDS[interval] * 1_000_000
    stamps = times.as_unit("us").asi8
    off = np.flatnonzero(stamps % step)
    if len(off):
        at_close = bool(((stamps[off] + 1_000) % step <= 999).all() or ((stamps[off] + 1) % step == 0).all())
        fix = (
            "these look like close times: give the open times"
            if at_close
            else "stamp bars with their open time"
        )
        raise DataError(
            f"{file}: {len(off)} stamp(s) are off the {interval} grid, the first is "
            f"{times[off[0]]:%Y-%m-%d %H:%M:%S.%f} UTC",
            fix,
        )
    if len(stamps) > 2 and (usual := int(np.median(np.diff(stamps)))) != step:
        raise DataError(
            f"{file}: bars are {usual // 1_000_000} s apart, {interval} bars are {step // 1_000_000} s apart",
            f"bring {interval} bars, or say --interval",
        )
