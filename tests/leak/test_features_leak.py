"""Nothing that was not known at a bar's close reaches its row, and no row depends on how much was loaded."""

import numpy as np
import pandas as pd
import pytest
from recorded_market import recorded_market

from acmf_core.features import SCHEMA, MarketData, build, build_features
from acmf_core.features.blocks import BLOCK_BARS, Spans

BAR = pd.Timedelta(minutes=15)
HISTORY = SCHEMA.history


@pytest.fixture(scope="module")
def market(real_data):
    """Recorded candles and slow sources, and invented rows for those of which there is no record."""
    recorded = recorded_market(real_data)
    rng = np.random.default_rng(7)
    stamps = pd.date_range("2023-01-01", "2024-12-31", freq="3h", tz="UTC")

    def invented(**columns):
        return pd.DataFrame({"available_at": stamps, "event_time": stamps - pd.Timedelta(hours=1), **columns})

    return MarketData(
        recorded.candles,
        **recorded.slow,
        long_short=invented(long_short_ratio=rng.uniform(0.5, 2.5, len(stamps))),
        onchain=invented(
            whale_transfers=rng.poisson(20, len(stamps)), exchange_netflow=rng.normal(0, 500, len(stamps))
        ),
        news=invented(score=rng.uniform(-1, 1, len(stamps))),
    )


@pytest.fixture(scope="module")
def full(market):
    return build_features(market)


def assert_same_bits(one, other):
    """Equal to the last bit, NaN where the other is NaN, also in the names and the times."""
    assert list(one.columns) == list(other.columns)
    assert one.index.equals(other.index)
    a, b = one.to_numpy(), other.to_numpy()
    different = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    assert not different.any(), (
        f"{different.sum()} values differ, in {list(one.columns[different.any(axis=0)])}"
    )


def some_rows(count, low=HISTORY, high=70_176, seed=0):
    return sorted(np.random.default_rng(seed).integers(low, high, count).tolist())


def with_slow(market, candles, change):
    return MarketData(candles, **{name: change(frame) for name, frame in market.slow.items()})


@pytest.mark.parametrize("t", [0, 1, 767, 768, 1_535, *some_rows(8)])
def test_a_row_is_the_same_when_the_bars_after_it_do_not_exist(market, full, t):
    known = market.between(None, market.candles.index[t] + BAR)
    assert len(known) == t + 1
    assert all(
        (frame["available_at"] <= market.candles.index[t] + BAR).all() for frame in known.slow.values()
    )
    truncated = build_features(known)
    assert_same_bits(truncated.tabular, full.tabular.iloc[: t + 1])
    assert_same_bits(truncated.sequence, full.sequence.iloc[: t + 1])


def test_the_last_row_of_sixty_truncations_is_the_row_of_the_full_run(market, full):
    for t in some_rows(60, low=0, seed=1):
        known = MarketData(market.candles.iloc[: t + 1], **market.slow)
        assert_same_bits(build_features(known, last=1).tabular, full.tabular.iloc[t : t + 1])


@pytest.mark.parametrize("garbage", [np.nan, 1e12, 0.0, -1.0, np.inf, "random"])
def test_garbage_after_a_bar_changes_nothing_up_to_it(market, full, garbage):
    for t in some_rows(2, seed=2):
        close = market.candles.index[t] + BAR
        candles = market.candles.copy()
        later = (len(candles) - t - 1, 5)
        noise = np.random.default_rng(t).lognormal(0, 5, later) if garbage == "random" else garbage
        candles.iloc[t + 1 :] = noise

        def spoil(frame, close=close, noise=noise):
            future = frame["available_at"] > close
            values = frame.columns.difference(["available_at", "event_time"])
            frame = frame.copy()
            frame[values] = frame[values].astype(float)
            frame.loc[future, values] = 1e12 if isinstance(noise, np.ndarray) else noise
            return frame

        spoiled = build_features(with_slow(market, candles, spoil))
        assert_same_bits(spoiled.tabular.iloc[: t + 1], full.tabular.iloc[: t + 1])
        assert_same_bits(spoiled.sequence.iloc[: t + 1], full.sequence.iloc[: t + 1])


def test_rows_are_bit_identical_from_every_start_that_covers_block_and_warm_up(market, full):
    for start in some_rows(25, low=0, high=50_000, seed=3):
        part = MarketData(market.candles.iloc[start : start + 16_000], **market.slow)
        features = build_features(part)
        settled = (
            -(-(start + HISTORY) // BLOCK_BARS) * BLOCK_BARS + 1 - start
        )  # one block start is certainly in
        assert features.tabular["ema_20_1d"].iloc[settled:].notna().all()
        assert_same_bits(features.tabular.iloc[settled:], full.tabular.iloc[start + settled : start + 16_000])


def test_the_stated_warm_up_is_enough_for_one_decision_and_one_bar_less_is_not(market, full):
    candles = market.candles
    for t in [*some_rows(6, seed=4), 3 * HISTORY // BLOCK_BARS * BLOCK_BARS - 1]:
        stated = MarketData(candles.iloc[t + 1 - SCHEMA.warmup["15m"] : t + 1])
        answer = build_features(stated, last=192)
        assert_same_bits(answer.sequence, full.sequence.iloc[t - 191 : t + 1])
        assert len(answer.windows()[0]) == 1
        enough = MarketData(candles.iloc[t + 1 - HISTORY : t + 1], **market.slow)
        assert_same_bits(build_features(enough, last=1).tabular, full.tabular.iloc[t : t + 1])
    # The worst case: 191 rows of the decision lie in the block before.
    first_of_block = np.flatnonzero(candles.index.asi8 % (BLOCK_BARS * 900_000_000) == 0)[20]
    worst = first_of_block + 190
    short = MarketData(candles.iloc[worst + 2 - SCHEMA.warmup["15m"] : worst + 1])
    assert len(build_features(short, last=192).windows()[0]) == 0
    stated = MarketData(candles.iloc[worst + 1 - SCHEMA.warmup["15m"] : worst + 1])
    assert len(build_features(stated, last=192).windows()[0]) == 1


@pytest.mark.parametrize("last", [1, 2, 192, 768, 1_000, 20_000, 70_176, 100_000])
def test_the_last_rows_alone_have_the_bits_of_the_full_run(market, full, last):
    some = build_features(market, last=last)
    assert len(some) == min(last, len(full))
    assert_same_bits(some.tabular, full.tabular.iloc[-last:])
    assert_same_bits(some.sequence, full.sequence.iloc[-last:])


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit(market, full, threads):
    assert_same_bits(build_features(market, threads=threads).tabular, full.tabular)


def test_blocks_change_no_value_by_more_than_a_ten_thousandth_of_its_deviation(market, full, monkeypatch):
    def one_window(open_time, runs, warmup):
        one = np.array([0]), np.array([warmup]), np.array([len(open_time)])
        return Spans(*one)

    monkeypatch.setattr(build, "block_spans", one_window)
    unblocked = build_features(MarketData(market.candles)).tabular
    for feature in SCHEMA.features:
        if feature.source != "candles":
            continue
        blocked = full.tabular[feature.name]
        difference = (blocked - unblocked[feature.name]).abs()
        assert (difference.isna() == blocked.isna()).all()
        assert difference.max() < 1e-4 * blocked.std(), feature.name


def test_a_higher_timeframe_speaks_only_when_its_candle_has_closed(market, full):
    """The bar 10:15 is torn upwards: the 1h candle says so when it closes at 11:00, the 4h one at 12:00."""
    torn = pd.Timestamp("2024-05-22 10:15", tz="UTC")
    candles = market.candles.copy()
    candles.loc[torn, ["open", "high", "close"]] *= 1.05
    changed = (
        build_features(MarketData(candles)).tabular != build_features(MarketData(market.candles)).tabular
    )
    changed &= full.tabular.notna()
    for column, closes_at in (
        ("atr_14_1h", "11:00"),
        ("rsi_14_1h", None),  # only closes count, and the hour's close is another bar's
        ("atr_14_4h", "12:00"),
        ("adx_14_4h", "12:00"),
        ("log_return_4h", None),
    ):
        rows = changed.index[changed[column]]
        if closes_at is None:
            assert len(rows) == 0, column
        else:
            assert rows[0] + BAR == pd.Timestamp(f"2024-05-22 {closes_at}", tz="UTC"), column


@pytest.mark.parametrize(
    "source", ["funding", "fear_greed", "macro", "book", "long_short", "onchain", "news"]
)
def test_a_source_known_one_bar_later_is_felt_exactly_one_bar_later(market, full, source):
    shifted = getattr(market, source).assign(available_at=lambda frame: frame["available_at"] + BAR)
    late = build_features(MarketData(market.candles, **(market.slow | {source: shifted}))).tabular
    own = list(SCHEMA.sources[source])
    assert full.tabular[own].notna().any().all()
    np.testing.assert_array_equal(late[own].to_numpy()[1:], full.tabular[own].to_numpy()[:-1])
    others = full.tabular.columns.difference(own)
    assert_same_bits(late[others], full.tabular[others])


@pytest.mark.parametrize(("source", "row"), [("funding", 700), ("fear_greed", 2_000), ("macro", 200)])
def test_delaying_one_row_changes_only_the_bars_of_the_delay(market, full, source, row):
    frame = getattr(market, source).copy()
    published = frame.at[row, "available_at"]
    frame.loc[row, "available_at"] = published + BAR
    late = build_features(MarketData(market.candles, **(market.slow | {source: frame}))).tabular
    own = list(SCHEMA.sources[source])
    changed = (late[own] != full.tabular[own]) & (late[own].notna() | full.tabular[own].notna())
    assert full.tabular.index[changed.any(axis=1)].tolist() == [published - BAR]


def test_funding_is_known_at_the_close_of_the_bar_that_ends_with_it_and_not_before(market, full):
    frame = market.funding
    settled = frame[frame["event_time"].dt.hour == 8].iloc[100]
    before = frame[frame["event_time"] < settled["event_time"]].iloc[-1]
    column = full.tabular["funding_rate"]
    assert column[settled["event_time"] - BAR] == settled["funding_rate"] * 1e4
    assert column[settled["event_time"] - 2 * BAR] == before["funding_rate"] * 1e4


def test_a_macro_day_is_not_known_on_that_day_before_the_us_close(market, full):
    friday = pd.Timestamp("2024-05-24", tz="UTC")
    row = market.macro.set_index("event_time").loc[friday]
    column = full.tabular["vix"]
    assert row["available_at"] == friday + pd.Timedelta(hours=22)
    assert column[friday + pd.Timedelta(hours=21, minutes=45)] == row["vix"]
    assert (column[friday : friday + pd.Timedelta(hours=21, minutes=30)] != row["vix"]).all()
    weekend = column[friday + pd.Timedelta(hours=22) : friday + pd.Timedelta(days=3)]
    assert (weekend == row["vix"]).all()
