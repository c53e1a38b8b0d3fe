"""What you backtest is what you trade: a month of real bars through the daemon, and through `simulate`."""

import asyncio
import sqlite3

import pandas as pd
import pytest
import small_model
from replaying import BARS, PARAMS, WARM, close_of, market, window, without_bar
from standin import Standin

from acmf_core.domain import BAR_US
from acmf_core.errors import ConfigError, MissingBars
from acmf_core.features import MarketData
from acmf_core.models import Bundle
from acmf_core.store.sql import SqlStore
from acmf_core.trading import TradeParams
from production.daemon import replay

MONTH = {"start": pd.Timestamp("2024-08-01", tz="UTC"), "end": pd.Timestamp("2024-09-01", tz="UTC")}


def microseconds(**times):
    return {name: time.value // 1_000 for name, time in times.items()}


@pytest.fixture
def store(tmp_path):
    with SqlStore.open(tmp_path / "replay.db") as opened:
        yield opened


def test_a_month_of_real_bars_trades_as_it_was_simulated(real_data, store):
    """2,976 bars, among them 5 August 2024 (-18 % in a day); both sides, every reason to leave."""
    candles = pd.read_parquet(real_data / "BTCUSDT_perp_15m_2023_2024.parquet")
    rates = pd.read_parquet(real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet")
    funding = pd.DataFrame(
        {
            "event_time": rates["funding_time"],
            "available_at": rates["funding_time"],
            "funding_rate": rates["funding_rate"],
        }
    )
    real = MarketData.from_candles(candles, funding=funding)
    result = replay(real, Standin(), store=store, **microseconds(**MONTH))
    assert result.differences == 0, result.first_difference
    assert result.cycles == result.ran == 2_976
    assert result.trades > 100
    assert store.verify_journal().verdict is True
    reasons = {row["reason"] for row in store.rows("fills")}
    assert reasons == {"entry", "stop", "target", "trailing", "opposite", "time", "breaker"}
    assert {row["side"] for row in store.rows("trades")} == {-1, 1}
    assert any(row["funding"] != 0 for row in store.rows("trades"))
    assert {row["regime"] for row in store.rows("predictions")} == {0, 1, 2}


def test_a_real_bundle_says_the_same_bar_by_bar_as_in_one_batch(tmp_path, store):
    """The model is evaluated every cycle; probabilities are compared bit for bit."""
    params = PARAMS.to_dict()
    saved = small_model.fitted().save(tmp_path / "bundle", params=params, evidence={}, lake_versions={})
    own = MarketData(small_model.candles())
    times = own.candles.index
    result = replay(own, Bundle.load(saved), store=store, **microseconds(start=times[-130], end=times[-1]))
    assert result.differences == 0, result.first_difference
    assert result.cycles == 129
    assert result.trades > 0
    assert all(row[0] is not None for row in store.columns("predictions", ["p_long"], start=0, end=2**62))


def test_a_replay_goes_on_where_it_ended_and_doing_it_again_does_nothing(store):
    run = {"market": market(), "bundle": Standin(), "store": store, "params": PARAMS}
    part = replay(**run, **window(WARM, WARM + 100))
    whole = replay(**run, **window(WARM, WARM + 200))
    again = replay(**run, **window(WARM, WARM + 200))
    assert [(r.ran, r.cycles, r.differences) for r in (part, whole, again)] == [
        (100, 100, 0),
        (100, 200, 0),
        (0, 200, 0),
    ]
    assert whole.trades == again.trades > part.trades > 0
    assert again.equity == whole.equity


def test_two_replays_leave_the_same_journal(tmp_path, store):
    with SqlStore.open(tmp_path / "other.db") as other:
        heads = []
        for own in (store, other):
            replay(market(), Standin(), store=own, params=PARAMS, **window(WARM, WARM + 50))
            heads.append(own.rows("system_events")[-1]["hash"])
    assert heads[0] == heads[1]


def test_bars_before_the_features_are_warm_are_replayed_without_a_decision(store):
    result = replay(market(), Standin(), store=store, params=PARAMS, **window(1_000, 1_100))
    assert (result.cycles, result.trades, result.differences) == (100, 0, 0)
    assert store.rows("predictions")[0]["p_long"] is None


def test_a_replay_runs_inside_a_notebook(store):
    """Where an event loop is running already."""

    async def cell():
        return replay(market(), Standin(), store=store, params=PARAMS, **window(WARM, WARM + 5))

    assert asyncio.run(cell()).differences == 0


@pytest.mark.parametrize(
    ("damage", "table", "column"),
    [
        ("UPDATE fills SET price = price * (1 + 1e-15) WHERE rowid = 4", "fills", "price"),
        ("UPDATE orders SET quantity = quantity + 0.001 WHERE rowid = 2", "orders", "quantity"),
        ("UPDATE predictions SET gates = gates - 1 WHERE rowid = 30", "predictions", "gates"),
        ("UPDATE predictions SET p_long = p_long + 1e-16 WHERE rowid = 9", "predictions", "p_long"),
        ("UPDATE cycles SET equity = equity + 1e-9 WHERE rowid = 50", "cycles", "equity"),
        ("UPDATE trades SET reason = 'luck' WHERE rowid = 1", "trades", "reason"),
        ("DELETE FROM trades WHERE rowid = 1", "trades", "row"),
    ],
)
def test_the_smallest_difference_is_found_and_named(tmp_path, damage, table, column):
    file = tmp_path / "replay.db"
    with SqlStore.open(file) as store:
        run = {"market": market(), "bundle": Standin(), "store": store, "params": PARAMS}
        run |= window(WARM, WARM + 60)
        assert replay(**run).differences == 0
        raw = sqlite3.connect(file)
        assert raw.execute(damage).rowcount == 1
        raw.commit()
        raw.close()
        result = replay(**run)
    assert result.differences == 1
    first = result.first_difference
    assert (first["table"], first["column"]) == (table, column)
    assert first["replay"] != first["simulate"]


def test_a_store_of_another_replay_is_refused(store):
    run = {"market": market(), "store": store}
    replay(bundle=Standin(), params=PARAMS, **run, **window(WARM, WARM + 3))
    for bundle, params, first, what in (
        (Standin(gain=0.5), PARAMS, WARM, "bundle"),
        (Standin(), TradeParams(), WARM, "parameters"),
        (Standin(), PARAMS, WARM + 1, "first bar"),
    ):
        with pytest.raises(ConfigError, match=f"another replay: its {what}"):
            replay(bundle=bundle, params=params, **run, **window(first, WARM + 9))
    assert len(store.rows("cycles")) == 3


@pytest.mark.parametrize("missing", [WARM - 500, WARM + 3])
def test_a_missing_bar_is_refused_before_anything_is_done(store, missing):
    with pytest.raises(MissingBars, match="1 bars are missing") as refused:
        replay(without_bar(missing), Standin(), store=store, params=PARAMS, **window(WARM, WARM + 9))
    opened = pd.Timestamp(close_of(missing) - BAR_US, unit="us")
    assert f"{opened:%Y-%m-%d %H:%M}" in str(refused.value)
    assert store.rows("cycles") == []


@pytest.mark.parametrize("shift", [(-1, 0), (0, 1)])
def test_a_window_outside_the_bars_is_refused_with_what_there_is(store, shift):
    whole = window(0, BARS - 1)
    asked = {"start": whole["start"] + shift[0] * BAR_US, "end": whole["end"] + BAR_US + shift[1] * BAR_US}
    with pytest.raises(ConfigError, match="those there are: 2020-01-01 00:00 UTC to 2020-01-28 02:00 UTC"):
        replay(market(), Standin(), store=store, **asked)


def test_an_empty_window_is_refused(store):
    start = window(WARM, WARM + 1)["start"]
    with pytest.raises(ConfigError, match="no bar opens from"):
        replay(market(), Standin(), store=store, start=start + 1, end=start + 2)
