"""What ACMF asks of the world. The adapters live one or more floors up and never define a port.

Times are integer microseconds since the epoch, UTC.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd

from acmf_core.domain import Alert, Check, Deployment, Order, OrderAck, SymbolRules


@runtime_checkable
class Clock(Protocol):
    """The only way to learn what time it is."""

    def now(self) -> int:
        """Microseconds since the epoch."""
        ...


@runtime_checkable
class Exchange(Protocol):
    """A venue. Every method may raise VenueUnavailable; `submit` also OrderRejected, OrderUnknown."""

    async def rules(self, symbol: str) -> SymbolRules:
        """The filters of one symbol."""
        ...

    async def submit(self, order: Order) -> OrderAck:
        """Idempotent by `client_id`: the same order twice is one order."""
        ...

    async def find(self, client_id: str) -> OrderAck | None:
        """The order of that name, or None where the venue knows none."""
        ...

    async def price(self, symbol: str) -> float:
        """The last traded price."""
        ...


@runtime_checkable
class Store(Protocol):
    """Durable memory of the daemon. Every method that changes several rows is one transaction."""

    def last_cycle(self, symbol: str) -> Mapping[str, Any] | None:
        """The newest completed cycle of a symbol with its kernel state, or None."""
        ...

    def record_cycle(self, cycle: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """One cycle with its predictions, orders, fills, trades and events, all or nothing.

        Recording a completed cycle again changes nothing; a failed one may be completed.
        """
        ...

    def record_event(self, kind: str, payload: Mapping[str, Any], *, at: int, actor: str) -> str:
        """Append an operator's command or a system event to the hash-chained journal; returns its hash."""
        ...

    def verify_journal(self) -> Check:
        """Whether the chain, and everything recorded under it, is as it was written."""
        ...

    def rows(self, table: str, **equal: Any) -> list[dict[str, Any]]:
        """The rows of one table that match, oldest first."""
        ...

    def columns(self, table: str, names: Sequence[str], *, start: int, end: int) -> list[tuple[Any, ...]]:
        """Some columns of the rows with start <= at <= end, oldest first."""
        ...


@runtime_checkable
class Notifier(Protocol):
    """A way to reach a person."""

    def send(self, alert: Alert) -> None:
        """Never raises: a dead messenger must not stop the trader."""
        ...


@runtime_checkable
class ModelRegistry(Protocol):
    """Which bundle is champion, challenger, previous."""

    def register(self, path: str, tags: Mapping[str, str]) -> str:
        """Take a bundle directory in; returns its version."""
        ...

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version. ModelNotReady when the version does not exist."""
        ...

    def resolve(self, alias: str) -> Deployment | None:
        """What the alias points at, or None."""
        ...

    def versions(self) -> list[Deployment]:
        """Everything registered, oldest first."""
        ...


@runtime_checkable
class Cache(Protocol):
    """Small values that may be forgotten. Every method may raise OSError where the cache is out of reach."""

    def get(self, key: str) -> bytes | None:
        """The value, or None where there is none or its time is over."""
        ...

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for so many seconds, in place of any earlier one."""
        ...

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        """Add to a counter, atomically; returns the sum. A new one starts at 0 and lives for `ttl_s`."""
        ...


@runtime_checkable
class Source(Protocol):
    """One of the outside's data sources. It asks once; retries, time limits and caching are DataSync's."""

    @property
    def name(self) -> str:
        """As in the configuration: book, fear_greed, funding, long_short, macro, onchain, news."""
        ...

    @property
    def table(self) -> str:
        """The table of the lake whose rows these are."""
        ...

    async def collect(self, at: int) -> "pd.DataFrame":
        """What can be known now, as rows of the table with both times; `at` is the close it is meant for.

        Raises
        ------
        VenueUnavailable
            No answer, or one that cannot be used: another try may succeed.
        DataError
            Another try cannot help: the request itself is refused (a wrong key, a spent budget).
        """
        ...
