"""All eight sources through their real adapters, over HTTP on loopback: one snapshot, one decision."""

import dataclasses
import json
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from time import perf_counter

import anthropic_server
import pandas as pd
import pytest
import whale_server
from answer_server import Reply
from anthropic_server import AnthropicServer
from click.testing import CliRunner
from fake_sources import OPTIONAL, RunningClock, stamp
from fakes import FakeNotifier
from fear_greed_server import FearGreedServer
from feed_server import FeedServer, Page, rss
from market_server import DEPTH, FUNDING, KLINES, LONG_SHORT, MarketServer, made_bars
from replaying import daemon
from whale_server import WhaleServer, transaction
from yahoo_server import Chart, YahooServer

from acmf_cli.main import cli
from acmf_core.collect.sync import SOURCES
from acmf_core.config import Config
from acmf_core.domain import BAR_US, Health
from acmf_core.errors import ConfigError, VenueUnavailable
from acmf_core.features import SCHEMA, build_features
from acmf_core.lake import Lake
from acmf_core.pipeline import run_cycle
from production.sources import data_sync, switched_off

DAY = 86_400
AT = 1_709_798_400_000_000  # Thursday 2024-03-07 08:00 UTC: a payment of funding
NOW = AT // 1_000_000
HOURS_8 = pd.Timedelta(hours=8)
TICKERS = {"^VIX": 14.0, "DX-Y.NYB": 103.0, "^GSPC": 4_900.0, "GC=F": 2_050.0}


class Services:
    """Everything that ACMF asks, on loopback, and the configuration that points there."""

    def __init__(self, stack: ExitStack, folder: Path, clock: RunningClock, *, keys: bool = True) -> None:
        days = [date(2024, 3, d) for d in (1, 4, 5, 6)]
        paid = [stamp(AT) - i * HOURS_8 for i in reversed(range(4))]
        self.market = stack.enter_context(
            MarketServer(
                made_bars(AT + 4 * BAR_US, 2_000),
                funding=pd.DataFrame({"event_time": paid, "funding_rate": 0.0001}),
                now=clock.now,
            )
        )
        self.fear_greed = stack.enter_context(
            FearGreedServer(values={NOW // DAY * DAY - i * DAY: 60 + i for i in range(5)})
        )
        self.yahoo = stack.enter_context(
            YahooServer(
                charts={t: Chart({d: level + i for i, d in enumerate(days)}) for t, level in TICKERS.items()}
            )
        )
        whales = [transaction(i, NOW - DAY + 3_000 * i, 1e6, target="exchange") for i in range(1, 28)]
        self.whales = stack.enter_context(WhaleServer(transactions=whales, now=NOW - 5))
        page = Page(rss([("Bitcoin ETF inflows rise", stamp(AT) - pd.Timedelta(hours=2))]))
        self.feeds = stack.enter_context(FeedServer({"/feed": page}))
        self.anthropic = stack.enter_context(AnthropicServer())
        quick = {"timeout_s": 4.0, "attempts": 1}
        self.values = {
            "paths": {"lake": str(folder / "lake"), "state": str(folder / "state")},
            "exchange": {"base_url": self.market.url},
            "anthropic": {
                "base_url": self.anthropic.url,
                "api_key": anthropic_server.KEY if keys else "",
            },
            "sources": {
                "deadline_s": 5.0,
                "candles": {"timeout_s": 2.0, "attempts": 3},
                "fear_greed": {"base_url": self.fear_greed.url, **quick},
                "macro": {"base_url": self.yahoo.url, **quick},
                "onchain": {
                    "base_url": self.whales.url,
                    "api_key": whale_server.KEY if keys else "",
                    **quick,
                },
                "news": {"feeds": [self.feeds.url()], **quick},
                **{name: quick for name in ("book", "funding", "long_short")},
            },
        }
        self.config = Config.from_values(self.values)

    def all_down(self) -> None:
        """From now on every optional service answers 503, an empty page, or half of one."""
        broken = Reply(b"<html>503</html>", status=503)
        self.fear_greed.always = self.yahoo.always = self.whales.always = broken
        self.feeds.pages = {"/feed": Page(b"<rss>" * 1_000, cut=True)}
        for path, fault in ((DEPTH, "truncated"), (FUNDING, "502"), (LONG_SHORT, "drop")):
            self.market.fault(path, *[fault] * 20)


@pytest.fixture
def clock():
    return RunningClock(AT - 5_000_000)


@pytest.fixture
def services(tmp_path, clock):
    with ExitStack() as stack:
        yield Services(stack, tmp_path, clock)


async def test_eight_services_make_one_snapshot_and_a_decision_with_and_without_them(
    services, clock, tmp_path, caplog
):
    notifier, lake = FakeNotifier(), Lake(tmp_path / "lake")
    sync = data_sync(services.config, clock, notifier, lake=lake)
    await sync.start()
    clock.jump(AT - 4_500_000)
    snapshot = await sync.collect(AT)
    assert {one.source: one.status for one in snapshot.health} == dict.fromkeys(SOURCES, Health.OK)
    assert abs(snapshot.clock_offset_s) < 1.0
    features = build_features(snapshot.market, last=192)
    row = features.tabular.iloc[-1]
    known = [name for name in OPTIONAL if name != "onchain"]  # its z-scores need a month
    assert row[[column for name in known for column in SCHEMA.sources[name]]].notna().all()
    assert row["funding_rate"] == pytest.approx(1.0)
    assert snapshot.market.funding["event_time"].iloc[-1] == stamp(AT)
    assert snapshot.market.onchain["whale_transfers"].tolist() == [27.0]

    services.all_down()
    world = dataclasses.replace(daemon().world, clock=clock, feed=sync, notifier=notifier)
    clock.jump(AT + BAR_US - 500_000)
    began = perf_counter()
    cycle = await run_cycle(world, AT + BAR_US)
    assert perf_counter() - began < 0.5 + services.config.sources.deadline_s + 1.0
    await sync.close()
    assert cycle.at == AT + BAR_US
    said = json.loads(world.store.rows("cycles")[0]["health"])["sources"]
    down = {one["source"] for one in said if one["status"] == "failed"}
    # The others are in the cache, and good for an hour or four; transfers for a quarter.
    assert down == {"book", "funding", "long_short", "onchain"}
    versions = lake.versions()
    assert set(versions) == {"candles", *OPTIONAL}
    written = repr(sync.health) + repr(notifier.sent) + caplog.text + json.dumps(said)
    assert whale_server.KEY not in written
    assert anthropic_server.KEY not in written


async def test_without_keys_two_sources_are_off_and_say_how_to_switch_them_on(tmp_path, clock):
    with ExitStack() as stack:
        services = Services(stack, tmp_path, clock, keys=False)
        notifier = FakeNotifier()
        sync = data_sync(services.config, clock, notifier)
        clock.jump(AT + 1_000_000)
        snapshot = await sync.collect(AT)
        await sync.close()
    health = {one.source: one for one in snapshot.health}
    assert {name for name in OPTIONAL if health[name].status is Health.OFF} == {"news", "onchain"}
    assert "WHALE_ALERT_API_KEY" in health["onchain"].reason
    assert "ANTHROPIC_API_KEY" in health["news"].reason
    assert services.anthropic.requests == []


def test_a_source_that_is_switched_off_says_which_setting_does_it():
    off = switched_off(Config.from_values({"sources": {"macro": {"enabled": False}}}))
    assert off["macro"] == "switched off; sources.macro.enabled = true switches it on"
    assert set(off) == {"macro", "news", "onchain"}


def test_one_key_of_a_source_leaves_its_other_defaults():
    """Else a longer time limit would switch the cache off."""
    plain, given = Config(), Config.from_values({"sources": {"macro": {"timeout_s": 20.0}}})
    assert given.sources.macro == plain.sources.macro.model_copy(update={"timeout_s": 20.0})
    assert given.sources.fear_greed == plain.sources.fear_greed
    with pytest.raises(ConfigError, match=r"sources\.macro\.timeout"):
        Config.from_values({"sources": {"macro": {"timeout": 20.0}}})


def _toml(values, prefix=""):
    lines, tables = [], []
    for name, value in values.items():
        if isinstance(value, dict):
            tables += _toml(value, f"{prefix}{name}.")
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return [f"[{prefix[:-1]}]" if prefix else "", *lines, *tables]


@pytest.fixture
def commanded(tmp_path):
    """Services whose market runs on the machine's clock, and a runner of commands on their settings."""
    from acmf_core.execution.clock import SystemClock

    clock = SystemClock()
    with ExitStack() as stack:
        services = Services(stack, tmp_path, clock, keys=False)
        services.market.serve(made_bars(clock.now() // BAR_US * BAR_US + BAR_US, 1_200))
        (tmp_path / "acmf.toml").write_text("\n".join(_toml(services.values)))
        runner = CliRunner()
        yield services, lambda *words: runner.invoke(cli, ["--config", str(tmp_path / "acmf.toml"), *words])


def test_the_command_shows_and_records_one_collection(commanded, tmp_path):
    _, acmf = commanded
    done = acmf("data", "collect", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    status = {one["source"]: one["status"] for one in said["sources"]}
    assert list(status) == list(SOURCES)
    assert (status["candles"], status["book"], status["long_short"]) == ("ok", "ok", "ok")
    assert (status["onchain"], status["news"]) == ("off", "off")
    lake = Lake(tmp_path / "lake")
    assert len(lake.read("book")) == 1
    assert len(lake.read("candles", symbol="BTCUSDT", interval="15m")) > 900
    table = acmf("data", "collect", "--no-record")
    assert table.exit_code == 0
    assert "nothing was recorded" in table.output
    assert len(lake.read("book")) == 1


def test_the_command_fails_without_candles_and_not_without_the_others(commanded):
    services, acmf = commanded
    services.market.fault(DEPTH, *["503"] * 9)
    assert acmf("data", "collect", "--no-record").exit_code == 0
    services.market.fault(KLINES, *["503"] * 99)
    failed = acmf("data", "collect", "--no-record")
    assert isinstance(failed.exception, VenueUnavailable)
    assert failed.exception.exit_code == 3
    assert "candles     failed" in failed.output
