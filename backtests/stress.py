"""What is left of a record when trading costs more, comes later, or funding bites harder.

Every cell trades the whole record again with the kernel: dearer fills change equity, gates and the
breaker, not only the bill. The break-even cost, on the other hand, is read off the trades as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from acmf_core.trading import Bars, SimulationResult
from backtests.record import Stretch, simulate_record

COSTS = (1.0, 2.0, 10.0)
SLIPPAGES = (1.0, 2.0)
DELAYS = (0, 1)
FUNDINGS = (0.0, 1.0, 3.0)


@dataclass(frozen=True)
class BreakEven:
    """The cost per side, in bps of the notional, at which the record's trades would have earned nothing.

    gross_bps: earned per side before all costs and funding (negative: nothing pays for that). cost_bps:
    what a side cost (fee and slippage). turnover: notional of all fills, quote units. NaN without fills.
    """

    gross_bps: float
    cost_bps: float
    turnover: float


def stress_grid(
    bars: Bars,
    probabilities: pd.DataFrame,
    stretches: Sequence[Stretch],
    *,
    equity: float = 10_000.0,
    fees: Sequence[float] = COSTS,
    slippages: Sequence[float] = SLIPPAGES,
    delays: Sequence[int] = DELAYS,
    fundings: Sequence[float] = FUNDINGS,
) -> pd.DataFrame:
    """Trade the record once for every combination.

    Parameters
    ----------
    bars, probabilities, stretches, equity
        Of the record, as `simulate_record` takes them.
    fees, slippages, fundings : sequences of float
        Multiples of the fee, the slippage and the funding paid. Gates keep reading the funding rate as it
        was; only the payment is multiplied.
    delays : sequence of int
        Bars by which every prediction reaches the kernel late.

    Returns
    -------
    DataFrame
        A row a combination: fee, slippage, delay, funding, and the kernel's metrics.
    """
    rows = []
    for fee, slippage, delay, funding in product(fees, slippages, delays, fundings):
        dearer = [
            replace(
                stretch,
                params=replace(
                    stretch.params,
                    fee_bps=stretch.params.fee_bps * fee,
                    slippage_bps=stretch.params.slippage_bps * slippage,
                ),
            )
            for stretch in stretches
        ]
        record = simulate_record(
            bars._replace(funding_event=bars.funding_event * funding),
            probabilities.shift(delay),
            dearer,
            equity=equity,
        )
        rows.append(
            {"fee": fee, "slippage": slippage, "delay": delay, "funding": funding} | record.whole.metrics()
        )
    return pd.DataFrame(rows)


def break_even(simulation: SimulationResult, stretches: Sequence[Stretch]) -> BreakEven:
    """Gross result against costs, per side, of the trades as they were made.

    A fill's price holds the slippage: bought at mid x (1 + s), sold at mid x (1 - s). Open lots count at
    the last close.
    """
    fills, bars = simulation.fills, simulation.bars
    if fills.empty:
        return BreakEven(np.nan, np.nan, 0.0)
    signed = (fills["side"] * fills["quantity"]).to_numpy(dtype=np.float64)
    price = fills["price"].to_numpy(dtype=np.float64)
    starts = [stretch.start for stretch in stretches]
    of_stretch = np.searchsorted(starts, fills["bar"].to_numpy(), side="right") - 1
    slippage = np.array([stretch.params.slippage_bps for stretch in stretches])[of_stretch] * 1e-4
    mid = price / (1.0 + np.sign(signed) * slippage)
    turnover = float(np.abs(signed * mid).sum())
    gross = float(-(signed * mid).sum() + signed.sum() * bars.close[-1])
    cost = float(fills["fee"].sum() + np.abs(signed * (price - mid)).sum())
    return BreakEven(1e4 * gross / turnover, 1e4 * cost / turnover, turnover)
