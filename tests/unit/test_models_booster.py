"""The booster: what is selected, what is lost on purpose, how rows are read."""

import numpy as np
import pytest

from acmf_core.config import StackConfig
from acmf_core.features import SCHEMA
from acmf_core.models.booster import drop_sources, margins, optional_groups, select, train_booster

CONFIG = StackConfig(rounds=12, early_stopping=4, bootstraps=2, n_selected=5, min_child_weight=1.0)


def table(n=1_500, p=12, seed=0):
    """Class depends on columns 3 and 8; columns 5 and 6 are never known."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)).astype(np.float32)
    score = np.column_stack([x[:, 3], -x[:, 3], x[:, 8]]) + 0.5 * rng.standard_normal((n, 3))
    x[:, [5, 6]] = np.nan
    x[::7, 2] = np.nan
    return x, score.argmax(axis=1).astype(np.int64), np.ones(n)


def test_selection_finds_what_matters_in_column_order_and_never_an_unknown_column():
    x, y, w = table()
    chosen = select(x, y, w, CONFIG, seed=1, threads=1)
    assert {3, 8} <= set(chosen)
    assert list(chosen) == sorted(chosen)
    assert len(chosen) == 5
    assert not {5, 6} & set(chosen)


def test_selection_returns_fewer_where_fewer_columns_are_known():
    x, y, w = table()
    x[:, 4:] = np.nan
    assert select(x, y, w, CONFIG, seed=1, threads=1) == (0, 1, 2, 3)


def test_selection_is_the_same_again():
    x, y, w = table()
    assert select(x, y, w, CONFIG, seed=3, threads=1) == select(x, y, w, CONFIG, seed=3, threads=1)


def test_training_stops_early_and_keeps_the_best_round():
    x, y, w = table()
    later = table(400, seed=9)
    config = CONFIG.model_copy(update={"rounds": 300, "learning_rate": 0.5})
    booster = train_booster(x, y, w, [f"c{i}" for i in range(12)], config, seed=0, threads=1, held_out=later)
    assert 1 <= booster.num_boosted_rounds() < 300


@pytest.fixture(scope="module")
def booster():
    x, y, w = table()
    return train_booster(x, y, w, [f"c{i}" for i in range(12)], CONFIG, seed=0, threads=1)


def test_margins_of_a_row_do_not_depend_on_its_neighbours(booster):
    x, _, _ = table(300, seed=4)
    whole = margins(booster, x)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(margins(booster, x[order]), whole[order])
    for n in (1, 2, 63, 64, 65):
        np.testing.assert_array_equal(margins(booster, x[100 : 100 + n]), whole[100 : 100 + n])
    assert margins(booster, x[:0]).shape == (0, 3)


def test_threads_do_not_change_what_is_learned():
    x, y, w = table()
    names, few = [f"c{i}" for i in range(12)], 3
    one, two = (train_booster(x, y, w, names, CONFIG, seed=0, threads=n, rounds=few) for n in (1, 2))
    np.testing.assert_array_equal(margins(two, x), margins(one, x))


def test_optional_groups_are_the_five_of_the_schema():
    groups = optional_groups(SCHEMA)
    assert set(groups) == {"order book", "sentiment", "macro", "on-chain", "news"}
    assert sum(len(columns) for columns in groups.values()) == 12


def test_source_dropout_loses_whole_groups_together_and_nothing_else():
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((4_000, 66)).astype(np.float32)
    groups = optional_groups(SCHEMA)
    lossy = drop_sources(whole, groups, 0.15, seed=1)
    always = [i for i in range(66) if not any(i in columns for columns in groups.values())]
    np.testing.assert_array_equal(lossy[:, always], whole[:, always])
    for columns in groups.values():
        lost = np.isnan(lossy[:, columns])
        assert (lost.all(axis=1) == lost.any(axis=1)).all()
        assert lost[:, 0].mean() == pytest.approx(0.15, abs=0.03)
    assert not np.isnan(whole).any()
