"""Daily and monthly returns, resampling intervals and the test of superior ability."""

import math

import numpy as np
import pandas as pd
import pytest

from backtests.returns import (
    annual_sharpe,
    block_length,
    calmar,
    daily_returns,
    drawdown,
    interval,
    monthly_growth,
    monthly_returns,
    superior_ability,
    total_return,
)


def bars(n: int, start: str = "2024-01-30") -> pd.DatetimeIndex:
    return pd.date_range(start, periods=n, freq="15min", tz="UTC").as_unit("us")


def test_a_day_is_the_bars_that_open_in_it_and_the_first_day_starts_from_the_equity() -> None:
    equity = pd.Series(np.full(96 * 3, 100.0), index=bars(96 * 3))
    equity.iloc[95] = 110.0  # last bar of the first day
    equity.iloc[96 : 2 * 96] = 99.0
    equity.iloc[2 * 96 :] = 198.0
    days = daily_returns(equity, 100.0)
    assert days.tolist() == pytest.approx([0.10, -0.10, 1.0])
    assert [d.day for d in days.index] == [30, 31, 1]


def test_months_compound_days_and_profits_add_up_to_the_total() -> None:
    equity = pd.Series(np.linspace(100, 130, 96 * 4), index=bars(96 * 4))
    days = daily_returns(equity, 100.0)
    months = monthly_returns(days)
    assert list(months.index.month) == [1, 2]
    assert float((1 + months).prod()) == pytest.approx(1.3)
    growth = monthly_growth(equity, 100.0)
    assert float(growth.sum()) == pytest.approx(math.log(1.3))
    assert np.expm1(growth).tolist() == pytest.approx(months.tolist())


def test_drawdown_counts_from_the_starting_equity_too() -> None:
    equity = pd.Series([90.0, 120.0, 60.0], index=bars(3))
    assert drawdown(equity, 100.0).tolist() == pytest.approx([-0.1, 0.0, -0.5])


def test_calmar_without_a_drawdown_or_after_ruin_is_not_a_number() -> None:
    assert math.isnan(calmar(pd.Series([0.0, 0.01])))
    assert math.isnan(calmar(pd.Series([-1.0, 0.0])))
    assert calmar(pd.Series([0.1, -0.05] * 10)) > 0


def test_the_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        days = np.random.default_rng(seed).normal(0.001, 0.01, 120)
        low, high = interval(days, lambda s: s.mean(axis=1), block=1.0, draws=300)
        covered += low <= 0.001 <= high
    assert covered >= 46  # 54 expected of 60


def test_a_record_that_never_moves_has_a_sharpe_interval_of_zero() -> None:
    assert interval(np.zeros(50), annual_sharpe, block=3.0, draws=50) == (0.0, 0.0)
    assert interval(np.zeros(50), total_return, block=3.0, draws=50) == (0.0, 0.0)
    assert block_length(np.zeros(50)) == pytest.approx(50 ** (1 / 3))
    assert all(math.isnan(v) for v in interval(np.zeros(1), annual_sharpe, block=1.0))


def test_superior_ability_is_found_where_it_is_and_not_where_it_is_not() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0.0, 0.01, 200)
    assert superior_ability(noise + 0.004, np.zeros(200), block=3).p <= 0.01
    assert superior_ability(noise - noise.mean(), np.zeros(200), block=3).p > 0.2
    assert superior_ability(noise, noise + 0.004 + rng.normal(0, 0.001, 200), block=3).p > 0.2


def test_a_comparison_that_cannot_be_made_says_why() -> None:
    still = superior_ability(np.zeros(100), np.zeros(100), block=3)
    assert math.isnan(still.p)
    assert "do not differ" in still.reason
    short = superior_ability(np.ones(5), np.zeros(5), block=3)
    assert "only 5 days" in short.reason


def test_the_block_length_grows_with_the_memory_of_the_series() -> None:
    rng = np.random.default_rng(9)
    shocks = rng.normal(size=500)
    slow = np.empty(500)
    level = 0.0
    for i, shock in enumerate(shocks):
        level = 0.9 * level + shock
        slow[i] = level
    assert block_length(slow) > 3 * block_length(shocks)
