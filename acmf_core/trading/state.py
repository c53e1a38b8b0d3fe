"""Everything the kernel remembers from bar to bar: one small NumPy record, and its exact JSON.

Times are microseconds (the open time of a bar), so that nothing depends on where an array began.
Every field is 8 bytes wide; unused slots are all zero, so that equal states are equal bytes.
"""

import json
from enum import IntEnum
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from acmf_core.errors import ConfigError, DataError
from acmf_core.trading.params import MAX_POSITIONS

NEVER: Final = int(np.iinfo(np.int64).min)  # a time before all times
SLOTS: Final = MAX_POSITIONS + 1  # a lot that leaves and the one that enters may overlap


class Reason(IntEnum):
    """Why a fill or an order happened; a lot's first pending reason stays."""

    NONE = 0
    ENTRY = 1
    STOP = 2
    TARGET = 3
    TRAILING = 4
    OPPOSITE = 5
    TIME = 6
    BREAKER = 7


class Kind(IntEnum):
    """What kind of order was filled: the market entry or exit, the resting stop or target."""

    ENTRY = 1
    EXIT = 2
    STOP = 3
    TARGET = 4


class Cause(IntEnum):
    """Why trading is stopped. OPERATOR: a person, or the kill switch outside the kernel."""

    NONE = 0
    DAILY_DRAWDOWN = 1
    LOSS_STREAK = 2
    LOW_PROBABILITY = 3
    OPERATOR = 4


class Entry(NamedTuple):
    """An entry sent at the close of `decided`, to be filled at the next open. side 0: none."""

    lot: int
    side: int
    quantity: float
    decided: int
    regime: int
    confidence: float
    atr: float
    stop_distance: float
    target_distance: float
    trail_distance: float
    time_exit: int
    tick: float
    step: float


class Lot(NamedTuple):
    """One entry and what is left of it. Prices in quote units, quantities in base units.

    stop_distance ... time_exit, tick and step are frozen at the decision. best: the most favourable
    price since the entry. stop_moved: the stop trails. exit_reason: why a market exit is pending
    (0: none), decided at the close of exit_decided. gross: profit of what was closed, before costs.
    exit_value: sum of quantity x price of the exits.
    """

    lot: int
    side: int
    quantity: float
    entry: float
    stop: float
    target: float
    best: float
    target_done: int
    stop_moved: int
    exit_reason: int
    exit_decided: int
    entry_time: int
    entry_quantity: float
    entry_value: float
    exit_quantity: float
    exit_value: float
    gross: float
    fees: float
    funding: float
    regime: int
    confidence: float
    atr: float
    stop_distance: float
    target_distance: float
    trail_distance: float
    time_exit: int
    tick: float
    step: float


class MarketOrder(NamedTuple):
    """An order decided at the close of `time`, for the next open. side: of the order, not of the lot.

    purpose: "entry" or "exit". regime and confidence are those of the deciding bar. Quantities are
    floor(q / step) * step in float64; a venue wants them as decimals (round to the step, never truncate).
    """

    time: int
    lot: int
    side: int
    quantity: float
    purpose: int
    reason: int
    regime: int
    confidence: float


class Fill(NamedTuple):
    """A fill in the bar that opens at `time`. side: of the order; fee in quote units."""

    time: int
    lot: int
    side: int
    quantity: float
    price: float
    fee: float
    purpose: int
    reason: int


class Trade(NamedTuple):
    """A lot that has ended. net = gross - fees + funding; risk = quantity x first stop distance."""

    lot: int
    side: int
    quantity: float
    entry_time: int
    entry_price: float
    exit_time: int
    exit_price: float
    regime: int
    confidence: float
    reason: int
    bars: int
    gross: float
    fees: float
    funding: float
    net: float
    risk: float


def _dtype(declared: type[Any]) -> npt.DTypeLike:
    return np.dtype(
        [(name, np.int64 if kind is int else np.float64) for name, kind in declared.__annotations__.items()]
    )


ENTRY_DTYPE: Final[Any] = _dtype(Entry)
LOT_DTYPE: Final[Any] = _dtype(Lot)
ORDER_DTYPE: Final[Any] = _dtype(MarketOrder)
FILL_DTYPE: Final[Any] = _dtype(Fill)
TRADE_DTYPE: Final[Any] = _dtype(Trade)
MOST_FILLS: Final = 3 * SLOTS + 1  # of one bar: the entry; market exit, stop and target of every lot
MOST_TRADES: Final = SLOTS
MOST_ORDERS: Final = SLOTS + 1
# what one bar brings: rows written by the fill model, the ledger and the decision
EVENTS_DTYPE: Final[Any] = np.dtype(
    [
        ("n_fills", np.int64),
        ("n_trades", np.int64),
        ("n_orders", np.int64),
        ("fills", FILL_DTYPE, (MOST_FILLS,)),
        ("trades", TRADE_DTYPE, (MOST_TRADES,)),
        ("orders", ORDER_DTYPE, (MOST_ORDERS,)),
    ]
)
_SCALARS: Final[tuple[tuple[str, type], ...]] = (
    ("time", int),  # open time of the last settled bar
    ("balance", float),  # starting equity + realised profit - fees + funding + deposits
    ("equity", float),  # balance + open profit, marked at the last close
    ("day_reference", float),
    ("peak", float),
    ("streak", int),  # losing results in a row
    ("low_probability", int),  # predictions in a row whose largest probability is too low
    ("stopped", int),  # 1 while the breaker or an operator has stopped trading
    ("paused", int),  # 1 where that stop ends by itself (streak_action pause)
    ("cause", int),
    ("bars_stopped", int),
    ("active", int),  # bar of the last market decision or resting fill: the cooldown counts from it
    ("funding_time", int),  # bar of the last funding booked
    ("next_lot", int),
    ("n_lots", int),
)
STATE_DTYPE: Final[Any] = np.dtype(
    [(name, np.int64 if kind is int else np.float64) for name, kind in _SCALARS]
    + [("entry", ENTRY_DTYPE), ("lots", LOT_DTYPE, (SLOTS,))]
)


class TradingState:
    """The kernel's memory after a bar; immutable from outside, equal when every bit is equal."""

    __slots__ = ("_record",)

    def __init__(self, record: npt.NDArray[Any]) -> None:
        self._record = np.array(record, dtype=STATE_DTYPE).reshape(1)
        self._record.flags.writeable = False

    @classmethod
    def initial(cls, equity: float) -> Self:
        """Flat, nothing seen yet, `equity` in quote units.

        Raises
        ------
        ConfigError
            Unless equity is positive and finite.
        """
        if not (np.isfinite(equity) and equity > 0):
            raise ConfigError(f"starting equity is {equity!r}", "start with a positive amount")
        record = np.zeros(1, dtype=STATE_DTYPE)
        for name in ("balance", "equity", "day_reference", "peak"):
            record[name] = equity
        for name in ("time", "active", "funding_time"):
            record[name] = NEVER
        record["next_lot"] = 1
        return cls(record)

    @property
    def record(self) -> npt.NDArray[Any]:
        """A writable copy, shape (1,), dtype STATE_DTYPE: what the compiled kernel works on."""
        return self._record.copy()

    def __getattr__(self, name: str) -> Any:
        if name in _SCALAR_NAMES:
            return self._record[name][0].item()
        raise AttributeError(name)

    @property
    def lots(self) -> tuple[Lot, ...]:
        """Open lots, oldest first."""
        rows = self._record["lots"][0]
        return tuple(Lot(*rows[i].item()) for i in range(self.n_lots))

    @property
    def entry(self) -> Entry | None:
        """The entry waiting for the next open, if any."""
        entry = Entry(*self._record["entry"][0].item())
        return entry if entry.side else None

    @property
    def side(self) -> int:
        """Side of the open lots, 0 when flat."""
        return self.lots[0].side if self.n_lots else 0

    @property
    def position(self) -> float:
        """Signed quantity of all open lots."""
        return float(sum(lot.side * lot.quantity for lot in self.lots))

    def to_json(self) -> str:
        """All of it; `from_json` gives back the same bits."""
        values: dict[str, Any] = {name: getattr(self, name) for name, _ in _SCALARS}
        values["entry"] = self.entry._asdict() if self.entry else None
        values["lots"] = [lot._asdict() for lot in self.lots]
        return json.dumps(values, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        DataError
            When it is no JSON object of exactly these fields.
        """
        try:
            values = json.loads(text)
            record = np.zeros(1, dtype=STATE_DTYPE)
            _fill(record[0], values, {name for name, _ in _SCALARS} | {"entry", "lots"}, ("entry", "lots"))
            if values["entry"] is not None:
                _fill(record["entry"][0], values["entry"], set(Entry._fields))
            for row, lot in zip(record["lots"][0], values["lots"], strict=False):
                _fill(row, lot, set(Lot._fields))
            if len(values["lots"]) != record["n_lots"][0]:
                raise ValueError(f"{len(values['lots'])} lots, n_lots says {record['n_lots'][0]}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"not a stored trading state: {error}", "restore the state of an earlier cycle"
            ) from error
        return cls(record)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TradingState):
            return NotImplemented
        return self._record.tobytes() == other._record.tobytes()

    def __hash__(self) -> int:
        return hash(self._record.tobytes())

    def __getstate__(self) -> bytes:
        return self._record.tobytes()

    def __setstate__(self, state: bytes) -> None:
        self._record = np.frombuffer(state, dtype=STATE_DTYPE)

    def __repr__(self) -> str:
        return f"TradingState({self.to_json()})"


_SCALAR_NAMES: Final = frozenset(name for name, _ in _SCALARS)


def _fill(row: Any, values: dict[str, Any], names: set[str], nested: tuple[str, ...] = ()) -> None:
    if values.keys() != names:
        odd = sorted(values.keys() ^ names)
        raise ValueError(f"fields missing or unknown: {', '.join(odd)}")
    for name in names.difference(nested):
        row[name] = values[name]
