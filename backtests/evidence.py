"""Evidence of a walk-forward record: what the promotion gate reads and the report shows."""

from backtests.overfitting import (
    deflated_sharpe,
    expected_max_sharpe,
    min_track_record_length,
    probabilistic_sharpe,
    probability_of_backtest_overfitting,
)

__all__ = [
    "deflated_sharpe",
    "expected_max_sharpe",
    "min_track_record_length",
    "probabilistic_sharpe",
    "probability_of_backtest_overfitting",
]
