"""Labels: exact definitions, when they are known, and what they weigh."""

import logging
import math

import numpy as np
import pandas as pd
import pytest

from acmf_core.config import LabelConfig
from acmf_core.domain import Label
from acmf_core.errors import DataError
from acmf_core.models.labels import label, label_weights, neutral_multiple, uniqueness

LONG, SHORT, NEUTRAL = Label.LONG, Label.SHORT, Label.NEUTRAL


def bars(close, *, open_=None, high=None, low=None, volume=None) -> pd.DataFrame:
    """Bars with given closes; by default each opens at the close before it and has no wicks."""
    close = np.asarray(close, dtype=float)
    open_ = np.concatenate([[close[0]], close[:-1]]) if open_ is None else np.asarray(open_, dtype=float)
    return pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) if high is None else high,
            "low": np.minimum(open_, close) if low is None else low,
            "close": close,
            "volume": np.ones(len(close)) if volume is None else volume,
        },
        index=pd.date_range(
            "2024-01-01", periods=len(close), freq="15min", tz="UTC", unit="us", name="open_time"
        ),
    )


def walk(n: int, sigma: float = 0.003, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return bars(100.0 * np.exp(np.cumsum(sigma * rng.standard_normal(n))))


def test_uniqueness_gives_the_published_example():
    # Lopez de Prado, Advances in Financial Machine Learning, 4.5
    found = uniqueness(np.array([0, 2, 4]), np.array([3, 4, 6]), step=1)
    np.testing.assert_allclose(found, [5 / 6, 3 / 4, 1.0], rtol=1e-15)


def test_uniqueness_of_labels_that_do_not_overlap_is_one():
    assert uniqueness(np.array([0, 10, 20]), np.array([5, 15, 25]), step=1).tolist() == [1.0, 1.0, 1.0]
    assert len(uniqueness(np.array([], dtype=int), np.array([], dtype=int))) == 0


def test_a_volatility_label_enters_at_the_next_open_and_is_known_at_the_close_of_the_last_bar():
    frame = walk(60)
    spec = LabelConfig(horizon_bars=4)
    found = label(frame, spec, k=0.5)
    at = found.index[10]
    t = frame.index.get_loc(at)
    assert found.loc[at, "t0"] == frame.index[t + 1]
    assert found.loc[at, "t1"] == frame.index[t + 4] + pd.Timedelta("15min")
    assert found.loc[at, "ret"] == pytest.approx(
        math.log(frame.close.iloc[t + 4] / frame.open.iloc[t + 1]), abs=1e-15
    )
    assert found.index[0] == frame.index[20]  # 20 returns are needed before it
    assert found.index[-1] == frame.index[-5]
    assert found["y"].dtype == np.int8


def test_the_volatility_threshold_is_the_larger_of_k_sigma_and_the_cost():
    frame = walk(60, sigma=0.004)
    spec = LabelConfig(horizon_bars=4)
    sigma = np.log(frame.close).diff().rolling(20).std(ddof=0)
    for k in (0.0, 0.4, 2.0):
        found = label(frame, spec, k=k)
        threshold = np.maximum(k * sigma.loc[found.index] * 2.0, 0.0014)
        expected = np.select([found.ret > threshold, found.ret < -threshold], [LONG, SHORT], NEUTRAL)
        assert found["y"].tolist() == expected.tolist()


def test_k_makes_the_wanted_share_neutral_and_not_one_label_more():
    frame = walk(2_000, sigma=0.004)
    spec = LabelConfig(neutral_share=0.55)
    found = label(frame, spec)
    neutral = int((found.y == NEUTRAL).sum())
    assert neutral == math.ceil(0.55 * len(found))
    assert found.attrs["k"] == neutral_multiple(frame, spec) > 0


def test_k_is_zero_with_a_warning_when_costs_alone_make_too_many_neutral(caplog):
    with caplog.at_level(logging.WARNING):
        assert neutral_multiple(walk(500, sigma=0.00005), LabelConfig()) == 0.0
    assert "cost floor" in caplog.text


def test_a_label_does_not_depend_on_how_much_history_was_loaded():
    frame = walk(400)
    for kind in ("volatility", "triple_barrier", "fixed"):
        spec = LabelConfig(kind=kind)
        whole, part = label(frame, spec, k=0.5), label(frame.iloc[137:], spec, k=0.5)
        pd.testing.assert_frame_equal(whole.loc[part.index], part, check_exact=True)


def test_no_label_is_read_across_a_missing_bar():
    frame = walk(200)
    holed = frame.drop(frame.index[100])
    spec = LabelConfig(horizon_bars=8)
    found = label(holed, spec, k=0.5)
    absent = set(frame.index[92:121])  # their future or their 20 returns hold bar 100
    assert not absent & set(found.index)
    whole = label(frame, spec, k=0.5)
    pd.testing.assert_frame_equal(whole.loc[found.index], found, check_exact=True)


def test_stamps_of_any_unit_give_the_same_labels():
    frame = walk(100)
    coarse = frame.set_axis(frame.index.as_unit("ms"))
    pd.testing.assert_frame_equal(label(frame, LabelConfig(), k=0.5), label(coarse, LabelConfig(), k=0.5))


def test_the_fixed_labeller_compares_with_one_percentage():
    close = [100.0] * 40
    close[10:] = [100.31] * 30
    found = label(bars(close), LabelConfig(kind="fixed", horizon_bars=4, fixed_return=0.003))
    assert found["y"].iloc[5] == NEUTRAL  # from 100 to 100
    assert found["y"].iloc[7] == LONG  # enters at bar 8's open, 100; sees 100.31 at bar 11
    assert found["y"].iloc[9] == LONG  # bar 10 opens at 100 and closes at 100.31
    assert found["y"].iloc[10] == NEUTRAL


def barrier(high_at=None, low_at=None, n=40, horizon=6, **spec) -> pd.Series:
    """The label of bar 20 where true ranges are 1, with chosen extremes 1-based bars ahead."""
    close = np.full(n, 100.0)
    high, low = np.full(n, 100.5), np.full(n, 99.5)
    for ahead, value in (high_at or {}).items():
        high[20 + ahead] = value
    for ahead, value in (low_at or {}).items():
        low[20 + ahead] = value
    config = LabelConfig(
        kind="triple_barrier", horizon_bars=horizon, **{"stop_atr": 2.0, "target_atr": 3.0} | spec
    )
    return label(bars(close, open_=close, high=high, low=low), config).iloc[20 - 14]


def test_a_triple_barrier_is_long_where_a_long_trade_reaches_its_target_first():
    found = barrier({3: 103.0}, {5: 90.0})
    assert (found.y, found.touched) == (LONG, "target")
    assert found.t1 - found.t0 == 3 * pd.Timedelta("15min")
    assert found.ret == pytest.approx(math.log(1.03))


def test_a_triple_barrier_is_short_where_a_short_trade_reaches_its_target_first():
    found = barrier({6: 110.0}, {2: 97.0})
    assert (found.y, found.touched) == (SHORT, "target")
    assert found.ret == pytest.approx(math.log(0.97))


def test_a_bar_that_touches_both_barriers_counts_as_the_stop():
    found = barrier({2: 103.5}, {2: 97.5})
    assert (found.y, found.touched) == (NEUTRAL, "stop")


def test_a_stopped_long_may_still_be_a_good_short():
    assert barrier({}, {1: 98.0, 4: 97.0}).y == SHORT
    assert barrier({1: 102.0}, {4: 97.0}).y == NEUTRAL  # the short was stopped before


def test_nothing_touched_is_neutral_at_the_time_barrier():
    found = barrier()
    assert (found.y, found.touched) == (NEUTRAL, "time")
    assert found.t1 - found.t0 == 6 * pd.Timedelta("15min")


def test_with_targets_nearer_than_stops_the_first_winner_counts_and_a_tie_is_nobodys():
    near = {"stop_atr": 3.0, "target_atr": 1.0}
    assert barrier({2: 101.0}, {4: 99.0}, **near).y == LONG
    assert barrier({4: 101.0}, {2: 99.0}, **near).y == SHORT
    assert barrier({2: 101.0}, {2: 99.0}, **near).y == NEUTRAL


def test_mirrored_prices_give_mirrored_triple_barrier_labels():
    frame = walk(600)
    mirrored = frame.assign(
        open=300 - frame.open, close=300 - frame.close, high=300 - frame.low, low=300 - frame.high
    )
    spec = LabelConfig(kind="triple_barrier", stop_atr=1.0, target_atr=2.0)
    up, down = label(frame, spec), label(mirrored, spec)
    assert {LONG, SHORT, NEUTRAL} == set(up.y)
    assert down.y.tolist() == [{LONG: SHORT, SHORT: LONG}.get(y, y) for y in up.y]
    assert down.touched.tolist() == up.touched.tolist()
    assert down.t1.tolist() == up.t1.tolist()


def test_an_entry_bar_without_volume_weighs_nothing():
    volume = np.ones(100)
    volume[51] = 0.0
    frame = walk(100).assign(volume=volume)
    found = label(frame, LabelConfig(), k=0.5)
    weight = pd.Series(label_weights(found, frame), index=found.index)
    assert weight[frame.index[50]] == 0.0
    assert (weight.drop(frame.index[50]) > 0).all()
    assert weight.mean() == pytest.approx(1.0)


def test_bars_that_cannot_be_labelled_are_refused_by_name():
    frame = walk(50)
    with pytest.raises(DataError, match="volume missing"):
        label(frame.drop(columns="volume"), LabelConfig())
    with pytest.raises(DataError, match="order of time"):
        label(frame.iloc[::-1], LabelConfig())
    with pytest.raises(DataError, match="open_time"):
        label(frame.reset_index(drop=True), LabelConfig())
    with pytest.raises(DataError, match="no labelled bar"):
        neutral_multiple(frame.iloc[:10], LabelConfig())


def test_too_few_bars_give_no_labels_rather_than_an_error():
    for kind in ("volatility", "triple_barrier", "fixed"):
        assert len(label(walk(8), LabelConfig(kind=kind), k=0.5)) == 0
