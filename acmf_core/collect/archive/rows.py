"""What a verified zip of the archive says: bars and funding payments, checked before anyone sees them."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.collect.archive.files import ArchiveFile
from acmf_core.collect.files.filetypes import KLINE_COLUMNS
from acmf_core.collect.files.importer import check_bars
from acmf_core.collect.files.stamps import to_utc
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError

FUNDING_COLUMNS: Final = ("calc_time", "funding_interval_hours", "last_funding_rate")
_UNUSED: Final = ("close_time", "ignore")
_MAX_UNPACKED: Final = 256 << 20  # a month of 1-minute bars is 5 MB
_RATE_LIMIT: Final = 1.0  # a payment of more than the whole position is none
_HOURS: Final = range(1, 25)
_UNPACKING: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def klines_of(path: Path, file: ArchiveFile) -> pd.DataFrame:
    """The bars in one zip of klines; with or without a header row, stamps in ms or us.

    Returns
    -------
    DataFrame
        open_time (UTC) and every kline column that the lake knows; ascending, no stamp twice.

    Raises
    ------
    DataError
        Not a zip of one CSV of twelve columns, off the interval's grid, outside the file's month or day, two
        different bars of one time, or impossible bars.
    """
    raw = csv_of(path, KLINE_COLUMNS, _kline_types(), skip=_UNUSED)
    times, _ = to_utc(raw["open_time"], path.name)
    frame = raw.rename(columns={"count": "trades"}).assign(open_time=times)
    frame = _in_order(frame, path.name)
    _refuse_strangers(pd.DatetimeIndex(frame["open_time"]), file, path.name)
    check_bars(frame.set_index("open_time"), path.name)
    return frame


def funding_of(path: Path, file: ArchiveFile) -> pd.DataFrame:
    """The payments in one zip: event_time (floored to the second: the venue's jitter), rate, hours.

    Raises
    ------
    DataError
        Not a zip of one CSV of three columns, outside the file's month, or rates that cannot be.
    """
    types = {"calc_time": "int64", "funding_interval_hours": "int64", "last_funding_rate": "float64"}
    raw = csv_of(path, FUNDING_COLUMNS, types)
    times, _ = to_utc(raw["calc_time"], path.name)
    rate, hours = raw["last_funding_rate"], raw["funding_interval_hours"]
    if not (np.isfinite(rate) & (rate.abs() < _RATE_LIMIT) & hours.isin(_HOURS)).all():
        raise DataError(f"{path.name} holds a funding rate or an interval that cannot be")
    frame = pd.DataFrame({"event_time": times.dt.floor("s"), "funding_rate": rate, "interval_hours": hours})
    frame = frame.rename(columns={"event_time": "open_time"})
    frame = _in_order(frame, path.name)
    _refuse_strangers(pd.DatetimeIndex(frame["open_time"]), file, path.name)
    return frame.rename(columns={"open_time": "event_time"})


def csv_of(
    path: Path, columns: Sequence[str], types: Mapping[str, str], *, skip: Sequence[str] = ()
) -> pd.DataFrame:
    """The one CSV of a zip; whether its first line is a header is seen, never assumed.

    Parameters
    ----------
    path : Path
        The zip.
    columns : sequence of str
        All columns of the CSV, in the order of a file without a header.
    types : mapping
        Column to dtype. Decimals become the nearest double (pandas' parser rounds correctly).
    skip : sequence of str
        Columns not needed.

    Raises
    ------
    DataError
        Not such a file.
    """
    data = _unpacked(path)
    first = data.split(b"\n", 1)[0].decode("utf-8", "replace").strip().lower().split(",")
    if len(first) != len(columns):
        raise DataError(f"{path.name} has {len(first)} columns instead of {len(columns)}")
    header = any(letter.isalpha() for letter in first[0])
    names = first if header else list(columns)
    if set(names) != set(columns):
        raise DataError(f"{path.name} has other columns: {', '.join(names)[:100]}")
    _refuse_other_widths(data, len(columns), path.name)
    try:
        return pd.read_csv(
            io.BytesIO(data),
            header=0 if header else None,
            names=names,
            usecols=[name for name in columns if name not in skip],
            dtype=dict(types),
            index_col=False,
        )
    except (ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise DataError(f"{path.name} cannot be read: {reason}") from None


def _refuse_other_widths(data: bytes, columns: int, name: str) -> None:
    """The parser drops cells beyond the last column without a word."""
    commas, lines = data.count(b","), data.count(b"\n") + (not data.endswith(b"\n"))
    if commas == lines * (columns - 1):
        return
    wrong = [line for line in data.splitlines() if line.strip() and line.count(b",") != columns - 1]
    if wrong:
        raise DataError(f"{name} cannot be read: {len(wrong)} line(s) do not have {columns} columns")


def period_of(file: ArchiveFile) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The month or day of a file: start <= time < end."""
    start = pd.Timestamp(file.period, tz="UTC").as_unit("us")
    month = len(file.period) == len("2024-01")
    return start, start + (pd.offsets.MonthBegin(1) if month else pd.Timedelta(days=1))


def _unpacked(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise DataError(f"{path.name} holds {len(members)} files instead of one")
            if members[0].file_size > _MAX_UNPACKED:
                raise DataError(f"{path.name} unpacks to {members[0].file_size >> 20} MB")
            return archive.read(members[0])
    except _UNPACKING as error:
        raise DataError(f"{path.name} cannot be unpacked: {error}") from None


def _kline_types() -> dict[str, str]:
    return dict.fromkeys(KLINE_COLUMNS, "float64") | {"open_time": "int64", "count": "int64"}


def _in_order(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Ascending, identical doubles dropped."""
    if frame["open_time"].is_monotonic_increasing and frame["open_time"].is_unique:
        return frame  # as nearly all files are
    frame = frame.drop_duplicates(ignore_index=True)
    double = frame["open_time"].duplicated()
    if double.any():
        raise DataError(
            f"{name} holds two different rows of {frame.loc[double, 'open_time'].iloc[0]:%Y-%m-%d %H:%M} UTC"
        )
    return frame.sort_values("open_time", ignore_index=True)


def _refuse_strangers(times: pd.DatetimeIndex, file: ArchiveFile, name: str) -> None:
    """Stamps off the grid, or of another month or day than the file's name says."""
    start, end = period_of(file)
    outside = (times < start) | (times >= end)
    if outside.any():
        raise DataError(f"{name} holds a row of {times[outside][0]:%Y-%m-%d %H:%M:%S} UTC")
    step = INTERVAL_SECONDS[file.interval] * 1_000_000 if file.interval else 1
    off = times.as_unit("us").asi8 % step != 0
    if off.any():
        raise DataError(
            f"{name} holds a bar off the {file.interval} grid: {times[off][0]:%Y-%m-%d %H:%M:%S} UTC"
        )
