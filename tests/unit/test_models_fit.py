"""Training as a whole: what comes out, that it comes out the same, and that it survives being killed."""

import numpy as np
import pandas as pd
import pytest
import small_model
import torch

from acmf_core.config import FeatureConfig, LabelConfig, TrainConfig
from acmf_core.domain import PROBABILITIES, Span
from acmf_core.errors import DataError, SchemaMismatch
from acmf_core.features import Features, MarketData, build_features
from acmf_core.models import evaluate, fit, label
from acmf_core.models.baselines import last_known
from acmf_core.models.splits import prove_no_overlap, stage_spans


def equal(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return bool(
        np.array_equal(one.to_numpy(), other.to_numpy(), equal_nan=True) and one.index.equals(other.index)
    )


def test_every_row_with_a_complete_window_gets_a_distribution_and_no_other_row():
    p = small_model.fitted().predict(small_model.features())
    assert list(p.columns) == list(PROBABILITIES)
    assert len(p) == small_model.BARS
    complete = np.zeros(len(p), dtype=bool)
    complete[small_model.features().window_ends(small_model.WINDOW)] = True
    assert (p.notna().all(axis=1).to_numpy() == complete).all()
    np.testing.assert_allclose(p[complete].sum(axis=1), 1.0, atol=1e-9)


def test_one_live_bar_gives_the_bits_of_the_whole_history():
    fitted = small_model.fitted()
    for kind in ("directional", "temperature"):
        whole = fitted.predict(small_model.rows(3_000, 3_400), kind)
        for last in (3_063, 3_064, 3_250, 3_399):
            live = fitted.predict(small_model.rows(last - small_model.WINDOW + 1, last + 1), kind)
            assert live.iloc[:-1].isna().all(axis=None)
            np.testing.assert_array_equal(live.iloc[-1], whole.loc[live.index[-1]])


def test_the_same_training_gives_the_same_model_and_leaves_torch_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    again = fit(
        small_model.features(), small_model.candles(), small_model.START, small_model.END, small_model.CONFIG
    )
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    first = small_model.fitted()
    assert equal(again.predict(small_model.rows(3_000, 3_300)), first.predict(small_model.rows(3_000, 3_300)))
    assert equal(again.tuning_predictions, first.tuning_predictions)


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", [("encoder", 1), ("hidden", None), ("stack", 2), ("stack", 4)])
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_bits(tmp_path, moment):
    def kill(stage, done, total):
        if (stage, done) == moment or (stage == moment[0] and moment[1] is None):
            raise Killed

    window = (small_model.features(), small_model.candles(), small_model.START, small_model.END)
    with pytest.raises(Killed):
        fit(*window, small_model.CONFIG, workdir=tmp_path, progress=kill)
    stages = []
    resumed = fit(
        *window,
        small_model.CONFIG,
        workdir=tmp_path,
        progress=lambda s, done, total: stages.append((s, done)),
    )
    assert moment not in stages or moment[0] == "stack"  # the boosters' steps are told again, not made again
    first = small_model.fitted()
    rows = small_model.rows(3_000, 3_300)
    assert equal(resumed.predict(rows), first.predict(rows))
    assert equal(resumed.tuning_predictions, first.tuning_predictions)
    baselines = (f.baseline_predictions(rows, small_model.candles()) for f in (resumed, first))
    for one, other in zip(*(b.values() for b in baselines), strict=True):
        assert equal(one, other)


def test_a_checkpoint_of_other_data_or_settings_is_never_used(tmp_path):
    fast = small_model.CONFIG
    window = (small_model.features(), small_model.candles(), small_model.START)
    fit(*window, small_model.END, fast, workdir=tmp_path)
    fit(*window, small_model.END, fast.model_copy(update={"seed": 8}), workdir=tmp_path)
    fit(*window, "2024-02-17", fast, workdir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_checkpoint_is_made_again(tmp_path):
    window = (small_model.features(), small_model.candles(), small_model.START, small_model.END)
    fit(*window, small_model.CONFIG, workdir=tmp_path)
    for name in ("hidden", "booster"):
        path = next(tmp_path.glob(f"fit-*/{name}.safetensors"))
        path.write_bytes(path.read_bytes()[:100])
    again = fit(*window, small_model.CONFIG, workdir=tmp_path)
    assert equal(again.tuning_predictions, small_model.fitted().tuning_predictions)


def test_progress_is_told_for_every_stage_up_to_its_end():
    told: dict[str, list[tuple[int, int]]] = {}
    fit(
        small_model.features(),
        small_model.candles(),
        small_model.START,
        small_model.END,
        small_model.CONFIG,
        progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
    )
    assert set(told) == {"encoder", "hidden", "stack"}
    for steps in told.values():
        assert [done for done, _ in steps] == sorted({done for done, _ in steps})
        assert steps[-1][0] == steps[-1][1]


def test_spans_are_proven_not_to_overlap_and_lie_inside_the_window():
    fitted = small_model.fitted()
    assert fitted.window == Span(
        *(int(pd.Timestamp(t, tz="UTC").timestamp() * 1e6) for t in (small_model.START, small_model.END))
    )
    spans = fitted.spans
    assert fitted.window.start <= spans["A"].start
    assert spans["A"].end < spans["B"].start
    assert spans["B"].end < spans["C"].start
    assert spans["C"].end < fitted.window.end
    prove_no_overlap(stage_spans(spans), tested=Span(fitted.window.end, fitted.window.end + 1))


def test_tuning_predictions_cover_the_last_three_quarters_of_b_and_c_and_nothing_after():
    fitted = small_model.fitted()
    p = fitted.tuning_predictions
    first = p.index[0].timestamp() * 1e6
    b = fitted.spans["B"]
    assert first == pytest.approx(b.start + (fitted.spans["C"].start - b.start) / 4, abs=3_600e6)
    assert p.index[-1] == pd.Timestamp(small_model.END, tz="UTC") - pd.Timedelta("15min")
    assert p.index.is_monotonic_increasing
    assert p.notna().all(axis=None)
    assert fitted.tuning("temperature").index.equals(p.index)


def test_all_five_baselines_answer_with_distributions():
    fitted, candles = small_model.fitted(), small_model.candles()
    answers = fitted.baseline_predictions(small_model.rows(3_200, 3_900), candles)
    assert list(answers) == ["class_prior", "persistence", "tabular_only", "logistic", "last_bar"]
    labels = label(candles, fitted.config.labels, fitted.k)
    for p in answers.values():
        assert p.notna().all(axis=None)
        assert evaluate(p, labels)["log_loss"] < 1.5


def test_persistence_reads_only_labels_that_were_known():
    fitted, candles = small_model.fitted(), small_model.candles()
    labels = label(candles, fitted.config.labels, fitted.k)
    h = fitted.config.labels.horizon_bars
    before = last_known(labels["y"], h, small_model.candles().index)
    at = candles.index[2_000]
    assert before[2_000] == labels.loc[candles.index[2_000 - h - 1], "y"]
    assert labels.loc[candles.index[2_000 - h - 1], "t1"] <= at  # known a whole bar before the decision
    p = fitted.baseline_predictions(small_model.rows(2_000, 2_001), candles)["persistence"]
    np.testing.assert_allclose(p.iloc[0], fitted.baselines.transition[before[2_000]])


def test_the_summary_says_what_was_never_seen_and_is_plain():
    import json

    summary = small_model.fitted().summary()
    json.dumps(summary, allow_nan=False)
    assert summary["sources_never_seen"] == [
        "book",
        "fear_greed",
        "funding",
        "long_short",
        "macro",
        "onchain",
        "news",
    ]
    assert len(summary["selected"]) <= 40
    assert summary["selected"] == [
        n for n in small_model.features().schema.tabular if n in summary["selected"]
    ]
    assert set(summary["losses_on_c"]) >= {"stack", "stack_temperature", "encoder_head", "tabular_only"}


def test_a_notebook_shows_the_losses_best_first():
    shown = small_model.fitted()._repr_html_()
    assert shown.index("stack") < shown.index("</table>")
    assert "sources never seen: book" in shown


@pytest.mark.parametrize("kind", ["triple_barrier", "fixed"])
def test_the_other_labellers_train_too(kind):
    config = small_model.CONFIG.model_copy(
        update={"labels": LabelConfig(kind=kind, target_atr=2.0, stop_atr=1.5, fixed_return=0.002)}
    )
    fitted = fit(small_model.features(), small_model.candles(), small_model.START, small_model.END, config)
    assert fitted.k is None
    assert fitted.predict(small_model.rows(3_000, 3_300)).iloc[small_model.WINDOW :].notna().all(axis=None)


def test_windows_that_cannot_train_are_refused_with_the_reason():
    features, candles = small_model.features(), small_model.candles()
    with pytest.raises(DataError, match="before it begins"):
        fit(features, candles, small_model.END, small_model.START, small_model.CONFIG)
    with pytest.raises(DataError, match="calibration alone needs 60"):
        fit(features, candles, small_model.START, small_model.END, TrainConfig())
    with pytest.raises(DataError, match="block A"):  # its features are still warming up
        fit(features, candles, "2024-01-01", "2024-01-21", small_model.CONFIG)


def test_features_of_another_configuration_or_order_are_refused():
    features, candles = small_model.features(), small_model.candles()
    other = build_features(MarketData(candles), FeatureConfig(macd="price"))
    with pytest.raises(SchemaMismatch, match="another configuration"):
        fit(other, candles, small_model.START, small_model.END, small_model.CONFIG)
    with pytest.raises(SchemaMismatch, match="channel 9"):
        small_model.fitted().predict(other)
    names = list(features.tabular.columns)
    names[30], names[31] = names[31], names[30]
    swapped = Features(features.sequence, features.tabular[names], features.schema)
    with pytest.raises(SchemaMismatch, match="tabular feature 30 is rsi_14_lag_4"):
        small_model.fitted().predict(swapped)
