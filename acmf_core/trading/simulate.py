"""Trade a stretch of bars by given probabilities: one parameter set, or many in parallel."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, overload

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.domain import PROBABILITIES
from acmf_core.errors import DataError, InvalidPrediction
from acmf_core.trading.bars import Bars, microseconds
from acmf_core.trading.kernel import check_follows
from acmf_core.trading.loop import Outputs, looped
from acmf_core.trading.metrics import Measured, measure
from acmf_core.trading.params import TradeParams
from acmf_core.trading.result import SimulationResult, States
from acmf_core.trading.routing import check_probabilities, first_invalid
from acmf_core.trading.state import TradingState

__all__ = ["SimulationResult", "simulate", "simulate_many"]

Floats = npt.NDArray[np.float64]


def simulate(
    bars: Bars,
    signals: Any,
    params: TradeParams | None = None,
    *,
    equity: float = 10_000.0,
    state: TradingState | None = None,
) -> SimulationResult:
    """Trade the bars by the signals, from `equity` or from an earlier state.

    Parameters
    ----------
    bars : Bars
        n contiguous bars.
    signals : (n, 3) array or DataFrame
        P(LONG), P(SHORT), P(NEUTRAL) known at each bar's close (columns p_long, p_short, p_neutral; a
        frame with a DatetimeIndex must have the bars' times). Three NaN: no prediction.
    params : TradeParams, optional
        Defaults to `TradeParams()`.
    equity : float
        Starting equity in quote units; ignored where `state` is given.
    state : TradingState, optional
        Of the bar before the first: `simulate(bars.slice(i, n), signals[i:], params, state=r.states[i - 1])`
        goes on bit for bit.

    Raises
    ------
    MissingBars
        Bars that do not follow each other, or the state.
    InvalidPrediction
        A triple with some NaN, a negative value, or a sum off 1 by more than 1e-4.
    """
    params = params or TradeParams()
    bars, probabilities, start = _prepared(bars, signals, equity, state)
    out = Outputs.empty(bars.n)
    journal, trips, final, checkpoints = looped(bars, probabilities, params.rules, start, out)
    return SimulationResult(
        bars=bars,
        params=params,
        initial_state=start,
        final_state=final,
        states=States(bars, probabilities, params, checkpoints),
        **out._asdict(),
        order_rows=journal.orders,
        fill_rows=journal.fills,
        trade_rows=journal.trades,
        trips=trips,
    )


@overload
def simulate_many(
    bars: Bars,
    signals: Any,
    params: Sequence[TradeParams],
    *,
    equity: float = ...,
    threads: int | None = ...,
    with_equity: Literal[False] = ...,
) -> pd.DataFrame: ...
@overload
def simulate_many(
    bars: Bars,
    signals: Any,
    params: Sequence[TradeParams],
    *,
    equity: float = ...,
    threads: int | None = ...,
    with_equity: Literal[True],
) -> tuple[pd.DataFrame, Floats]: ...
def simulate_many(
    bars: Bars,
    signals: Any,
    params: Sequence[TradeParams],
    *,
    equity: float = 10_000.0,
    threads: int | None = None,
    with_equity: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, Floats]:
    """`simulate(...).metrics()` for every set, in parallel; each row equals the one-by-one run.

    Parameters
    ----------
    bars, signals, equity
        As in `simulate`; shared by all sets.
    params : sequence of TradeParams
        k sets.
    threads : int, optional
        Default: numba's number of threads (NUMBA_NUM_THREADS, else the cores).
    with_equity : bool
        Also return the per-bar equity, (k, n) float64.

    Returns
    -------
    DataFrame
        k rows, the columns of `metrics.Measured`.
    """
    bars, probabilities, start = _prepared(bars, signals, equity, None)
    matrix = np.empty((len(params), bars.n)) if with_equity else None
    rows: list[dict[str, float]] = [{}] * len(params)

    def work(mine: range) -> None:
        out = Outputs.empty(bars.n)
        for k in mine:
            mine_out = out if matrix is None else out._replace(equity=matrix[k])
            rows[k] = _measured(bars, probabilities, params[k], start, mine_out).as_dict()

    workers = max(1, min(threads or numba.get_num_threads(), len(params)))
    with ThreadPoolExecutor(workers) as pool:  # the compiled loop releases the GIL
        list(pool.map(work, [range(w, len(params), workers) for w in range(workers)]))
    table = pd.DataFrame(rows, columns=list(Measured._fields))
    return table if matrix is None else (table, matrix)


def _measured(
    bars: Bars, probabilities: Floats, params: TradeParams, start: TradingState, out: Outputs
) -> Measured:
    journal, trips, _, _ = looped(bars, probabilities, params.rules, start, out)
    return measure(
        bars.open_time, out.equity, out.stopped, out.open_lots, journal.trades, start.equity, trips
    )


def _prepared(
    bars: Bars, signals: Any, equity: float, state: TradingState | None
) -> tuple[Bars, Floats, TradingState]:
    bars = bars.checked()
    probabilities = checked_probabilities(signals, bars)
    start = state or TradingState.initial(equity)
    if bars.n:
        check_follows(start, int(bars.open_time[0]))
    return bars, probabilities, start


def checked_probabilities(signals: Any, bars: Bars) -> Floats:
    """Signals as a contiguous (n, 3) float64 array, each row valid or all NaN.

    Raises
    ------
    DataError
        Another shape, or a frame whose times are not the bars'.
    InvalidPrediction
        Naming the first bad row.
    """
    if isinstance(signals, pd.DataFrame):
        signals = _aligned(signals, bars)
    values = np.require(signals, dtype=np.float64, requirements=["C", "A", "W"])
    if values.shape != (bars.n, 3):
        raise DataError(
            f"signals have shape {values.shape}, the bars need ({bars.n}, 3)",
            "give P(LONG), P(SHORT), P(NEUTRAL) for every bar, NaN where there is none",
        )
    i = first_invalid(values)
    if i >= 0:
        try:
            check_probabilities(*(float(p) for p in values[i]))
        except InvalidPrediction as error:
            cause = f"bar {i} ({bars.times[i]:%Y-%m-%d %H:%M}): {error.cause}"
            raise InvalidPrediction(cause, error.fix) from None
    return values


def _aligned(signals: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    if isinstance(signals.index, pd.DatetimeIndex) and not np.array_equal(
        microseconds(signals.index), bars.open_time
    ):
        raise DataError(
            f"{len(signals)} signals are not at the times of the {bars.n} bars", "reindex them to bars.times"
        )
    return signals[list(PROBABILITIES)]
