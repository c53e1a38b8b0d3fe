"""From the public archive into the lake: which files are needed, what they say, one merge for all."""

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.collect.archive import Archive, ArchiveFile, Fetched, Progress
from acmf_core.collect.filetypes import KLINE_COLUMNS
from acmf_core.collect.importer import check_bars
from acmf_core.collect.stamps import to_utc
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError
from acmf_core.lake import Lake, MergeReport
from acmf_core.lake.quality import gaps
from acmf_core.lake.tables import candle_rows, funding_rows

_FUNDING_COLUMNS: Final = ("calc_time", "funding_interval_hours", "last_funding_rate")
_FEW_DAYS: Final = 3  # so few missing days of a month are fetched one by one
_UNPUBLISHED_MONTHS: Final = 2  # a monthly file appears on the first Monday of the next month
_FUNDING_STEP: Final = pd.Timedelta(hours=8, minutes=5)


@dataclass(frozen=True)
class PullReport:
    """What one pull brought.

    Attributes
    ----------
    merged : MergeReport
        What the lake took.
    files : int
        Archive files read.
    absent : tuple of str
        Periods that the archive does not have (not yet published, or before the listing).
    damaged : tuple of str
        Files whose checksum or content was wrong; their days were fetched one by one where possible.
    missing : int
        Bars still missing inside the stored part of the window (a venue's outage, or damaged files).
    """

    merged: MergeReport
    files: int
    absent: tuple[str, ...]
    damaged: tuple[str, ...]
    missing: int


def pull_candles(
    lake: Lake,
    archive: Archive,
    symbol: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    interval: str = "15m",
    *,
    accept_corrections: bool = False,
    progress: Progress | None = None,
) -> PullReport:
    """Bars of whole UTC days, start <= day < end; days that the lake has in full are not asked for.

    Parameters
    ----------
    lake, archive : Lake, Archive
        Where to and where from.
    symbol, interval : str
        The series.
    start, end : Timestamp (UTC)
        Floored to days.
    accept_corrections : bool
        Take values that differ from stored ones.
    progress : callable(stage, done, total), optional
        After every file.

    Raises
    ------
    DataError
        The archive has nothing of the series in the window, or a file that is no klines.
    VenueUnavailable
        The archive cannot be reached; the same call later goes on.
    OSError
        Cache or lake cannot be written.
    """
    start, end = start.floor("D"), end.floor("D")
    absent_days = _incomplete_days(_stored_times(lake, symbol, interval, start, end), start, end, interval)
    monthly = [
        ArchiveFile("klines", symbol, month, interval)
        for month, days in _by_month(absent_days)
        if len(days) > _FEW_DAYS
    ]
    months = archive.fetch(monthly, stage=f"{symbol} {interval} months", progress=progress)
    bars, bad = _read_klines(months)
    wanted = _days_to_fetch(_still_missing(absent_days, bars, interval), months)
    daily = [ArchiveFile("klines", symbol, f"{day:%Y-%m-%d}", interval) for day in wanted]
    days = archive.fetch(daily, stage=f"{symbol} {interval} days", progress=progress)
    more, worse = _read_klines(days)
    frame = _first_of_each([*bars, *more], "open_time")
    frame = frame[(frame["open_time"] >= start) & (frame["open_time"] < end)]
    if frame.empty and absent_days and _stored_times(lake, symbol, interval, start, end).empty:
        raise DataError(
            f"the archive at {archive.base_url} has no {interval} klines of {symbol} from {start:%Y-%m-%d} "
            f"to {end:%Y-%m-%d}",
            "check the symbol and the dates; a day is published the day after",
        )
    merged = lake.merge(
        "candles",
        candle_rows(frame, symbol, interval),
        accept_corrections=accept_corrections,
        source=archive.base_url,
    )
    archive.forget([*months, *days])
    missing = gaps(_stored_times(lake, symbol, interval, start, end), interval)["bars"].sum()
    return _report(merged, [*months, *days], [*bad, *worse], int(missing))


def pull_funding(
    lake: Lake,
    archive: Archive,
    symbol: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    *,
    accept_corrections: bool = False,
    progress: Progress | None = None,
) -> PullReport:
    """Funding payments of the months that hold start <= time < end; the archive has whole months only.

    Parameters, errors: as `pull_candles`; a series without funding is no error (nothing is merged).
    """
    start, end = start.floor("D"), end.floor("D")
    months = pd.date_range(start.replace(day=1), end, freq="MS", inclusive="left", unit="us")
    files = [
        ArchiveFile("fundingRate", symbol, f"{month:%Y-%m}")
        for month in months
        if not _funding_complete(lake, symbol, max(month, start), min(month + pd.offsets.MonthBegin(1), end))
    ]
    fetched = archive.fetch(files, stage=f"{symbol} funding", progress=progress)
    parts, bad = [], []
    for one in fetched:
        if one.path is not None:
            try:
                parts.append(_funding_of(one.path))
            except DataError:
                bad.append(one.file.name)
    columns = ["event_time", "funding_rate", "interval_hours"]
    frame = _first_of_each(parts, "event_time") if parts else _nothing(columns)
    merged = lake.merge(
        "funding", funding_rows(frame, symbol), accept_corrections=accept_corrections, source=archive.base_url
    )
    archive.forget(fetched)
    return _report(merged, fetched, bad, 0)


def klines_of(path: Path) -> pd.DataFrame:
    """The bars in one archive zip; with or without a header row, stamps in ms or us.

    Raises
    ------
    DataError
        Not a zip of one CSV, not twelve columns, off the grid of its own first bars, or impossible bars.
    """
    raw = _csv_of(path, KLINE_COLUMNS)
    times, _ = to_utc(raw["open_time"], path.name)
    frame = pd.DataFrame(
        {
            "open_time": times,
            **{name: raw[name].astype("float64") for name in ("open", "high", "low", "close", "volume")},
            "quote_volume": raw["quote_volume"].astype("float64"),
            "trades": raw["count"].astype("int64"),
            "taker_buy_volume": raw["taker_buy_volume"].astype("float64"),
            "taker_buy_quote_volume": raw["taker_buy_quote_volume"].astype("float64"),
        }
    )
    check_bars(frame.set_index("open_time"), path.name)
    return frame


def _funding_of(path: Path) -> pd.DataFrame:
    raw = _csv_of(path, _FUNDING_COLUMNS)
    times, _ = to_utc(raw["calc_time"], path.name)
    return pd.DataFrame(
        {
            "event_time": times.dt.floor("s"),
            "funding_rate": raw["last_funding_rate"].astype("float64"),
            "interval_hours": raw["funding_interval_hours"].astype("int64"),
        }
    )


def _csv_of(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if len(members) != 1:
                raise DataError(f"{path.name} holds {len(members)} files instead of one")
            data = archive.read(members[0])
        first = data.split(b"\n", 1)[0].split(b",")[0].strip()
        header = None if first.isdigit() else 0  # files differ: never assume
        frame = pd.read_csv(io.BytesIO(data), header=header, low_memory=False)
    except (zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None
    if frame.shape[1] != len(columns):
        raise DataError(f"{path.name} has {frame.shape[1]} columns instead of {len(columns)}")
    return frame.set_axis(list(columns), axis=1)


def _read_klines(fetched: Iterable[Fetched]) -> tuple[list[pd.DataFrame], list[str]]:
    """The bars of every file that can be read, and the names of those that cannot."""
    parts, bad = [], []
    for one in fetched:
        if one.path is None:
            continue
        try:
            parts.append(klines_of(one.path))
        except DataError:
            bad.append(one.file.name)
    return parts, bad


def _first_of_each(parts: list[pd.DataFrame], time: str) -> pd.DataFrame:
    if not parts:
        return _nothing([time, "open", "high", "low", "close", "volume"])
    whole = pd.concat(parts, ignore_index=True)
    return whole.drop_duplicates(time).sort_values(time, ignore_index=True)


def _nothing(columns: list[str]) -> pd.DataFrame:
    empty = pd.DataFrame({name: np.zeros(0) for name in columns})
    return empty.assign(**{columns[0]: pd.to_datetime(np.zeros(0, dtype="int64"), unit="us", utc=True)})


def _stored_times(
    lake: Lake, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp
) -> "pd.Series[pd.Timestamp]":
    rows = lake.read("candles", symbol=symbol, interval=interval, start=start, end=end, columns=["open_time"])
    return rows["open_time"]


def _incomplete_days(
    times: "pd.Series[pd.Timestamp]", start: pd.Timestamp, end: pd.Timestamp, interval: str
) -> list[pd.Timestamp]:
    per_day = 86_400 // INTERVAL_SECONDS[interval]
    days = pd.date_range(start, end, freq="D", inclusive="left", unit="us")
    held = times.dt.floor("D").value_counts().reindex(days, fill_value=0).to_numpy()
    return list(days[held < per_day])


def _still_missing(days: list[pd.Timestamp], bars: list[pd.DataFrame], interval: str) -> list[pd.Timestamp]:
    per_day = 86_400 // INTERVAL_SECONDS[interval]
    if not bars:
        return days
    counts = pd.concat([part["open_time"] for part in bars]).dt.floor("D").value_counts()
    return [day for day in days if int(counts.get(day, 0)) < per_day]


def _days_to_fetch(days: list[pd.Timestamp], months: list[Fetched]) -> list[pd.Timestamp]:
    """Days worth asking for one by one: not those of months long before the listing.

    A month that the archive lacks is either before the series began (no file will ever come) or too young
    for a monthly file. The first kind lies before the first month found, or, where none was found, before
    the newest two.
    """
    lacking = [one.file.period for one in months if one.reason == "absent"]
    found = [one.file.period for one in months if one.reason != "absent"]
    hopeless = [m for m in lacking if m < found[0]] if found else lacking[:-_UNPUBLISHED_MONTHS]
    return [day for day in days if f"{day:%Y-%m}" not in set(hopeless)]


def _by_month(days: list[pd.Timestamp]) -> list[tuple[str, list[pd.Timestamp]]]:
    months: dict[str, list[pd.Timestamp]] = {}
    for day in days:
        months.setdefault(f"{day:%Y-%m}", []).append(day)
    return list(months.items())


def _funding_complete(lake: Lake, symbol: str, start: pd.Timestamp, end: pd.Timestamp) -> bool:
    rows = lake.read("funding", symbol=symbol, start=start, end=end, columns=["event_time"])
    edges = pd.DatetimeIndex([start - pd.Timedelta(1, "us"), *rows["event_time"], end])
    return bool(((edges[1:] - edges[:-1]) <= _FUNDING_STEP).all())


def _report(merged: MergeReport, fetched: list[Fetched], damaged: list[str], missing: int) -> PullReport:
    wrong = [one.file.name for one in fetched if one.reason == "bad checksum"]
    return PullReport(
        merged=merged,
        files=sum(one.path is not None for one in fetched),
        absent=tuple(one.file.period for one in fetched if one.reason == "absent"),
        damaged=tuple([*wrong, *damaged]),
        missing=missing,
    )
