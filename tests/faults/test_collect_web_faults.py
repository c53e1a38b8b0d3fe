"""Fear & Greed, macro and on-chain against a service that fails in every way: one line, and in time."""

import logging
import tracemalloc
from time import perf_counter

import pytest
from answer_server import AnswerServer, Reply, bomb, faulty_replies
from fakes import FakeClock
from fear_greed_server import FearGreedServer
from whale_server import KEY, WhaleServer
from yahoo_server import YahooServer

from acmf_core.collect.macro import MacroSource
from acmf_core.collect.onchain import OnchainSource
from acmf_core.collect.sentiment import FearGreedSource
from acmf_core.config import OnchainConfig, SourceConfig
from acmf_core.errors import DataError, VenueUnavailable
from acmf_core.ports import Source

NOW = FakeClock(1_706_788_800_000_000)
TIMEOUT_S = 0.4
FAULTS = faulty_replies()
SERVERS: dict[str, type[AnswerServer]] = {
    "fear_greed": FearGreedServer,
    "macro": YahooServer,
    "onchain": WhaleServer,
}


def source(name: str, url: str, timeout_s: float = TIMEOUT_S) -> Source:
    if name == "fear_greed":
        return FearGreedSource(SourceConfig(base_url=url, timeout_s=timeout_s), NOW)
    if name == "macro":
        return MacroSource(SourceConfig(base_url=url, timeout_s=timeout_s), NOW)
    return OnchainSource(OnchainConfig(base_url=url, timeout_s=timeout_s, api_key=KEY), "BTCUSDT", NOW)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SERVERS)
async def test_every_fault_ends_in_time_as_one_line(name: str, fault: str) -> None:
    slow = fault in {"stalled", "trickling"}
    with SERVERS[name](always=FAULTS[fault]) as server:
        asked = source(name, server.url, TIMEOUT_S if slow else 15.0)
        began = perf_counter()
        with pytest.raises((VenueUnavailable, DataError)) as error:
            await asked.collect(0)
        assert perf_counter() - began < 10.0  # a stall or a trickle would last longer
    assert isinstance(error.value, VenueUnavailable) or (name, fault) == ("onchain", "403")
    if "huge" in fault:
        assert ("file size" if name == "macro" else "bytes") in str(error.value)
    assert "\n" not in str(error.value)
    assert 10 < len(str(error.value)) < 250


@pytest.mark.parametrize("packing", ["gzip", "gzip, gzip", "deflate", "br", "identity, gzip"])
@pytest.mark.parametrize("name", ["fear_greed", "onchain"])
async def test_a_packed_answer_is_not_asked_for_and_not_unpacked(name: str, packing: str) -> None:
    fault = Reply(bomb(100), headers={"Content-Encoding": packing})
    with SERVERS[name](always=fault) as server:
        tracemalloc.start()
        try:
            with pytest.raises(VenueUnavailable, match="in a packing that was not asked for"):
                await source(name, server.url, 15.0).collect(0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert {asked.get("Accept-Encoding") for asked in server.headers} == {"identity"}
    assert peak < 10_000_000


@pytest.mark.parametrize("name", SERVERS)
async def test_a_redirect_leads_nowhere(name: str) -> None:
    with FearGreedServer() as elsewhere, SERVERS[name]() as server:
        server.always = Reply(b"", 302, headers={"Location": f"{elsewhere.url}/fng/"})
        with pytest.raises(VenueUnavailable):
            await source(name, server.url, 5.0).collect(0)
        assert server.requests
        assert elsewhere.requests == []


@pytest.mark.parametrize("name", SERVERS)
async def test_nobody_there_is_said_so(name: str) -> None:
    with pytest.raises(VenueUnavailable):
        await source(name, "http://127.0.0.1:9").collect(0)


@pytest.mark.parametrize("name", ["fear_greed", "onchain"])
@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "ftp://127.0.0.1",
        "nonsense",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:-1",
        "http://xn--a",
    ],
)
async def test_a_base_url_that_is_none_is_no_crash(name: str, url: str) -> None:
    with pytest.raises(VenueUnavailable):
        await source(name, url).collect(0)


@pytest.mark.parametrize("name", ["fear_greed", "onchain"])
async def test_the_log_of_the_http_library_holds_no_address(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    with SERVERS[name](always=Reply(b"", 500)) as server:
        with pytest.raises(VenueUnavailable):
            await source(name, server.url, 5.0).collect(0)
        assert server.requests
        assert server.url not in caplog.text
        assert KEY not in caplog.text


async def test_too_many_requests_are_named() -> None:
    for name, server_class in SERVERS.items():
        with (
            server_class(always=Reply(b"Too Many Requests", 429)) as server,
            pytest.raises(VenueUnavailable, match="asked too often: HTTP 429"),
        ):
            await source(name, server.url, 5.0).collect(0)
