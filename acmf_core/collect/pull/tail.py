"""What the archive does not have (yet), asked of the venue itself: the newest bars, and days that it misses.

Every stretch without a bar between the first stored one and the end of the window is asked for, whether it is
the tail after the archive's last day or a hole in its files. Ratios and open interest go back 30 days only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import pandas as pd
import tenacity

from acmf_core.collect.archive.metrics import DELAY
from acmf_core.collect.archive.metrics import INTERVAL as ARCHIVE_INTERVAL
from acmf_core.collect.pull.report import nothing_merged, together
from acmf_core.collect.pull.series import chunks_of, first_overdue, stored_times
from acmf_core.collect.venue.client import Venue
from acmf_core.config import ExchangeConfig
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import VenueUnavailable
from acmf_core.lake import Lake, MergeReport

RATIO_INTERVAL: Final = "15m"
_RATIO_DAYS: Final = pd.Timedelta(days=30) - pd.Timedelta(hours=1)  # the venue keeps 30
_ONE_REQUEST: Final = 1_000  # bars: holes closer together than this are asked for at once
_ONE_MERGE: Final = 100_000
_ATTEMPTS: Final = 4
_BACKOFF_S: Final = 1.0
_SOURCE: Final = "REST"

Window = tuple[pd.Timestamp, pd.Timestamp]


class VenueTail:
    """Brings one symbol's series up to the last closed bar. Methods run an event loop of their own.

    Parameters
    ----------
    lake : Lake
        What it has is not asked for.
    config : ExchangeConfig
        The venue.
    symbol : str
        As the venue writes it.
    now : int
        Microseconds; nothing that is known later is taken.
    accept_corrections : bool
        Take values that differ from stored ones.
    backoff_s : float, optional
        The first wait between four tries (1.0); it doubles, with jitter.

    Raises
    ------
    VenueUnavailable, ConfigError, DataError
        From any method: the venue is out of reach, or refuses symbol or request. Nothing is half-written.
    """

    def __init__(
        self,
        lake: Lake,
        config: ExchangeConfig,
        symbol: str,
        *,
        now: int,
        accept_corrections: bool = False,
        backoff_s: float | None = None,
    ) -> None:
        self._lake, self._config, self._symbol = lake, config, symbol
        self._now = pd.Timestamp(now, unit="us", tz="UTC")
        self._accept = accept_corrections
        self._backoff_s = _BACKOFF_S if backoff_s is None else backoff_s

    def candles(
        self,
        interval: str,
        start: pd.Timestamp,
        end: pd.Timestamp,
        *,
        unarchived: pd.Timestamp | None = None,
    ) -> MergeReport:
        """Closed bars missing in start <= open_time < end, after the first stored one.

        With `accept_corrections`, stored bars too from `unarchived` on: only the venue can correct these.
        """
        step = pd.Timedelta(seconds=INTERVAL_SECONDS[interval])
        end = min(end, self._now.floor(step))
        holes = missing_bars(self._lake, self._symbol, interval, start, end)
        if self._accept and unarchived is not None and unarchived < end:
            before = [(since, min(until, unarchived)) for since, until in holes if since < unarchived]
            holes = [*before, (max(start.ceil(step), unarchived), end)]
        windows = asked_together(holes, step)
        return (
            self._bring(self._candles(interval, list(windows), step))
            if windows
            else nothing_merged("candles")
        )

    def funding(self, start: pd.Timestamp, end: pd.Timestamp) -> MergeReport:
        """Payments missing in start <= time < end, after the first stored one."""
        end = min(end, self._now)
        columns = ["event_time", "interval_hours"]
        held = self._lake.read("funding", symbol=self._symbol, start=start, end=end, columns=columns)
        since = first_overdue(held, end) if len(held) else start
        if since is None or since >= end:
            return nothing_merged("funding")
        return self._bring(self._funding(since, end))

    def ratio(self, name: str, start: pd.Timestamp, end: pd.Timestamp) -> MergeReport:
        """Rows of long_short or open_interest (interval "15m") after the archive's last one, 30 days at most.

        Known 5 minutes after their time, as the archive's are; a row collected live keeps its own moment.
        """
        start, end = max(start, self._now - _RATIO_DAYS), min(end, self._now)
        last = start
        for interval in (ARCHIVE_INTERVAL, RATIO_INTERVAL):
            held = self._lake.read(
                name, symbol=self._symbol, interval=interval, start=start, end=end, columns=["event_time"]
            )["event_time"]
            if len(held) and (interval == ARCHIVE_INTERVAL or _unbroken(held, last)):
                last = max(last, held.iloc[-1])
        if end - last <= pd.Timedelta(seconds=INTERVAL_SECONDS[RATIO_INTERVAL]) + DELAY:
            return nothing_merged(name)
        return self._bring(self._ratio_rows(name, last, end))

    # -- one series each --------------------------------------------------------------------------------

    async def _candles(self, interval: str, windows: list[Window], step: pd.Timedelta) -> MergeReport:
        merged, waiting, held = [], [], 0
        async with _Asking(self._config, self._backoff_s) as asking:
            for start, end in (part for window in windows for part in _parts(window, step)):
                rows = await asking.ask(
                    lambda venue, start=start, end=end: venue.klines(  # type: ignore[misc]
                        self._symbol, interval, now=_us(self._now), start=_us(start), end=_us(end)
                    )
                )
                waiting.append(rows)
                held += len(rows)
                if held >= _ONE_MERGE:
                    merged.append(self._merge("candles", waiting, "open_time"))
                    waiting, held = [], 0
        merged.append(self._merge("candles", waiting, "open_time"))
        return together("candles", merged)

    async def _funding(self, start: pd.Timestamp, end: pd.Timestamp) -> MergeReport:
        async with _Asking(self._config, self._backoff_s) as asking:
            rows = await asking.ask(
                lambda venue: venue.funding(self._symbol, start=_us(start), now=_us(self._now))
            )
        return self._merge("funding", [rows[rows["event_time"] < end]], "event_time")

    async def _ratio_rows(self, name: str, start: pd.Timestamp, end: pd.Timestamp) -> MergeReport:
        async with _Asking(self._config, self._backoff_s) as asking:
            rows = await asking.ask(
                lambda venue: getattr(venue, name)(
                    self._symbol, now=_us(self._now), period=RATIO_INTERVAL, start=_us(start)
                )
            )
        known = rows["event_time"] + DELAY
        rows = rows.assign(available_at=known)[(known <= self._now) & (rows["event_time"] < end)]
        return self._merge(name, [rows], "event_time")

    def _merge(self, name: str, parts: list[pd.DataFrame], time: str) -> MergeReport:
        parts = [part for part in parts if len(part)]
        if not parts:
            return nothing_merged(name)
        rows = pd.concat(parts, ignore_index=True).drop_duplicates(time, ignore_index=True)
        return self._lake.merge(name, rows, accept_corrections=self._accept, source=_SOURCE)

    def _bring(self, work: Coroutine[Any, Any, MergeReport]) -> MergeReport:
        return asyncio.run(work)


def missing_bars(
    lake: Lake, symbol: str, interval: str, start: pd.Timestamp, end: pd.Timestamp
) -> list[Window]:
    """Stretches without a stored bar, each start <= open_time < end, after the first stored bar (if any)."""
    step = pd.Timedelta(seconds=INTERVAL_SECONDS[interval])
    found: list[Window] = []
    expected: pd.Timestamp | None = None
    for since, until in chunks_of(start, end, interval):
        times = stored_times(lake, symbol, interval, since, until)
        if not len(times):
            continue
        if expected is not None and times[0] > expected:
            found.append((expected, times[0]))
        holes = (times[1:] - times[:-1]) > step
        found += list(zip(times[:-1][holes] + step, times[1:][holes], strict=True))
        expected = times[-1] + step
    tail = start.ceil(step) if expected is None else expected
    return [*found, (tail, end)] if tail < end else found


def asked_together(holes: list[Window], step: pd.Timedelta) -> list[Window]:
    """Holes that lie in one request's reach become one."""
    windows: list[Window] = []
    for start, end in holes:
        if windows and end - windows[-1][0] <= _ONE_REQUEST * step:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


def _parts(window: Window, step: pd.Timedelta) -> Iterator[Window]:
    """A long stretch in parts of what is merged at once."""
    start, end = window
    while start < end:
        until = min(end, start + _ONE_MERGE * step)
        yield start, until
        start = until


def _unbroken(times: "pd.Series[pd.Timestamp]", since: pd.Timestamp) -> bool:
    step = pd.Timedelta(seconds=INTERVAL_SECONDS[RATIO_INTERVAL])
    edges = pd.DatetimeIndex([since, *times[times > since]])
    return bool(((edges[1:] - edges[:-1]) <= step).all())


def _us(stamp: pd.Timestamp) -> int:
    return int(stamp.value // 1_000)  # `value` is in ns whatever the unit


class _Asking:
    """A venue for a few requests, each tried again where that can help."""

    def __init__(self, config: ExchangeConfig, backoff_s: float) -> None:
        self._venue = Venue(config)
        self._backoff_s = backoff_s

    async def __aenter__(self) -> "_Asking":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._venue.aclose()

    async def ask(self, call: Callable[[Venue], Awaitable[pd.DataFrame]]) -> pd.DataFrame:
        async def once() -> pd.DataFrame:
            return await call(self._venue)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(VenueUnavailable),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(
                multiplier=self._backoff_s, max=10.0, jitter=self._backoff_s
            ),
            reraise=True,
        )
        return await retrying(once)
