"""One cycle: collect -> features -> predict -> settle -> decide -> execute -> record -> notify.

Nothing is decided here: features, model and kernel come from the floors below, the same in research and in
production. Submit comes before record: after a crash between the two the bar is met again, with the same
client ids, and the venue knows them (docs/adr/050-submit-before-record.md).
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from time import perf_counter
from typing import Final, NamedTuple

import pandas as pd

from acmf_core.collect.snapshot import MarketSnapshot
from acmf_core.domain import PROBABILITIES, Alert, Order, OrderAck, Purpose, Regime
from acmf_core.errors import InvalidPrediction
from acmf_core.execution.feed import check_whole
from acmf_core.execution.flight import flight_row, health_json
from acmf_core.execution.orders import client_id, cycle_id
from acmf_core.execution.paper import fill_client_id
from acmf_core.execution.world import World
from acmf_core.features import SCHEMA, Features, MarketData, build_features
from acmf_core.features.market import open_times
from acmf_core.store import records
from acmf_core.store.schema import BLIND, DONE, FAILED
from acmf_core.trading import (
    NO_SIGNAL,
    Bar,
    Cause,
    Fill,
    Kind,
    MarketOrder,
    Reason,
    Signal,
    Trade,
    TradeParams,
    TradingState,
    classify_regime,
    decide,
    route,
    settle_with_trades,
    trading_bars,
)

LATEST_DECISION_US: Final = 60_000_000  # after the close: later than that nothing is entered (gate 10)
NO_PREDICTION: Final = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Cycle:
    """What one cycle saw, decided and did.

    before, state: the kernel's memory before and after the bar. timings: seconds by stage.
    """

    cycle_id: str
    at: int
    bar: Bar
    probabilities: tuple[float, float, float]
    signal: Signal
    regime: int
    scores: tuple[float, ...]
    gates: int
    before: TradingState
    state: TradingState
    orders: tuple[MarketOrder, ...]
    fills: tuple[Fill, ...]
    trades: tuple[Trade, ...]
    timings: dict[str, float]


@dataclass
class Stages:
    """Times each stage of a cycle and remembers which one is running."""

    timings: dict[str, float] = field(default_factory=dict)
    running: str = ""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.running = name
        start = perf_counter()
        yield
        self.timings[name] = perf_counter() - start


async def run_cycle(world: World, at: int, *, blind: bool = False) -> Cycle | None:
    """Meet the bar that closed at `at` (microseconds) once, however often this is called.

    Parameters
    ----------
    blind : bool
        Without features and model: what is open is settled and left by its rules, nothing is entered. For
        a cycle whose features or model have failed.

    Returns
    -------
    Cycle or None
        None where the bar has been met already.

    Raises
    ------
    Exception
        Whatever a stage raised, after the cycle was recorded as failed.
    """
    last = world.store.last_cycle(world.symbol)
    if last is not None and last["at"] >= at:
        return None
    name, stages = cycle_id(world.symbol, at), Stages()
    try:
        with stages("collect"):
            snapshot = await world.feed.collect(at)
            market = snapshot.market
        with stages("features"):
            features = None if blind else _features(world, market)
            blocked = _blocked(world, snapshot)
            bar = _bar(market, features, ok=not blocked)
        with stages("predict"):
            probabilities = NO_PREDICTION if features is None else _predict(world, features)
            signal = _routed(probabilities, world.params)
        with stages("settle"):
            before = TradingState.from_json(last["state"]) if last else TradingState.initial(world.equity)
            fills = await world.exchange.fills(before, bar, world.params)
            settled, trades = settle_with_trades(before, bar, fills)
        with stages("decide"):
            state, orders, gates = decide(settled, bar, signal, world.params)
            regime, scores = classify_regime(bar, world.params)
        with stages("execute"):
            acks = [await world.exchange.submit(_order(world.symbol, name, order)) for order in orders]
        with stages("record"):
            cycle = Cycle(
                name, at, bar, probabilities, signal, int(regime), tuple(scores), gates,
                before, state, orders, fills, trades, stages.timings,
            )  # fmt: skip
            health = health_json(snapshot.health, snapshot.clock_offset_s, blocked)
            head = _head(world, name, at, BLIND if blind else DONE, stages, health)
            head, rows = head | _outcome(cycle, features), _rows(world.symbol, cycle, market, acks)
            world.store.record_cycle(head, rows)
    except Exception as error:
        failed = _failed(world, name, at, stages, error)
        world.store.record_cycle(failed, {})
        _keep(world, failed, {}, None)
        raise
    _keep(world, head, rows, features)
    with stages("notify"):
        for alert in _alerts(world.symbol, cycle):
            world.notifier.send(alert)
    return cycle


# --- the stages ---------------------------------------------------------------------------------


def _features(world: World, market: MarketData) -> Features:
    """The rows that one decision reads, from a window without a hole."""
    check_whole(open_times(market.candles))
    wanted = world.model.config
    return build_features(market, wanted.features, last=wanted.encoder.window)


class _Tail(NamedTuple):
    """The newest bars, as `trading_bars` wants them."""

    candles: pd.DataFrame
    funding: pd.DataFrame | None


_UNKNOWN: Final = Features(
    pd.DataFrame(columns=list(SCHEMA.sequence), dtype=float),
    pd.DataFrame(columns=list(SCHEMA.tabular), dtype=float),
    SCHEMA,
)


def _bar(market: MarketData, features: Features | None, *, ok: bool) -> Bar:
    """The newest bar as the kernel reads it; without features, or not `ok`, nothing is entered on it."""
    # Two bars: funding that fell into a gap between them is booked at the newer one's open.
    tail = _Tail(market.candles.iloc[-2:], market.funding)
    bar = trading_bars(tail, _UNKNOWN if features is None else features).bar(-1)
    return bar._replace(data_ok=bar.data_ok and ok)


def _blocked(world: World, snapshot: MarketSnapshot) -> list[str]:
    """Why nothing may be entered on this bar, whatever its data are (gate 10); empty where it may."""
    reasons = []
    late_us, offset = world.clock.now() - snapshot.at, snapshot.clock_offset_s
    if late_us > LATEST_DECISION_US:
        reasons.append(f"{late_us / 1e6:.0f} s after the close, more than {LATEST_DECISION_US / 1e6:.0f} s")
    if abs(offset) > world.max_clock_offset_s:
        limit = world.max_clock_offset_s
        reasons.append(f"the venue's clock is {offset:+.1f} s off ours, more than {limit:g} s")
    return reasons


def _predict(world: World, features: Features) -> tuple[float, float, float]:
    said = world.model.predict(features)
    if len(said) == 0 or said.index[-1] != features.tabular.index[-1]:
        raise InvalidPrediction("the model did not answer for the newest bar", "check the bundle's version")
    p_long, p_short, p_neutral = said[list(PROBABILITIES)].to_numpy()[-1].tolist()
    return p_long, p_short, p_neutral


def _routed(probabilities: tuple[float, float, float], params: TradeParams) -> Signal:
    """Three NaN are no prediction, as in `simulate`; anything else that is no probability is refused."""
    return NO_SIGNAL if all(map(math.isnan, probabilities)) else route(*probabilities, params)


def _order(symbol: str, cycle: str, order: MarketOrder) -> Order:
    purpose = Purpose.ENTRY if order.purpose == Kind.ENTRY else Purpose.EXIT
    return Order(
        client_id(cycle, order.lot, purpose),
        symbol,
        order.side * order.quantity,
        purpose,
        reduce_only=purpose is Purpose.EXIT,
    )


# --- what is kept and told ----------------------------------------------------------------------


def features_hash(features: Features) -> str:
    """SHA-256 of what the decision on the newest row reads: the window of channels and the tabular row."""
    digest = sha256(features.matrix.tobytes())
    digest.update(features.tabular.iloc[-1].to_numpy().tobytes())
    return digest.hexdigest()


def _head(world: World, name: str, at: int, status: str, stages: Stages, health: str) -> dict[str, object]:
    return {
        "cycle_id": name,
        "symbol": world.symbol,
        "mode": world.mode.value,
        "at": at,
        "status": status,
        "bundle": world.model.hash,
        "params": world.params_fingerprint,
        "health": health,
        "timings": json.dumps({stage: round(seconds, 6) for stage, seconds in stages.timings.items()}),
        "recorded_at": world.clock.now(),
    }


def _failed(world: World, name: str, at: int, stages: Stages, error: Exception) -> dict[str, object]:
    text = f"{type(error).__name__}: {error}"
    health = health_json(world.feed.health, world.feed.clock_offset_s)
    return _head(world, name, at, FAILED, stages, health) | {"stage": stages.running, "error": text}


def _keep(
    world: World, head: dict[str, object], rows: dict[str, list[records.Row]], features: Features | None
) -> None:
    """Hand the cycle to the flight recorder, where there is one."""
    if world.recorder is not None:
        world.recorder.record(flight_row(head, rows, features, world.feed.clock_offset_s))


def _outcome(cycle: Cycle, features: Features | None) -> dict[str, object]:
    return {
        "features": "" if features is None else features_hash(features),
        "equity": cycle.state.equity,
        "state": cycle.state.to_json(),
    }


def _rows(
    symbol: str, cycle: Cycle, market: MarketData, acks: Sequence[OrderAck]
) -> dict[str, list[records.Row]]:
    names = [fill_client_id(symbol, cycle.before, fill) for fill in cycle.fills]
    volume = float(market.candles["volume"].iloc[-1])
    said = records.prediction_row(
        cycle.probabilities,
        cycle.signal,
        (cycle.regime, cycle.scores),
        cycle.gates,
        bool(cycle.state.stopped),
    )
    tables = {
        "predictions": [said],
        "ohlcv": [records.bar_row(cycle.bar, volume)],
        "orders": records.order_rows(symbol, cycle.orders, acks),
        "fills": records.fill_rows(cycle.fills, names),
        "trades": records.trade_rows(cycle.trades),
    }
    return records.of_cycle(cycle.cycle_id, cycle.at, tables)


def _alerts(symbol: str, cycle: Cycle) -> Iterator[Alert]:
    """What a person wants to hear of a cycle: entries, results, and the breaker."""
    for fill in cycle.fills:
        if fill.purpose == Kind.ENTRY:
            side = "long" if fill.side > 0 else "short"
            text = f"{symbol}: opened {side} {fill.quantity:g} at {fill.price:,.2f}"
            yield Alert("info", text, f"{symbol}-opened-{fill.lot}")
    for trade in cycle.trades:
        side, reason = "long" if trade.side > 0 else "short", Reason(trade.reason).name.lower()
        regime = Regime(trade.regime).name.lower()
        text = f"{symbol}: closed {side} {trade.quantity:g} by {reason} ({regime}), net {trade.net:+,.2f}"
        yield Alert("info", text, f"{symbol}-closed-{trade.lot}")
    if cycle.state.stopped and not cycle.before.stopped:
        cause = Cause(cycle.state.cause).name.lower().replace("_", " ")
        yield Alert("critical", f"{symbol}: trading stopped by {cause}", f"{symbol}-stopped-{cycle.at}")
