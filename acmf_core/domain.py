"""The values that every part of ACMF speaks in. No behaviour beyond arithmetic on them, no I/O."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

BAR_MINUTES: Final = 15
BAR_SECONDS: Final = 60 * BAR_MINUTES
BAR_US: Final = 1_000_000 * BAR_SECONDS  # microseconds: the unit of every integer time stamp here
DAY_US: Final = 86_400_000_000
BARS_PER_DAY: Final = DAY_US // BAR_US
INTERVAL_SECONDS: Final = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "4h": 14_400, "1d": 86_400}
PROBABILITIES: Final = ("p_long", "p_short", "p_neutral")


class Side(IntEnum):
    """Of a signal, a lot or an order: +1 long or buy, -1 short or sell, 0 none."""

    SHORT = -1
    NONE = 0
    LONG = 1


class Regime(IntEnum):
    """The market's state; the codes order every per-regime tuple."""

    TRENDING = 0
    RANGING = 1
    HIGH_VOLATILITY = 2


class Label(IntEnum):
    """Class codes of the model's target and of its probability columns."""

    LONG = 0
    SHORT = 1
    NEUTRAL = 2


class Mode(StrEnum):
    """How the daemon runs."""

    REPLAY = "replay"
    PAPER = "paper"
    LIVE = "live"


class Purpose(StrEnum):
    """What an order is for; part of its deterministic id."""

    ENTRY = "entry"
    EXIT = "exit"
    STOP = "stop"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class SymbolRules:
    """The venue's filters of one symbol, read from exchangeInfo, never assumed in live trading.

    tick: price step. step: quantity step. Quantities in base units, notional in quote units.
    """

    symbol: str = "BTCUSDT"
    tick: float = 0.1
    step: float = 0.001
    min_quantity: float = 0.001
    min_notional: float = 100.0
    max_market_quantity: float = 120.0


@dataclass(frozen=True, slots=True)
class Order:
    """A wish, named before it is sent: `client_id` derives from (cycle, lot, purpose).

    quantity is signed in base units (> 0 buys); trigger_price is None for a market order.
    """

    client_id: str
    symbol: str
    quantity: float
    purpose: Purpose
    reduce_only: bool = False
    trigger_price: float | None = None


@dataclass(frozen=True, slots=True)
class OrderAck:
    """The venue's word that it has the order."""

    client_id: str
    venue_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One message to a person. level: info, warning or critical; key deduplicates."""

    level: str
    text: str
    key: str = ""


class Health(StrEnum):
    """Of one data source in one cycle."""

    OK = "ok"
    STALE = "stale"
    FAILED = "failed"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How one source did in one collection.

    ok: it answered, and its newest row is young enough. stale: it answered, its newest row is past its
    maximum age. failed: it did not answer usably. off: not configured, or not asked for.

    latency_s: how long it took. age_s: of its newest known row, NaN where there is none. reason: empty if ok.
    """

    source: str
    status: Health
    latency_s: float = 0.0
    age_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a gate or a pre-flight list: what was measured against what bound.

    verdict is True (passed), False (failed) or None (could not be computed: never counts as passed).
    """

    name: str
    verdict: bool | None
    figure: str
    bound: str
    detail: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A closed stretch of time in microseconds since the epoch; of labels: first t0 to last t1."""

    start: int
    end: int

    def overlaps(self, other: "Span") -> bool:
        return self.start <= other.end and other.start <= self.end


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a registry alias points at."""

    version: str
    path: str
    tags: dict[str, str] = field(default_factory=dict)
