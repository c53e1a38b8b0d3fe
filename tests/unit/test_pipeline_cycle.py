"""One cycle: what it does once, what it records, and what it does when a stage fails."""

import asyncio
import json

import numpy as np
import pandas as pd
import pytest
from fakes import FakeExchange, FakeStore
from replaying import PARAMS, WARM, close_of, daemon, market, meet, without_bar
from standin import Standin

from acmf_core.domain import BAR_US, PROBABILITIES
from acmf_core.errors import AcmfError, InvalidPrediction, MissingBars, OrderUnknown, VenueUnavailable
from acmf_core.execution.orders import cycle_id, parse
from acmf_core.features import build_features
from acmf_core.pipeline import features_hash, run_cycle
from acmf_core.trading import ALL_GATES, TradingState, bar_fills, simulate, trading_bars

LONG = 60


@pytest.fixture(scope="module")
def traded():
    """A daemon that has met sixty bars."""
    own = daemon()
    meet(own, *range(WARM, WARM + LONG))
    return own


class Broken:
    """A plug that raises, as often as it is told."""

    def __init__(self, plug, error, times=1):
        self.plug, self.error, self.times = plug, error, times

    def __getattr__(self, name):
        return getattr(self.plug, name)

    def _fail(self):
        if self.times:
            self.times -= 1
            raise self.error


class BrokenFeed(Broken):
    async def collect(self, at):
        self._fail()
        return await self.plug.collect(at)


class BrokenModel(Broken):
    def predict(self, features):
        self._fail()
        return self.plug.predict(features)


class BrokenExchange(Broken):
    async def submit(self, order):
        self._fail()
        return await self.plug.submit(order)


def test_every_bar_leaves_its_rows(traded):
    store = traded.world.store
    cycles = store.rows("cycles")
    assert [c["at"] for c in cycles] == [close_of(b) for b in range(WARM, WARM + LONG)]
    assert {c["status"] for c in cycles} == {"done"}
    assert {c["bundle"] for c in cycles} == {Standin().hash}
    assert {c["params"] for c in cycles} == {PARAMS.fingerprint}
    for table in ("predictions", "ohlcv"):
        assert [row["cycle_id"] for row in store.rows(table)] == [c["cycle_id"] for c in cycles]
    assert store.verify_journal().verdict is True
    bar = market().candles.iloc[WARM]
    kept = store.rows("ohlcv")[0]
    assert [kept[name] for name in ("open", "high", "low", "close", "volume")] == bar.to_list()


def test_an_entry_is_sent_exactly_where_all_gates_pass(traded):
    store = traded.world.store
    open_gates = {row["cycle_id"] for row in store.rows("predictions") if row["gates"] == ALL_GATES}
    entries = store.rows("orders", purpose="entry")
    assert len(entries) > 3
    assert {row["cycle_id"] for row in entries} == open_gates


def test_orders_and_fills_bear_names_that_lead_back_to_their_lot_and_cycle(traded):
    store = traded.world.store
    sent = {row["client_id"]: row for row in store.rows("orders")}
    for row in sent.values():
        said = parse(row["client_id"])
        assert (said.at, said.lot, said.purpose.value) == (row["at"], row["lot"], row["purpose"])
        assert cycle_id("BTCUSDT", said.at) == row["cycle_id"]
    fills = store.rows("fills")
    market_fills = [row for row in fills if row["purpose"] in ("entry", "exit")]
    assert market_fills
    for row in market_fills:
        order = sent[row["client_id"]]
        assert (order["lot"], order["side"], order["quantity"]) == (row["lot"], row["side"], row["quantity"])
        assert order["at"] == row["open_time"]  # decided at the close, filled at the next open
    assert {"stop", "target"} & {row["purpose"] for row in fills}


def test_the_recorded_hash_is_that_of_the_features_which_research_computes(traded):
    part = market().between(None, close_of(WARM + 7))
    research = build_features(part, last=192)
    recorded = traded.world.store.rows("cycles")[7]["features"]
    assert recorded == features_hash(research)
    spoiled = part.candles.copy()
    spoiled.iloc[-1, 3] *= 1 + 1e-9
    assert features_hash(build_features(type(part)(spoiled, funding=part.funding), last=192)) != recorded


def test_people_hear_of_entries_results_and_the_breaker(traded):
    store, sent = traded.world.store, traded.world.notifier.sent
    opened = [alert for alert in sent if "opened" in alert.text]
    closed = [alert for alert in sent if "closed" in alert.text]
    assert len(opened) == len(store.rows("fills", purpose="entry"))
    assert len(closed) == len(store.rows("trades"))
    stops = [alert for alert in sent if alert.level == "critical"]
    assert stops
    assert "trading stopped by" in stops[0].text


def test_the_same_bar_twice_is_met_once():
    own = daemon()
    meet(own, WARM)
    before = {name: list(rows) for name, rows in own.world.store.tables.items()}
    assert meet(own, WARM) is None
    assert asyncio.run(run_cycle(own.world, close_of(WARM))) is None
    assert own.world.store.tables == before


def test_two_callers_at_once_meet_a_bar_once():
    """Scheduler and watchdog: the second waits for the first and finds nothing to do."""
    own = daemon()

    async def both():
        return await asyncio.gather(own.meet(close_of(WARM)), own.meet(close_of(WARM)))

    cycles = asyncio.run(both())
    assert [cycle is None for cycle in cycles] == [False, True]
    assert len(own.world.store.rows("cycles")) == 1


def test_a_missing_bar_is_not_decided_on_and_holds_up_the_next():
    own = daemon(market=without_bar(WARM + 2))
    meet(own, WARM, WARM + 1, WARM + 2)
    assert isinstance(own.failure, MissingBars)
    assert "is not in the feed" in str(own.failure)
    failed = own.world.store.rows("cycles", status="failed")
    assert [(row["at"], row["stage"]) for row in failed] == [(close_of(WARM + 2), "collect")]
    assert failed[0]["error"].startswith("MissingBars: the bar that closed at")
    assert meet(own, WARM + 3) is None
    assert own.world.store.last_cycle("BTCUSDT")["at"] == close_of(WARM + 1)
    assert own.world.notifier.sent[-1].level == "warning"


def test_a_hole_in_the_window_leaves_exits_and_enters_nothing():
    own = daemon(market=without_bar(WARM - 40))
    meet(own, WARM, WARM + 1)
    rows = own.world.store.rows("cycles")
    assert [row["status"] for row in rows] == ["blind", "blind"]
    failures = own.world.store.rows("system_events", kind="failure")
    assert "1 bars are missing in a window that the model would read" in failures[0]["payload"]
    assert own.world.store.rows("orders") == []
    assert own.failure is None


def test_without_a_model_what_is_open_still_leaves_and_nothing_enters():
    own = daemon()
    bar = WARM
    while not TradingState.from_json((own.world.store.last_cycle("BTCUSDT") or _flat())["state"]).lots:
        meet(own, bar)
        bar += 1
    entries = len(own.world.store.rows("orders", purpose="entry"))
    broken = BrokenModel(Standin(), InvalidPrediction("nothing but NaN"), times=-1)
    blind = daemon(own.world.store, bar, model=broken, exchange=own.world.exchange)
    meet(blind, *range(bar, bar + 20))
    assert {row["status"] for row in blind.world.store.rows("cycles")[-20:]} == {"blind"}
    assert len(blind.world.store.rows("orders", purpose="entry")) == entries
    assert TradingState.from_json(blind.world.store.last_cycle("BTCUSDT")["state"]).lots == ()
    assert blind.world.store.verify_journal().verdict is True


def _flat():
    return {"state": TradingState.initial(10_000.0).to_json()}


@pytest.mark.parametrize(
    ("plugs", "stage"),
    [
        (lambda w: {"feed": BrokenFeed(w.feed, VenueUnavailable("no answer"))}, "collect"),
        (lambda w: {"store": FakeStore(faults=[AcmfError("disk full")])}, "record"),
    ],
)
def test_a_failed_cycle_is_recorded_with_its_stage_and_met_again(plugs, stage):
    own = daemon(**plugs(daemon().world))
    assert meet(own, WARM) is None
    assert own.failure is not None
    row = own.world.store.rows("cycles")[0]
    assert (row["status"], row["stage"]) == ("failed", stage)
    assert str(own.failure) in row["error"]
    assert meet(own, WARM) is not None
    assert own.failure is None
    assert own.world.store.rows("cycles")[0]["status"] == "done"


def test_an_order_that_failed_to_go_out_is_sent_again_under_its_old_name():
    own = daemon()
    first = next(bar for bar in range(WARM, WARM + 40) if meet(own, bar).orders)
    wanted = own.world.store.rows("orders")
    again = daemon(first=WARM)
    broken = BrokenExchange(again.world.exchange, OrderUnknown("timed out"))
    again = daemon(again.world.store, WARM, exchange=broken)
    meet(again, *range(WARM, first))
    assert meet(again, first) is None
    assert again.world.store.rows("cycles")[-1]["stage"] == "execute"
    meet(again, first)
    assert [row["client_id"] for row in again.world.store.rows("orders")] == [r["client_id"] for r in wanted]


def test_a_bar_met_too_late_settles_but_enters_nothing():
    own = daemon()
    entering = [bar for bar in range(WARM, WARM + 40) if any(o.purpose == 1 for o in meet(own, bar).orders)]
    late = daemon()
    meet(late, *range(WARM, entering[0]))
    meet(late, entering[0] + 3)  # the daemon slept: four bars at once, three of them late
    orders = late.world.store.rows("orders", purpose="entry")
    assert close_of(entering[0]) not in {row["at"] for row in orders}
    met = [row["at"] for row in late.world.store.rows("cycles")]
    assert met == [close_of(bar) for bar in range(WARM, entering[0] + 4)]


def test_the_world_can_be_all_fakes():
    """The cycle needs its ports and nothing else."""

    class Venue(FakeExchange):
        async def fills(self, state, bar, params):
            return bar_fills(state, bar, params)

    own = daemon(exchange=Venue())
    meet(own, *range(WARM, WARM + 30))
    sent = {row["client_id"] for row in own.world.store.rows("orders")}
    assert sent == set(own.world.exchange.orders)


def test_a_model_that_answers_for_another_bar_is_not_believed():
    class Stale(Standin):
        def predict(self, features):
            return super().predict(features).iloc[:-1]

    own = daemon(model=Stale())
    meet(own, WARM)
    assert "did not answer for the newest bar" in own.world.store.rows("system_events")[0]["payload"]


def test_the_cycle_reads_nothing_of_the_future():
    whole = market()
    spoiled = whole.candles.copy()
    spoiled.iloc[WARM + 20 :] = 1e12
    future = type(whole)(spoiled, funding=whole.funding)
    honest, poisoned = daemon(), daemon(market=future)
    bars = range(WARM, WARM + 20)
    meet(honest, *bars)
    meet(poisoned, *bars)
    events = [own.world.store.rows("system_events")[-1]["hash"] for own in (honest, poisoned)]
    assert events[0] == events[1]


def test_every_stage_is_timed(traded):
    timings = json.loads(traded.world.store.rows("cycles")[0]["timings"])
    assert set(timings) == {"collect", "features", "predict", "settle", "decide", "execute"}
    assert all(seconds >= 0 for seconds in timings.values())


def test_the_daemon_trades_what_simulate_trades(traded):
    part = market().between(None, close_of(WARM + LONG - 1))
    features = build_features(part)
    bars = trading_bars(part, features).slice(WARM, WARM + LONG)
    said = Standin().predict(features)[list(PROBABILITIES)].to_numpy()[WARM:]
    result = simulate(bars, said, PARAMS)
    store = traded.world.store
    assert store.last_cycle("BTCUSDT")["state"] == result.final_state.to_json()
    assert [row["equity"] for row in store.rows("cycles")] == result.equity.tolist()
    assert [row["gates"] for row in store.rows("predictions")] == result.gates.tolist()
    np.testing.assert_array_equal([row["price"] for row in store.rows("fills")], result.fills["price"])
    times = pd.to_datetime([row["exit_time"] for row in store.rows("trades")], unit="us", utc=True)
    assert list(times) == list(result.trades["exit_time"])
    assert (np.diff([row["at"] for row in store.rows("cycles")]) == BAR_US).all()
