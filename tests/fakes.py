"""One fake per port, for tests. They pass the same contract suites as the real adapters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acmf_core.domain import Alert, Check, Deployment, Order, OrderAck, SymbolRules
from acmf_core.errors import AcmfError, ModelNotReady, OrderRejected, VenueUnavailable
from acmf_core.fingerprint import canonical
from acmf_core.ports import Clock
from acmf_core.store import journal, schema
from acmf_core.store.registry import content_hash


@dataclass
class FakeClock:
    """Says the time it was given."""

    time: int = 0

    def now(self) -> int:
        return self.time


@dataclass
class FakeExchange:
    """Takes orders into a dict. `faults` are raised by the next submits, after the order was taken
    where the fault says that nobody knows (OrderUnknown), before it otherwise."""

    symbol_rules: SymbolRules = field(default_factory=SymbolRules)
    last_price: float | None = None
    orders: dict[str, Order] = field(default_factory=dict)
    faults: list[AcmfError] = field(default_factory=list)
    submits: int = 0

    async def rules(self, symbol: str) -> SymbolRules:
        self._check(symbol)
        return self.symbol_rules

    async def submit(self, order: Order) -> OrderAck:
        self._check(order.symbol)
        self.submits += 1
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, VenueUnavailable):
            raise fault
        rules = self.symbol_rules
        steps = abs(order.quantity) / rules.step
        small = abs(order.quantity) < rules.min_quantity * (1 - 1e-9)
        if (
            small
            or abs(steps - round(steps)) > 1e-6
            or abs(order.quantity) > rules.max_market_quantity * (1 + 1e-9)
        ):
            raise OrderRejected(f"{order.client_id}: quantity {order.quantity}")
        self.orders.setdefault(order.client_id, order)
        if fault is not None:
            raise fault
        return self._ack(order.client_id)

    async def find(self, client_id: str) -> OrderAck | None:
        return self._ack(client_id) if client_id in self.orders else None

    async def price(self, symbol: str) -> float:
        self._check(symbol)
        if self.last_price is None:
            raise VenueUnavailable("no price yet")
        return self.last_price

    def mark(self, price: float) -> None:
        self.last_price = price

    def _check(self, symbol: str) -> None:
        if symbol != self.symbol_rules.symbol:
            raise OrderRejected(f"unknown symbol {symbol}")

    def _ack(self, client_id: str) -> OrderAck:
        return OrderAck(client_id, f"fake-{client_id}", "accepted")


@dataclass
class FakeStore:
    """The store as dicts; rows come back as they would from a database."""

    tables: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in schema.TABLES}
    )
    faults: list[BaseException] = field(default_factory=list)

    def last_cycle(self, symbol: str) -> dict[str, Any] | None:
        met = [c for c in self.rows("cycles", symbol=symbol) if c["status"] != schema.FAILED]
        return met[-1] if met else None

    def rows(self, table: str, **equal: Any) -> list[dict[str, Any]]:
        found = [
            dict(row)
            for row in self.tables[table]
            if all(row[name] == value for name, value in equal.items())
        ]
        return sorted(found, key=lambda row: tuple(row[name] for name in schema.CHRONOLOGY[table]))

    def columns(self, table: str, names: Sequence[str], *, start: int, end: int) -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in names) for row in self.rows(table) if start <= row["at"] <= end]

    def record_cycle(self, cycle: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        head = schema.complete("cycles", cycle)
        found = {name: [schema.complete(name, row) for row in many] for name, many in rows.items() if many}
        if unknown := found.keys() - schema.CYCLE_TABLES.keys():
            raise KeyError(min(unknown))
        if self.faults:
            raise self.faults.pop(0)
        before = [c for c in self.tables["cycles"] if c["cycle_id"] == head["cycle_id"]]
        if before and before[0]["status"] != schema.FAILED:
            return
        self.tables["cycles"] = [c for c in self.tables["cycles"] if c["cycle_id"] != head["cycle_id"]] + [
            head
        ]
        for name, many in found.items():
            self.tables[name] += many
        kind, payload = journal.entry(head, found)
        self._append(kind, payload, head["recorded_at"], "daemon", head["cycle_id"])

    def record_event(self, kind: str, payload: Mapping[str, Any], *, at: int, actor: str) -> str:
        return self._append(kind, payload, at, actor, None)

    def record_deployment(
        self, alias: str, version: str, bundle: str, *, at: int, actor: str, reason: str = "", evidence=None
    ) -> None:
        said = {"alias": alias, "version": version, "bundle": bundle, "reason": reason}
        said["evidence"] = canonical(evidence or {})
        self.tables["model_registry"].append(said | {"at": at, "actor": actor, "id": len(self.tables)})
        self._append("deployment", said, at, actor, None)

    def verify_journal(self) -> Check:
        count, fault = journal.broken_link(self.tables["system_events"])
        for event in self.rows("system_events", kind="decision"):
            cycle = next((c for c in self.tables["cycles"] if c["cycle_id"] == event["cycle_id"]), None)
            rows = {name: self.rows(name, cycle_id=event["cycle_id"]) for name in schema.CYCLE_TABLES}
            if cycle is None or json.loads(event["payload"])["digest"] != journal.digest(cycle, rows):
                fault = fault or f"the rows of cycle {event['cycle_id']} are not those that were recorded"
        return Check("journal", not fault, f"{count} rows hold", "the chain is whole", fault)

    def _append(
        self, kind: str, payload: Mapping[str, Any], at: int, actor: str, cycle_id: str | None
    ) -> str:
        events = self.tables["system_events"]
        previous = events[-1]["hash"] if events else journal.GENESIS
        row = {"at": at, "kind": kind, "actor": actor, "cycle_id": cycle_id, "payload": canonical(payload)}
        row |= {"previous": previous, "hash": journal.link(previous, row), "id": len(events) + 1}
        events.append(row)
        return str(row["hash"])


@dataclass
class FakeNotifier:
    """Keeps what it was told."""

    sent: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        self.sent.append(alert)


@dataclass
class FakeRegistry:
    """Versions and aliases in memory."""

    known: list[Deployment] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    def register(self, path: str, tags: Mapping[str, str]) -> str:
        content = {"content": content_hash(Path(path))}
        for deployment in self.known:
            if deployment.tags["content"] == content["content"]:
                deployment.tags.update(tags)
                return deployment.version
        version = str(len(self.known) + 1)
        self.known.append(Deployment(version, path, {**tags, **content}))
        return version

    def set_alias(self, alias: str, version: str) -> None:
        if version not in {deployment.version for deployment in self.known}:
            raise ModelNotReady(f"no version {version}", "register the bundle first")
        self.aliases[alias] = version

    def resolve(self, alias: str) -> Deployment | None:
        return next((d for d in self.known if d.version == self.aliases.get(alias)), None)

    def versions(self) -> list[Deployment]:
        return list(self.known)


@dataclass
class FakeCache:
    """Values in a dict; its time is the clock's. `down` makes it unreachable."""

    clock: Clock = field(default_factory=FakeClock)
    kept: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    down: bool = False

    def get(self, key: str) -> bytes | None:
        if self.down:
            raise OSError("the cache is down")
        expires, value = self.kept.get(key, (0, b""))
        return value if key in self.kept and expires > self.clock.now() else None

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self.get(key)
        self.kept.pop(key, None)
        if ttl_s > 0:
            self.kept[key] = (self.clock.now() + int(min(ttl_s, 1e9) * 1e6), value)

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        before = self.get(key)
        if before is not None and not before.removeprefix(b"-").isdigit():
            raise OSError(f"{key} is no counter")
        total = int(before or 0) + amount
        expires = self.kept[key][0] if before is not None else self.clock.now() + int(ttl_s * 1e6)
        self.kept[key] = (expires, b"%d" % total)
        return total
