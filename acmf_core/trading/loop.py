"""The compiled loop: `step`, bar after bar, over columns."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from acmf_core.trading.bars import Bars, bar_at
from acmf_core.trading.compiled import compiled
from acmf_core.trading.kernel import no_events, step_bar
from acmf_core.trading.params import Rules
from acmf_core.trading.routing import routed
from acmf_core.trading.state import (
    FILL_DTYPE,
    MOST_FILLS,
    MOST_ORDERS,
    MOST_TRADES,
    ORDER_DTYPE,
    STATE_DTYPE,
    TRADE_DTYPE,
    TradingState,
)

CHECKPOINT_BARS: Final = 256  # `states[i]` replays at most so many bars
_FIRST_ROWS: Final = 1024


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
    """What the loop writes now and then: rows of ORDER_DTYPE, FILL_DTYPE, TRADE_DTYPE."""

    orders: npt.NDArray[Any]
    fills: npt.NDArray[Any]
    trades: npt.NDArray[Any]


class Counts(NamedTuple):
    """Rows used of the three tables, and breaker trips."""

    orders: int
    fills: int
    trades: int
    trips: int


class Looped(NamedTuple):
    """What the loop leaves beside its outputs per bar."""

    journal: Journal
    trips: int
    final: TradingState
    checkpoints: npt.NDArray[Any]


@compiled
def run(
    first: int,
    bars: Bars,
    probabilities: Any,
    rules: Rules,
    states: Any,
    scratch: Any,
    checkpoints: Any,
    out: Outputs,
    journal: Journal,
    counts: Counts,
) -> tuple[int, Counts]:
    """Step through the bars until the last, or until a table of the journal is full.

    `states` (1,) is carried; checkpoints[k] becomes the state before bar k * CHECKPOINT_BARS of the whole
    run, of which bar 0 here is bar `first`. Returns the bars done and what has been counted by then.
    """
    state = states[0]
    events = scratch[0]
    orders, fills, trades = journal.orders, journal.fills, journal.trades
    n_orders, n_fills, n_trades, trips = counts
    most_orders = len(orders) - MOST_ORDERS
    most_fills = len(fills) - MOST_FILLS
    most_trades = len(trades) - MOST_TRADES
    done = 0
    for i in range(len(bars.open_time)):
        if n_orders > most_orders or n_fills > most_fills or n_trades > most_trades:
            break
        if (first + i) % CHECKPOINT_BARS == 0:
            checkpoints[(first + i) // CHECKPOINT_BARS] = states[0]
        bar = bar_at(bars, i)
        signal = routed(probabilities[i, 0], probabilities[i, 1], probabilities[i, 2], rules)

        decision = step_bar(state, bar, signal, rules, events)

        if events.n_orders + events.n_fills > 0:
            for k in range(events.n_orders):
                orders[n_orders + k] = events.orders[k]
            for k in range(events.n_fills):
                fills[n_fills + k] = events.fills[k]
            for k in range(events.n_trades):
                trades[n_trades + k] = events.trades[k]
            n_orders += events.n_orders
            n_fills += events.n_fills
            n_trades += events.n_trades
        trips += state.stopped == 1 and state.bars_stopped == 0
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
        done += 1
    return done, Counts(n_orders, n_fills, n_trades, trips)


def looped(
    bars: Bars, probabilities: npt.NDArray[np.float64], rules: Rules, start: TradingState, out: Outputs
) -> Looped:
    """Run the loop over all bars from a state."""
    record = start.record
    checkpoints = np.empty(-(-bars.n // CHECKPOINT_BARS), dtype=STATE_DTYPE)
    rows = max(_FIRST_ROWS, bars.n // 4)  # untouched memory costs nothing
    journal = Journal(*(np.empty(rows, dtype) for dtype in (ORDER_DTYPE, FILL_DTYPE, TRADE_DTYPE)))
    counts = Counts(0, 0, 0, 0)
    first = 0
    while first < bars.n:
        rest = bars.slice(first, bars.n)
        written = Outputs._make(column[first:] for column in out)
        done, counts = run(
            first,
            rest,
            probabilities[first:],
            rules,
            record,
            no_events(),
            checkpoints,
            written,
            journal,
            counts,
        )
        first += done
        if first < bars.n:
            journal = Journal(*(np.concatenate([table, np.empty_like(table)]) for table in journal))
    used = Journal(*(rows[:n] for rows, n in zip(journal, counts, strict=False)))
    return Looped(used, int(counts.trips), TradingState(record), checkpoints)
