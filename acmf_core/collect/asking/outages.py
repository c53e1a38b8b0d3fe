"""One message when a source goes down and one when it is back, however many collections lie between."""

import math
from collections.abc import Iterable
from typing import Final

from acmf_core.domain import Alert, Health, SourceHealth
from acmf_core.ports import Clock, Notifier

_DOWN: Final = (Health.FAILED, Health.STALE)
STEADY: Final = 4  # good collections in a row after which a source is back: one now and then is not


class Outages:
    """Tells a person of outages: a warning as each begins, an info as it ends, with how long it took.

    A source that fails every now and then is out until it has been good for `STEADY` collections in a row:
    it is told once, not as often as it changes its mind.

    Parameters
    ----------
    symbol : str
        Named in every message.
    clock : Clock
        For the durations.
    notifier : Notifier
        Who is told.
    """

    def __init__(self, symbol: str, clock: Clock, notifier: Notifier) -> None:
        self._symbol = symbol
        self._clock = clock
        self._notifier = notifier
        self._since: dict[str, int] = {}
        self._good: dict[str, list[int]] = {}  # moments of the good collections since a source last failed

    def meet(self, health: Iterable[SourceHealth]) -> None:
        """Health of one collection: what changed since the last is told."""
        for one in health:
            if one.status in _DOWN:
                self._good.pop(one.source, None)
                age = "" if math.isnan(one.age_s) else f" (its newest row is {lasted(one.age_s)} old)"
                self.begin(one.source, f"{one.source} is {one.status.value}{age}: {one.reason}")
            elif one.status is Health.OK and one.source in self._since:
                good = self._good.setdefault(one.source, [])
                good.append(self._clock.now())
                if len(good) == STEADY:
                    self._end(one.source, f"{one.source} is back", self._good.pop(one.source)[0])

    def begin(self, what: str, text: str, level: str = "warning") -> None:
        """Something is out; said only where it was not out before."""
        if what not in self._since:
            self._since[what] = self._clock.now()
            self._notifier.send(Alert(level, f"{self._symbol}: {text}", f"{self._symbol}-out-{what}"))

    def end(self, what: str, text: str) -> None:
        """It is back; said only where it was out."""
        self._end(what, text, self._clock.now())

    def _end(self, what: str, text: str, moment: int) -> None:
        since = self._since.pop(what, None)
        if since is not None:
            said = f"{self._symbol}: {text} after {lasted((moment - since) / 1e6)}"
            self._notifier.send(Alert("info", said, f"{self._symbol}-back-{what}"))


def lasted(seconds: float) -> str:
    """A duration as people say it: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
