"""Tuning: plateaus, constraints, determinism, resumption, and every trial's returns."""

import dataclasses
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from small_walk_forward import features, market

from acmf_core.config import TuneConfig
from acmf_core.domain import PROBABILITIES, Regime
from acmf_core.errors import ConfigError
from acmf_core.trading import TradeParams, simulate, trading_bars
from backtests import returns
from backtests import tune as tuning
from backtests.tune import SPACE, daily_returns, tune

BARS = 2_500
CONFIG = TuneConfig(trials=12, min_trades=5)


@cache
def bars():
    return trading_bars(market(), features()).slice(1_500, 1_500 + BARS)


@cache
def signals():
    """Follows the planted momentum; the first bars have no prediction."""
    change = np.zeros(BARS)
    change[16:] = np.log(bars().close[16:] / bars().close[:-16])
    noise = np.random.default_rng(5).normal(0, 0.5, BARS)
    odds = np.exp(40 * change + noise)
    p = np.column_stack([0.7 * odds / (1 + odds), 0.7 / (1 + odds), np.full(BARS, 0.3)])
    p[:50] = np.nan
    return pd.DataFrame(p, index=bars().times, columns=list(PROBABILITIES))


@cache
def result():
    return tune(bars(), signals(), CONFIG, TradeParams())


def test_the_first_trial_is_the_base_parameters():
    own = simulate(bars(), signals(), TradeParams()).metrics()
    first = result().trials.loc[0]
    assert first["sharpe"] == own["sharpe_daily_annualised"]
    assert first["trades"] == own["trades"]
    assert (first["min_ratio"], first["stop_scale"]) == (1.5, 1.0)


def test_base_parameters_off_the_grid_are_still_the_first_trial():
    base = TradeParams(min_ratio=1.537, min_confidence=(0.41, 0.9, 0.3))
    found = tune(bars(), signals(), TuneConfig(trials=3, min_trades=0), base)
    assert found.trials.loc[0, "min_ratio"] == 1.537
    assert (
        found.trials.loc[0, "sharpe"]
        == simulate(bars(), signals(), base).metrics()["sharpe_daily_annualised"]
    )
    for value in found.trials["min_ratio"]:
        assert math.isclose((value - 1.537) / 0.1, round((value - 1.537) / 0.1), abs_tol=1e-9)


def test_the_best_feasible_trial_wins_and_its_parameters_are_what_was_simulated():
    trials = result().trials
    best = trials[trials["feasible"]]["score"].idxmax()
    own = simulate(bars(), signals(), result().params).metrics()
    assert result().tuned
    assert result().best_value == trials.loc[best, "score"]
    assert trials.loc[best, "sharpe"] == own["sharpe_daily_annualised"]
    assert f"trial {best} of 12" in result().note


def test_a_score_is_the_mean_over_the_trial_and_its_neighbours():
    row = result().trials.loc[0]
    sharpes = [row["sharpe"]]
    for threshold in SPACE:
        for step in (-1, 1):
            low, high = threshold.reach(TradeParams())
            if not low <= step <= high:
                continue
            value = threshold.value(TradeParams(), step)
            before = getattr(TradeParams(), threshold.field)
            if threshold.scaled:
                after = tuple(round(each * value, 10) for each in before)
            elif threshold.regime is None:
                after = value
            else:
                after = tuple(value if code == threshold.regime else v for code, v in enumerate(before))
            params = dataclasses.replace(TradeParams(), **{threshold.field: after})
            sharpes.append(simulate(bars(), signals(), params).metrics()["sharpe_daily_annualised"])
    assert len(sharpes) > 2 * len(SPACE) - 2
    assert math.isclose(row["score"], np.mean(sharpes), rel_tol=1e-12)


def test_a_lonely_peak_scores_below_a_plateau():
    peak = [{"sharpe_daily_annualised": value} for value in (6.0, 0.0, -1.0, 0.0, 0.5)]
    plateau = [{"sharpe_daily_annualised": value} for value in (2.0, 1.9, 2.1, 1.8, 2.0)]
    assert tuning._plateau(plateau) > tuning._plateau(peak)


def test_every_trial_keeps_its_daily_returns_and_they_are_the_kernels():
    trials, days = result().trials, result().trial_returns
    assert list(days.columns) == list(trials.index)
    best = trials[trials["feasible"]]["score"].idxmax()
    own = simulate(bars(), signals(), result().params)
    slow = returns.daily_returns(pd.Series(own.equity, index=bars().times), 10_000.0)
    assert np.array_equal(days[best].to_numpy(), slow.to_numpy())
    assert list(days.index) == list(slow.index)
    sharpe = days[best].mean() / days[best].std() * math.sqrt(365)
    assert math.isclose(sharpe, trials.loc[best, "sharpe"], rel_tol=1e-9)


def test_daily_returns_of_many_paths_equal_the_slow_twin_of_each():
    rng = np.random.default_rng(0)
    paths = 10_000 * np.exp(np.cumsum(rng.normal(0, 0.001, (3, BARS)), axis=1))
    table = daily_returns(bars().open_time, paths, 9_900.0)
    for k, path in enumerate(paths):
        slow = returns.daily_returns(pd.Series(path, index=bars().times), 9_900.0)
        np.testing.assert_allclose(table[k], slow, rtol=1e-13)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others():
    again = tune(bars(), signals(), CONFIG, TradeParams())
    pd.testing.assert_frame_equal(again.trials, result().trials)
    other = tune(bars(), signals(), CONFIG.model_copy(update={"seed": 8}), TradeParams())
    assert not other.trials.equals(result().trials)


def test_an_interrupted_study_goes_on_to_the_very_same_end(tmp_path, monkeypatch):
    journal = tmp_path / "state" / "tune.journal"
    asked = 0

    def die_in_the_seventh(runs):
        nonlocal asked
        asked += 1
        if asked == 7:
            raise KeyboardInterrupt
        return plateau(runs)

    plateau = tuning._plateau
    monkeypatch.setattr(tuning, "_plateau", die_in_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        tune(bars(), signals(), CONFIG, TradeParams(), journal=journal)
    monkeypatch.undo()
    done = []
    resumed = tune(
        bars(), signals(), CONFIG, TradeParams(), journal=journal, progress=lambda *word: done.append(word)
    )
    assert done[0] == ("tune", 7, 12)  # six trials were kept, none is counted twice
    pd.testing.assert_frame_equal(resumed.trials, result().trials)
    pd.testing.assert_frame_equal(resumed.trial_returns, result().trial_returns)
    assert resumed.params == result().params


def test_a_finished_study_is_read_not_run_and_other_data_start_their_own(tmp_path):
    journal = tmp_path / "tune.journal"
    few = TuneConfig(trials=3, min_trades=5)
    first = tune(bars(), signals(), few, TradeParams(), journal=journal)
    ran = []
    second = tune(
        bars(), signals(), few, TradeParams(), journal=journal, progress=lambda *word: ran.append(word)
    )
    assert ran == []
    assert second.params == first.params
    tune(
        bars(), signals().shift(1), few, TradeParams(), journal=journal,
        progress=lambda *word: ran.append(word),
    )  # fmt: skip
    assert len(ran) == 3


def test_without_enough_trades_the_defaults_are_kept_and_that_is_said():
    flat = signals() * 0 + 1 / 3
    found = tune(bars(), flat, TuneConfig(trials=3, min_trades=10), TradeParams())
    assert not found.tuned
    assert found.params == TradeParams()
    assert "the defaults are kept" in found.note
    assert "0 trades" in found.note
    assert not found.trials["feasible"].any()
    assert (found.trial_returns.to_numpy() == 0.0).all()


def test_a_trial_that_falls_too_deep_is_infeasible():
    strict = TuneConfig(trials=4, min_trades=0, max_drawdown=1e-6)
    found = tune(bars(), signals(), strict, TradeParams())
    assert not found.tuned


def test_tuning_touches_only_its_own_thresholds():
    moved = {threshold.field for threshold in SPACE}
    assert set(result().params.diff(TradeParams())) <= moved
    assert {t.regime for t in SPACE if t.field == "min_confidence"} == set(Regime)


def test_a_storage_that_cannot_be_opened_is_one_line():
    broken = TuneConfig(trials=1, storage="nosuchdb://somewhere")
    with pytest.raises(ConfigError, match=r"tune\.storage cannot be opened"):
        tune(bars(), signals(), broken, TradeParams())


def test_a_study_can_live_in_a_database(tmp_path):
    config = TuneConfig(trials=2, min_trades=0, storage=f"sqlite:///{tmp_path / 'study.db'}")
    first = tune(bars(), signals(), config, TradeParams())
    ran = []
    second = tune(bars(), signals(), config, TradeParams(), progress=lambda *word: ran.append(word))
    assert ran == []
    pd.testing.assert_frame_equal(first.trials, second.trials)
