"""The daemon: meets every closed bar once, in order, and goes on whatever a cycle raises.

`Daemon.meet` is what a scheduler, a watchdog and a replay call alike. `replay` drives it over past bars with
a replay clock and holds what it has recorded against `trading.simulate`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from acmf_core.domain import BAR_US, Alert, Mode
from acmf_core.errors import ConfigError
from acmf_core.execution.clock import ReplayClock
from acmf_core.execution.feed import HISTORY_BARS, check_whole
from acmf_core.execution.orders import moment
from acmf_core.execution.world import Model, World
from acmf_core.features import MarketData
from acmf_core.features.market import open_times
from acmf_core.pipeline import Cycle, run_cycle
from acmf_core.ports import Notifier, Store
from acmf_core.trading import TradeParams
from production.bootstrap import replay_world
from production.parity import compare, simulated

_LOG = logging.getLogger("acmf.daemon")
_BEFORE_SETTLING = frozenset({"features", "predict"})  # where these fail, exits are still possible
Progress = Callable[[int, int], None]
T = TypeVar("T")


class Daemon:
    """Runs cycles, one at a time.

    Parameters
    ----------
    world : World
        Its plugs; between two cycles it may be replaced (a new champion).

    Attributes
    ----------
    failure : Exception or None
        What kept the last `meet` from completing its bar.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.failure: Exception | None = None
        self._turn = asyncio.Lock()
        self._met: int | None = None  # the newest bar known to be completed; the store has the last word
        self._told: set[str] = set()  # what a person has heard of since the last cycle without a failure

    async def meet(self, at: int) -> Cycle | None:
        """Meet the bar that closed at `at` (microseconds), after those before it that were missed.

        A second call for the same bar waits for the first and then does nothing. Missed bars are caught up
        in order; being late, they only settle and exit. A bar that cannot be completed holds up the later
        ones, and is tried again by the next call: the kernel never skips a bar.

        Returns
        -------
        Cycle or None
            The newest cycle that was completed; None if there was none to do, or `failure` says why.
        """
        async with self._turn:
            self.failure = None
            newest: Cycle | None = None
            try:
                for due in self._due(at):
                    newest = await self._meet_one(due)
                    self._met = due
            except Exception as error:  # the outermost loop: no cycle ends the daemon
                self._report(at, error)
                self.failure = error
                return None
            return newest

    def _due(self, at: int) -> range:
        if self._met is None:
            last = self.world.store.last_cycle(self.world.symbol)
            self._met = last["at"] if last is not None else at - BAR_US
        return range(self._met + BAR_US, at + 1, BAR_US)

    async def _meet_one(self, at: int) -> Cycle | None:
        """One bar; blind where features or model have failed, so that exits are never missed."""
        try:
            cycle = await run_cycle(self.world, at)
        except Exception as error:
            if self._failed_stage(at) not in _BEFORE_SETTLING:
                raise
            self._report(at, error)
        else:
            self._told.clear()
            return cycle
        return await run_cycle(self.world, at, blind=True)

    def _failed_stage(self, at: int) -> str:
        rows = self.world.store.rows("cycles", symbol=self.world.symbol, at=at)
        return str(rows[0]["stage"]) if rows else ""

    def _report(self, at: int, error: Exception) -> None:
        """Log every failure; tell a person of each kind once, until a cycle has gone well again."""
        symbol = self.world.symbol
        _LOG.warning("the cycle of %s failed", moment(at), exc_info=error)
        text = f"{symbol}: the cycle of {moment(at)} failed: {error}"
        key = f"{symbol}-failed-{type(error).__name__}"
        if key not in self._told:
            self._told.add(key)
            self.world.notifier.send(Alert("warning", text, key))


@dataclass(frozen=True)
class ReplayResult:
    """What a replay did, and whether it agrees with `simulate`.

    Attributes
    ----------
    cycles, trades : int
        Recorded in the window, earlier runs on the same store included.
    differences : int
        Values that are not exactly those of `simulate` over the same bars; 0 is parity.
    first_difference : dict or None
        bar, table, column, replay and simulate of the earliest.
    seconds : float
        Of this run's cycles, the comparison not included.
    equity : float
        At the last close, in quote units.
    timings : dict
        Mean milliseconds per stage of this run's cycles.
    ran : int
        Cycles of this run; fewer than `cycles` where an earlier one was continued.
    bundle : str
        Hash of the bundle that was replayed.
    start, end : int
        Open time of the first bar, close of the last, in microseconds.
    """

    cycles: int
    trades: int
    differences: int
    seconds: float
    first_difference: dict[str, Any] | None
    equity: float
    timings: dict[str, float]
    ran: int
    bundle: str
    start: int
    end: int


def replay(
    market: MarketData,
    bundle: Model,
    *,
    start: int,
    end: int,
    store: Store,
    progress: Progress | None = None,
    params: TradeParams | None = None,
    symbol: str = "BTCUSDT",
    equity: float = 10_000.0,
    notifier: Notifier | None = None,
) -> ReplayResult:
    """Run the daemon over the bars with start <= open_time < end (microseconds), then compare.

    On a store that holds the beginning of the same replay it goes on where that ended.

    Parameters
    ----------
    market : MarketData
        Contiguous bars; those before `start` warm the features up (13,056 for all of them).
    bundle : Model
        A loaded `Bundle`.
    store : Store
        Where the cycles are recorded.
    progress : callable, optional
        Called with (bars done, bars in all).
    params : TradeParams, optional
        The bundle's own by default.

    Raises
    ------
    ConfigError
        No bar in the window, or a store that holds another replay.
    MissingBars
        A bar of the window, or of the history that its features read, is not there.
    """
    first, stop = _window(market, start, end)
    params = params if params is not None else TradeParams.from_dict(bundle.params)
    world = replay_world(
        market, bundle, params, store, start=first, symbol=symbol, equity=equity, notifier=notifier
    )
    _check_store(world, first + BAR_US)
    ran, spent, seconds = _finished(_drive(world, first + BAR_US, stop, progress))
    expectation = simulated(market, bundle, params, first, stop, equity)
    comparison = compare(store, symbol, expectation)
    return ReplayResult(
        cycles=comparison.cycles,
        trades=comparison.trades,
        differences=comparison.differences,
        seconds=seconds,
        first_difference=comparison.first.described() if comparison.first is not None else None,
        equity=comparison.equity,
        timings={stage: 1e3 * total / ran for stage, total in spent.items()},
        ran=ran,
        bundle=bundle.hash,
        start=first,
        end=stop,
    )


def _window(market: MarketData, start: int, end: int) -> tuple[int, int]:
    """(open time of the first bar, close of the last), all bars and their history being there."""
    times = open_times(market.candles)
    if len(times) == 0 or start < times[0] or end > times[-1] + BAR_US:
        there = f"{moment(int(times[0]))} to {moment(int(times[-1]) + BAR_US)}" if len(times) else "none"
        raise ConfigError(
            f"no bars for a replay from {moment(start)} to {moment(end)}; those there are: {there}",
            "choose a window inside",
        )
    first, stop = (int(i) for i in np.searchsorted(times, (start, end)))
    if first >= stop:
        raise ConfigError(
            f"no bar opens from {moment(start)} until {moment(end)}",
            "the first is included, the second is not",
        )
    check_whole(times[max(0, first + 1 - HISTORY_BARS) : stop])
    return int(times[first]), int(times[stop - 1]) + BAR_US


def _check_store(world: World, first: int) -> None:
    """A store goes on with the replay it holds, or with none."""
    last = world.store.last_cycle(world.symbol)
    if last is None:
        return
    began = min(row[0] for row in world.store.columns("cycles", ("at",), start=0, end=last["at"]))
    mine = (Mode.REPLAY.value, world.model.hash, world.params.fingerprint, moment(first - BAR_US))
    theirs = (last["mode"], last["bundle"], last["params"], moment(began - BAR_US))
    for what, ours, held in zip(("mode", "bundle", "parameters", "first bar"), mine, theirs, strict=True):
        if ours != held:
            raise ConfigError(
                f"the store holds another replay: its {what} is {held[:24]}, this one's {ours[:24]}",
                "give another --store, or remove that file",
            )


async def _drive(
    world: World, first: int, last: int, progress: Progress | None
) -> tuple[int, dict[str, float], float]:
    """Every close from `first` to `last` through the daemon: cycles run, seconds by stage, seconds in all."""
    daemon, clock = Daemon(world), world.clock
    assert isinstance(clock, ReplayClock)
    met = world.store.last_cycle(world.symbol)
    closes = range(met["at"] + BAR_US if met is not None else first, last + 1, BAR_US)
    total = (last - first) // BAR_US + 1
    ran, spent = 0, Counter[str]()
    began = perf_counter()
    for at in closes:
        clock.advance_to(at)
        cycle = await daemon.meet(at)
        if daemon.failure is not None:
            raise daemon.failure
        if cycle is not None:
            ran += 1
            spent.update(cycle.timings)
        if progress is not None:
            progress((at - first) // BAR_US + 1, total)
        await asyncio.sleep(0)  # let Ctrl-C in
    return ran, dict(spent), perf_counter() - began


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where an event loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
