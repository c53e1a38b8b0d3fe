"""Slow data from a user's file: ratios, open interest, Fear & Greed, macro, on-chain, news.

When a row was known is taken from the file where it says so (`available_at`). Where it does not, the table's
convention for history holds; on-chain figures and news scores have none, and are refused without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    require_one_interval,
    when,
)
from acmf_core.collect.files.filetypes import read_table
from acmf_core.collect.files.stamps import to_utc
from acmf_core.domain import DAY_US
from acmf_core.errors import DataError
from acmf_core.lake.tables import AVAILABLE

_TIME_NAMES: Final = (
    *("eventtime", "createtime", "timestamp", "time", "datetime", "date", "opentime", "day", "ts", "unix"),
    *("index", "indexlevel0"),
)
KNOWN_NAMES: Final = ("availableat", "available", "knownat", "releasedat", "receivedat", "scoredat")
_LONGEST_TEXT: Final = 10_000
_INFINITE: Final = float("inf")
_Convention = Callable[[pd.DatetimeIndex, pd.DataFrame], pd.DatetimeIndex]
_ANY: Final = (-_INFINITE, _INFINITE)
_NOT_NEGATIVE: Final = (0.0, _INFINITE)
_RATIO: Final = (1e-6, 1e6)


@dataclass(frozen=True)
class _Column:
    """One column of a table in a file: its usual names, and what a value can be."""

    names: tuple[str, ...]
    within: tuple[float, float] = _ANY
    optional: bool = False
    kind: str = "number"


@dataclass(frozen=True)
class _Layout:
    """One table as files have it.

    known: event times (UTC) and values to when each row was known, where the file does not say; None where
    nobody can say.
    daily: rows are of whole days. interval: the folder of the lake, where the table has one.
    """

    columns: Mapping[str, _Column]
    known: _Convention | None = None
    said: str = ""
    daily: bool = False
    interval: str = ""
    symbol: bool = True
    telling: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class ImportedRows:
    """Rows of a file for one table: event_time, available_at (UTC, us) and its values; what was guessed.

    market: what the file says these are rows of; "" where it does not.
    """

    frame: pd.DataFrame
    mapping: dict[str, str]
    notes: tuple[str, ...]
    market: str = ""


def _after(delay: pd.Timedelta) -> _Convention:
    return lambda times, _: times + delay


def _after_the_us_close(times: pd.DatetimeIndex, rows: pd.DataFrame) -> pd.DatetimeIndex:
    """18:00 New York; a day later where a close is missing: only then is it not merely late (ADR 084)."""
    from acmf_core.collect.macro import known_at

    stamps = np.array([known_at(day) for day in times.date], dtype=np.int64)
    stamps += np.where(rows.isna().any(axis=1), DAY_US, 0)
    return pd.DatetimeIndex(stamps.view("datetime64[us]")).tz_localize("UTC")


def _after_its_spacing(times: pd.DatetimeIndex, _: pd.DataFrame) -> pd.DatetimeIndex:
    """As long after its time as rows lie apart: one of a day can hold all of it; a lone row may be one."""
    apart = np.diff(np.unique(times.as_unit("us").asi8))
    usual = pd.Timedelta(int(np.median(apart)) if len(apart) else DAY_US, "us")
    return times + max(usual, _ARCHIVED)


_ARCHIVED: Final = pd.Timedelta(minutes=5)  # the spacing of the archive's rows
_SPACING: Final = "as long after its time as rows lie apart, at least five minutes"
_MACRO_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "vix": ("vix", "vixclose", "vixcls"),
    "dxy": ("dxy", "dxynyb", "dxyclose", "usdindex", "dollarindex"),
    "sp500": ("sp500", "gspc", "spx", "sp500close"),
    "gold": ("gold", "gcf", "xau", "xauusd", "goldclose"),
}
_LONG: Final = ("series", "ticker", "symbol", "name")  # one row a series and day, as downloads have it
_CLOSE: Final = ("close", "adjclose", "value", "price", "last")

LAYOUTS: Final[Mapping[str, _Layout]] = {
    "long_short": _Layout(
        {
            "long_short_ratio": _Column(("longshortratio", "countlongshortratio", "lsratio"), _RATIO),
            "top_account_ratio": _Column(("topaccountratio", "counttoptraderlongshortratio"), _RATIO, True),
            "top_position_ratio": _Column(("toppositionratio", "sumtoptraderlongshortratio"), _RATIO, True),
            "taker_volume_ratio": _Column(
                ("takervolumeratio", "sumtakerlongshortvolratio", "buysellratio"), _NOT_NEGATIVE, True
            ),
        },
        _after_its_spacing,
        _SPACING,
        interval="5m",
        telling=frozenset({"longshortratio", "countlongshortratio", "lsratio"}),
    ),
    "open_interest": _Layout(
        {
            "open_interest": _Column(("openinterest", "sumopeninterest", "oi"), _NOT_NEGATIVE),
            "open_interest_value": _Column(
                ("openinterestvalue", "sumopeninterestvalue", "oiusd"), _NOT_NEGATIVE, True
            ),
        },
        _after_its_spacing,
        _SPACING,
        interval="5m",
        telling=frozenset({"openinterest", "sumopeninterest"}),
    ),
    "fear_greed": _Layout(
        {
            "value": _Column(("value", "fng", "fngvalue", "feargreed", "fearandgreed"), (0.0, 100.0)),
            "classification": _Column(("classification", "valueclassification"), optional=True, kind="text"),
        },
        _after(pd.Timedelta(hours=1)),
        "one hour after its day began",
        daily=True,
        symbol=False,
        telling=frozenset({"fng", "fngvalue", "feargreed", "fearandgreed", "valueclassification"}),
    ),
    "macro": _Layout(
        {name: _Column(names, (1e-6, 1e9), True) for name, names in _MACRO_NAMES.items()},
        _after_the_us_close,
        "18:00 New York of its day, a day later where a close is missing",
        daily=True,
        symbol=False,
        telling=frozenset(name for names in _MACRO_NAMES.values() for name in names),
    ),
    "onchain": _Layout(
        {
            "whale_transfers": _Column(("whaletransfers", "whaletransactions", "whalecount"), _NOT_NEGATIVE),
            "exchange_netflow": _Column(("exchangenetflow", "exchnetflow", "netflow")),
            "exchange_inflow": _Column(
                ("exchangeinflow", "exchinflow", "exchinflowvol"), _NOT_NEGATIVE, True
            ),
            "exchange_outflow": _Column(
                ("exchangeoutflow", "exchoutflow", "exchoutflowvol"), _NOT_NEGATIVE, True
            ),
            "whale_volume": _Column(("whalevolume", "whalevolumeusd"), _NOT_NEGATIVE, True),
        },
        telling=frozenset({"whaletransfers", "exchangenetflow", "exchnetflow"}),
    ),
    "news": _Layout(
        {
            "score": _Column(("score", "newssentiment", "sentimentscore"), (-1.0, 1.0)),
            "confidence": _Column(("confidence",), (0.0, 1.0)),
            "headlines": _Column(("headlines", "headlinecount"), _NOT_NEGATIVE, kind="whole"),
            "model": _Column(("model",), kind="text"),
            "prompt_version": _Column(("promptversion",), kind="text"),
            "drivers": _Column(("drivers",), optional=True, kind="text"),
            "headline_hashes": _Column(("headlinehashes",), optional=True, kind="text"),
            "input_tokens": _Column(("inputtokens",), _NOT_NEGATIVE, True, "whole"),
            "output_tokens": _Column(("outputtokens",), _NOT_NEGATIVE, True, "whole"),
        },
        telling=frozenset({"score", "newssentiment", "sentimentscore"}),
    ),
}


def read_slow(path: str | Path, name: str, *, sort: bool = False) -> ImportedRows:
    """Rows of one slow table from a CSV (also .gz, .zip) or Parquet file.

    Parameters
    ----------
    path : str or Path
        The file. Columns are guessed; macro also with one row a series and day.
    name : str
        A table of `LAYOUTS`.
    sort : bool
        Put unsorted rows in order and drop identical doubles instead of refusing.

    Raises
    ------
    DataError
        As `importer.read_candles`; a value that cannot be, a row known before it happened, or no word on when
        rows were known where the table has no convention.
    OSError
        The file cannot be read.
    """
    path, layout = Path(path), LAYOUTS[name]
    raw = read_table(path)
    frame, notes, market = raw.frame, list(raw.notes), ""
    if name == "macro":
        frame, said = _widened(frame, path.name)
        notes += said
    elif layout.symbol:
        market = market_named(frame, path.name)
    if layout.interval:
        require_one_interval(frame, path.name)
    mapping = _mapping(frame, name, path.name)
    times, said = to_utc(frame[mapping["event_time"]], path.name)
    notes += said
    rows = _values(frame, layout, mapping, path.name)
    rows[AVAILABLE], said = _known(frame, rows, mapping, pd.DatetimeIndex(times), path.name, name)
    notes += said
    rows.index = pd.DatetimeIndex(times, name="event_time")
    rows, said = in_order(rows, path.name, sort)
    notes += said
    _refuse_impossible(rows, layout, path.name)
    notes += left_out(frame, mapping)
    return ImportedRows(rows.reset_index(), mapping, tuple(notes), market)


def slow_table_of(path: str | Path) -> str | None:
    """Which slow table a file belongs to by its columns, None where it looks like none.

    Raises
    ------
    DataError
        It holds several (the archive's metrics), or as `read_table`.
    """
    path = Path(path)
    head = read_table(path, head=True).frame
    names = {plain(c) for c in head.columns}
    if _long_columns(head) is not None:
        return "macro"
    if {"open", "high", "low", "close"} <= names:
        return None
    found = [name for name, layout in LAYOUTS.items() if names & layout.telling]
    if len(found) > 1:
        raise DataError(f"{path.name} holds {' and '.join(found)}", f"say which: --table {found[0]}")
    return found[0] if found else None


def _mapping(frame: pd.DataFrame, name: str, file: str) -> dict[str, str]:
    layout = LAYOUTS[name]
    aliases = {ours: column.names for ours, column in layout.columns.items()}
    optional = tuple(ours for ours, column in layout.columns.items() if column.optional)
    mapping = map_columns(
        frame,
        {"event_time": _TIME_NAMES, **aliases, AVAILABLE: KNOWN_NAMES},
        (*optional, AVAILABLE),
        file,
    )
    if not set(mapping) & set(layout.columns):
        raise DataError(f"{file} has no column of {name}", f"name it {' / '.join(layout.columns)}")
    if AVAILABLE not in mapping and layout.known is None:
        raise DataError(
            f"{file} does not say when its rows were known, and for {name} nobody else can",
            "add a column available_at (UTC): the moment of each row's publication or receipt",
        )
    return mapping


def _values(frame: pd.DataFrame, layout: _Layout, mapping: Mapping[str, str], file: str) -> pd.DataFrame:
    texts = {ours for ours, column in layout.columns.items() if column.kind == "text"}
    plain_values = {o: t for o, t in mapping.items() if o in layout.columns and o not in texts}
    rows = numbers(frame, plain_values, file)
    for ours in sorted(texts & set(mapping)):
        cells = frame[mapping[ours]].reset_index(drop=True)
        rows[ours] = cells.astype("string").astype(object).where(cells.notna(), None)
    return rows


def _known(
    frame: pd.DataFrame,
    rows: pd.DataFrame,
    mapping: Mapping[str, str],
    times: pd.DatetimeIndex,
    file: str,
    name: str,
) -> tuple[pd.DatetimeIndex, list[str]]:
    """When each row was known, and how that was decided."""
    layout = LAYOUTS[name]
    if layout.daily and (off := np.flatnonzero(times != times.floor("D"))).size:
        raise DataError(
            f"{file}: row {off[0] + 1} is of {times[off[0]]:%Y-%m-%d %H:%M:%S} UTC, {name} has whole days",
            "write the day alone: 2024-01-31",
        )
    if AVAILABLE not in mapping:
        assert layout.known is not None
        return layout.known(times, rows), [f"known: {layout.said} (the file has no available_at)"]
    return known_by_file(frame, mapping[AVAILABLE], times, file)


def known_by_file(
    frame: pd.DataFrame, column: str, times: pd.DatetimeIndex, file: str
) -> tuple[pd.DatetimeIndex, list[str]]:
    """When each row was known by the file's own word, and how that was read; DataError before its time."""
    stamps, said = to_utc(frame[column], f"{file}, {column}")
    known = pd.DatetimeIndex(stamps)
    early = np.flatnonzero(known < times)
    if len(early):
        i = early[0]
        raise DataError(
            f"{file}: row {i + 1} is known at {when(known[i])}, before it happened at {when(times[i])}",
            f"mend {column}",
        )
    return known, [f"{column}: {note}" for note in said]


def _refuse_impossible(rows: pd.DataFrame, layout: _Layout, file: str) -> None:
    for ours, column in layout.columns.items():
        if ours not in rows.columns:
            continue
        empty = rows[ours].isna().to_numpy()
        if column.kind == "text":
            wrong = ~empty & (rows[ours].astype("string").str.len().to_numpy(na_value=0) > _LONGEST_TEXT)
        else:
            values = rows[ours].to_numpy(dtype=np.float64)
            low, high = column.within
            wrong = ~empty & ~((values >= low) & (values <= high) & np.isfinite(values))
            wrong |= ~empty & (column.kind == "whole") & (values != np.floor(values))
        wrong |= empty & (not column.optional)
        if wrong.any():
            i = int(np.argmax(wrong))
            shown = "nothing" if empty[i] else str(rows[ours].iloc[i])[:30]
            raise DataError(f"{file}: {ours} of {when(rows.index[i])} is {shown}", _possible(column))
    nothing = rows[[ours for ours in layout.columns if ours in rows.columns]].isna().all(axis=1)
    if nothing.any():
        raise DataError(
            f"{file} has nothing for {when(rows.index[int(np.argmax(nothing))])}", "drop that row"
        )


def _possible(column: _Column) -> str:
    if column.kind == "text":
        return f"give a text of at most {_LONGEST_TEXT:,} characters"
    low, high = column.within
    if column.within == _ANY:
        return "give a finite number"
    words = f"from {low:g}" + (f" to {high:g}" if np.isfinite(high) else " up")
    return f"give a {'whole ' if column.kind == 'whole' else ''}number {words}"


def _long_columns(frame: pd.DataFrame) -> tuple[str, str] | None:
    """The columns of a table with one row a macro series and day: which series, and its close."""
    named = {plain(c): c for c in frame.columns}
    known = {alias for aliases in _MACRO_NAMES.values() for alias in aliases}
    close = next((named[n] for n in _CLOSE if n in named), None)
    for name in _LONG:
        if name in named and {plain(value) for value in frame[named[name]].unique()} & known:
            return None if close is None else (named[name], close)
    return None


def _widened(frame: pd.DataFrame, file: str) -> tuple[pd.DataFrame, list[str]]:
    """One row a day with a column for each of our series, where the file has one row a series and day."""
    found = _long_columns(frame)
    if found is None:
        return frame, []
    series, close = found
    ours = {alias: name for name, aliases in _MACRO_NAMES.items() for alias in aliases}
    named = frame[series].map(lambda value: ours.get(plain(value)))
    mapping = map_columns(frame, {"event_time": _TIME_NAMES, AVAILABLE: KNOWN_NAMES}, (AVAILABLE,), file)
    time, known = mapping["event_time"], mapping.get(AVAILABLE)
    if frame[time].isna().any():  # grouping by it would drop such a row without a word
        to_utc(frame[time], file)
    picked = pd.DataFrame({time: frame[time], "series": named, "close": frame[close]})
    if known is not None:
        picked[known] = pd.DatetimeIndex(to_utc(frame[known], f"{file}, {known}")[0])
    picked = picked[named.notna()]
    double = picked.duplicated([time, "series"])
    if double.any():
        first = picked[double].iloc[0]
        raise DataError(f"{file} has two rows of {first['series']} for {first[time]}", "keep the right one")
    closes = picked.set_index([time, "series"])["close"].unstack("series")  # keeps a series without a close
    wide = closes.dropna(how="all").reset_index()
    if known is not None:  # a day's row is whole when the last of its series is known
        wide[known] = wide[time].map(picked.groupby(time)[known].max())
    left = sorted({str(value) for value in frame.loc[named.isna(), series].unique()})
    used = {"time": time, "series": series, "close": close, "known": known or time}
    notes = [f"{close} of each {series} taken, one row a day", *left_out(frame, used)]
    return wide.rename_axis(columns=None), notes + ([f"series left out: {', '.join(left)}"] if left else [])
