"""Data sources for tests of DataSync: they answer, or fail in one of the ways of the world outside."""

import asyncio
import threading
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import pandas as pd
from fakes import FakeNotifier

from acmf_core.config import ExchangeConfig, NewsConfig, OnchainConfig, SourceConfig, SourcesConfig
from acmf_core.domain import BAR_US
from acmf_core.errors import DataError, MissingBars, StaleData, VenueUnavailable
from acmf_core.lake.tables import BOOK_LEVELS, candle_rows

OPTIONAL = ("book", "fear_greed", "funding", "long_short", "macro", "news", "onchain")
SYMBOL = "BTCUSDT"


class RunningClock:
    """Runs from a given moment on, as a real clock does; it starts when it is first looked at."""

    def __init__(self, start: int) -> None:
        self._start, self._began = start, None

    def now(self) -> int:
        if self._began is None:
            self._began = perf_counter()
        return self._start + int((perf_counter() - self._began) * 1e6)

    def jump(self, moment: int) -> None:
        self._start, self._began = moment, None


def stamp(moment: int) -> pd.Timestamp:
    return pd.Timestamp(moment, unit="us", tz="UTC").as_unit("us")


def quick_config(**changes) -> SourcesConfig:
    """Small limits, so that a collection in which everything hangs ends within a second."""
    quick = {"timeout_s": 0.25, "attempts": 2}
    values = {
        "deadline_s": 0.8,
        "candles": SourceConfig(timeout_s=0.4, attempts=3),
        "onchain": OnchainConfig(**quick),
        "news": NewsConfig(**quick),
        **{name: SourceConfig(**quick) for name in ("book", "fear_greed", "funding", "long_short", "macro")},
    }
    return SourcesConfig(**(values | changes))


def rows_of(name: str, moment: int, event: int | None = None) -> pd.DataFrame:
    """One good row of a source's table, known at `moment`."""
    event_time = stamp(moment if event is None else event)
    values = {
        "book": {"symbol": SYMBOL, **_levels()},
        "fear_greed": {"value": 55.0, "classification": "Greed"},
        "funding": {"symbol": SYMBOL, "funding_rate": 0.0001},
        "long_short": {"symbol": SYMBOL, "interval": "15m", "long_short_ratio": 1.2},
        "macro": {"vix": 15.0, "dxy": 104.0, "sp500": 5_000.0, "gold": 2_000.0},
        "onchain": {"symbol": SYMBOL, "whale_transfers": 20.0, "exchange_netflow": -1e6},
        "news": {
            "symbol": SYMBOL,
            "score": 0.25,
            "confidence": 0.5,
            "headlines": 12,
            "model": "a",
            "prompt_version": "1",
        },
    }[name]
    return pd.DataFrame([{"event_time": event_time, "available_at": stamp(moment), **values}])


def _levels() -> dict[str, float]:
    return {
        f"{side}_{what}_{i}": (100.0 + sign * (0.05 + 0.1 * (i - 1)) if what == "px" else 1.0 + i / 10)
        for side, sign in (("bid", -1), ("ask", 1))
        for what in ("px", "qty")
        for i in range(1, BOOK_LEVELS + 1)
    }


@dataclass
class FakeSource:
    """An optional source (port `Source`). `mode` says how it fails; "" answers at once."""

    name: str
    clock: RunningClock
    mode: str = ""
    rows: pd.DataFrame | None = None
    asked: list[int] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def table(self) -> str:
        return self.name

    def due(self, at: int) -> bool:
        return at % (4 * BAR_US) == 0

    async def collect(self, at: int) -> object:
        self.asked.append(self.clock.now())
        if self.mode:
            failing = getattr(self, f"_{self.mode}", None)
            return await failing() if failing is not None else SPOILED[self.mode](self._good())
        return self._good()

    def _good(self) -> pd.DataFrame:
        return rows_of(self.name, self.clock.now()) if self.rows is None else self.rows

    async def _unavailable(self):
        raise VenueUnavailable(f"{self.name} answered 503")

    async def _refused(self):
        raise DataError(f"{self.name} refused the key", "give another")

    async def _bug(self):
        return {}["api_key=" + "hunter" + str(2)]

    async def _foreign(self):
        raise TimeoutError("of a library of its own")

    async def _hang(self):
        await asyncio.sleep(3_600)

    async def _stubborn(self):
        """Goes on when it is cancelled, for a while."""
        until = perf_counter() + 1.6
        while perf_counter() < until:
            try:
                await asyncio.sleep(until - perf_counter())
            except asyncio.CancelledError:
                continue

    async def _thread(self):
        """Waits for a thread that nobody can cancel."""
        await asyncio.to_thread(self.released.wait, 1.5)


SPOILED = {
    "empty": lambda rows: rows.iloc[:0],
    "truncated": lambda rows: rows.drop(columns="available_at"),
    "garbage": lambda _rows: {"data": "<html>502</html>"},
    "nothing": lambda _rows: None,
    "naive": lambda rows: rows.assign(event_time=rows["event_time"].dt.tz_localize(None)),
    "text": lambda rows: rows.assign(**{rows.columns[-1]: object()}),
    "infinite": lambda rows: rows.assign(**{rows.select_dtypes("float").columns[0]: np.inf}),
    "doubled": lambda rows: pd.concat([rows, rows]),
}
FAILURES = (
    "unavailable", "refused", "bug", "foreign", "hang", "stubborn", "thread",
    "truncated", "garbage", "nothing", "naive", "text", "infinite", "doubled",
)  # fmt: skip


@dataclass
class Answer:
    rows: dict[str, pd.DataFrame]
    notes: tuple[str, ...] = ()


@dataclass
class FakeCandles:
    """A candle source over given bars (by open time). A bar is there `delay_s` after its close."""

    bars: pd.DataFrame
    clock: RunningClock
    delay_s: float = 0.0
    mode: str = ""
    asked: list[tuple[int, int]] = field(default_factory=list)
    longer: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    async def collect(self, at: int, *, since: int) -> Answer:
        self.asked.append((at, since))
        if self.mode:
            return await getattr(self, f"_{self.mode}")(at, since)
        return self._answer(at, since)

    def _answer(self, at: int, since: int) -> Answer:
        opened = self.bars.index.asi8
        there = (opened > since) & (opened + BAR_US <= at)
        there &= opened + BAR_US + int(self.delay_s * 1e6) <= self.clock.now()
        rows = self.bars[there]
        if rows.empty or rows.index.asi8[-1] != at - BAR_US:
            raise StaleData("the newest bar is not the expected one")
        if rows.index.asi8[0] != since + BAR_US or (np.diff(rows.index.asi8) != BAR_US).any():
            raise MissingBars("bars are missing", "bridge them")
        return Answer({"15m": candle_rows(rows, SYMBOL), **self.longer}, self.notes)

    async def _unavailable(self, at, since):
        raise VenueUnavailable("the exchange answered 502")

    async def _hang(self, at, since):
        await asyncio.sleep(3_600)

    async def _stubborn(self, at, since):
        await FakeSource("candles", self.clock)._stubborn()

    async def _bug(self, at, since):
        return {}[at]

    async def _nothing(self, at, since):
        return Answer({})

    async def _none(self, at, since):
        return None

    async def _truncated(self, at, since):
        answer = self._answer(at, since)
        return Answer({"15m": answer.rows["15m"].drop(columns="close")})

    async def _nonsense(self, at, since):
        answer = self._answer(at, since)
        return Answer({"15m": answer.rows["15m"].assign(high=1.0)})

    async def _unfinished(self, at, since):
        """As an exchange does: the last row is the bar that is still running."""
        rows = self._answer(at, since).rows["15m"]
        running = rows.iloc[[-1]].assign(
            open_time=rows["open_time"].iloc[-1] + pd.Timedelta(minutes=15), close=rows["high"].iloc[-1]
        )
        return Answer({"15m": pd.concat([rows, running], ignore_index=True)})


CANDLE_FAILURES = ("unavailable", "hang", "stubborn", "bug", "nothing", "none", "truncated", "nonsense")


def sync_of(bars, at, *, lead_s=0.25, config=None, modes=None, candles=None, lake=None, **plugs):
    """(DataSync, its parts by name) that stands `lead_s` before the close `at`."""
    from acmf_core.collect.sync import DataSync

    clock = plugs.pop("clock", None) or RunningClock(at - int(lead_s * 1e6))
    notifier = plugs.pop("notifier", None) or FakeNotifier()
    modes = modes or {}
    sources = {
        name: FakeSource(name, clock, modes.get(name, "")) for name in OPTIONAL if modes.get(name) != "off"
    }
    candles = candles if candles is not None else FakeCandles(bars, clock)
    sync = DataSync(
        SYMBOL,
        candles,
        list(sources.values()),
        quick_config() if config is None else config,
        ExchangeConfig(),
        clock,
        notifier,
        off={name: "no key; set its key" for name, mode in modes.items() if mode == "off"},
        lake=lake,
        **plugs,
    )
    return sync, {"clock": clock, "notifier": notifier, "candles": candles, **sources}
