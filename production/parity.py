"""What you backtest is what you trade, checked: a daemon's records against `simulate` over the same bars.

Everything is compared exactly, value by value: probabilities, signal, regime and scores, gate mask, equity of
every bar; every order, fill and trade; the kernel's state at the end.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from acmf_core.domain import BAR_US, PROBABILITIES
from acmf_core.execution.feed import HISTORY_BARS
from acmf_core.execution.orders import moment
from acmf_core.execution.world import Model
from acmf_core.features import MarketData, build_features
from acmf_core.ports import Store
from acmf_core.trading import Kind, Reason, SimulationResult, TradeParams, simulate, trading_bars

Key = tuple[int, int]  # close of the bar, place within it
Table = Mapping[Key, tuple[Any, ...]]

_PREDICTION: Final = (
    "p_long",
    "p_short",
    "p_neutral",
    "side",
    "confidence",
    "regime",
    "score_trending",
    "score_ranging",
    "score_high_volatility",
    "gates",
    "stopped",
)
_ORDER: Final = ("lot", "purpose", "side", "quantity", "reason", "regime", "confidence")
_FILL: Final = ("open_time", "lot", "purpose", "side", "quantity", "price", "fee", "reason")
_TRADE: Final = (
    "lot",
    "side",
    "quantity",
    "entry_time",
    "entry_price",
    "exit_time",
    "exit_price",
    "regime",
    "confidence",
    "reason",
    "bars",
    "gross",
    "fees",
    "funding",
    "net",
    "risk",
)


_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "predictions": _PREDICTION,
    "orders": _ORDER,
    "fills": _FILL,
    "trades": _TRADE,
    "cycles": ("equity",),
}
_SEVERAL_A_BAR: Final = frozenset({"orders", "fills", "trades"})


class Difference(NamedTuple):
    """One value that is not the same. at: close of the bar, microseconds; None: there is no such row."""

    at: int
    table: str
    column: str
    replay: Any
    simulate: Any

    def described(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "bar": moment(self.at - BAR_US),
            "table": self.table,
            "column": self.column,
            "replay": self.replay,
            "simulate": self.simulate,
        }


@dataclass(frozen=True)
class Expectation:
    """What `simulate` says about a stretch of bars: the result, and the probabilities it was given."""

    result: SimulationResult
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Records held against an expectation. equity: recorded at the last close."""

    cycles: int
    trades: int
    differences: int
    first: Difference | None
    equity: float


def simulated(
    market: MarketData, model: Model, params: TradeParams, start: int, end: int, equity: float
) -> Expectation:
    """The research path over the bars with start <= open_time < end: batch features, batch predictions.

    Parameters
    ----------
    start, end : int
        Microseconds; every bar between them must be there.
    equity : float
        Starting equity in quote units.
    """
    n = (end - start) // BAR_US
    part = market.between(start - (HISTORY_BARS - 1) * BAR_US, end)
    features = build_features(part, model.config.features, last=n + model.config.encoder.window - 1)
    probabilities = model.predict(features)[list(PROBABILITIES)].to_numpy(dtype=np.float64)[-n:]
    bars = trading_bars(part, features)
    result = simulate(bars.slice(bars.n - n, bars.n), probabilities, params, equity=equity)
    return Expectation(result, probabilities)


def compare(store: Store, symbol: str, expected: Expectation) -> Comparison:
    """Hold what the store has recorded for the expectation's bars against it."""
    open_time = expected.result.bars.open_time
    first, last = int(open_time[0]) + BAR_US, int(open_time[-1]) + BAR_US
    recorded = {table: _recorded(store, table, first, last) for table in _COLUMNS}
    wanted = _wanted(expected)
    found = [d for table in _COLUMNS for d in _differences(table, recorded[table], wanted[table])]
    found += _state_difference(store, symbol, last, expected.result)
    equity = recorded["cycles"].get((last, 0), (math.nan,))[0]
    return Comparison(
        cycles=len(recorded["cycles"]),
        trades=len(recorded["trades"]),
        differences=len(found),
        first=min(found, key=lambda difference: difference.at, default=None),
        equity=float(equity),
    )


def _recorded(store: Store, table: str, first: int, last: int) -> Table:
    placed = ("position",) if table in _SEVERAL_A_BAR else ()
    rows = store.columns(table, ("at", *placed, *_COLUMNS[table]), start=first, end=last)
    if placed:
        return {(row[0], row[1]): row[2:] for row in rows}
    return {(row[0], 0): row[1:] for row in rows}


def _wanted(expected: Expectation) -> dict[str, Table]:
    result = expected.result
    said = (
        *expected.probabilities.T,
        result.sides,
        result.confidences,
        result.regimes,
        *result.scores.T,
        result.gates,
        result.stopped,
    )
    return {
        "predictions": _per_bar(result, said),
        "orders": _rows(result.order_rows, "time", _ORDER),
        "fills": _rows(result.fill_rows, "time", _FILL),
        "trades": _rows(result.trade_rows, "exit_time", _TRADE),
        "cycles": _per_bar(result, (result.equity,)),
    }


def _per_bar(result: SimulationResult, columns: Sequence[npt.NDArray[Any]]) -> Table:
    closes = (result.bars.open_time + BAR_US).tolist()
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {(at, 0): tuple(map(_stored, row)) for at, row in zip(closes, rows, strict=True)}


def _rows(rows: npt.NDArray[Any], time: str, columns: Sequence[str]) -> Table:
    """Orders, fills or trades of a simulation by close and place, with words for codes."""
    table: dict[Key, tuple[Any, ...]] = {}
    for row in rows:
        values = {name: row[name].item() for name in rows.dtype.names or ()}
        at, place = values[time] + BAR_US, 0
        while (at, place) in table:
            place += 1
        values["open_time"] = values[time]
        values["reason"] = Reason(values["reason"]).name.lower()
        if "purpose" in values:
            values["purpose"] = Kind(values["purpose"]).name.lower()
        table[at, place] = tuple(_stored(values[name]) for name in columns)
    return table


def _stored(value: Any) -> Any:
    """NaN is stored as no value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _differences(table: str, replay: Table, simulate: Table) -> Iterator[Difference]:
    for key in sorted(replay.keys() | simulate.keys()):
        mine, theirs = replay.get(key), simulate.get(key)
        if mine == theirs:
            continue
        if mine is None or theirs is None:
            yield Difference(key[0], table, "row", mine, theirs)
            continue
        for column, a, b in zip(_COLUMNS[table], mine, theirs, strict=True):
            if a != b:
                yield Difference(key[0], table, column, a, b)


def _state_difference(store: Store, symbol: str, last: int, result: SimulationResult) -> list[Difference]:
    """The kernel's memory at the end, where the store's newest cycle is the expectation's last bar."""
    newest = store.last_cycle(symbol)
    if newest is None or newest["at"] != last:
        return []
    wanted = result.final_state.to_json()
    return [] if newest["state"] == wanted else [Difference(last, "cycles", "state", newest["state"], wanted)]
