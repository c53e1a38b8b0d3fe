"""The compiled loop: `step`, bar after bar, over columns."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from acmf_core.trading.bars import Bars, bar_at
from acmf_core.trading.compiled import compiled
from acmf_core.trading.fills import MOST_FILLS, model_fills
from acmf_core.trading.kernel import MOST_ORDERS, decide_bar
from acmf_core.trading.ledger import settle_bar
from acmf_core.trading.params import Rules
from acmf_core.trading.routing import routed
from acmf_core.trading.state import FILL_DTYPE, ORDER_DTYPE, STATE_DTYPE, TRADE_DTYPE, TradingState

CHECKPOINT_BARS: Final = 256  # `states[i]` replays at most so many bars
_FIRST_ROWS: Final = 256


class Outputs(NamedTuple):
    """What the loop writes for every bar; arrays of n (scores n x 3)."""

    equity: npt.NDArray[np.float64]
    gates: npt.NDArray[np.uint16]
    regimes: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float64]
    sides: npt.NDArray[np.int8]
    confidences: npt.NDArray[np.float64]
    stopped: npt.NDArray[np.bool_]
    open_lots: npt.NDArray[np.int8]

    @classmethod
    def empty(cls, n: int) -> "Outputs":
        """Room for n bars."""
        return cls(
            np.empty(n),
            np.empty(n, dtype=np.uint16),
            np.empty(n, dtype=np.int8),
            np.empty((n, 3)),
            np.empty(n, dtype=np.int8),
            np.empty(n),
            np.empty(n, dtype=np.bool_),
            np.empty(n, dtype=np.int8),
        )


class Journal(NamedTuple):
    """What the loop writes now and then: rows of ORDER_DTYPE, FILL_DTYPE, TRADE_DTYPE; breaker trips."""

    orders: npt.NDArray[Any]
    fills: npt.NDArray[Any]
    trades: npt.NDArray[Any]
    trips: int


@compiled
def with_room(rows: Any, used: int, more: int) -> Any:
    """The same rows, moved to twice the space where `more` would not fit."""
    if used + more <= len(rows):
        return rows
    larger = np.empty(2 * len(rows) + more, dtype=rows.dtype)
    larger[:used] = rows[:used]
    return larger


@compiled
def run(
    bars: Bars,
    probabilities: Any,
    rules: Rules,
    states: Any,
    checkpoints: Any,
    out: Outputs,
    orders: Any,
    fills: Any,
    trades: Any,
) -> Journal:
    """Every bar through fills, settle, decide. `states` (1,) is carried; the rest is written.

    checkpoints[k] becomes the state before bar k * CHECKPOINT_BARS.
    """
    state = states[0]
    n_orders = 0
    n_fills = 0
    n_trades = 0
    trips = 0
    for i in range(len(bars.open_time)):
        if i % CHECKPOINT_BARS == 0:
            checkpoints[i // CHECKPOINT_BARS] = states[0]
        orders = with_room(orders, n_orders, MOST_ORDERS)
        fills = with_room(fills, n_fills, MOST_FILLS)
        trades = with_room(trades, n_trades, MOST_FILLS)

        bar = bar_at(bars, i)
        signal = routed(probabilities[i, 0], probabilities[i, 1], probabilities[i, 2], rules)

        first_fill = n_fills
        n_fills = model_fills(state, bar, rules, fills, n_fills)
        n_trades = settle_bar(state, bar, fills[first_fill:n_fills], trades, n_trades)
        decision = decide_bar(state, bar, signal, rules, orders, n_orders)

        n_orders = decision.n_orders
        trips += 1 if state.stopped and state.bars_stopped == 0 else 0
        out.equity[i] = state.equity
        out.gates[i] = decision.gates
        out.regimes[i] = decision.regime
        out.scores[i, 0] = decision.scores[0]
        out.scores[i, 1] = decision.scores[1]
        out.scores[i, 2] = decision.scores[2]
        out.sides[i] = signal.side
        out.confidences[i] = signal.confidence
        out.stopped[i] = state.stopped != 0
        out.open_lots[i] = state.n_lots
    return Journal(orders[:n_orders], fills[:n_fills], trades[:n_trades], trips)


def looped(
    bars: Bars, probabilities: npt.NDArray[np.float64], rules: Rules, start: TradingState, out: Outputs
) -> tuple[Journal, TradingState, npt.NDArray[Any]]:
    """Run the loop from a state; gives the journal, the state after the last bar, the checkpoints."""
    record = start.record
    checkpoints = np.empty(-(-bars.n // CHECKPOINT_BARS), dtype=STATE_DTYPE)
    rows = [np.empty(_FIRST_ROWS, dtype=dtype) for dtype in (ORDER_DTYPE, FILL_DTYPE, TRADE_DTYPE)]
    journal = run(bars, probabilities, rules, record, checkpoints, out, *rows)
    return journal, TradingState(record), checkpoints
