"""Figures for Prometheus: how the data sources do."""

import math
from typing import TYPE_CHECKING

from acmf_core.domain import Health, SourceHealth

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class SourceMetrics:
    """Turns the health of sources into gauges and counters; `observe` is what DataSync calls.

    acmf_source_up{source}            1 ok, 0 stale or failed; absent where the source is off
    acmf_source_age_seconds{source}   of its newest row known at the close; NaN where there is none
    acmf_source_latency_seconds       of the latest question
    acmf_source_collections_total     by source and status
    acmf_source_failures_total        by source: collections in which it did not answer usably

    Parameters
    ----------
    registry : CollectorRegistry, optional
        One of its own by default: two daemons in a process do not mix.
    """

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = registry if registry is not None else CollectorRegistry()
        by, into = ["source"], self.registry
        self._up = Gauge("acmf_source_up", "1: answers, and its rows are young enough", by, registry=into)
        self._age = Gauge(
            "acmf_source_age_seconds", "Age of the newest row known at the close", by, registry=into
        )
        self._latency = Gauge(
            "acmf_source_latency_seconds", "How long the latest question took", by, registry=into
        )
        self._collections = Counter(
            "acmf_source_collections", "Collections by status", [*by, "status"], registry=into
        )
        self._failures = Counter(
            "acmf_source_failures", "Collections without a usable answer", by, registry=into
        )

    def observe(self, health: SourceHealth) -> None:
        """Take in how one source did in one collection."""
        name = health.source
        self._collections.labels(name, health.status.value).inc()
        failures = self._failures.labels(name)  # there from the first collection on, at 0
        if health.status is Health.FAILED:
            failures.inc()
        self._age.labels(name).set(health.age_s if math.isfinite(health.age_s) else math.nan)
        self._up.labels(name).set(1.0 if health.status is Health.OK else 0.0)
        if health.status is Health.OFF:
            self._up.remove(name)
            return
        self._latency.labels(name).set(health.latency_s)
