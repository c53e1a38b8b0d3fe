"""One out-of-sample record from several folds: each stretch with its own parameters, the state carried on.

The kernel's state (open lots, pending orders, breaker, day's reference) goes from the last bar of a
stretch into the first bar of the next, as it would in a daemon that takes new parameters between bars.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from acmf_core.errors import DataError
from acmf_core.trading import Bars, SimulationResult, TradeParams, TradingState, simulate


@dataclass(frozen=True)
class Stretch:
    """Bars start..stop-1 of a record are traded with these parameters."""

    start: int
    stop: int
    params: TradeParams


@dataclass(frozen=True)
class Record:
    """A record and its stretches.

    whole: all bars as one result; its `params` are those of the last stretch. parts: the result of each
    stretch, whose metrics start from the equity the stretch was handed.
    """

    whole: SimulationResult
    parts: tuple[SimulationResult, ...]


def simulate_record(
    bars: Bars, signals: pd.DataFrame, stretches: Sequence[Stretch], *, equity: float = 10_000.0
) -> Record:
    """Trade adjacent stretches one after the other.

    Parameters
    ----------
    bars : Bars
        n contiguous bars.
    signals : DataFrame (n, 3)
        p_long, p_short, p_neutral at the bars' times.
    stretches : sequence of Stretch
        Covering 0..n without hole or overlap.

    Raises
    ------
    DataError
        Stretches that do not cover the bars.
    """
    _check_cover(bars.n, stretches)
    state = TradingState.initial(equity)
    parts: list[SimulationResult] = []
    for stretch in stretches:
        part = simulate(
            bars.slice(stretch.start, stretch.stop),
            signals.iloc[stretch.start : stretch.stop],
            stretch.params,
            state=state,
        )
        state = part.final_state
        parts.append(part)
    return Record(_joined(bars, parts), tuple(parts))


def _check_cover(n: int, stretches: Sequence[Stretch]) -> None:
    edges = [0, *(stretch.stop for stretch in stretches)]
    starts = [stretch.start for stretch in stretches]
    if not stretches or starts != edges[:-1] or edges[-1] != n:
        raise DataError(
            f"{len(stretches)} stretches do not cover {n} bars one after the other",
            "give adjacent stretches from the first bar to the last",
        )


class _StatesOfParts(Sequence[TradingState]):
    """`states[i]` of the whole, found in the part that holds bar i."""

    def __init__(self, parts: Sequence[SimulationResult]) -> None:
        self._parts = parts
        self._stops = np.cumsum([len(part.equity) for part in parts])

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        part = int(np.searchsorted(self._stops, i, side="right"))
        return self._parts[part].states[i - int(self._stops[part])]  # negative: counted from its end


_BY_BAR = ("equity", "gates", "regimes", "scores", "sides", "confidences", "stopped", "open_lots")
_BY_EVENT = ("order_rows", "fill_rows", "trade_rows")


def _joined(bars: Bars, parts: Sequence[SimulationResult]) -> SimulationResult:
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in (*_BY_BAR, *_BY_EVENT)
    }
    return replace(
        parts[-1],
        bars=bars,
        initial_state=parts[0].initial_state,
        states=_StatesOfParts(parts),
        trips=sum(part.trips for part in parts),
        **columns,
    )
