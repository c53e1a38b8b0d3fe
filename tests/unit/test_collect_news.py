"""The news source as a whole: feeds and API on loopback, real headlines, and what goes into the lake."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from anthropic_server import GOOD, KEY, SNAPSHOT, AnthropicServer, Reply, call, message, refusal
from fakes import FakeCache, FakeClock
from feed_server import FeedServer, Page, atom, rss
from hostile_headlines import HOSTILE

from acmf_core.collect.headlines.cleaning import Headline, clean
from acmf_core.collect.headlines.prompt import PROMPT_VERSION
from acmf_core.collect.news import NewsSource
from acmf_core.config import AnthropicConfig, NewsConfig
from acmf_core.domain import DAY_US
from acmf_core.errors import ConfigError, DataError, VenueUnavailable
from acmf_core.lake.lake import Lake
from acmf_core.lake.tables import table
from acmf_core.ports import Source

NOW = pd.Timestamp("2024-03-01 12:00", tz="UTC")
HOURS_US = 3_600_000_000


@dataclass
class Room:
    """A source, what it asks, and its clock."""

    source: NewsSource
    feeds: FeedServer
    api: AnthropicServer
    clock: FakeClock
    cache: FakeCache

    def publish(self, *titles: str, path: str = "/feed") -> None:
        """These titles, a minute apart, the first one now."""
        now = pd.Timestamp(self.clock.time, unit="us", tz="UTC")
        self.feeds.pages[path] = Page(
            rss([(title, now - pd.Timedelta(minutes=number)) for number, title in enumerate(titles)])
        )

    @property
    def block(self) -> list[str]:
        """The titles of the last request."""
        content = json.loads(self.api.requests[-1])["messages"][0]["content"]
        return json.loads(content.split("<headlines>\n")[1].split("\n</headlines>")[0])


@pytest.fixture
def room():
    clock = FakeClock(NOW.value // 1_000)
    with FeedServer() as feeds, AnthropicServer() as api:
        config = NewsConfig(feeds=(feeds.url(), feeds.url("/second")), timeout_s=60)
        cache = FakeCache(clock)
        anthropic = AnthropicConfig(base_url=api.url, api_key=KEY)
        yield Room(NewsSource(config, anthropic, "BTCUSDT", cache, clock), feeds, api, clock, cache)


def test_it_is_a_source_and_needs_a_key(room):
    assert isinstance(room.source, Source)
    assert (room.source.name, room.source.table) == ("news", "news")
    with pytest.raises(ConfigError, match=r"anthropic\.api_key"):
        NewsSource(NewsConfig(), AnthropicConfig(), "BTCUSDT", room.cache, room.clock)


async def test_a_row_says_the_score_when_it_was_made_and_what_of(room, tmp_path):
    room.publish("Bitcoin rises", "Ether <b>falls</b>")

    def answer(request):
        room.clock.time += 7_000_000  # the model takes its time
        return Reply(message())

    room.api.otherwise = answer
    rows = await room.source.collect(room.clock.time)
    (row,) = rows.to_dict("records")
    scored = NOW + pd.Timedelta("7s")
    assert (row["event_time"], row["available_at"]) == (scored, scored)
    assert (row["symbol"], row["score"], row["confidence"], row["headlines"]) == ("BTCUSDT", 0.35, 0.7, 2)
    assert (row["model"], row["prompt_version"]) == (SNAPSHOT, PROMPT_VERSION)
    assert json.loads(row["drivers"]) == GOOD["drivers"]
    assert json.loads(row["headline_hashes"]) == [
        Headline(t, 0).hash for t in ("Bitcoin rises", "Ether falls")
    ]
    assert (row["input_tokens"], row["output_tokens"]) == (1_234, 96)
    assert rows.columns.tolist() == [name for name in rows.columns if name in table("news").schema.names]
    lake = Lake(str(tmp_path))
    lake.merge("news", rows)
    lake.merge("news", rows)
    assert len(lake.read("news")) == 1


async def test_the_same_headlines_are_not_paid_for_twice(room, tmp_path):
    room.publish("Bitcoin rises", "Ether falls")
    first = await room.source.collect(0)
    room.clock.time += 4 * HOURS_US
    again = await room.source.collect(0)
    assert len(room.api.requests) == 1
    assert again["score"].tolist() == first["score"].tolist()
    assert again["headline_hashes"].tolist() == first["headline_hashes"].tolist()
    assert (again["available_at"] - first["available_at"]).tolist() == [pd.Timedelta("4h")]
    assert again[["input_tokens", "output_tokens"]].to_numpy().tolist() == [[0, 0]]
    room.publish("Bitcoin rises", "Exchange hacked")
    room.api.replies = [Reply(message(call(GOOD | {"score": -0.9})))]
    other = await room.source.collect(0)
    assert other["score"].tolist() == [-0.9]
    assert len(room.api.requests) == 2
    lake = Lake(str(tmp_path))
    for rows in (first, again):
        lake.merge("news", rows)
    assert len(lake.read("news")) == 2


async def test_a_refused_answer_leaves_no_score_behind(room):
    room.publish("Bitcoin rises")
    room.api.replies = [Reply(message(call(GOOD | {"score": 5})))]
    with pytest.raises(VenueUnavailable, match="no score"):
        await room.source.collect(0)
    assert (await room.source.collect(0))["score"].tolist() == [0.35]


async def test_without_headlines_nothing_is_asked_and_the_reason_is_named(room):
    room.feeds.pages = {"/feed": Page(rss([])), "/second": Page(b"<html/>")}
    with pytest.raises(
        VenueUnavailable, match=r"no headline of the last 24 hours in 2 feeds: .* sent no feed"
    ):
        await room.source.collect(0)
    assert room.api.requests == []


async def test_one_broken_feed_is_logged_and_the_other_scored(room, caplog):
    room.publish("Bitcoin rises")
    room.feeds.pages["/second"] = Page(b"oops", 500)
    assert (await room.source.collect(0))["headlines"].tolist() == [1]
    assert "1 of 2 feeds: 127.0.0.1 answered HTTP 500" in caplog.text


async def test_the_apis_no_is_the_sources_no(room):
    room.publish("Bitcoin rises")
    for reply, kind in (
        (refusal(401, "authentication_error"), DataError),
        (refusal(529, "o"), VenueUnavailable),
    ):
        room.api.replies = [reply]
        with pytest.raises(kind):
            await room.source.collect(0)


async def test_hostile_headlines_out_of_a_feed_are_data_in_the_request(room):
    sendable = [h for h in HOSTILE if "\ud800" not in h and not set(h) & set("\x00\x07\x1b")]
    room.feeds.pages["/feed"] = Page(
        rss([(h, NOW - pd.Timedelta(minutes=n)) for n, h in enumerate(sendable[:20])])
    )
    room.feeds.pages["/second"] = Page(
        atom([(h, NOW - pd.Timedelta(minutes=n)) for n, h in enumerate(sendable[20:])])
    )
    assert (await room.source.collect(0))["score"].tolist() == [0.35]
    expected = {clean(hostile, 200) for hostile in sendable}
    assert len(room.block) > 30
    assert set(room.block) <= expected, set(room.block) - expected
    content = json.loads(room.api.requests[-1])["messages"][0]["content"]
    assert content.count("<") == content.count(">") == 2


@pytest.mark.parametrize("seed", range(3))
async def test_real_headlines_go_round_by_rss_and_block_unchanged(room, real_data, seed):
    news = pd.read_parquet(real_data / "crypto_news_headlines_sentiment.parquet")
    drawn = news.iloc[np.random.default_rng(seed).choice(len(news), 40, replace=False)]
    titles = drawn["title"].tolist()
    room.publish(*titles[:20])
    room.publish(*titles[20:], path="/second")
    row = (await room.source.collect(0)).iloc[0]
    cleaned = [clean(title, 200) for title in titles]
    assert sorted(room.block) == sorted({Headline(title, 0).hash: title for title in cleaned}.values())
    assert row["headlines"] == len(room.block)
    assert json.loads(row["headline_hashes"]) == [Headline(title, 0).hash for title in room.block]


def test_cleaning_leaves_real_headlines_as_they_read(real_data):
    titles = pd.read_parquet(real_data / "crypto_news_headlines_sentiment.parquet")["title"].unique()
    changed = [title for title in titles if clean(title, 200) != " ".join(title.split())]
    assert len(changed) < 0.01 * len(titles)
    assert all(clean(title, 200) for title in titles)


async def test_six_scores_a_day_at_the_longest_fit_the_default_budget_even_unsettled(room):
    for number in range(6):
        room.publish(*(f"{number} {n} " + "long words " * 30 for n in range(20)))
        room.publish(*(f"{number} {n} " + "other words " * 30 for n in range(20)), path="/second")
        room.api.replies = [
            Reply(b"<html>", 502)
        ]  # nobody knows what these cost: all that was reserved counts
        with pytest.raises(VenueUnavailable):
            await room.source.collect(0)
        assert [len(title) for title in room.block] == [200] * 40
    spent = int(room.cache.get(f"news:tokens:{room.clock.time // DAY_US}") or 0)
    assert 20_000 < spent < AnthropicConfig().max_tokens_per_day / 2
