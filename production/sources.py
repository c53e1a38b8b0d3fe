"""DataSync from configuration: which of the eight sources are on, and why the others are off.

A part of the composition root (`bootstrap.py`), apart from it because a replay has no sources to import.
"""

from collections.abc import Callable
from pathlib import Path

from acmf_core.collect.asking.cached import Cached
from acmf_core.collect.book import BookSource
from acmf_core.collect.candles import CandleSource
from acmf_core.collect.derivatives import FundingSource, LongShortSource
from acmf_core.collect.macro import MacroSource
from acmf_core.collect.news import NewsSource
from acmf_core.collect.onchain import OnchainSource
from acmf_core.collect.sentiment import FearGreedSource
from acmf_core.collect.sync import DataSync
from acmf_core.collect.venue.client import Venue
from acmf_core.config import Config, SourceConfig
from acmf_core.domain import SourceHealth
from acmf_core.errors import ConfigError
from acmf_core.lake import Lake
from acmf_core.lake.tables import table
from acmf_core.ports import Cache, Clock, Notifier, Source
from acmf_core.store.cache import open_cache

Observe = Callable[[SourceHealth], None]


def data_sync(
    config: Config,
    clock: Clock,
    notifier: Notifier,
    *,
    lake: Lake | None = None,
    observe: Observe | None = None,
) -> DataSync:
    """All sources as configured; `start` it inside the event loop, `close` it at the end.

    Parameters
    ----------
    config : Config
        The whole of it: symbol, exchange, sources, keys, paths.
    clock, notifier
        Ports.
    lake : Lake, optional
        Where history comes from and rows go; None: nothing is kept.
    observe : callable, optional
        Called with the health of every source after every collection (metrics).

    Raises
    ------
    ConfigError
        A key or URL that cannot be used.
    OSError
        The cache's folder cannot be made.
    """
    symbol, ask = config.market.symbol, config.sources
    state = Path(config.paths.state)
    cache = open_cache(config.paths.redis_url.get_secret_value(), state / "cache", clock)
    venue = Venue(config.exchange, timeout_s=max(ask.candles.timeout_s, ask.book.timeout_s))
    makers: dict[str, Callable[[], Source]] = {
        "book": lambda: BookSource(venue, symbol, clock),
        "fear_greed": lambda: FearGreedSource(ask.fear_greed, clock),
        "funding": lambda: FundingSource(venue, symbol, clock),
        "long_short": lambda: LongShortSource(venue, symbol, clock),
        "macro": lambda: MacroSource(ask.macro, clock),
        "onchain": lambda: OnchainSource(ask.onchain, symbol, clock),
        "news": lambda: NewsSource(ask.news, config.anthropic, symbol, cache, clock),
    }
    off = switched_off(config)
    sources: list[Source] = []
    for name, make in makers.items():
        if name in off:
            continue
        try:
            sources.append(_cached(make(), getattr(ask, name), cache, clock, symbol))
        except ConfigError as error:  # one source that cannot be: said, and the others go on
            off[name] = str(error)
    return DataSync(
        symbol,
        CandleSource(venue, symbol, clock),
        sources,
        ask,
        config.exchange,
        clock,
        notifier,
        off=off,
        lake=lake,
        observe=observe,
        server_time=venue.server_time,
        closing=venue.aclose,
    )


def switched_off(config: Config) -> dict[str, str]:
    """Sources that are off by configuration: why, and how to switch them on."""
    ask = config.sources
    off = {}
    for name in ("book", "fear_greed", "funding", "long_short", "macro", "onchain", "news"):
        if not getattr(ask, name).enabled:
            off[name] = f"switched off; sources.{name}.enabled = true switches it on"
    if not ask.onchain.api_key.get_secret_value():
        off.setdefault("onchain", "no key; set WHALE_ALERT_API_KEY or sources.onchain.api_key")
    if not config.anthropic.api_key.get_secret_value():
        off.setdefault("news", "no key; set ANTHROPIC_API_KEY or anthropic.api_key")
    return off


def _cached(source: Source, config: SourceConfig, cache: Cache, clock: Clock, symbol: str) -> Source:
    """The source behind the cache, where its answers are good for a while; macro is the same for all."""
    if not config.cache_s:
        return source
    whose = symbol if "symbol" in table(source.table).partitions else ""
    return Cached(source, cache, config.cache_s, clock, symbol=whose)
