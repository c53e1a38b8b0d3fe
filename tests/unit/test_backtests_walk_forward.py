"""Walk-forward: folds in time, nothing read too early, resumable, and one record of it all."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_walk_forward import CONFIG, features, market

from acmf_core.config import TrainConfig, TuneConfig, WalkForwardConfig
from acmf_core.errors import ConfigError, DataError
from acmf_core.features import MarketData, build_features
from acmf_core.models import label
from acmf_core.trading import TradeParams, simulate
from backtests import folds
from backtests import walk_forward as module
from backtests.candidate import train_candidate
from backtests.folds import fold_key, fold_spans, read_outcome
from backtests.ledger import TrialLedger
from backtests.record import simulate_record
from backtests.walk_forward import walk_forward

ROOT = Path(__file__).resolve().parents[2]


def day(text):
    return pd.Timestamp(text, tz="UTC")


@cache
def place():
    """Where the shared result's folds lie; read-only for the tests."""
    import tempfile

    folder = tempfile.TemporaryDirectory(prefix="acmf-test-")
    return folder  # kept by the cache until the process ends


@cache
def result():
    return walk_forward(market(), CONFIG, features=features(), workdir=Path(place().name))


# --- folds in time ------------------------------------------------------------------------------


def test_test_blocks_are_adjacent_and_end_where_the_holdout_begins():
    spans = fold_spans(market().candles, CONFIG)
    end = market().candles.index[-1] + pd.Timedelta(minutes=15)
    assert spans[-1].test_end == end - pd.Timedelta(days=7)
    assert spans[0].test_end == spans[1].test_start
    for span in spans:
        assert span.train_end == span.test_start
        assert span.test_end - span.test_start == pd.Timedelta(days=7)
        assert span.train_end - span.train_start == pd.Timedelta(days=35)


def test_an_expanding_window_keeps_its_first_day_and_grows():
    spans = fold_spans(market().candles, CONFIG.model_copy(update={"scheme": "expanding"}))
    assert spans[0].train_start == spans[1].train_start
    assert spans[0].train_end < spans[1].train_end
    assert spans[0] == fold_spans(market().candles, CONFIG)[0]


def test_blocks_end_at_midnight_when_the_bars_do_not():
    spans = fold_spans(market().candles.iloc[:-37], CONFIG)
    assert all(span.test_end == span.test_end.floor("D") for span in spans)
    assert spans[-1].test_end <= market().candles.index[-38] - pd.Timedelta(days=7)


def test_too_few_days_are_an_error_that_says_how_many_are_needed():
    with pytest.raises(DataError, match=r"75\.0 days of bars are too few: .* need (\d+) days") as caught:
        walk_forward(market(), CONFIG.model_copy(update={"folds": 5}))
    needed = int(str(caught.value).split(" need ")[1].split(" ")[0])
    index = pd.date_range("2020-01-01", periods=needed * 96, freq="15min", tz="UTC")
    fold_spans(pd.DataFrame(index=index), CONFIG.model_copy(update={"folds": 5}))  # enough indeed


def test_an_empty_market_is_too_short_not_a_crash():
    with pytest.raises(DataError, match=r"0\.0 days"):
        fold_spans(market().candles.iloc[:0], CONFIG)


def test_a_dask_engine_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(ConfigError):
        walk_forward(market(), CONFIG.model_copy(update={"engine": "dask://x:1"}), workdir=tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_features_of_another_market_are_refused():
    other = MarketData(market().candles.iloc[96:])
    with pytest.raises(DataError, match="do not belong"):
        walk_forward(other, CONFIG.model_copy(update={"folds": 1}), features=features())


# --- what the record is -------------------------------------------------------------------------


def test_the_record_covers_every_bar_of_the_test_blocks_and_nothing_else():
    spans = fold_spans(market().candles, CONFIG)
    for frame in (result().probabilities, *result().by_calibration.values(), *result().baselines.values()):
        assert frame.index[0] == spans[0].test_start
        assert frame.index[-1] == spans[-1].test_end - pd.Timedelta(minutes=15)
        assert len(frame) == result().bars.n == 14 * 96
        assert frame.notna().all(axis=None)
    assert result().market.candles.index[-1] < spans[-1].test_end


def test_both_calibrations_baselines_and_tabular_only_are_there():
    assert set(result().by_calibration) == {"directional", "temperature"}
    assert {"class_prior", "persistence", "tabular_only", "logistic", "last_bar"} <= set(result().baselines)
    assert result().probabilities.equals(result().by_calibration["temperature"])  # as configured
    assert not result().by_calibration["directional"].equals(result().by_calibration["temperature"])
    assert set(result().folds[0].losses.index) == set(result().by_calibration) | set(result().baselines)


def test_the_simulation_is_the_kernel_over_the_folds_parameters_with_the_state_carried():
    assert len(result().simulation.trades) > 20
    again = simulate_record(result().bars, result().probabilities, result().stretches, equity=10_000.0)
    assert np.array_equal(again.whole.equity, result().simulation.equity)
    assert [stretch.params for stretch in result().stretches] == [fold.params for fold in result().folds]
    first = result().stretches[0]
    alone = simulate(
        result().bars.slice(0, first.stop), result().probabilities.iloc[: first.stop], first.params
    )
    assert np.array_equal(alone.equity, result().simulation.equity[: first.stop])
    net = sum(fold.metrics["net"] for fold in result().folds)
    assert net == pytest.approx(result().simulation.equity[-1] - 10_000.0, rel=1e-12)


def test_labels_use_the_training_windows_multiple_and_read_nothing_of_the_holdout():
    for fold in result().folds:
        mine = result().labels[result().labels.index >= fold.test_start]
        mine = mine[mine.index < fold.test_end]
        own = label(market().candles, CONFIG.train.labels, k=fold.model["k"])
        assert (mine["k"] == fold.model["k"]).all()
        assert mine["y"].equals(own.loc[mine.index, "y"])
    last_known = result().labels["t1"].max()
    assert last_known <= result().folds[-1].test_end
    assert len(result().labels) == 14 * 96 - CONFIG.train.labels.horizon_bars


def test_the_vectorbt_portfolio_of_the_record_differs_from_the_ledger_by_the_funding_alone():
    run = result().simulation
    paid = run.trades["funding"].sum() + sum(lot.funding for lot in run.final_state.lots)
    books = result().portfolio()
    assert books.value().index.equals(result().bars.times)
    assert books.value().iloc[-1] + paid == pytest.approx(run.equity[-1], rel=1e-9)


def test_a_synthetic_market_is_named_as_such():
    assert result().synthetic


def test_the_daemon_of_a_fold_would_predict_the_same_bits(tmp_path):
    """A candidate trained again on the fold's window answers its last bars as the record has them."""
    fold = result().folds[1]
    seen = market().between(None, fold.test_end)
    candidate = train_candidate(
        seen, build_features(seen), fold.train_start, fold.train_end, CONFIG.train, CONFIG.tune
    )
    assert candidate.params == fold.params
    tail = build_features(seen, last=200)
    answer = candidate.fitted.predict(tail, "temperature").iloc[-100:]
    recorded = result().by_calibration["temperature"].loc[answer.index]
    assert np.array_equal(answer.to_numpy(), recorded.to_numpy())


# --- nothing is read too early ------------------------------------------------------------------


def poisoned(start, end=None):
    """The market with every bar in [start, end) made nonsense of."""
    candles = market().candles.copy()
    inside = candles.index >= start
    if end is not None:
        inside &= candles.index < end
    candles.loc[inside, ["open", "high", "low", "close"]] *= 3.0
    candles.loc[inside, "volume"] *= 50.0
    return MarketData(candles, funding=market().funding)


def test_the_holdout_is_never_read():
    spans = fold_spans(market().candles, CONFIG)
    spoiled = walk_forward(poisoned(spans[-1].test_end), CONFIG, workdir=Path(place().name), synthetic=True)
    assert [fold.seconds for fold in spoiled.folds] == [fold.seconds for fold in result().folds]  # from disk:
    assert np.array_equal(
        spoiled.simulation.equity, result().simulation.equity
    )  # the same inputs, to the key


def test_the_test_block_is_not_seen_by_training_and_tuning():
    fold = result().folds[0]
    spoiled = poisoned(fold.test_start)
    candidate = train_candidate(
        spoiled, build_features(spoiled), fold.train_start, fold.train_end, CONFIG.train, CONFIG.tune
    )
    assert candidate.params == fold.params
    summary, known = candidate.fitted.summary(), dict(fold.model)
    del summary["seconds"], known["seconds"]
    assert json.loads(json.dumps(summary)) == known
    study = candidate.study.trial_returns
    assert study.index[-1] < fold.test_start


def test_predictions_of_a_test_block_do_not_depend_on_what_follows_it():
    first = result().folds[0]
    spoiled = poisoned(first.test_end)
    candidate = train_candidate(
        spoiled, build_features(spoiled), first.train_start, first.train_end, CONFIG.train, CONFIG.tune
    )
    answers = candidate.answers(spoiled, build_features(spoiled), first.test_start, first.test_end)
    for name, frame in answers.predictions.items():
        recorded = (result().by_calibration | result().baselines)[name].loc[frame.index]
        assert np.array_equal(frame.to_numpy(), recorded.to_numpy()), name


def test_a_candidate_refuses_to_trade_bars_it_was_trained_on():
    fold = result().folds[0]
    candidate = train_candidate(
        market(), features(), fold.train_start, fold.train_end, CONFIG.train, TuneConfig(trials=1)
    )
    with pytest.raises(DataError, match="training ended"):
        candidate.trade(market(), features(), fold.train_end - pd.Timedelta(days=1))
    held = candidate.trade(market(), features(), fold.test_start, fold.test_end)
    assert held.probabilities.equals(held.by_calibration["temperature"])
    assert len(held.simulation.equity) == held.bars.n == 7 * 96
    assert np.array_equal(
        held.probabilities.to_numpy(), result().probabilities.loc[held.probabilities.index].to_numpy()
    )


# --- resumable ----------------------------------------------------------------------------------


def no_fold_may_run(*_):
    raise AssertionError("a finished fold was computed again")


def test_finished_folds_are_taken_from_the_workdir_and_tell_the_same(monkeypatch):
    expected = result()
    monkeypatch.setattr(module, "run_fold", no_fold_may_run)
    again = walk_forward(market(), CONFIG, features=features(), workdir=Path(place().name))
    assert np.array_equal(again.simulation.equity, expected.simulation.equity)
    pd.testing.assert_frame_equal(again.labels, expected.labels)
    pd.testing.assert_frame_equal(again.trial_returns, expected.trial_returns)
    pd.testing.assert_frame_equal(again.losses, expected.losses)
    for ours, theirs in zip(again.folds, expected.folds, strict=True):
        assert ours.params == theirs.params
        assert ours.model == theirs.model


def test_only_the_missing_fold_is_computed(tmp_path, monkeypatch):
    work = tmp_path / "work"
    result()
    shutil.copytree(place().name, work)
    keys = [
        f"fold-{fold_key(result().market, span, CONFIG, TradeParams())[:24]}"
        for span in fold_spans(market().candles, CONFIG)
    ]
    shutil.rmtree(work / keys[1])
    ran = []
    monkeypatch.setattr(module, "run_fold", lambda *task: ran.append(task[2].index) or folds.run_fold(*task))
    again = walk_forward(market(), CONFIG, features=features(), workdir=work)
    assert ran == [1]
    assert np.array_equal(again.simulation.equity, result().simulation.equity)


@pytest.mark.parametrize(
    "change",
    [
        {"train": TrainConfig(**(CONFIG.train.model_dump() | {"seed": 8}))},
        {"tune": TuneConfig(trials=5, min_trades=1)},
        {"test_days": 6.0},
        {"train_days": 34.0},
        {"equity": 9_000.0},
    ],
)
def test_another_configuration_has_folds_of_its_own(change):
    config = CONFIG.model_copy(update=change)
    own = {fold_key(market(), span, CONFIG, TradeParams()) for span in fold_spans(market().candles, CONFIG)}
    other = {fold_key(market(), span, config, TradeParams()) for span in fold_spans(market().candles, config)}
    assert not own & other


def test_a_changed_bar_or_base_has_folds_of_its_own_and_workers_and_engine_do_not_matter():
    span = fold_spans(market().candles, CONFIG)[0]
    key = fold_key(market(), span, CONFIG, TradeParams())
    assert fold_key(poisoned(span.test_start, span.test_end), span, CONFIG, TradeParams()) != key
    assert fold_key(poisoned(span.test_end), span, CONFIG, TradeParams()) == key  # later bars are not its
    assert fold_key(market(), span, CONFIG, TradeParams(min_ratio=2.0)) != key
    more = CONFIG.model_copy(update={"workers": 8, "folds": 1})
    assert fold_key(market(), span, more, TradeParams()) == key


def test_a_damaged_fold_is_refused_with_the_mend(tmp_path):
    result()
    folder = next(path for path in Path(place().name).iterdir() if path.is_dir())
    copy = shutil.copytree(folder, tmp_path / folder.name)
    (copy / "labels.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_outcome(copy)
    assert "delete" in caught.value.fix


def test_a_fold_on_disk_holds_no_pickle():
    result()
    kinds = {path.suffix for path in Path(place().name).rglob("*") if path.is_file()}
    assert kinds == {".json", ".parquet", ".jsonl"}


def test_interrupted_between_training_and_tuning_the_fold_goes_on_to_the_same_end(tmp_path, monkeypatch):
    expected, work, trained = result(), tmp_path / "work", []

    def interrupted(*_, **__):
        trained.append(sorted(path.suffix for path in work.rglob("*.safetensors")))
        raise KeyboardInterrupt

    monkeypatch.setattr("backtests.candidate.tune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk_forward(market(), CONFIG, features=features(), workdir=work)
    monkeypatch.undo()
    assert trained[0]  # checkpoints of the training were kept
    assert not [path for path in work.iterdir() if not path.name.endswith(".fit")]  # and nothing half-written
    again = walk_forward(market(), CONFIG, features=features(), workdir=work)
    assert np.array_equal(again.simulation.equity, expected.simulation.equity)
    assert not [
        path for path in work.iterdir() if path.suffix == ".fit"
    ]  # checkpoints go when the fold stands


def test_a_fold_that_another_process_finished_first_is_left_as_it_is(tmp_path):
    result()
    folder = next(path for path in Path(place().name).iterdir() if path.is_dir())
    outcome = read_outcome(folder)
    for _ in range(2):
        folds.write_outcome(outcome, tmp_path / "fold")
    assert [path.name for path in tmp_path.iterdir()] == ["fold"]
    assert read_outcome(tmp_path / "fold").params == outcome.params


RUN = """
import sys
from pathlib import Path
from small_walk_forward import CONFIG, market
from backtests.walk_forward import walk_forward

if __name__ == "__main__":
    config = CONFIG.model_copy(update={"workers": 2})
    heard = lambda *word: print(word[1], flush=True)
    result = walk_forward(market(), config, workdir=Path(sys.argv[1]), progress=heard)
    print("equity", repr(float(result.simulation.equity[-1])))
"""


@pytest.mark.slow
def test_interrupted_in_the_middle_and_run_again_two_workers_end_where_one_does(tmp_path):
    script, work = tmp_path / "run.py", tmp_path / "work"
    script.write_text(RUN)
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(script), str(work)]
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    for line in run.stdout:
        if int(line) > 0:
            break
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    _, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "KeyboardInterrupt" in errors
    for folder in work.glob("fold-*"):
        if folder.suffix == "":
            read_outcome(folder)  # whole, or not there
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=True)
    assert again.stdout.splitlines()[-1] == f"equity {float(result().simulation.equity[-1])!r}"
    assert not list(work.glob("*.part*"))


# --- the ledger ---------------------------------------------------------------------------------


def test_a_run_counts_its_tuning_trials_and_three_evaluations_and_an_identical_run_adds_none(tmp_path):
    result()
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    for _ in range(2):
        found = walk_forward(market(), CONFIG, features=features(), workdir=Path(place().name), ledger=ledger)
        assert found.ledger_tuning == found.trials_total == 2 * CONFIG.tune.trials
        assert found.ledger_out_of_sample == 3  # two calibrations and tabular-only
        assert len(found.ledger_sharpes) == 3
    assert len(ledger.entries()) == 2 * (2 + 3)


def test_another_configuration_on_the_same_bars_adds_to_the_count(tmp_path, monkeypatch):
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    walk_forward(market(), CONFIG, features=features(), workdir=Path(place().name), ledger=ledger)
    other: WalkForwardConfig = CONFIG.model_copy(update={"tune": TuneConfig(trials=1)})
    found = walk_forward(market(), other, features=features(), workdir=tmp_path / "w", ledger=ledger)
    assert found.ledger_out_of_sample > 3
    assert found.ledger_tuning == 2 * CONFIG.tune.trials + 2
