"""Whatever the venue, or what stands before it, answers: one named error, and no ban provoked."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import pytest_asyncio
from market_server import DEPTH, FUNDING, KLINES, LONG_SHORT, TIME, MarketServer, made_bars

from acmf_core.collect.venue.client import Venue
from acmf_core.collect.venue.http import refusal
from acmf_core.config import ExchangeConfig
from acmf_core.domain import BAR_US
from acmf_core.errors import AcmfError, ConfigError, DataError, VenueUnavailable

AT = 1_718_668_800_000_000  # 2024-06-18 00:00 UTC
NOW = AT + 700_000
TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    hours = pd.date_range(end="2024-06-18", periods=9, freq="8h", tz="UTC")
    payments = pd.DataFrame({"event_time": hours, "funding_rate": 0.0001})
    with MarketServer(made_bars(AT, 60), funding=payments, now=NOW) as market:
        yield market


@pytest.fixture
def market(server: MarketServer) -> MarketServer:
    server.reset()
    return server


@pytest_asyncio.fixture
async def venue(market: MarketServer) -> AsyncIterator[Venue]:
    venue = Venue(ExchangeConfig(base_url=market.url), timeout_s=TIMEOUT_S)
    yield venue
    await venue.aclose()


async def _klines(venue: Venue) -> pd.DataFrame:
    return await venue.klines("BTCUSDT", "15m", now=NOW, limit=8)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("html", VenueUnavailable, "HTTP 200 with 84 characters that are no JSON"),
        ("empty", VenueUnavailable, "HTTP 200 with an empty body"),
        ("truncated", VenueUnavailable, "no JSON"),
        ("cut", VenueUnavailable, "not enough data|payload is not completed"),
        ("drop", VenueUnavailable, "disconnected"),
        ("stall:9", VenueUnavailable, "no answer within 1 s"),
        ("slow:9", VenueUnavailable, "no answer within 1 s"),
        ("huge", VenueUnavailable, "more than 5 MB"),
        ("body:" + "[" * 60_000, VenueUnavailable, "lists within lists|no JSON"),
        ("body:{}", VenueUnavailable, "not a list of rows"),
        ("body:null", VenueUnavailable, "no JSON"),
        ("body:[1,2]", VenueUnavailable, "not 12 columns"),
        ("body:[[{}]]", VenueUnavailable, "not 12 columns"),
        ("nulls", VenueUnavailable, "None"),
        ("short", VenueUnavailable, "not 12 columns"),
        ("many", VenueUnavailable, "9 rows where 8 were asked for"),
        ("contradiction", VenueUnavailable, "came twice with different values"),
        ("future", VenueUnavailable, "check this machine's clock"),
        ("off grid", VenueUnavailable, "off the grid"),
        ("nan", VenueUnavailable, '"NaN" is not a decimal number'),
        ("inf", VenueUnavailable, '"1e999" is not a decimal number'),
        ("text", VenueUnavailable, '"12,5" is not a decimal number'),
        ("negative", VenueUnavailable, "contradicts itself"),
        ("zero", VenueUnavailable, "contradicts itself"),
        ("high", VenueUnavailable, "contradicts itself"),
        ("403", VenueUnavailable, "HTTP 403"),
        ("404", VenueUnavailable, "HTTP 404"),
        ("500", VenueUnavailable, "HTTP 500"),
        ("502", VenueUnavailable, "HTTP 502"),
        ("503", VenueUnavailable, "HTTP 503"),
        ("504", VenueUnavailable, "HTTP 504"),
        ("451", ConfigError, "does not serve this region"),
        ("code:-1000", VenueUnavailable, "code -1000"),
        ("code:-1001", VenueUnavailable, "code -1001"),
        ("code:-1121", ConfigError, "does not know the symbol"),
        ("code:-1130", DataError, "refuses the request: -1130"),
        ('body:{"code":-1001,"msg":"Internal error"}', VenueUnavailable, "code -1001"),
        ("redirect:http://192.0.2.1/", VenueUnavailable, "redirected"),
    ],
)
async def test_every_fault_has_its_name_and_the_next_request_works(
    venue: Venue, market: MarketServer, fault: str, error: type[AcmfError], words: str
) -> None:
    market.fault(KLINES, *[fault] * (2 if fault == "drop" else 1))
    with pytest.raises(error, match=f"(?i){words}") as caught:
        await _klines(venue)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert len(await _klines(venue)) == 7, "one bad answer poisons nothing"


async def test_a_hole_is_no_fault_of_the_venue_and_stays_a_hole(venue: Venue, market: MarketServer) -> None:
    market.fault(KLINES, "hole:4")
    stamps = pd.DatetimeIndex((await _klines(venue))["open_time"]).asi8
    assert AT - 3 * BAR_US not in stamps
    assert len(stamps) == 6


@pytest.mark.parametrize(
    ("fault", "seconds"), [("429:7", 7), ("418:300", 300), ("429", 60), ("418", 120), ("code:-1003", 60)]
)
async def test_after_a_limit_the_venue_is_left_alone_until_retry_after(
    venue: Venue, market: MarketServer, fault: str, seconds: int
) -> None:
    market.fault(KLINES, fault)
    with pytest.raises(VenueUnavailable, match=f"Retry-After {seconds} s"):
        await _klines(venue)
    asked = len(market.requests)
    for call in (_klines(venue), venue.funding("BTCUSDT"), venue.server_time()):
        with pytest.raises(VenueUnavailable, match="wants no request for another"):
            await call
    assert len(market.requests) == asked, "nothing went out"


async def test_after_the_wait_is_over_the_venue_is_asked_again(venue: Venue, market: MarketServer) -> None:
    market.fault(KLINES, "429:1")
    with pytest.raises(VenueUnavailable, match="Retry-After 1 s"):
        await _klines(venue)
    await asyncio.sleep(1.05)
    assert len(await _klines(venue)) == 7


async def test_requests_that_wait_their_turn_are_not_sent_into_a_ban(
    venue: Venue, market: MarketServer
) -> None:
    market.fault(KLINES, "418:60")
    calls = [_klines(venue), *(venue.server_time() for _ in range(8))]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(found[0], VenueUnavailable)
    assert sum(isinstance(one, VenueUnavailable) for one in found[1:]) >= 6
    assert len(market.requests) <= 3, "only those already on their way"


async def test_a_stalled_request_ends_at_its_timeout(venue: Venue, market: MarketServer) -> None:
    await venue.server_time()
    market.fault(KLINES, "stall:9")
    began = time.perf_counter()
    with pytest.raises(VenueUnavailable, match="no answer within"):
        await _klines(venue)
    assert time.perf_counter() - began < 3 * TIMEOUT_S


async def test_nobody_listening_is_unavailable() -> None:
    venue = Venue(ExchangeConfig(base_url="http://127.0.0.1:9"), timeout_s=TIMEOUT_S)
    with pytest.raises(VenueUnavailable, match="server time: ClientConnectorError"):
        await venue.server_time()
    await venue.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        '[{"symbol":"ETHUSDT","fundingTime":1718640000000,"fundingRate":"0.0001"}]',
        '[{"symbol":"BTCUSDT","fundingTime":"soon","fundingRate":"0.0001"}]',
        '[{"symbol":"BTCUSDT","fundingTime":1718640000000,"fundingRate":"nan"}]',
        '[{"symbol":"BTCUSDT","fundingTime":1718640000000,"fundingRate":"7.5"}]',
        '[{"symbol":"BTCUSDT","fundingTime":1718640000000}]',
        '[{"symbol":"BTCUSDT","fundingTime":1718640000000,"fundingRate":"0.1"},'
        '{"symbol":"BTCUSDT","fundingTime":1718640000000,"fundingRate":"0.2"}]',
        '[{"symbol":"BTCUSDT","fundingTime":1718755200000,"fundingRate":"0.0001"}]',
        "[7]",
        '{"data":[]}',
        '"later"',
    ],
)
async def test_funding_that_cannot_be_is_refused(venue: Venue, market: MarketServer, answer: str) -> None:
    market.fault(FUNDING, "body:" + answer)
    with pytest.raises(VenueUnavailable, match=r"unusable answer|no JSON"):
        await venue.funding("BTCUSDT", now=NOW)


@pytest.mark.parametrize(
    "row",
    [
        '{"symbol":"ETHUSDT","longShortRatio":"1.5","timestamp":1718668800000}',
        '{"symbol":"BTCUSDT","longShortRatio":"0.0","timestamp":1718668800000}',
        '{"symbol":"BTCUSDT","longShortRatio":"-1","timestamp":1718668800000}',
        '{"symbol":"BTCUSDT","longShortRatio":1.5,"timestamp":1718668800000}',
        '{"symbol":"BTCUSDT","longShortRatio":"1.5","timestamp":1718668800001}',
        '{"symbol":"BTCUSDT","longShortRatio":"1.5","timestamp":1718672400000}',
        '{"symbol":"BTCUSDT","longShortRatio":"1.5","timestamp":99999999999999999999}',
        '{"symbol":"BTCUSDT","longShortRatio":"1.5"}',
    ],
)
async def test_a_ratio_that_cannot_be_is_refused(venue: Venue, market: MarketServer, row: str) -> None:
    market.fault(LONG_SHORT, f"body:[{row}]")
    with pytest.raises(VenueUnavailable, match="unusable answer"):
        await venue.long_short("BTCUSDT", now=NOW)


async def test_stamps_as_text_are_read_too(venue: Venue, market: MarketServer) -> None:
    market.fault(LONG_SHORT, 'body:[{"symbol":"BTCUSDT","longShortRatio":"1.5","timestamp":"1718668800000"}]')
    rows = await venue.long_short("BTCUSDT", now=NOW)
    assert rows["event_time"].iloc[0] == pd.Timestamp("2024-06-18", tz="UTC")


@pytest.mark.parametrize(
    "book",
    [
        '{"bids":[],"asks":[]}',
        '{"T":1718668800000,"bids":[["1.0","1"]]}',
        '{"T":1718668800000,"bids":[["1.0","1"],["2.0","1"]],"asks":[]}',
        '{"T":1718668800000,"bids":[["2.0","1"],["2.0","1"]],"asks":[]}',
        '{"T":1718668800000,"bids":[],"asks":[["2.0","1"],["1.0","1"]]}',
        '{"T":1718668800000,"bids":[["1.0","0"]],"asks":[]}',
        '{"T":1718668800000,"bids":[["-1.0","1"]],"asks":[]}',
        '{"T":1718668800000,"bids":[["NaN","1"]],"asks":[]}',
        '{"T":1718668800000,"bids":[["1.0"]],"asks":[]}',
        '{"T":1718672400000,"bids":[],"asks":[]}',
        "[]",
    ],
)
async def test_a_book_that_cannot_be_is_refused(venue: Venue, market: MarketServer, book: str) -> None:
    market.fault(DEPTH, "body:" + book)
    with pytest.raises(VenueUnavailable, match="order book of BTCUSDT: unusable answer"):
        await venue.book("BTCUSDT", now_us=lambda: NOW)


@pytest.mark.parametrize(
    "body", ['{"serverTime":null}', '{"serverTime":true}', "{}", "[]", '{"serverTime":5}']
)
async def test_a_time_that_cannot_be_is_refused(venue: Venue, market: MarketServer, body: str) -> None:
    market.fault(TIME, "body:" + body)
    with pytest.raises(VenueUnavailable, match="server time: unusable answer"):
        await venue.server_time()


async def test_payments_from_before_the_start_are_refused(venue: Venue, market: MarketServer) -> None:
    market.fault(FUNDING, 'body:[{"symbol":"BTCUSDT","fundingTime":1718553600000,"fundingRate":"0.0001"}]')
    with pytest.raises(VenueUnavailable, match="before the start"):
        await venue.funding("BTCUSDT", start=AT - 86_400_000_000)


@pytest.mark.parametrize("column", [5, 7, 9, 10])
async def test_a_negative_volume_is_refused(venue: Venue, market: MarketServer, column: int) -> None:
    row = list(market.answer(KLINES, {"symbol": "BTCUSDT", "interval": "15m", "limit": "2"}, "")[1][0])
    row[column] = "-0.1"
    market.fault(KLINES, "body:" + json.dumps([row]))
    with pytest.raises(VenueUnavailable, match=r"has a volume of -0\.1"):
        await _klines(venue)


async def test_bars_from_before_the_start_are_refused(venue: Venue, market: MarketServer) -> None:
    row = '[{0},"1","1","1","1","1",{1},"1",1,"1","1","0"]'
    first = (AT - 40 * BAR_US) // 1_000
    market.fault(KLINES, "body:[" + row.replace("{0}", str(first)).replace("{1}", str(first + 899_999)) + "]")
    with pytest.raises(VenueUnavailable, match="before the start"):
        await venue.klines("BTCUSDT", "15m", now=NOW, start=AT - 8 * BAR_US, limit=9)


async def test_names_that_others_look_up_without_end_do_not_keep_the_venues_waiting(
    market: MarketServer,
) -> None:
    """They hold every thread of the loop; the venue's names are looked up in threads of its own."""
    shared, released = ThreadPoolExecutor(2), threading.Event()
    asyncio.get_running_loop().set_default_executor(shared)
    stuck = [asyncio.ensure_future(asyncio.to_thread(released.wait, 30.0)) for _ in range(4)]
    await asyncio.sleep(0.05)
    venue = Venue(ExchangeConfig(base_url=market.url.replace("127.0.0.1", "localhost")), timeout_s=TIMEOUT_S)
    try:
        assert len(await _klines(venue)) == 7
    finally:
        await venue.aclose()
        released.set()
        await asyncio.gather(*stuck)
    assert not _left(2.0)


def _left(seconds: float) -> list[threading.Thread]:
    """Threads of name look-ups that are still there after so long."""
    end = time.perf_counter() + seconds
    while (alive := [one for one in threading.enumerate() if one.name.startswith("venue-names")]) and (
        time.perf_counter() < end
    ):
        time.sleep(0.01)
    return alive


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@127.0.0.1:80",
        "http://hunter2@127.0.0.1",
        "http://127.0.0.1/hunter2",
        "http://127.0.0.1?key=hunter2",
        "http://127.0.0.1#hunter2",
        "http://[hunter2",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:hunter2",
    ],
)
def test_a_base_url_with_a_secret_in_it_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match=r"exchange\.base_url") as refused:
        Venue(ExchangeConfig(base_url=url))
    assert "hunter2" not in str(refused.value)


def test_an_error_names_host_and_path_and_nothing_else_of_an_address() -> None:
    error = refusal(502, "https://me:hunter2@fapi.example:8443/fapi/v1/time?key=hunter2", {}, "", None)
    assert "fapi.example:8443/fapi/v1/time: HTTP 502" in str(error)
    assert "hunter2" not in str(error)


async def test_a_cancelled_request_leaves_the_venue_usable(venue: Venue, market: MarketServer) -> None:
    market.fault(KLINES, "stall:9")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_klines(venue), 0.2)
    assert len(await _klines(venue)) == 7
