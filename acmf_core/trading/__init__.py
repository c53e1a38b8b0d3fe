"""Layer 4: routing, regime, twelve gates, sizing, exits and breaker, as one pure compiled kernel.

The backtest (`simulate`) loops the same functions that the daemon (`step`) calls once per closed bar.
"""

from acmf_core.trading.bars import Bar, Bars, trading_bars
from acmf_core.trading.gates import ALL_GATES, GATES, gate_names
from acmf_core.trading.kernel import (
    StepResult,
    bar_fills,
    decide,
    deposit,
    kill,
    resume,
    settle,
    settle_with_trades,
    step,
)
from acmf_core.trading.params import TradeParams
from acmf_core.trading.regime import classify_regime
from acmf_core.trading.routing import NO_SIGNAL, Signal, route
from acmf_core.trading.simulate import SimulationResult, simulate, simulate_many
from acmf_core.trading.state import Cause, Fill, Kind, Lot, MarketOrder, Reason, Trade, TradingState

__all__ = [
    "ALL_GATES",
    "GATES",
    "NO_SIGNAL",
    "Bar",
    "Bars",
    "Cause",
    "Fill",
    "Kind",
    "Lot",
    "MarketOrder",
    "Reason",
    "Signal",
    "SimulationResult",
    "StepResult",
    "Trade",
    "TradeParams",
    "TradingState",
    "bar_fills",
    "classify_regime",
    "decide",
    "deposit",
    "gate_names",
    "kill",
    "resume",
    "route",
    "settle",
    "settle_with_trades",
    "simulate",
    "simulate_many",
    "step",
    "trading_bars",
]
