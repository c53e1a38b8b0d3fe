"""The figures of one simulated stretch, compiled, so that a sweep of 1000 sets pays nothing for them."""

import math
from typing import Any, Final, NamedTuple

import numpy as np

from acmf_core.domain import DAY_US
from acmf_core.trading.compiled import compiled

DAYS_PER_YEAR: Final = 365.0
MOST_PROFIT_FACTOR: Final = 1000.0
_COUNTS: Final = ("trades", "trips")


class Measured(NamedTuple):
    """Figures of one stretch; every one finite.

    trades: lots that ended. net: last equity - first, quote units. total_return: net / starting equity.
    sharpe_daily_annualised: mean / sd (ddof 1) of the returns between UTC day ends (the stretch's first and
    last day may be short) x sqrt(365); 0 with fewer than two days or without movement.
    max_drawdown: largest fall from a peak, fraction of it. win_rate: share of trades with net > 0.
    profit_factor: winners' net / losers' loss, at most 1000; 0 without trades.
    mean_trade_bps: mean of net / (quantity x entry price). trips: breaker trips.
    share_stopped, exposure: shares of bars stopped / with an open lot at the close.
    """

    trades: float
    net: float
    total_return: float
    sharpe_daily_annualised: float
    max_drawdown: float
    win_rate: float
    profit_factor: float
    mean_trade_bps: float
    trips: float
    share_stopped: float
    exposure: float

    def as_dict(self) -> dict[str, float]:
        """By name; counts as int."""
        return {name: int(v) if name in _COUNTS else float(v) for name, v in self._asdict().items()}


@compiled
def daily_sharpe(open_time: Any, equity: Any, start: float) -> float:
    """Annualised Sharpe ratio of the returns between the last equities of UTC days."""
    n = len(equity)
    returns = np.empty(n)
    days = 0
    before = start
    midnight = (open_time[0] // DAY_US + 1) * DAY_US if n else 0
    for i in range(n):
        if i == n - 1 or open_time[i + 1] >= midnight:
            returns[days] = equity[i] / before - 1.0 if before > 0.0 else 0.0
            before = equity[i]
            days += 1
            midnight += DAY_US
    if days < 2:
        return 0.0
    mean = 0.0
    for j in range(days):
        mean += returns[j]
    mean /= days
    squares = 0.0
    for j in range(days):
        squares += (returns[j] - mean) * (returns[j] - mean)
    deviation = math.sqrt(squares / (days - 1))
    return mean / deviation * math.sqrt(DAYS_PER_YEAR) if deviation > 1e-12 else 0.0


@compiled
def worst_drawdown(equity: Any, start: float) -> float:
    """Largest fall from a running peak (the start included) as a fraction of that peak."""
    peak = start
    worst = 0.0
    for i in range(len(equity)):
        peak = max(peak, equity[i])
        if peak - equity[i] > worst * peak:
            worst = (peak - equity[i]) / peak
    return worst


@compiled
def measure(
    open_time: Any, equity: Any, stopped: Any, open_lots: Any, trades: Any, start: float, trips: int
) -> Measured:
    """All figures of one stretch that began with `start` (> 0) equity."""
    n = len(equity)
    won = 0.0
    lost = 0.0
    wins = 0
    bps = 0.0
    for trade in trades:
        if trade.net > 0.0:
            won += trade.net
            wins += 1
        else:
            lost -= trade.net
        bps += 1e4 * trade.net / (trade.quantity * trade.entry_price)
    count = len(trades)
    profit_factor = min(won / lost, MOST_PROFIT_FACTOR) if lost > 0.0 else MOST_PROFIT_FACTOR * (wins > 0)
    bars_stopped = 0
    bars_open = 0
    for i in range(n):
        bars_stopped += stopped[i]
        bars_open += open_lots[i] > 0
    last = equity[n - 1] if n else start
    return Measured(
        float(count),
        last - start,
        last / start - 1.0,
        daily_sharpe(open_time, equity, start),
        worst_drawdown(equity, start),
        wins / count if count else 0.0,
        profit_factor,
        bps / count if count else 0.0,
        float(trips),
        bars_stopped / n if n else 0.0,
        bars_open / n if n else 0.0,
    )
