"""A short made-up market and the world of a daemon on it, shared by the tests of daemon and replay."""

import asyncio
import dataclasses
from functools import cache

from fakes import FakeNotifier, FakeStore
from standin import Standin

from acmf_core.collect.synthetic import synthetic_market
from acmf_core.domain import BAR_US
from acmf_core.features import MarketData
from acmf_core.features.market import open_times
from acmf_core.trading import TradeParams
from production.bootstrap import replay_world
from production.daemon import Daemon

BARS = 2_600
WARM = 2_200  # bars before the first cycle: more than the 1,727 that the channels need
# Trades often, so that every kind of order, fill and exit occurs within a few days of bars.
PARAMS = TradeParams(
    min_ratio=1.1,
    min_spread=0.02,
    min_confidence=(0.30, 0.30, 0.30),
    cooldown=(0, 1, 1),
    reward_cost_multiple=0.5,
    resume_after=12,
)


@cache
def market() -> MarketData:
    """27 days of 15m bars with funding."""
    return synthetic_market(BARS, seed=5)


def close_of(bar: int) -> int:
    """Microseconds of the close of a bar of `market()`."""
    return int(open_times(market().candles)[bar]) + BAR_US


def window(first: int, stop: int) -> dict[str, int]:
    """start and end of a replay over some bars of `market()`."""
    return {"start": close_of(first) - BAR_US, "end": close_of(stop) - BAR_US}


def without_bar(bar: int) -> MarketData:
    """The market with one bar missing."""
    whole = market()
    return MarketData(whole.candles.drop(whole.candles.index[bar]), funding=whole.funding)


def daemon(store=None, first: int = WARM, **plugs) -> Daemon:
    """A daemon on past bars whose clock stands at the close of bar `first`."""
    store = FakeStore() if store is None else store
    world = replay_world(
        plugs.pop("market", market()),
        plugs.pop("model", Standin()),
        plugs.pop("params", PARAMS),
        store,
        start=close_of(first),
        notifier=FakeNotifier(),
    )
    return Daemon(dataclasses.replace(world, **plugs))


def meet(own: Daemon, *bars: int):
    """Let the bars of `market()` close one after another; returns the last cycle."""

    async def run():
        cycle = None
        for bar in bars:
            own.world.clock.advance_to(close_of(bar))
            cycle = await own.meet(close_of(bar))
        return cycle

    return asyncio.run(run())
