"""DataSync: the eight sources at once, one snapshot of the market as known at a close.

Optional sources are asked at once, candles from the close on. Nothing but candles is needed: any other
source that fails leaves its features NaN, and its health says why (ADR 081).
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import pandas as pd

from acmf_core.collect.asking.fetch import Bars, CandleAnswer, Candles, Fetch, checked_bars
from acmf_core.collect.asking.known import MAX_AGE_S, checked
from acmf_core.collect.asking.offset import CLOCK, ClockOffset
from acmf_core.collect.asking.optional import OptionalSources
from acmf_core.collect.asking.outages import Outages
from acmf_core.collect.asking.policy import Outcome, ask, outcomes, reason_of
from acmf_core.collect.asking.window import CandleWindow, Conflict
from acmf_core.collect.memory import LakeMemory
from acmf_core.collect.recorder import LakeRecorder
from acmf_core.collect.snapshot import MarketSnapshot
from acmf_core.config import ExchangeConfig, SourceConfig, SourcesConfig
from acmf_core.domain import BAR_US, Alert, Health, SourceHealth
from acmf_core.errors import AcmfError, DataError, StaleData, VenueUnavailable
from acmf_core.features import MarketData
from acmf_core.lake import Lake
from acmf_core.ports import Clock, Notifier, Source

_LOG: Final = logging.getLogger("acmf.collect")
CANDLES: Final = "candles"
SOURCES: Final = (CANDLES, *sorted(MAX_AGE_S))
LEAD_US: Final = 30_000_000  # before the close: optional sources are not asked earlier
START_S: Final = 120.0  # for the history that the lake does not have
SETTLE_S: Final = 1.0  # for rows of the last collection that are still on their way into the lake
LAKE_START_S: Final = 60.0  # for what the lake holds, when the daemon starts
LAKE_S: Final = (
    5.0  # the same in a collection after one that failed; never more than a quarter of its deadline
)
FUNDING_WAIT_S: Final = 0.5  # between two questions for a payment that is due
MAX_TOLD: Final = 1_000  # conflicts remembered, so that each is told once
_INTERVAL: Final = "15m"
BarsQuestion = Callable[[CandleWindow, int, float], Awaitable[list[CandleAnswer]]]


class DataSync:
    """Collects what is known at each close (port `Feed`).

    Parameters
    ----------
    symbol : str
        The venue's name.
    candles : Candles
        The one source that is mandatory.
    sources : sequence of Source
        Optional ones, each at most once; their names are fields of `MarketData`.
    config : SourcesConfig
        How each is asked, and the deadline of a whole collection.
    exchange : ExchangeConfig
        What a wrong clock is.
    clock, notifier
        Ports.
    off : mapping
        Source to the reason why it is not asked, and how to switch it on.
    lake : Lake, optional
        Where history comes from and collected rows go; without one nothing is kept.
    observe : callable, optional
        Called with the health of every source after every collection.
    server_time : callable, optional
        Asks the exchange for its time (microseconds).
    closing : callable, optional
        Awaited at the end of `close`: connections that the sources share.

    Attributes
    ----------
    health : tuple of SourceHealth
        Of the latest collection, also of one that failed: the eight of `SOURCES`.
    """

    def __init__(
        self,
        symbol: str,
        candles: Candles,
        sources: Sequence[Source],
        config: SourcesConfig,
        exchange: ExchangeConfig,
        clock: Clock,
        notifier: Notifier,
        *,
        off: Mapping[str, str],
        lake: Lake | None = None,
        observe: Callable[[SourceHealth], None] | None = None,
        server_time: Callable[[], Awaitable[int]] | None = None,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._symbol = symbol
        self._optional = OptionalSources(sources, off, config, clock)
        self._config = config
        self._clock = clock
        self._notifier = notifier
        self._memory = LakeMemory(lake, symbol) if lake is not None else None
        self._observe = observe
        self._server_time = server_time
        self._closing = closing
        self._fetch = Fetch(candles, config.candles)
        self._window = CandleWindow()
        self._outages = Outages(symbol, clock, notifier)
        self._recorder = LakeRecorder(lake, symbol, clock, notifier) if lake is not None else None
        self._told: dict[tuple[str, str], None] = {}
        self._candles_failed = False
        self._turn, self._checking = asyncio.Lock(), asyncio.Lock()
        self.health: tuple[SourceHealth, ...] = ()
        self._offset = ClockOffset(exchange, self._outages)

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load what the lake holds, ask for the bars it lacks, and say once which sources are off."""
        self._say_off()
        at = self._clock.now() // BAR_US * BAR_US
        await self._load(at)
        end = asyncio.get_running_loop().time() + START_S
        for question in (self._fetch.bars, self._fetch.history):
            asked = {CANDLES: partial(self._history, question, at, end)}
            found = (await outcomes(asked, START_S, self._optional.running))[CANDLES]
            if found.failure:
                _LOG.warning("the history of %s is not complete: %s", self._symbol, found.failure)
            else:
                self._take_candles(found.answer or [])

    async def close(self) -> None:
        """Wait until everything collected is in the lake, or refused by it; then close connections."""
        try:
            if self._memory is not None:
                self._memory.close()
            if self._recorder is not None:
                await self._recorder.close()
        finally:
            if self._closing is not None:
                await self._closing()

    def judged(self, moment: int) -> tuple[SourceHealth, ...]:
        """The latest health, as if the close had been at `moment` (microseconds): what came since counts."""
        return tuple(self._optional.judged(one, moment) for one in self.health)

    def newest(self, name: str, moment: int) -> int | None:
        """When the newest row of a source known at `moment` became known; None where there is none."""
        if name == CANDLES:
            opened = self._window.newest_before(moment)
            return None if opened is None else opened + BAR_US
        age = self._optional.known[name].age_s(moment)
        return None if math.isnan(age) else moment - round(age * 1e6)

    @property
    def clock_offset_s(self) -> float:
        """The exchange's clock minus ours, as last measured; NaN where it could not be."""
        return self._offset.seconds

    # -- one collection --------------------------------------------------------------------------------

    async def collect(self, at: int) -> MarketSnapshot:
        """The market as known at the close `at` (microseconds).

        To be called in the last 30 seconds before the close: it waits for the close itself, and for optional
        sources no longer (`sources.early_s`). Called after it, everything is asked at once, and what arrives
        then was not known at that close: it counts for later ones. It ends at the latest `deadline_s` after
        the close, or after the call where that is later.

        Raises
        ------
        StaleData, MissingBars, VenueUnavailable, DataError
            The bar that closed at `at` cannot be had; `health` holds all sources nevertheless.
        """
        async with self._turn:
            deadline, due = self._config.deadline_s, max(at, self._clock.now())
            if self._recorder is not None:
                await self._recorder.settle(min(SETTLE_S, deadline / 4))
            if self._candles_failed:  # a person may have bridged an outage meanwhile
                await self._load_candles(at, min(LAKE_S, deadline / 4))
            await self._until(at - LEAD_US)
            lead = max(0, at - self._clock.now()) / 1e6
            seconds = lead + deadline - max(0, self._clock.now() - due) / 1e6
            questions = self._questions(at, asyncio.get_running_loop().time() + seconds)
            sooner = self._until_the_close(questions, at, lead)
            found = await outcomes(questions, seconds, self._optional.running, sooner=sooner)
            measured = found.get(CLOCK)
            self._offset.meet(None if measured is None else measured.answer)
            health = [self._met_candles(at, found[CANDLES])]
            for name in SOURCES[1:]:
                await asyncio.sleep(0)  # milliseconds each: whoever else lives on this loop gets a turn
                health.append(self._met(name, at, found.get(name)))
            self.health = tuple(health)
            self._outages.meet(self.health)
            if self._observe is not None:
                for one in self.health:
                    self._observe(one)
            self._refuse_without_candles(found[CANDLES], at)
            await asyncio.sleep(0)
            return self._snapshot(at)

    def _snapshot(self, at: int) -> MarketSnapshot:
        slow = {name: known.until(at) for name, known in self._optional.known.items()}
        for known in self._optional.known.values():
            known.forget(at)
        market = MarketData(self._window.until(at), **slow)
        return MarketSnapshot(at, market, self.health, self._offset.seconds)

    def _questions(self, at: int, end: float) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Who is asked for this close, and how."""
        questions: dict[str, Callable[[], Awaitable[Any]]] = {CANDLES: partial(self._candles, at, end)}
        if self._server_time is not None and not self._optional.running.has(CLOCK):
            questions[CLOCK] = partial(self._measured, self._server_time)
        for name, source in self._optional.on.items():
            if self._optional.why_not(name, at):
                continue
            if name == "funding" and _is_due(source, at):
                questions[name] = partial(self._funding, source, at, end)
            else:
                questions[name] = partial(self._rows, source, at)
        return questions

    def _until_the_close(self, names: Iterable[str], at: int, lead: float) -> dict[str, float]:
        """Sources that nobody waits for beyond the close, where they are asked early enough before it."""
        if lead <= self._config.early_s:
            return {}
        due = [
            name for name, source in self._optional.on.items() if name == "funding" and _is_due(source, at)
        ]
        return {name: lead for name in names if name not in (CANDLES, *due)}

    async def _candles(self, at: int, end: float) -> list[Bars]:
        await self._until(at)
        return checked_bars(await self._fetch.bars(self._window, at, end), self._symbol, at)

    async def _history(self, question: BarsQuestion, at: int, end: float) -> list[Bars]:
        return checked_bars(await question(self._window, at, end), self._symbol, at)

    async def _rows(self, source: Source, at: int) -> pd.DataFrame:
        rows = await ask(source.name, lambda: source.collect(at), self._config_of(source.name))
        async with self._checking:  # one after the other, with a turn for everybody else in between
            await asyncio.sleep(0)
            return checked(source.table, rows, self._symbol)

    async def _funding(self, source: Source, at: int, end: float) -> pd.DataFrame:
        """After the close; where a payment must have happened, until it is there or the time is over."""
        await self._until(at)
        loop = asyncio.get_running_loop()
        while True:
            rows = await self._rows(source, at)
            paid = bool((rows["event_time"] >= _stamp(at)).any())
            in_time = loop.time() + FUNDING_WAIT_S < end - FUNDING_WAIT_S
            if paid or not in_time or not self._optional.known["funding"].payment_due(at):
                return rows
            await asyncio.sleep(FUNDING_WAIT_S)

    async def _measured(self, server_time: Callable[[], Awaitable[int]]) -> float:
        """Seconds by which the exchange's clock is ahead of ours, half the round trip taken off."""
        once = SourceConfig(timeout_s=self._config.candles.timeout_s, attempts=1)

        async def measure() -> float:
            sent = self._clock.now()
            said = await server_time()
            return (said - (sent + self._clock.now()) / 2) / 1e6

        return await ask(CLOCK, measure, once)

    async def _until(self, moment: int) -> None:
        """Sleep until the clock has reached `moment`."""
        while (left := moment - self._clock.now()) > 0:
            await asyncio.sleep(min(left / 1e6, 1.0))

    def _config_of(self, name: str) -> SourceConfig:
        found: SourceConfig = getattr(self._config, name)
        return found

    # -- what came of it -------------------------------------------------------------------------------

    def _met_candles(self, at: int, outcome: Outcome[list[Bars]]) -> SourceHealth:
        reason = outcome.failure
        if outcome.late and self._fetch.last_word is not None:
            reason = reason_of(CANDLES, self._fetch.last_word)
        notes: list[str] = []
        if not reason:
            notes = self._take_candles(outcome.answer or [])
        if not reason and not self._window.has(at - BAR_US):
            reason = "the answer does not have the bar that closed"
        newest = self._window.newest_before(at)
        age = math.nan if newest is None else (at - BAR_US - newest) / 1e6
        status = Health.FAILED if reason else Health.OK
        return SourceHealth(CANDLES, status, outcome.latency_s, age, reason or "; ".join(notes))

    def _take_candles(self, answers: Sequence[Bars]) -> list[str]:
        """Bars into the window and all rows into the lake; what a person should know of them."""
        notes: list[str] = []
        for parts, said in answers:
            notes += said
            conflicts = self._window.take(parts[_INTERVAL]) if _INTERVAL in parts else []
            notes += self._tell("closed again with other values, the held one stays", conflicts)
            for interval, rows in parts.items():
                if interval != _INTERVAL:
                    odd = self._window.disagreements(rows, interval)
                    notes += self._tell("differs from its 15m bars", odd)
                if self._recorder is not None:
                    self._recorder.write(CANDLES, rows)
        return notes

    def _tell(self, what: str, conflicts: Sequence[Conflict]) -> list[str]:
        """One line for conflicts; a person hears of each once."""
        if not conflicts:
            return []
        text = f"{len(conflicts)} value(s): {conflicts[0]} ({what})"
        fresh = [c for c in conflicts if (what, str(c)) not in self._told]
        self._told.update({(what, str(c)): None for c in fresh})
        while len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]
        if fresh:
            self._notifier.send(
                Alert("warning", f"{self._symbol}: a bar {text}", f"{self._symbol}-bar-{what}")
            )
        return [text]

    def _met(self, name: str, at: int, outcome: Outcome[pd.DataFrame] | None) -> SourceHealth:
        """Health of one optional source; what it said goes into the lake, unless a wrong clock stamped it."""
        health = self._optional.meet(name, at, outcome)
        recorder = None if self._offset.wrong else self._recorder
        if recorder is not None and outcome is not None and outcome.answer is not None:
            recorder.write(self._optional.on[name].table, outcome.answer)
        return health

    def _refuse_without_candles(self, outcome: Outcome[list[Bars]], at: int) -> None:
        """Raise what kept the bar away: nothing is decided on an older one."""
        health = self.health[0]
        self._candles_failed = health.status is not Health.OK
        if not self._candles_failed:
            return
        error = self._fetch.last_word if outcome.late else outcome.error
        if isinstance(error, AcmfError):
            raise error
        when = f"{_stamp(at):%Y-%m-%d %H:%M} UTC"
        cause = f"no candle of {self._symbol} for the close of {when}: {health.reason}"
        if outcome.failure:
            raise VenueUnavailable(cause, "nothing is decided; the next cycle asks again")
        raise StaleData(cause, "nothing is decided; the next cycle asks again")

    # -- memory ----------------------------------------------------------------------------------------

    async def _load(self, at: int) -> None:
        """Bars and slow rows out of the lake; a lake that cannot be read is as good as an empty one."""
        await self._load_candles(at, LAKE_START_S)
        if self._memory is None:
            return
        try:
            frames = await self._memory.slow(at, LAKE_START_S)
        except (OSError, DataError) as error:
            self._outages.begin("lake", f"the lake cannot be read: {error}")
            return
        for name, rows in frames.items():
            if rows is not None:
                self._optional.known[name].take(rows)

    async def _load_candles(self, at: int, seconds: float) -> None:
        if self._memory is None:
            return
        try:
            self._window.take(await self._memory.bars(at, seconds))
        except (OSError, DataError) as error:
            self._outages.begin("lake", f"the lake cannot be read: {error}")
        else:
            self._outages.end("lake", "the lake is read again")

    def _say_off(self) -> None:
        said = "; ".join(f"{name}: {reason}" for name, reason in self._optional.off.items())
        if said:
            text = f"{self._symbol}: sources that are off: {said}"
            self._notifier.send(Alert("info", text, f"{self._symbol}-sources-off"))


def _is_due(source: Source, at: int) -> bool:
    """Whether a payment can happen at the close: only the funding source knows."""
    due = getattr(source, "due", None)
    return bool(due(at)) if callable(due) else False


def _stamp(at: int) -> pd.Timestamp:
    return pd.Timestamp(at, unit="us", tz="UTC")
