"""From the public archive into the lake: which files are needed, what they say, one merge a chunk of months.

At most one chunk (`CHUNK_ROWS` bars) is held at a time, however long the window; while it is read and merged
the next one's files are on their way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.collect.archive.client import Archive, Progress
from acmf_core.collect.archive.files import ArchiveFile, Fetched
from acmf_core.collect.archive.rows import funding_of, klines_of
from acmf_core.collect.pull.report import Counted, PullReport, nothing_merged, report_of
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError
from acmf_core.lake import Lake, MergeReport
from acmf_core.lake.tables import candle_rows, funding_rows

__all__ = [
    "CHUNK_ROWS",
    "PullReport",
    "chunks_of",
    "first_overdue",
    "pull_candles",
    "pull_funding",
    "stored_span",
    "stored_times",
]

CHUNK_ROWS: Final = 500_000  # bars of one merge: 11 months of 1-minute bars, 14 years of 15-minute ones
_USUAL: Final = pd.Timedelta(hours=8)  # between two payments, where nothing says otherwise
_LATE: Final = pd.Timedelta(minutes=5)
_FEW_DAYS: Final = 3  # so few missing days of a month are fetched one by one
_UNPUBLISHED_MONTHS: Final = 2  # a monthly file appears on the first Monday of the next month


@dataclass(frozen=True)
class Span:
    """What the lake holds of a series in a window: bars, the first and the last opening time."""

    rows: int
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None

    def missing(self, interval: str) -> int:
        """Grid points between first and last without a bar."""
        if self.first is None or self.last is None:
            return 0
        return (
            int((self.last - self.first) // pd.Timedelta(seconds=INTERVAL_SECONDS[interval])) + 1 - self.rows
        )


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
    chunk_rows: int = CHUNK_ROWS,
    required: bool = True,
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
        Take values that differ from stored ones; days that the lake has are asked for again.
    progress : callable(stage, done, total), optional
        After every file and every commit.
    chunk_rows : int
        At most about so many bars are held at a time; one commit each.
    required : bool
        Whether a window of which the archive has nothing is an error.

    Raises
    ------
    DataError
        The archive has nothing of the series in the window (and it is required).
    VenueUnavailable
        The archive cannot be reached; what was committed stays, the same call later goes on.
    OSError
        Cache or lake cannot be written.
    """
    start, end = start.floor("D"), end.floor("D")
    chunks = list(chunks_of(start, end, interval, chunk_rows))
    plan = _Plan.of(lake, symbol, interval, chunks, again=accept_corrections)
    counted = Counted(f"{symbol} {interval}", plan.files + len(plan.lots), progress)
    merged: list[MergeReport] = []
    fetched: list[Fetched] = []
    bad: list[str] = []
    since = plan.since
    for number, lot in enumerate(archive.in_turn(plan.lots, counted.step)):
        days = plan.days[number]
        bars = _read_klines(lot, bad)
        since = _earliest(since, bars)
        wanted = _days_to_fetch(_still_missing(days, bars, interval), lot, since=since, end=end)
        daily = [ArchiveFile("klines", symbol, f"{day:%Y-%m-%d}", interval) for day in wanted]
        counted.more(len(daily))
        more = archive.fetch(daily, counted.step)
        bars += _read_klines(more, bad)
        since = _earliest(since, bars)
        if bars:
            frame = _first_of_each(bars, "open_time", start, end)
            rows = candle_rows(frame, symbol, interval)
            del bars, frame  # a merge needs room; one copy of the chunk is enough
            merged.append(
                lake.merge("candles", rows, accept_corrections=accept_corrections, source=archive.base_url)
            )
        archive.forget([*lot, *more])
        counted.step()
        fetched += [*lot, *more]
    archive.sweep(f"{symbol}-{interval}")
    if plan.lots and since is None and required:
        raise DataError(
            f"the archive at {archive.base_url} has no {interval} klines of {symbol} from {start:%Y-%m-%d} "
            f"to {end:%Y-%m-%d}",
            "check the symbol and the dates; a day is published the day after",
        )
    missing = stored_span(lake, symbol, interval, start, end).missing(interval)
    return report_of("candles", merged, fetched, bad, missing=missing)


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
        if accept_corrections
        or not _funding_complete(lake, symbol, max(month, start), min(month + pd.offsets.MonthBegin(1), end))
    ]
    counted = Counted(f"{symbol} funding", len(files) + 1, progress)
    fetched = archive.fetch(files, counted.step)
    parts, bad = [], []
    for one in fetched:
        if one.path is not None:
            try:
                parts.append(funding_of(one.path, one.file))
            except DataError:
                bad.append(one.file.name)
    merged = nothing_merged("funding")
    if parts:
        rows = funding_rows(_first_of_each(parts, "event_time", start, end), symbol)
        merged = lake.merge("funding", rows, accept_corrections=accept_corrections, source=archive.base_url)
    archive.forget(fetched)
    archive.sweep(f"{symbol}-fundingRate")
    counted.step()
    return report_of("funding", [merged], fetched, bad)


def chunks_of(
    start: pd.Timestamp, end: pd.Timestamp, interval: str, rows: int = CHUNK_ROWS
) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """The window cut at firsts of months into parts of at most about `rows` bars (one month at least)."""
    per_day = 86_400 // INTERVAL_SECONDS[interval]
    months = max(1, int(rows / per_day / 30.5))
    while start < end:
        until = min(end, start.floor("D").replace(day=1) + pd.offsets.MonthBegin(months))
        yield start, until
        start = until


def stored_times(
    lake: Lake, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp
) -> pd.DatetimeIndex:
    """Opening times of the stored bars, start <= time < end, ascending; a bridged stand-in is none.

    So the true bar is asked for again, as that of any other outage.
    """
    columns = ["open_time", "bridged"]
    rows = lake.read("candles", symbol=symbol, interval=interval, start=start, end=end, columns=columns)
    return pd.DatetimeIndex(rows.loc[~rows["bridged"], "open_time"])


def stored_span(lake: Lake, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp) -> Span:
    """What is stored of start <= time < end, bridged bars too, counted chunk by chunk."""
    rows, first, last = 0, None, None
    for since, until in chunks_of(start, end, interval):
        times = lake.read(
            "candles", symbol=symbol, interval=interval, start=since, end=until, columns=["open_time"]
        )["open_time"]
        if len(times):
            rows, last = rows + len(times), times.iloc[-1]
            first = first if first is not None else times.iloc[0]
    return Span(rows, first, last)


@dataclass(frozen=True)
class _Plan:
    """Chunks with something to fetch: their incomplete days, the files that bring most of them at once.

    `since` is the first bar that the lake has in the window.
    """

    lots: list[list[ArchiveFile]]
    days: list[list[pd.Timestamp]]
    since: pd.Timestamp | None

    @property
    def files(self) -> int:
        return sum(len(lot) for lot in self.lots)

    @classmethod
    def of(
        cls,
        lake: Lake,
        symbol: str,
        interval: str,
        chunks: Sequence[tuple[pd.Timestamp, pd.Timestamp]],
        *,
        again: bool,
    ) -> "_Plan":
        lots, all_days, known = [], [], None
        for since, until in chunks:
            times = stored_times(lake, symbol, interval, since, until)
            known = times[0] if known is None and len(times) else known
            days = _incomplete_days(times[:0] if again else times, since, until, interval)
            if days:
                lots.append(_monthly(days, symbol, interval))
                all_days.append(days)
        return cls(lots, all_days, known)


def _monthly(days: list[pd.Timestamp], symbol: str, interval: str) -> list[ArchiveFile]:
    months: dict[str, int] = {}
    for day in days:
        months[f"{day:%Y-%m}"] = months.get(f"{day:%Y-%m}", 0) + 1
    return [ArchiveFile("klines", symbol, month, interval) for month, n in months.items() if n > _FEW_DAYS]


def _read_klines(fetched: Sequence[Fetched], bad: list[str]) -> list[pd.DataFrame]:
    """The bars of every file that can be read; the names of the others go to `bad`."""
    parts = []
    for one in fetched:
        if one.path is None:
            continue
        try:
            parts.append(klines_of(one.path, one.file))
        except DataError:
            bad.append(one.file.name)
    return parts


def _earliest(since: pd.Timestamp | None, bars: list[pd.DataFrame]) -> pd.Timestamp | None:
    firsts = [part["open_time"].iloc[0] for part in bars if len(part)]
    return min([*firsts, since] if since is not None else firsts, default=None)


def _first_of_each(
    parts: list[pd.DataFrame], time: str, start: pd.Timestamp, end: pd.Timestamp
) -> pd.DataFrame:
    whole = pd.concat(parts, ignore_index=True)
    whole = whole[(whole[time] >= start) & (whole[time] < end)]
    return whole.drop_duplicates(time).sort_values(time, ignore_index=True)


def _incomplete_days(
    times: pd.DatetimeIndex, start: pd.Timestamp, end: pd.Timestamp, interval: str
) -> list[pd.Timestamp]:
    per_day = 86_400 // INTERVAL_SECONDS[interval]
    days = pd.date_range(start, end, freq="D", inclusive="left", unit="us")
    held = times.floor("D").value_counts().reindex(days, fill_value=0).to_numpy()
    return list(days[held < per_day])


def _still_missing(days: list[pd.Timestamp], bars: list[pd.DataFrame], interval: str) -> list[pd.Timestamp]:
    per_day = 86_400 // INTERVAL_SECONDS[interval]
    if not bars:
        return days
    counts = pd.concat([part["open_time"] for part in bars]).dt.floor("D").value_counts()
    return [day for day in days if int(counts.get(day, 0)) < per_day]


def _days_to_fetch(
    days: list[pd.Timestamp], months: list[Fetched], *, since: pd.Timestamp | None, end: pd.Timestamp
) -> list[pd.Timestamp]:
    """Days worth asking for one by one: not those of months long before the listing.

    A month that the archive lacks is either too young for a monthly file (the newest two up to the window's
    `end`: no younger one can be in it, whatever day it is today), or it lies before the first bar known
    (`since`), where no file will ever come.
    """
    young = end.floor("D").replace(day=1) - pd.offsets.MonthBegin(_UNPUBLISHED_MONTHS - 1)
    listed = young if since is None else min(young, since)
    hopeless = {one.file.period for one in months if one.reason == "absent"}
    hopeless = {month for month in hopeless if month < f"{listed:%Y-%m}"}
    return [day for day in days if f"{day:%Y-%m}" not in hopeless]


def first_overdue(paid: pd.DataFrame, end: pd.Timestamp) -> pd.Timestamp | None:
    """The payment after which the next one did not come in time; None where all up to `end` are there.

    A payment is due as many hours after the one before as the rows around it say (`interval_hours`; the
    smallest spacing where they say nothing): the row after a hole may take the hole for the interval.

    Parameters
    ----------
    paid : DataFrame
        event_time and interval_hours of at least one payment, ascending.
    """
    times = pd.DatetimeIndex(paid["event_time"])
    gaps = pd.DatetimeIndex([*times[1:], end]) - times
    usual = max(pd.Timedelta(hours=1), gaps[:-1].min()) if len(times) > 1 else _USUAL
    hours = paid["interval_hours"].astype("Float64").fillna(usual / pd.Timedelta(hours=1)).to_numpy(float)
    due = pd.to_timedelta(np.maximum(hours, np.append(hours[2:], hours[-2:])), unit="h")
    late = times[gaps > due + _LATE]
    return late[0] if len(late) else None


def _funding_complete(lake: Lake, symbol: str, start: pd.Timestamp, end: pd.Timestamp) -> bool:
    """Whether every payment from the first midnight on is there with the interval that the archive says."""
    columns = ["event_time", "interval_hours"]
    paid = lake.read("funding", symbol=symbol, start=start, end=end, columns=columns)
    if paid.empty or paid["interval_hours"].isna().any():
        return False
    return paid["event_time"].iloc[0] - start <= _LATE and first_overdue(paid, end) is None
