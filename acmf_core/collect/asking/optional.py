"""The seven optional sources: which are asked, what is known of each, and how it did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from acmf_core.collect.asking.known import MAX_AGE_S, KnownRows
from acmf_core.collect.asking.outages import lasted
from acmf_core.collect.asking.policy import Circuit, Outcome, Running
from acmf_core.config import SourcesConfig
from acmf_core.domain import BAR_US, Health, SourceHealth
from acmf_core.ports import Clock, Source


class OptionalSources:
    """Sources that may fail, each with its circuit and the rows known of it.

    Parameters
    ----------
    sources : sequence of Source
        Those that are on.
    off : mapping
        The others, and why.
    config : SourcesConfig
        For the circuits.
    clock : Clock
        What is late, and how long a circuit rests.

    Attributes
    ----------
    on : dict
        The sources by name.
    known : dict
        The rows of all seven by name; those of a source that is off may come from the lake.
    """

    def __init__(
        self, sources: Sequence[Source], off: Mapping[str, str], config: SourcesConfig, clock: Clock
    ) -> None:
        self.on = {source.name: source for source in sources}
        self.known = {name: KnownRows(name) for name in MAX_AGE_S}
        self.running = Running()
        self._clock = clock
        self._off = {name: off.get(name, "not configured") for name in MAX_AGE_S if name not in self.on}
        rest = (config.circuit_failures, config.circuit_rest_s, clock)
        self._circuits = {name: Circuit(*rest) for name in self.on}
        self._reasons: dict[str, str] = {}

    @property
    def off(self) -> dict[str, str]:
        """Sources that are not asked at all, and why."""
        return dict(self._off)

    def why_not(self, name: str, at: int) -> str:
        """Why a source is not asked in this collection; empty where it is."""
        if self._past(name, at):
            return "not asked: a later bar has closed, nothing new could count for this one"
        if self.running.has(name):
            return f"{name} is still busy with an earlier question"
        circuit = self._circuits[name]
        if rest := circuit.resting_s:
            said = f"left alone for another {lasted(rest)} after {circuit.failures} failures in a row"
            return f"{said}; the last: {self._reasons[name]}"
        return ""

    def meet(self, name: str, at: int, outcome: Outcome[pd.DataFrame] | None) -> SourceHealth:
        """Take in what came of one source in the collection for the close `at`; None: it was not asked."""
        known = self.known[name]
        if name in self._off:
            return SourceHealth(name, Health.OFF, 0.0, known.age_s(at), self._off[name])
        if outcome is None:
            status = Health.OFF if self._past(name, at) else Health.FAILED
            return SourceHealth(name, status, 0.0, known.age_s(at), self.why_not(name, at))
        if outcome.failure:
            self._circuits[name].fail()
            self._reasons[name] = outcome.failure
            return SourceHealth(name, Health.FAILED, outcome.latency_s, known.age_s(at), outcome.failure)
        self._circuits[name].succeed()
        assert outcome.answer is not None
        known.take(outcome.answer)
        status, reason = self._judged(name, at)
        return SourceHealth(name, status, outcome.latency_s, known.age_s(at), reason)

    def judged(self, health: SourceHealth, moment: int) -> SourceHealth:
        """Health with the age at another moment; of a source that answered, also the status."""
        if health.source not in self.known:
            return health
        age = self.known[health.source].age_s(moment)
        if health.status not in (Health.OK, Health.STALE):
            return replace(health, age_s=age)
        status, reason = self._judged(health.source, moment)
        return replace(health, age_s=age, status=status, reason=reason)

    def _judged(self, name: str, at: int) -> tuple[Health, str]:
        """How good the newest known row is, of a source that answered."""
        age, limit = self.known[name].age_s(at), MAX_AGE_S[name]
        if math.isnan(age):
            return Health.STALE, "it answered, but nothing of it was known by then"
        if age > limit:
            said = f"its newest row known by then is {lasted(age)} old"
            return Health.STALE, f"{said}, more than {lasted(limit)}"
        if name == "funding" and self.known[name].payment_due(at):
            return Health.OK, "a payment that is due is not there yet"
        return Health.OK, ""

    def _past(self, name: str, at: int) -> bool:
        """Whether this close lies so far back that only payments, known at their own time, still count."""
        return name != "funding" and self._clock.now() >= at + BAR_US
