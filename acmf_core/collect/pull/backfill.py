"""Every series of one symbol, one after the other: each stands for itself, one that fails stops no other."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

import pandas as pd

from acmf_core.collect.archive.client import Archive, Progress
from acmf_core.collect.archive.metrics import INTERVAL as METRICS_INTERVAL
from acmf_core.collect.archive.metrics import TABLES as METRICS_TABLES
from acmf_core.collect.archive.metrics import pull_metrics
from acmf_core.collect.pull.report import PullReport, nothing_merged, together
from acmf_core.collect.pull.series import pull_candles, pull_funding, stored_span
from acmf_core.collect.pull.tail import RATIO_INTERVAL, VenueTail
from acmf_core.config import Config
from acmf_core.errors import AcmfError, ConfigError, DataError, VenueUnavailable
from acmf_core.lake import Lake, MergeReport
from acmf_core.lake.tables import table

SERIES: Final = ("candles", "funding", "fear_greed", "macro", "long_short", "open_interest")
INTERVALS: Final = ("15m", "1h", "4h", "1d")  # the longer ones check the 15-minute bars
_YOUNG: Final = pd.Timedelta(days=3)  # the archive may not have such days yet
_FAILURES: Final = (VenueUnavailable, DataError, ConfigError)


@dataclass(frozen=True)
class Outcome:
    """What became of one series.

    Attributes
    ----------
    table, interval : str
        The series; no interval where the table has none.
    report : PullReport
        What was brought, also when something else failed.
    first, last : Timestamp or None
        Of what the lake holds in the window.
    error : AcmfError or None
        Why the series is not (wholly) there.
    """

    table: str
    interval: str
    report: PullReport
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    error: AcmfError | None = None

    @property
    def name(self) -> str:
        """candles 15m"""
        return f"{self.table} {self.interval}".strip()


class Backfill:
    """The history of one symbol: the archive's whole days, then the venue's own answer for the rest.

    Parameters
    ----------
    lake, archive : Lake, Archive
        Where to and where from.
    config : Config
        Venue and sources.
    symbol : str
        As the venue writes it.
    start, end : Timestamp (UTC)
        start <= time < end; `end` is at most `now`.
    now : int
        Microseconds.
    tail : bool
        Ask the venue for what the archive does not have.
    accept_corrections : bool
        Take values that differ from stored ones.
    progress : callable(stage, done, total), optional
        One stage a series.
    """

    def __init__(
        self,
        lake: Lake,
        archive: Archive,
        config: Config,
        symbol: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        *,
        now: int,
        tail: bool = True,
        accept_corrections: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._lake, self._archive, self._config, self._symbol = lake, archive, config, symbol
        self._start, self._end, self._now = start, end, now
        self._accept, self._progress = accept_corrections, progress
        today = pd.Timestamp(now, unit="us", tz="UTC").floor("D")
        self._days = (start.floor("D"), min(end, today).floor("D"))
        self._young = start >= today - _YOUNG
        self._tail = (
            VenueTail(lake, config.exchange, symbol, now=now, accept_corrections=accept_corrections)
            if tail
            else None
        )
        self._silent: AcmfError | None = None  # why the venue is not asked any more

    def run(self, tables: Sequence[str] = SERIES, intervals: Sequence[str] = INTERVALS) -> Iterator[Outcome]:
        """Bring the series, candles first, the archive's daily metrics last; yields each when it is done.

        Raises
        ------
        OSError
            Cache or lake cannot be written: nothing can go on.
        """
        if "candles" in tables:
            for interval in intervals:
                yield self._candles(interval)
        if "funding" in tables:
            yield self._funding()
        if "fear_greed" in tables:
            yield self._daily("fear_greed", self._ask_fear_greed)
        if "macro" in tables:
            yield self._daily("macro", self._ask_macro)
        if set(METRICS_TABLES) & set(tables):
            yield from self._metrics()
            if self._tail is not None:
                yield from self._ratios(self._tail)

    # -- the series -------------------------------------------------------------------------------------

    def _candles(self, interval: str) -> Outcome:
        outcome = self._from_archive(
            "candles",
            interval,
            lambda: pull_candles(
                self._lake,
                self._archive,
                self._symbol,
                *self._days,
                interval,
                accept_corrections=self._accept,
                progress=self._progress,
                required=not self._young,
            ),
        )
        tail = self._tail
        if tail is not None and outcome.error is None:
            since = self._unarchived(outcome.report)
            outcome = self._with_tail(
                outcome, lambda: tail.candles(interval, self._start, self._end, unarchived=since)
            )
        span = stored_span(self._lake, self._symbol, interval, self._start, self._end)
        notes = (*outcome.report.notes, *_late_start(self._start, span.first))
        report = replace(outcome.report, missing=span.missing(interval), notes=notes)
        outcome = replace(outcome, report=report, first=span.first, last=span.last)
        if outcome.error is None and report.damaged and report.missing:
            return replace(outcome, error=_incomplete(report, self._symbol))
        return outcome

    def _unarchived(self, report: PullReport) -> pd.Timestamp:
        """Where the archive's days end, the young ones that it does not have yet left out."""
        end = self._days[1]
        absent = [pd.Timestamp(day, tz="UTC") for day in report.absent if len(day) == len("2024-01-02")]
        return min([end, *(day for day in absent if day >= end - _YOUNG)])

    def _funding(self) -> Outcome:
        outcome = self._from_archive(
            "funding",
            "",
            lambda: pull_funding(
                self._lake,
                self._archive,
                self._symbol,
                *self._days,
                accept_corrections=self._accept,
                progress=self._progress,
            ),
        )
        tail = self._tail
        if tail is not None and outcome.error is None:
            outcome = self._with_tail(outcome, lambda: tail.funding(self._start, self._end))
        return self._with_ends(outcome)

    def _daily(self, name: str, ask: Callable[[], pd.DataFrame]) -> Outcome:
        """Sentiment and macro: one answer with all of it."""
        outcome = Outcome(name, "", _empty(name))
        try:
            rows = _interruptible(ask)
            inside = rows[(rows["event_time"] >= self._start) & (rows["event_time"] < self._end)]
            merged = nothing_merged(name)
            if len(inside):
                merged = self._lake.merge(name, inside, accept_corrections=self._accept, source="history")
            outcome = replace(outcome, report=replace(outcome.report, merged=merged))
        except _FAILURES as error:
            outcome = replace(outcome, error=error)
        self._said(f"{name}")
        return self._with_ends(outcome)

    def _metrics(self) -> Iterator[Outcome]:
        error, reports = None, {}
        try:
            reports = pull_metrics(
                self._lake,
                self._archive,
                self._symbol,
                *self._days,
                accept_corrections=self._accept,
                progress=self._progress,
            )
        except _FAILURES as failure:
            error = failure
        for name in METRICS_TABLES:
            report = reports.get(name, _empty(name))
            yield self._with_ends(Outcome(name, METRICS_INTERVAL, report, error=error))

    def _ratios(self, tail: VenueTail) -> Iterator[Outcome]:
        for name in METRICS_TABLES:
            outcome = Outcome(name, RATIO_INTERVAL, _empty(name))
            yield self._with_ends(
                self._with_tail(outcome, lambda name=name: tail.ratio(name, self._start, self._end))  # type: ignore[misc]
            )

    # -- what they share --------------------------------------------------------------------------------

    def _from_archive(self, name: str, interval: str, pull: Callable[[], PullReport]) -> Outcome:
        try:
            return Outcome(name, interval, pull())
        except _FAILURES as error:
            return Outcome(name, interval, _empty(name), error=error)

    def _with_tail(self, outcome: Outcome, ask: Callable[[], MergeReport]) -> Outcome:
        if self._silent is None:
            try:
                brought = ask()
            except _FAILURES as error:
                self._silent = type(error)(f"the tail from REST is left out: {error.cause}", error.fix)
            else:
                merged = together(outcome.table, [outcome.report.merged, brought])
                notes = outcome.report.notes
                if brought.changed:
                    notes = (*notes, f"{brought.inserted:,} from REST")
                return replace(outcome, report=replace(outcome.report, merged=merged, notes=notes))
        return replace(outcome, error=self._silent)

    def _with_ends(self, outcome: Outcome) -> Outcome:
        """First and last of what the lake holds in the window."""
        keys = table(outcome.table).partitions
        times = self._lake.read(
            outcome.table,
            symbol=self._symbol if "symbol" in keys else None,
            interval=outcome.interval if "interval" in keys else None,
            start=self._start,
            end=self._end,
            columns=["event_time"],
        )["event_time"]
        if times.empty:
            return outcome
        return replace(outcome, first=times.iloc[0], last=times.iloc[-1])

    def _ask_fear_greed(self) -> pd.DataFrame:
        from acmf_core.collect.sentiment import fear_greed_history

        return fear_greed_history(self._config.sources.fear_greed)

    def _ask_macro(self) -> pd.DataFrame:
        from acmf_core.collect.macro import macro_history

        start, end = (int(stamp.value // 1_000) for stamp in (self._start, self._end))
        return macro_history(self._config.sources.macro, start, end, self._now)

    def _said(self, stage: str) -> None:
        if self._progress is not None:
            self._progress(f"{self._symbol} {stage}", 1, 1)


def _interruptible(call: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The answer of a call that may hang in a library's C code: in a thread, so that Ctrl-C is heard here."""
    answer: Future[pd.DataFrame] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # raised again where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, name="history", daemon=True).start()
    return answer.result()


def _empty(name: str) -> PullReport:
    return PullReport(nothing_merged(name), 0, (), ())


def _late_start(start: pd.Timestamp, first: pd.Timestamp | None) -> tuple[str, ...]:
    """A word on whole days without a bar at the beginning: the listing, or files that are not there."""
    days = 0 if first is None else (first - start.ceil("D")).days
    return (f"nothing in the first {days:,} day(s)",) if days > 0 else ()


def _incomplete(report: PullReport, symbol: str) -> VenueUnavailable:
    count = len(report.damaged)
    shown = ", ".join(report.damaged[:3]) + (f" and {count - 3} more" if count > 3 else "")
    return VenueUnavailable(
        f"{report.missing} bar(s) of {symbol} are missing because {count} file(s) of the archive are damaged "
        f"({shown})",
        "try again later, or bring those days with acmf data import FILE",
    )
