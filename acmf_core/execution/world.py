"""Everything outside of a cycle, one plug per socket: built in one bootstrap, faked in tests.

The sockets that are spoken of in `ports.py` are plain; those here speak of market data, features and the
kernel's values, which live on floors above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from acmf_core.collect.snapshot import MarketSnapshot
from acmf_core.config import ExchangeConfig, TrainConfig
from acmf_core.domain import Mode, SourceHealth
from acmf_core.features import Features
from acmf_core.ports import Clock, Exchange, Notifier, Store
from acmf_core.trading import Bar, Fill, TradeParams, TradingState


@runtime_checkable
class Feed(Protocol):
    """Where market data come from."""

    @property
    def health(self) -> tuple[SourceHealth, ...]:
        """How each source did in the latest collection, also in one that failed; empty in a replay."""
        ...

    @property
    def clock_offset_s(self) -> float:
        """The venue's clock minus ours, as last measured; NaN where it could not be, 0 in a replay."""
        ...

    async def collect(self, at: int) -> MarketSnapshot:
        """What is known at the close `at` (microseconds), the bar that closed then being the newest.

        MissingBars, StaleData or VenueUnavailable where that bar cannot be had.
        """
        ...


@runtime_checkable
class Recorder(Protocol):
    """Keeps what every cycle saw and decided, for research."""

    def record(self, row: Mapping[str, Any]) -> None:
        """Take one row of the lake's table `cycles` (times in microseconds); never raises, never waits."""
        ...


@runtime_checkable
class Model(Protocol):
    """What turns features into probabilities: a loaded bundle."""

    @property
    def hash(self) -> str:
        """Which bundle this is, recorded with every cycle."""
        ...

    @property
    def config(self) -> TrainConfig:
        """How it was trained: the features it wants, and how many rows of them."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """The TradeParams that were tuned for it, as plain values."""
        ...

    def predict(self, features: Features) -> pd.DataFrame:
        """p_long, p_short, p_neutral for every row; NaN where the window is incomplete."""
        ...


@runtime_checkable
class Venue(Exchange, Protocol):
    """An exchange that also says what was filled, in the kernel's terms."""

    async def fills(self, state: TradingState, bar: Bar, params: TradeParams) -> tuple[Fill, ...]:
        """What happened to the state's pending and resting orders in the closed bar, oldest first.

        OrderUnknown where the venue does not know an order that the state waits for.
        """
        ...


@dataclass(frozen=True)
class World:
    """The plugs of one daemon trading one symbol.

    equity: what the account starts with, in quote units, where the store knows no earlier cycle.
    max_clock_offset_s: with a clock that is further off the venue's, nothing is entered (gate 10).
    recorder: the flight recorder; a replay has none.
    """

    symbol: str
    mode: Mode
    clock: Clock
    feed: Feed
    model: Model
    params: TradeParams
    exchange: Venue
    store: Store
    notifier: Notifier
    equity: float = 10_000.0
    max_clock_offset_s: float = ExchangeConfig().max_clock_offset_s
    recorder: Recorder | None = None

    @cached_property
    def params_fingerprint(self) -> str:
        """Of the parameters, recorded with every cycle."""
        return self.params.fingerprint
