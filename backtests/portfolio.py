"""The vectorbt portfolio of the kernel's fills: the tables and plots that people know.

The rules of trading are not here: every fill comes from `acmf_core.trading`. vectorbt executes one
order per fill, on a row of its own (an entry and its stop can share a bar), and keeps books of its own;
cash, position and value then agree with the kernel's ledger to 1e-9 relative, with funding off. It
knows no funding, margin or liquidation, so the ledger stays the truth and this is its picture.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from acmf_core.domain import BAR_MINUTES
from acmf_core.errors import DataError
from acmf_core.trading import Bars

if TYPE_CHECKING:
    from vectorbt import Portfolio

HEADROOM = 20.0  # times the equity or the largest position, lent to vectorbt: it has no leverage of its own


def portfolio(bars: Bars, fills: pd.DataFrame, equity: float) -> "Portfolio":
    """Books of vectorbt on the grid of the bars.

    Parameters
    ----------
    bars : Bars
        The bars the fills were made on.
    fills : DataFrame
        `SimulationResult.fills`: time (of the bar), side, quantity, price (slippage in), fee, in the order
        in which they happened.
    equity : float
        Before the first bar, quote units.

    Returns
    -------
    vectorbt.Portfolio
        One column, frequency 15 minutes; `.cash()`, `.assets()` and `.value()` are series marked at the
        closes. (Its `records_readable` and `stats` warn about pandas 4: silence that at the call.)

    Raises
    ------
    DataError
        A fill outside the bars, or one that vectorbt could not execute in full.
    """
    import vectorbt

    row = _bar_of_fill(bars, fills)
    index = bars.times
    records = _executed(fills, row, equity) if len(fills) else _no_records()
    return vectorbt.Portfolio(
        vectorbt.ArrayWrapper(index, ["acmf"], 1, freq=pd.Timedelta(minutes=BAR_MINUTES)),
        pd.Series(bars.close, index=index, name="acmf"),
        records,
        np.empty(0, dtype=vectorbt.portfolio.enums.log_dt),
        np.asarray([equity], dtype=np.float64),
        False,
    )


def _bar_of_fill(bars: Bars, fills: pd.DataFrame) -> np.ndarray:
    """The row of the bar that each fill happened in."""
    times = pd.DatetimeIndex(fills["time"]).as_unit("us").asi8
    row = np.searchsorted(bars.open_time, times)
    inside = row < bars.n
    inside[inside] = bars.open_time[row[inside]] == times[inside]
    if not inside.all():
        stray = pd.Timestamp(times[np.flatnonzero(~inside)[0]], unit="us", tz="UTC")
        raise DataError(
            f"{int((~inside).sum())} fills lie outside the bars, the first at {stray:%Y-%m-%d %H:%M}",
            "pass the bars that were simulated",
        )
    return row


def _executed(fills: pd.DataFrame, row: np.ndarray, equity: float) -> np.ndarray:
    """vectorbt's order records of the fills, moved from their own rows to the rows of the bars."""
    import vectorbt

    signed = fills["side"].to_numpy(dtype=np.float64) * fills["quantity"].to_numpy(dtype=np.float64)
    price = fills["price"].to_numpy(dtype=np.float64)
    largest = float(np.abs(np.cumsum(signed) * price).max())  # a record may have grown far beyond its start
    executed = vectorbt.Portfolio.from_orders(
        pd.Series(price),
        size=signed,
        price=price,
        fixed_fees=fills["fee"].to_numpy(dtype=np.float64),
        init_cash=equity + HEADROOM * max(equity, largest),
        allow_partial=False,
    )
    records = executed.order_records.copy()
    if len(records) != len(fills):
        raise DataError(
            f"vectorbt executed {len(records)} of {len(fills)} fills",
            f"even {HEADROOM:g} times the largest position was too little cash: check the losses",
        )
    records["idx"] = row[records["idx"]]
    return records


def _no_records() -> np.ndarray:
    from vectorbt.portfolio.enums import order_dt

    return np.empty(0, dtype=order_dt)
