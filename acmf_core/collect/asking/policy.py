"""How one source is asked: a limit for each try, further tries, a rest for what fails again and again.

`ask` and `Circuit` speak of one source; `outcomes` puts all of them under one deadline that none can break.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

from acmf_core.config import SourceConfig
from acmf_core.errors import AcmfError, VenueUnavailable
from acmf_core.ports import Clock

T = TypeVar("T")
_LOG: Final = logging.getLogger("acmf.collect")
FIRST_WAIT_S: Final = 0.2  # before the second try; doubled from try to try
LONGEST_WAIT_S: Final = 4.0
MAX_REASON: Final = 300  # characters: a reason is a line, not the page that a broken server sent


async def ask(name: str, call: Callable[[], Awaitable[T]], config: SourceConfig) -> T:
    """Ask once, and again while the source is unavailable, with growing and jittered waits in between.

    Parameters
    ----------
    name : str
        For the error.
    call : callable
        One try.
    config : SourceConfig
        Seconds for one try, and the number of tries.

    Raises
    ------
    VenueUnavailable
        No try succeeded; no answer within the limit counts as that.
    Exception
        Anything else that the source raises is raised at once: another try cannot help.
    """
    from tenacity import (
        AsyncRetrying,
        retry_if_exception_type,
        stop_after_attempt,
        wait_exponential,
        wait_random,
    )

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(VenueUnavailable),
        stop=stop_after_attempt(config.attempts),
        wait=wait_exponential(FIRST_WAIT_S, LONGEST_WAIT_S) + wait_random(0, FIRST_WAIT_S),
        reraise=True,
    )
    return await retrying(within, name, call, config.timeout_s)


async def within(name: str, call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """One try within its limit; VenueUnavailable where that is over."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await call()
    except TimeoutError:
        if not limit.expired():
            raise  # the source's own slip, not our limit
        raise VenueUnavailable(f"{name} gave no answer within {seconds:g} s", "it is asked again") from None


class Circuit:
    """Leaves a source alone that failed in several collections in a row; then lets one trial through.

    Parameters
    ----------
    failures : int
        So many in a row, and it is left alone.
    rest_s : float
        For so long; a failed trial starts the rest again.
    """

    def __init__(self, failures: int, rest_s: float, clock: Clock) -> None:
        self._limit = failures
        self._rest_us = round(rest_s * 1e6)
        self._clock = clock
        self._failures = 0
        self._rests_until: int | None = None

    @property
    def resting_s(self) -> float:
        """Seconds for which it is still left alone; 0 where it may be asked."""
        if self._rests_until is None:
            return 0.0
        left = self._rests_until - self._clock.now()
        if left > self._rest_us:  # the clock was set back: a rest ends by a clock that was wrong
            return 0.0
        return max(0.0, left / 1e6)

    @property
    def failures(self) -> int:
        """Failed collections in a row."""
        return self._failures

    def succeed(self) -> None:
        """It answered."""
        self._failures, self._rests_until = 0, None

    def fail(self) -> None:
        """It did not."""
        self._failures += 1
        if self._failures >= self._limit:
            self._rests_until = self._clock.now() + self._rest_us


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of asking one source. failure: why there is no answer, in one line; empty where there is one.

    late: it was still at it when the time was over.
    """

    answer: T | None
    failure: str = ""
    error: BaseException | None = None
    latency_s: float = 0.0
    late: bool = False


@dataclass
class Running:
    """Sources that ignored being cancelled: they are not asked again until they have come to an end."""

    tasks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether an earlier question to this source is still running."""
        task = self.tasks.get(name)
        if task is not None and task.done():
            del self.tasks[name]
        return name in self.tasks


async def outcomes(
    questions: Mapping[str, Callable[[], Awaitable[Any]]],
    seconds: float,
    running: Running,
    *,
    sooner: Mapping[str, float] | None = None,
) -> dict[str, Outcome[Any]]:
    """Ask all at once and come back when all have answered, or when the time is over, whatever they do.

    What is late is cancelled and not waited for: code that ignores cancellation, or waits for a thread,
    goes on in the background until it ends, and is kept in `running` so long.

    Parameters
    ----------
    questions : mapping
        Name to a callable that asks.
    seconds : float
        From now.
    sooner : mapping, optional
        Name to fewer seconds, for those that need not be waited for so long.
    """
    began = perf_counter()
    finished: dict[str, float] = {}
    limits = dict.fromkeys(questions, seconds) | dict(sooner or {})
    tasks: dict[str, asyncio.Task[Any]] = {}
    for name, question in questions.items():
        tasks[name] = asyncio.ensure_future(_timed(name, question, began, finished))
        tasks[name].add_done_callback(_forget)  # also where nobody comes to read it: Ctrl-C
    waited_for = dict(tasks)
    try:
        while waited_for:
            left = min(limits[name] for name in waited_for) - (perf_counter() - began)
            await asyncio.wait(waited_for.values(), timeout=max(0.0, left))
            over = perf_counter() - began
            waited_for = {n: task for n, task in waited_for.items() if not task.done() and limits[n] > over}
            _leave_alone({n: task for n, task in tasks.items() if n not in waited_for}, running)
    finally:  # also where this collection itself is cancelled
        _leave_alone(tasks, running)
    if any(not task.done() for task in tasks.values()):
        await asyncio.sleep(0)  # most end at once
    return {name: _outcome(name, task, finished, limits[name]) for name, task in tasks.items()}


def _leave_alone(tasks: Mapping[str, asyncio.Task[Any]], running: Running) -> None:
    """Cancel those that still run, once, and remember them."""
    for name, task in tasks.items():
        if not task.done() and running.tasks.get(name) is not task:
            task.cancel()
            running.tasks[name] = task


async def _timed(
    name: str, question: Callable[[], Awaitable[Any]], began: float, finished: dict[str, float]
) -> Any:
    try:
        return await question()
    finally:
        finished[name] = perf_counter() - began


def _outcome(
    name: str, task: asyncio.Task[Any], finished: Mapping[str, float], seconds: float
) -> Outcome[Any]:
    """The result of a task, inspected and not raised: no source ends a collection."""
    latency = finished.get(name, seconds)
    if not task.done() or task.cancelled():
        return Outcome(None, f"no answer within {seconds:.1f} s, when the time was over", None, seconds, True)
    error = task.exception()
    if error is None:
        return Outcome(task.result(), latency_s=latency)
    return Outcome(None, reason_of(name, error), error, latency)


def reason_of(name: str, error: BaseException) -> str:
    """One line for a person: ours as they read; anything else is a bug, logged with where it happened.

    The text of a foreign error stays out of logs and records: it may hold an address with a key in it.
    """
    if isinstance(error, AcmfError):
        said = error.cause if isinstance(error, VenueUnavailable) else str(error)
        return " ".join(said.split())[:MAX_REASON]
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("bug in the source %s: %s at\n%s", name, type(error).__name__, where)
    return f"bug in source {name}: {type(error).__name__} (the log says where)"


def _forget(task: asyncio.Task[Any]) -> None:
    """Take the result of a task that nobody waits for any more, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
