"""The request to Claude and the reading of its answers, over HTTP against a stand-in for the API."""

import asyncio
import contextlib
import json
import logging
import math
import re
import time

import pytest
from anthropic_server import (
    GOOD,
    KEY,
    MODEL,
    SNAPSHOT,
    AnthropicServer,
    Reply,
    bad_answers,
    call,
    message,
    refusal,
)
from fakes import FakeCache, FakeClock
from hostile_headlines import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

from acmf_core.collect.headlines.cleaning import clean
from acmf_core.collect.headlines.judgement import NewsScore, decoded, read_answer
from acmf_core.collect.headlines.prompt import (
    MAX_OUTPUT_TOKENS,
    PROMPT_VERSION,
    TOOL,
    build_request,
    estimate_tokens,
)
from acmf_core.collect.headlines.scoring import Scorer
from acmf_core.config import AnthropicConfig
from acmf_core.domain import DAY_US
from acmf_core.errors import AcmfError, ConfigError, DataError, VenueUnavailable
from acmf_core.fingerprint import fingerprint

NOON_US = 19_700 * DAY_US + DAY_US // 2
TITLES = ["Bitcoin rises", "Ether falls"]
ESTIMATE = estimate_tokens(build_request(MODEL, "BTCUSDT", TITLES))
BAD = bad_answers()


class Desk:
    """A scorer with its server, cache and clock."""

    def __init__(self, server: AnthropicServer, **config) -> None:
        self.server, self.clock = server, FakeClock(NOON_US)
        self.cache = FakeCache(self.clock)
        settings = {"base_url": server.url, "api_key": KEY, "model": MODEL} | config
        self.scorer = Scorer(AnthropicConfig(**settings), self.cache, self.clock)

    async def score(self, titles=TITLES, timeout_s: float = 20.0) -> NewsScore:
        return await self.scorer.score("BTCUSDT", titles, timeout_s)

    @property
    def spent(self) -> int:
        return int(self.cache.get(f"news:tokens:{self.clock.time // DAY_US}") or 0)


@pytest.fixture(scope="module")
def server():
    with AnthropicServer() as running:
        yield running


@pytest.fixture
def desk(server):
    server.replies.clear()
    server.requests.clear()
    server.headers.clear()
    return Desk(server)


def block_of(request: dict) -> tuple[list[str], str]:
    """The titles in the block, and the rest of the request with the block left empty."""
    content = request["messages"][0]["content"]
    (block,) = re.findall(r"^<headlines>\n(.*)\n</headlines>$", content, re.MULTILINE)
    frame = content.replace(block, "[]")
    rest = request | {"messages": [request["messages"][0] | {"content": frame}]}
    return json.loads(block), json.dumps(rest, sort_keys=True)


# -- the request ---------------------------------------------------------------------------------------------


def test_the_request_is_what_this_prompt_version_names():
    """Scores of two prompts do not compare: who changes the request raises PROMPT_VERSION and this hash."""
    assert PROMPT_VERSION == "news-1"
    assert fingerprint(build_request("a-model", "BTCUSDT", [])) == (
        "c8726f84df13b6cb743455b7c7517bbd501cc2c49e54ae4926ed885cd07e7fad"
    )


async def test_the_request_forces_one_call_of_the_tool_and_holds_the_key_in_one_header_only(desk):
    await desk.score()
    (body,), (headers,) = desk.server.requests, desk.server.headers
    request = json.loads(body)
    assert request["model"] == MODEL
    assert request["tool_choice"] == {"type": "tool", "name": TOOL, "disable_parallel_tool_use": True}
    assert request["thinking"] == {"type": "disabled"}
    assert request["max_tokens"] == MAX_OUTPUT_TOKENS <= 1_000
    (tool,) = request["tools"]
    assert tool["strict"] is True
    assert tool["input_schema"]["additionalProperties"] is False
    assert sorted(tool["input_schema"]["required"]) == ["confidence", "drivers", "score"]
    assert not request.keys() & {"temperature", "top_p", "top_k"}  # refused by newer models
    assert [name for name, value in headers.items() if KEY in value] in (["authorization"], ["x-api-key"])
    assert KEY.encode() not in body


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_headline_leaves_its_string_in_the_block(hostile):
    """Neither cleaned nor as it came: the block holds exactly the titles, the rest is as without any."""
    _, empty = block_of(build_request(MODEL, "BTCUSDT", []))
    for title in (clean(hostile, 200), hostile):
        titles = ["Bitcoin rises", title, "Ether falls"]
        request = build_request(MODEL, "BTCUSDT", titles)
        found, rest = block_of(request)
        assert found == titles
        assert rest == empty
        assert request["messages"][0]["content"].count("<") == 2


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=10))
def test_no_text_at_all_leaves_its_string_in_the_block(titles):
    found, rest = block_of(build_request(MODEL, "BTCUSDT", titles))
    assert found == titles
    assert rest == block_of(build_request(MODEL, "BTCUSDT", []))[1]


async def test_hostile_headlines_reach_the_wire_as_data_and_change_nothing_else(desk):
    cleaned = [title for title in (clean(hostile, 200) for hostile in HOSTILE) if title]
    await desk.score([])
    await desk.score(cleaned)
    (_, without), (found, rest) = (block_of(json.loads(body)) for body in desk.server.requests)
    assert found == cleaned
    assert rest == without


# -- the answer ----------------------------------------------------------------------------------------------


async def test_a_valid_answer_is_a_score_with_its_model_and_cost(desk):
    desk.server.replies = [
        Reply(message(usage={"input_tokens": 1_000, "output_tokens": 96, "cache_read_input_tokens": 20}))
    ]
    assert await desk.score() == NewsScore(0.35, 0.7, tuple(GOOD["drivers"]), SNAPSHOT, 1_020, 96)


@pytest.mark.parametrize(
    "given_", [{"score": -1, "confidence": 0}, {"score": 1.0, "confidence": 1}, {"score": -0.0}]
)
async def test_the_ends_of_the_scale_and_whole_numbers_are_scores(desk, given_):
    desk.server.replies = [Reply(message(call(GOOD | given_)))]
    score = await desk.score()
    assert score.score == given_["score"]
    assert math.copysign(1, score.score) == (-1 if given_["score"] < 0 else 1)


async def test_drivers_are_cleaned_and_cut_for_they_are_untrusted_too(desk):
    drivers = ["<script>alert(1)</script>ETF \u202einflows\n", "x" * 500, " \u200b ", "a < b & c", "fine"]
    desk.server.replies = [Reply(message(call(GOOD | {"drivers": drivers})))]
    assert (await desk.score()).drivers == ("ETF inflows", "x" * 120, "a < b & c", "fine")


async def test_text_and_thoughts_beside_the_call_are_passed_over(desk):
    beside = ({"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "score 1.0"})
    desk.server.replies = [Reply(message(*beside, call()))]
    assert (await desk.score()).score == 0.35


@pytest.mark.parametrize("name", BAD)
async def test_no_other_answer_is_a_score(desk, name):
    desk.server.replies = [BAD[name]]
    with pytest.raises(VenueUnavailable, match=r"^Anthropic ") as caught:
        await desk.score()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert desk.spent > 0  # it was read and answered: it cost something


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0.5, -1, 1, 2]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["score", "confidence", "drivers", "Score", "extra", ""])


NOTES = st.lists(st.text(max_size=200), max_size=7)
NEARLY = st.fixed_dictionaries(
    {"score": st.floats(-1.2, 1.2) | JSON, "confidence": st.floats(-0.1, 1.1) | JSON, "drivers": NOTES | JSON}
)


@settings(max_examples=600, deadline=None)
@given(NEARLY | st.dictionaries(NAMES, JSON | NOTES, max_size=5))
def test_whatever_the_tools_input_is_only_a_valid_score_comes_out(given_):
    try:
        score = read_answer(message(call(given_)))
    except VenueUnavailable:
        return
    assert given_.keys() == {"score", "confidence", "drivers"}
    for value, low in ((given_["score"], -1), (given_["confidence"], 0)):
        assert isinstance(value, int | float)
        assert not isinstance(value, bool)
        assert low <= value <= 1
    assert (score.score, score.confidence) == (given_["score"], given_["confidence"])
    assert len(given_["drivers"]) <= 5
    assert all(len(driver) <= 120 for driver in score.drivers)


@settings(max_examples=300, deadline=None)
@given(
    JSON | st.builds(lambda part, value: message() | {part: value}, st.sampled_from(sorted(message())), JSON)
)
def test_whatever_the_answer_is_it_is_the_good_score_or_none(answer):
    try:
        score = read_answer(answer)
    except VenueUnavailable:
        return
    assert score.score == 0.35


@pytest.mark.parametrize("body", [b"[NaN]", b"[Infinity]", b'{"a": 1, "a": 1}', b"", b"[" * 100_000, b"\xff"])
def test_what_is_no_plain_json_is_refused(body):
    with pytest.raises(VenueUnavailable, match="no JSON"):
        decoded(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_json_or_unusable(body):
    with contextlib.suppress(VenueUnavailable):
        json.dumps(decoded(body), allow_nan=False)


# -- errors --------------------------------------------------------------------------------------------------

REFUSALS = {
    "401": (refusal(401, "authentication_error"), DataError, "valid anthropic.api_key"),
    "403": (refusal(403, "permission_error"), DataError, "valid anthropic.api_key"),
    "404": (refusal(404, "not_found_error"), DataError, 'model "claude-haiku-4-5"'),
    "400": (refusal(400, "invalid_request_error"), DataError, "billing"),
    "413": (refusal(413, "request_too_large"), DataError, "HTTP 413"),
    "429": (refusal(429, "rate_limit_error", retry_after="17"), VenueUnavailable, "asked again in 17 s"),
    "429 with nonsense": (
        refusal(429, "rate_limit_error", retry_after="<b>"),
        VenueUnavailable,
        r"rate_limit_error\)$",
    ),
    "500": (refusal(500, "api_error"), VenueUnavailable, "HTTP 500"),
    "529": (refusal(529, "overloaded_error"), VenueUnavailable, "overloaded"),
    "502 with HTML": (Reply(b"<html>bad gateway</html>", 502), VenueUnavailable, "HTTP 502"),
    "a strange type": (refusal(500, f"x {KEY}"), VenueUnavailable, "HTTP 500$"),
    "a redirect": (
        Reply(b"", 307, {"Location": "http://127.0.0.1:9/v1/messages"}),
        VenueUnavailable,
        "HTTP 307",
    ),
    "slow": (Reply(message(), stall_s=30), VenueUnavailable, "within 1.5 s"),
    "cut": (Reply(message(), cut=True), VenueUnavailable, "did not answer"),
}
UNKNOWN_COST = {"500", "502 with HTML", "a strange type", "slow", "cut"}


@pytest.mark.parametrize("name", REFUSALS)
async def test_an_error_says_what_to_do_and_nothing_of_the_key(desk, caplog, name):
    """Not in the error or what hangs on it, not in any log at any level."""
    reply, kind, said = REFUSALS[name]
    desk.server.replies = [reply]
    began = time.perf_counter()
    with caplog.at_level(logging.DEBUG), pytest.raises(AcmfError, match=said) as caught:
        await desk.score(timeout_s=1.5 if name == "slow" else 20.0)
    assert time.perf_counter() - began < 15
    assert type(caught.value) is kind
    assert caught.value.__context__ is None  # the SDK's error holds the request
    assert len(desk.server.requests) == 1  # no retries of its own
    shown = (
        f"{caught.value} {caught.value!r} {desk.scorer!r} {caplog.text} {[vars(r) for r in caplog.records]}"
    )
    assert KEY not in shown
    assert desk.spent == (ESTIMATE if name in UNKNOWN_COST else 0)


async def test_a_wrong_key_is_refused_for_good_and_costs_nothing(server):
    desk = Desk(server, api_key="sk-ant-another")
    with pytest.raises(DataError, match="HTTP 401"):
        await desk.score()
    assert desk.spent == 0


async def test_nobody_there_is_unavailable_and_counts_for_nobody_knows(server):
    desk = Desk(server, base_url=f"http://user:{KEY}@127.0.0.1:1")
    with pytest.raises(VenueUnavailable, match="did not answer") as caught:
        await desk.score()
    assert KEY not in str(caught.value)
    assert desk.spent == ESTIMATE


@pytest.mark.parametrize("key", ["", "sk ant", "sk-ant\n", "sk-änt"])
def test_a_key_that_cannot_be_sent_is_refused_at_the_start_without_showing_it(key):
    with pytest.raises(ConfigError, match=r"anthropic\.api_key") as caught:
        Scorer(AnthropicConfig(api_key=key), FakeCache(), FakeClock())
    assert not key or key not in str(caught.value)


# -- the budget ----------------------------------------------------------------------------------------------


async def test_an_answer_settles_what_was_reserved(desk):
    await desk.score()
    assert desk.spent == 1_234 + 96
    desk.server.replies = [BAD["score 5"], BAD["refusal"]]
    for _ in range(2):
        with pytest.raises(VenueUnavailable):
            await desk.score()
    assert desk.spent == 3 * (1_234 + 96)


async def test_a_spent_budget_sends_nothing_until_the_next_day(server):
    desk = Desk(server, max_tokens_per_day=ESTIMATE + 1_330)
    server.requests.clear()
    await desk.score()
    await desk.score()
    with pytest.raises(DataError, match=rf"budget of {ESTIMATE + 1_330:,} tokens a day is spent.*00:00 UTC"):
        await desk.score()
    assert len(server.requests) == 2
    assert desk.spent == 2_660
    desk.clock.time += DAY_US // 2
    await desk.score()
    assert len(server.requests) == 3


async def test_many_at_once_never_reserve_more_than_the_day_has(server):
    desk = Desk(server, max_tokens_per_day=2 * ESTIMATE)
    server.requests.clear()
    server.replies = [Reply(message(), stall_s=0.3) for _ in range(2)]
    answers = await asyncio.gather(*(desk.score() for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(answer, NewsScore) for answer in answers) <= 2
    assert len(server.requests) <= 2
    assert desk.spent <= 2 * ESTIMATE


async def test_a_budget_of_nothing_sends_nothing(server):
    desk = Desk(server, max_tokens_per_day=0)
    server.requests.clear()
    with pytest.raises(DataError, match="budget of 0 tokens"):
        await desk.score()
    assert server.requests == []


async def test_without_the_counter_nothing_is_sent(desk):
    desk.cache.down = True
    with pytest.raises(VenueUnavailable, match="nothing was sent"):
        await desk.score()
    assert desk.server.requests == []


async def test_a_counter_that_dies_before_the_settling_costs_no_score_and_stays_on_the_dear_side(
    desk, caplog
):
    def answer(request):
        desk.cache.down = True
        return Reply(message())

    desk.server.otherwise, before = answer, desk.server.otherwise
    try:
        assert (await desk.score()).score == 0.35
    finally:
        desk.server.otherwise = before
    desk.cache.down = False
    assert desk.spent == ESTIMATE
    assert "could not be settled" in caplog.text


def test_the_estimate_is_above_what_the_request_can_cost():
    """A token is more than two bytes of any headline seen (English: about four)."""
    request = build_request(MODEL, "BTCUSDT", ["x" * 200] * 40)
    assert estimate_tokens(request) > len(json.dumps(request)) / 2.5 + MAX_OUTPUT_TOKENS
