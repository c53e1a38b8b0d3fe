"""What a simulation hands back: columns per bar, tables of orders, fills and trades, states, metrics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.trading.bars import Bars, time_index
from acmf_core.trading.gates import ALL_GATES
from acmf_core.trading.loop import CHECKPOINT_BARS, Outputs, looped
from acmf_core.trading.metrics import Measured, measure
from acmf_core.trading.params import TradeParams
from acmf_core.trading.state import Kind, Reason, TradingState

_TIMES = ("time", "entry_time", "exit_time")
_NAMES: dict[str, type[IntEnum]] = {"purpose": Kind, "reason": Reason}


class States(Sequence[TradingState]):
    """`states[i]` is the state after bar i.

    One state in 256 is kept, the others are made again from it by the same compiled loop (some
    microseconds), so that 70,000 of them cost 0.3 MB.
    """

    def __init__(
        self, bars: Bars, probabilities: npt.NDArray[np.float64], params: TradeParams, checkpoints: Any
    ) -> None:
        self._bars = bars
        self._probabilities = probabilities
        self._params = params
        self._checkpoints = checkpoints

    def __len__(self) -> int:
        return self._bars.n

    @overload
    def __getitem__(self, index: int) -> TradingState: ...
    @overload
    def __getitem__(self, index: slice) -> list[TradingState]: ...
    def __getitem__(self, index: int | slice) -> TradingState | list[TradingState]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        first = i - i % CHECKPOINT_BARS
        start = TradingState(self._checkpoints[first // CHECKPOINT_BARS])
        n = i + 1 - first
        stretch = self._bars.slice(first, i + 1)
        known = self._probabilities[first : i + 1]
        return looped(stretch, known, self._params.rules, start, Outputs.empty(n)).final

    def __iter__(self) -> Iterator[TradingState]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """A simulated stretch of n bars.

    Attributes
    ----------
    equity : (n,) float64
        Marked at each close, in quote units.
    gates : (n,) uint16
        The twelve gates, bit k = `gates.GATES[k]` passed; an entry was sent exactly where it is 4095.
    regimes, scores, sides, confidences : (n,), (n, 3), (n,), (n,)
        The bar's regime, its scores, the routed signal.
    stopped : (n,) bool
        Stopped by the breaker after the bar's decisions.
    open_lots : (n,) int8
        At the close.
    states : sequence of TradingState
        After each bar.
    trips : int
        How often the breaker tripped.
    """

    bars: Bars
    params: TradeParams
    initial_state: TradingState
    final_state: TradingState
    states: States
    equity: npt.NDArray[np.float64]
    gates: npt.NDArray[np.uint16]
    regimes: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float64]
    sides: npt.NDArray[np.int8]
    confidences: npt.NDArray[np.float64]
    stopped: npt.NDArray[np.bool_]
    open_lots: npt.NDArray[np.int8]
    order_rows: npt.NDArray[Any]
    fill_rows: npt.NDArray[Any]
    trade_rows: npt.NDArray[Any]
    trips: int

    @cached_property
    def orders(self) -> pd.DataFrame:
        """Market orders as decided: bar, time (open time of the deciding bar), lot, side (of the order),
        quantity, purpose (entry, exit), reason, regime, confidence (of the deciding bar)."""
        return self._table(self.order_rows, "time")

    @cached_property
    def fills(self) -> pd.DataFrame:
        """Fills in order: bar, time (open time of the bar), lot, side (of the order), quantity, price, fee,
        purpose (entry, exit, stop, target), reason."""
        return self._table(self.fill_rows, "time")

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Lots that ended, in the order of their ends: bar (of the end), lot, side, quantity, entry and exit
        time and price, regime and confidence of the deciding bar, reason, bars held, gross, fees, funding,
        net, risk (quantity x first stop distance)."""
        return self._table(self.trade_rows, "exit_time")

    def _table(self, rows: npt.NDArray[Any], time: str) -> pd.DataFrame:
        columns: dict[str, Any] = {"bar": np.searchsorted(self.bars.open_time, rows[time])}
        for name in rows.dtype.names or ():
            values = np.ascontiguousarray(rows[name])
            if name in _TIMES:
                columns[name] = time_index(values)
            elif name in _NAMES:
                words = np.array([kind.name.lower() for kind in _NAMES[name]], dtype=object)
                columns[name] = pd.array(words[values - min(_NAMES[name])], dtype="str")
            else:
                columns[name] = values
        return pd.DataFrame(columns)

    @cached_property
    def measured(self) -> Measured:
        """The metrics as a named tuple."""
        return measure(
            self.bars.open_time,
            self.equity,
            self.stopped,
            self.open_lots,
            self.trade_rows,
            self.initial_state.equity,
            self.trips,
        )

    def metrics(self) -> dict[str, float]:
        """The figures of `metrics.Measured`, by name; all finite, counts as whole numbers."""
        return self.measured.as_dict()

    def entries_without_book(self) -> dict[str, int]:
        """For how many entries gates 8 (spread) and 9 (book) passed for want of data."""
        sent = self.gates == ALL_GATES
        return {
            "entries": int(sent.sum()),
            "spread": int((sent & np.isnan(self.bars.book_spread_bps)).sum()),
            "book": int((sent & np.isnan(self.bars.book_imbalance)).sum()),
        }
