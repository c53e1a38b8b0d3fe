"""What a simulated record did: which gates stopped it, when, in which regime, and at what result.

Every function takes a `SimulationResult` and returns plain values; a record without trades gives zeros.
"""

import math
from typing import Any, Final

import numpy as np

from acmf_core.domain import BARS_PER_DAY, Regime
from acmf_core.trading import ALL_GATES, GATES, SimulationResult

DAYS_A_MONTH: Final = 365.25 / 12


def gate_funnel(simulation: SimulationResult) -> dict[str, Any]:
    """How many bars each of the twelve gates stopped.

    Returns
    -------
    dict
        bars; entries (all twelve open); gates: a row a gate in order with `closed` (bars with a
        direction at which it was closed; for the direction gate: bars without one), `alone` (of those,
        no other gate was closed: what this gate cost), `left` (bars that pass it and all before it).
    """
    mask = simulation.gates.astype(np.int64)
    directed = (mask & 1) == 1
    rows, left = [], np.ones(len(mask), dtype=bool)
    for bit, name in enumerate(GATES):
        is_open = (mask >> bit & 1) == 1
        left &= is_open
        closed = ~is_open if bit == 0 else directed & ~is_open
        alone = mask == ALL_GATES & ~(1 << bit)
        rows.append(
            {"gate": name, "closed": int(closed.sum()), "alone": int(alone.sum()), "left": int(left.sum())}
        )
    return {"bars": len(mask), "entries": int((mask == ALL_GATES).sum()), "gates": rows}


def breaker(simulation: SimulationResult) -> dict[str, Any]:
    """Trips of the breaker, trips a month, and the share of bars spent stopped."""
    months = len(simulation.stopped) / BARS_PER_DAY / DAYS_A_MONTH
    return {
        "trips": int(simulation.trips),
        "trips_a_month": simulation.trips / months if months else 0.0,
        "share_stopped": float(np.mean(simulation.stopped)) if len(simulation.stopped) else 0.0,
    }


def regimes(simulation: SimulationResult) -> list[dict[str, Any]]:
    """A row a regime: bars, share of bars, trades decided in it and their result."""
    trades = simulation.trades
    bars = max(len(simulation.regimes), 1)
    return [
        {
            "regime": regime.name.lower(),
            "bars": int((simulation.regimes == regime).sum()),
            "share": float((simulation.regimes == regime).sum() / bars),
            **_result_of(trades[trades["regime"] == regime]),
        }
        for regime in Regime
    ]


def exits(simulation: SimulationResult) -> list[dict[str, Any]]:
    """A row a reason of exit that occurred: trades and their result, commonest first."""
    trades = simulation.trades
    counts = trades["reason"].value_counts()
    return [
        {"reason": str(reason), **_result_of(trades[trades["reason"] == reason])} for reason in counts.index
    ]


def sides(simulation: SimulationResult) -> list[dict[str, Any]]:
    """A row a side: trades and their result."""
    trades = simulation.trades
    return [
        {"side": name, **_result_of(trades[trades["side"] == side])}
        for name, side in (("long", 1), ("short", -1))
    ]


def _result_of(trades: Any) -> dict[str, Any]:
    """Count, net in quote units, share of winners, mean net in bps of notional and in risk units R."""
    if trades.empty:
        return {"trades": 0, "net": 0.0, "win_rate": math.nan, "mean_bps": math.nan, "mean_r": math.nan}
    notional = trades["quantity"] * trades["entry_price"]
    return {
        "trades": len(trades),
        "net": float(trades["net"].sum()),
        "win_rate": float((trades["net"] > 0).mean()),
        "mean_bps": float((1e4 * trades["net"] / notional).mean()),
        "mean_r": float((trades["net"] / trades["risk"]).mean()),
    }


def costs(simulation: SimulationResult) -> dict[str, float]:
    """Where the money went, quote units: gross of the ended trades, fees, funding, net, mean bps each."""
    trades = simulation.trades
    total = {name: float(trades[name].sum()) for name in ("gross", "fees", "funding", "net")}
    notional = trades["quantity"] * trades["entry_price"]
    means = {
        f"mean_{name}_bps": float((1e4 * trades[name] / notional).mean()) if len(trades) else math.nan
        for name in ("gross", "net")
    }
    return total | means
