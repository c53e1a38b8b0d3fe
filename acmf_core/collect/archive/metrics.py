"""The archive's metrics: open interest and long/short ratios every 5 minutes, one file a day.

The files are rough: text times that may be unordered, twice, blank or seconds off, and blank values. What can
be used is used, what was left out is counted; a file that is no metrics file is refused whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.collect.archive.client import Archive, Progress
from acmf_core.collect.archive.files import ArchiveFile, Fetched
from acmf_core.collect.archive.rows import csv_of, period_of
from acmf_core.collect.files.stamps import to_utc
from acmf_core.collect.pull.report import Counted, PullReport, nothing_merged, report_of
from acmf_core.errors import DataError
from acmf_core.lake import Lake, MergeReport

INTERVAL: Final = "5m"
TABLES: Final = ("long_short", "open_interest")
DELAY: Final = pd.Timedelta(minutes=5)  # when a value of the archive counts as known, after its time
_STEP: Final = pd.Timedelta(minutes=5)
_SECONDS_OFF: Final = pd.Timedelta(seconds=30)
_DAYS_A_LOT: Final = 366
_DAY: Final = pd.Timedelta(days=1)
_SAMPLED: Final = 20  # every so many days, where the listing is looked for
_NEAR: Final = 2 * _SAMPLED
_MOST_ROWS: Final = 200  # of the 288 of a day
_COLUMNS: Final = {
    "create_time": "str",
    "symbol": "str",
    "sum_open_interest": "float64",
    "sum_open_interest_value": "float64",
    "count_toptrader_long_short_ratio": "float64",
    "sum_toptrader_long_short_ratio": "float64",
    "count_long_short_ratio": "float64",
    "sum_taker_long_short_vol_ratio": "float64",
}
_KEYS: Final = ("event_time", "symbol", "interval", "available_at")
_LONG_SHORT: Final = {
    "count_long_short_ratio": "long_short_ratio",
    "count_toptrader_long_short_ratio": "top_account_ratio",
    "sum_toptrader_long_short_ratio": "top_position_ratio",
    "sum_taker_long_short_vol_ratio": "taker_volume_ratio",
}
_OPEN_INTEREST: Final = {
    "sum_open_interest": "open_interest",
    "sum_open_interest_value": "open_interest_value",
}


@dataclass(frozen=True)
class MetricsDay:
    """One file's rows (`event_time` and the lake's columns, ascending, no time twice), what was left out."""

    long_short: pd.DataFrame
    open_interest: pd.DataFrame
    notes: tuple[str, ...] = ()


def pull_metrics(
    lake: Lake,
    archive: Archive,
    symbol: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    *,
    accept_corrections: bool = False,
    progress: Progress | None = None,
) -> dict[str, PullReport]:
    """Rows of long_short and open_interest (interval "5m") of whole UTC days, start <= day < end.

    A day of which both tables hold at least 200 of 288 rows is not asked for again: its file was read. One
    commit a table for at most 366 days. Days long before the first file are left out. A file whose checksum
    never fits, or that is damaged, is left out and named.

    Returns
    -------
    dict
        Table name to what it took.

    Raises
    ------
    VenueUnavailable
        The archive cannot be reached; what was committed stays, the same call later goes on.
    OSError
        Cache or lake cannot be written.
    """
    days = _days(lake, symbol, start.floor("D"), end.floor("D"), again=accept_corrections)
    days, notes = _since_first_file(archive, symbol, days)
    files = [_file(symbol, day) for day in days]
    lots = [files[i : i + _DAYS_A_LOT] for i in range(0, len(files), _DAYS_A_LOT)]
    counted = Counted(f"{symbol} metrics", len(files) + len(lots), progress)
    merged: dict[str, list[MergeReport]] = {name: [] for name in TABLES}
    fetched: list[Fetched] = []
    bad: list[str] = []
    for lot in archive.in_turn(lots, counted.step):
        read = list(_readable(lot, bad))
        notes += [note for day in read for note in day.notes]
        for name in TABLES:
            rows = _rows([getattr(day, name) for day in read], symbol, notes)
            if len(rows) and not accept_corrections:
                rows = _as_stored(lake, name, rows, notes)
            merged[name].append(
                lake.merge(name, rows, accept_corrections=accept_corrections, source=archive.base_url)
                if len(rows)
                else nothing_merged(name)
            )
        archive.forget(lot)
        counted.step()
        fetched += lot
    archive.sweep(f"{symbol}-metrics")
    return {name: report_of(name, merged[name], fetched, bad, notes=notes) for name in TABLES}


def metrics_of(path: Path, file: ArchiveFile) -> MetricsDay:
    """The rows in one zip of metrics.

    A time at most 30 s past its 5-minute grid point is floored to it; other times off the grid and rows
    without a time are left out, as are values that are blank or cannot be. Of two rows of one time the first
    is kept.

    Raises
    ------
    DataError
        Not a zip of one CSV of eight columns, another symbol, another day, or times that are none.
    """
    raw = csv_of(path, tuple(_COLUMNS), _COLUMNS)
    raw = raw[raw["create_time"].fillna("").str.strip() != ""].reset_index(drop=True)
    strange = raw["symbol"].notna() & (raw["symbol"] != file.symbol)
    if strange.any():
        raise DataError(f"{path.name} holds rows of {str(raw.loc[strange, 'symbol'].iloc[0])[:30]}")
    times, _ = to_utc(raw["create_time"].str.strip(), path.name)
    floored = times.dt.floor(_STEP)
    start, end = period_of(file)
    outside = (floored < start) | (floored > end)  # a file may end with the next day's midnight
    if len(raw) and outside.all():
        raise DataError(f"{path.name} holds rows of {times.iloc[0]:%Y-%m-%d %H:%M:%S} UTC")
    off_grid = times - floored > _SECONDS_OFF
    raw = raw.assign(event_time=floored)[~(off_grid | outside)]
    notes = [
        f"{file.name}: {int(which.sum())} row(s) {what}, left out"
        for which, what in ((outside, "of another day"), (off_grid, "off the 5-minute grid"))
        if which.any()
    ]
    parts = []
    for names in (_LONG_SHORT, _OPEN_INTEREST):
        part, differing = first_of_each(_values(raw, names))
        parts.append(part)
        if differing:
            notes.append(f"{file.name}: {differing} time(s) twice with other values, the first kept")
    return MetricsDay(parts[0], parts[1], tuple(dict.fromkeys(notes)))


def first_of_each(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """One row a time (the first that came), ascending; and how many times came again with other values."""
    once = rows.drop_duplicates(ignore_index=True)
    again = once["event_time"].duplicated()
    kept = once[~again].sort_values("event_time", ignore_index=True)
    return kept, int(once.loc[again, "event_time"].nunique())


def _values(raw: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """The lake's columns; the first of `names` is required, the rest may be blank."""
    rows = raw[["event_time", *names]].rename(columns=names)
    for name in names.values():
        values = rows[name].to_numpy(float)
        rows[name] = np.where(np.isfinite(values) & (values > 0), values, np.nan)  # 0 is a blank too
    required = next(iter(names.values()))
    return rows[rows[required].notna()].reset_index(drop=True)


def _rows(parts: list[pd.DataFrame], symbol: str, notes: list[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame()
    rows, differing = first_of_each(pd.concat(parts, ignore_index=True))
    _note_midnights(differing, notes)
    return rows.assign(symbol=symbol, interval=INTERVAL, available_at=rows["event_time"] + DELAY)


def _as_stored(lake: Lake, name: str, rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows without midnights that another file told otherwise in an earlier pull: the first is kept."""
    times = rows["event_time"]
    held = lake.read(
        name,
        symbol=rows["symbol"].iloc[0],
        interval=INTERVAL,
        start=times.iloc[0],
        end=times.iloc[-1] + _STEP,
    ).set_index("event_time")
    midnights = rows[(times == times.dt.floor("D")) & times.isin(held.index)]
    names = [column for column in rows.columns if column not in _KEYS]
    stored, offered = held.loc[midnights["event_time"], names].to_numpy(), midnights[names].to_numpy()
    both = np.isfinite(stored) & np.isfinite(offered)
    other = midnights.index[(both & (stored != offered)).any(axis=1)]
    _note_midnights(len(other), notes)
    return rows[~rows.index.isin(other)]


def _note_midnights(differing: int, notes: list[str]) -> None:
    if differing:
        notes.append(f"{differing} midnight(s) in two files with other values, the first kept")


def _readable(fetched: Iterable[Fetched], bad: list[str]) -> Iterable[MetricsDay]:
    for one in fetched:
        if one.path is None:
            continue
        try:
            yield metrics_of(one.path, one.file)
        except DataError:
            bad.append(one.file.name)


def _days(
    lake: Lake, symbol: str, start: pd.Timestamp, end: pd.Timestamp, *, again: bool
) -> list[pd.Timestamp]:
    """Days of which a table holds less than most rows (a few may have been imported), or all."""
    days = pd.date_range(start, end, freq="D", inclusive="left", unit="us")
    if again:
        return list(days)
    whole = np.ones(len(days), dtype=bool)
    for name in TABLES:
        held = lake.read(
            name, symbol=symbol, interval=INTERVAL, start=start, end=end, columns=["event_time"]
        )["event_time"]
        counts = held.dt.floor("D").value_counts().reindex(days, fill_value=0)
        whole &= counts.to_numpy() >= _MOST_ROWS
    return list(days[~whole])


def _since_first_file(
    archive: Archive, symbol: str, days: list[pd.Timestamp]
) -> tuple[list[pd.Timestamp], list[str]]:
    """The days without those long before the listing, and a note on these.

    Of the days without a gap that come first, all but the newest 40 are sampled: from 40 days before the
    oldest sample that is there, each day is asked for. So one missing file hides none before it.
    """
    first = [day for number, day in enumerate(days) if day - days[0] == number * _DAY]
    sample = first[:-_NEAR][::-_SAMPLED]
    if not sample:
        return days, []
    found = [
        one.file for one in archive.fetch(_file(symbol, day) for day in sample) if one.reason != "absent"
    ]
    oldest = min((period_of(file)[0] for file in found), default=first[-1] + _DAY)
    kept = [day for day in days if day >= oldest - _NEAR * _DAY]
    left = len(days) - len(kept)
    if not left:
        return days, []
    return kept, [f"{left:,} day(s) before {kept[0]:%Y-%m-%d} left out: the archive has no file near them"]


def _file(symbol: str, day: pd.Timestamp) -> ArchiveFile:
    return ArchiveFile("metrics", symbol, f"{day:%Y-%m-%d}")
