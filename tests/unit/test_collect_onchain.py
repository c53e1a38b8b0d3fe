"""Whale transfers and exchange flows, from a service on loopback that speaks Whale Alert's format."""

import json
import logging
import traceback

import pandas as pd
import pytest
from answer_server import Reply
from fakes import FakeClock
from whale_server import KEY, WhaleServer, transaction

from acmf_core.collect import onchain
from acmf_core.collect.onchain import OnchainSource
from acmf_core.config import OnchainConfig
from acmf_core.errors import AcmfError, ConfigError, DataError, VenueUnavailable
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import TABLES
from acmf_core.ports import Source

NOW = 1_706_788_800  # 2024-02-01 12:00
HOUR, DAY = 3_600, 86_400
ONE_HOUR_PLAN = 3_600


def transfers(count: int = 24, *, until: int = NOW, step: int = HOUR) -> list[dict]:
    """One transfer every `step` seconds, the last at `until`: into, out of, between and off exchanges."""
    ends = (("", "exchange"), ("exchange", ""), ("exchange", "exchange"), ("", ""))
    return [
        transaction(i, until - (count - 1 - i) * step, 1e6 + i, source=ends[i % 4][0], target=ends[i % 4][1])
        for i in range(count)
    ]


def config(server: WhaleServer, **more: object) -> OnchainConfig:
    given = {"base_url": server.url, "api_key": KEY, "timeout_s": 5.0}
    return OnchainConfig(**(given | more))


def source(server: WhaleServer, clock: FakeClock, **more: object) -> OnchainSource:
    return OnchainSource(config(server, **more), "BTCUSDT", clock)


async def test_a_plan_with_history_gives_the_day_at_once() -> None:
    served = [transaction(99, NOW - DAY, 9e9), *transfers()]  # the first one is just too old
    with WhaleServer(transactions=served, now=NOW) as server:
        asked = source(server, FakeClock(NOW * 1_000_000 + 500_000))
        assert isinstance(asked, Source)
        rows = await asked.collect(0)
    row = rows.iloc[0]
    usd = [1e6 + i for i in range(24)]
    assert len(rows) == 1
    assert row["symbol"] == "BTCUSDT"
    assert row["event_time"] == pd.Timestamp(NOW, unit="s", tz="UTC")
    assert row["available_at"] == pd.Timestamp(NOW * 1_000 + 500, unit="ms", tz="UTC")
    assert row["whale_transfers"] == 24
    assert row["whale_volume"] == sum(usd)
    assert row["exchange_inflow"] == sum(usd[0::4])
    assert row["exchange_outflow"] == sum(usd[1::4])
    assert row["exchange_netflow"] == sum(usd[0::4]) - sum(usd[1::4])
    conform(TABLES["onchain"], rows)


async def test_a_plan_of_one_hour_gives_no_row_before_a_whole_day_was_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "acmf.collect")
    served = transfers(400, until=NOW + 30 * HOUR, step=900)
    with WhaleServer(transactions=served, history_s=ONE_HOUR_PLAN) as server:
        clock = FakeClock()
        asked = source(server, clock)
        first = None
        for quarter in range(4 * 25):
            server.now = NOW + quarter * 900
            clock.time = server.now * 1_000_000
            rows = await asked.collect(0)
            conform(TABLES["onchain"], rows)
            if len(rows) and first is None:
                first = quarter
                whole = rows.iloc[0]
    assert first is not None
    assert first * 900 >= DAY - ONE_HOUR_PLAN
    assert first * 900 <= DAY - ONE_HOUR_PLAN + 1_800
    assert whole["whale_transfers"] == DAY / 900
    assert "12.0 of 24 h seen so far" in caplog.text


async def test_a_hole_in_what_was_seen_starts_the_day_anew() -> None:
    served = transfers(400, until=NOW + 30 * HOUR, step=900)
    with WhaleServer(transactions=served, history_s=ONE_HOUR_PLAN) as server:
        clock = FakeClock()
        asked = source(server, clock)
        seen = []
        for quarter in [*range(100), *range(108, 112)]:  # two hours without a question
            server.now = NOW + quarter * 900
            clock.time = server.now * 1_000_000
            seen.append(len(await asked.collect(0)))
    assert seen[99] == 1
    assert seen[100:] == [0, 0, 0, 0]


async def test_only_what_is_new_is_asked_for_and_late_or_doubled_transfers_count_once() -> None:
    served = transfers()
    with WhaleServer(transactions=served, now=NOW) as server:
        clock = FakeClock(NOW * 1_000_000)
        asked = source(server, clock)
        await asked.collect(0)
        clock.time = (NOW + 900) * 1_000_000
        served += [served[-1], transaction(500, NOW - 600, 7e6)]  # known, and reported 10 minutes late
        row = (await asked.collect(0)).iloc[0]
        starts = {path.split("start=")[1].split("&")[0] for path in server.requests}
    assert row["whale_transfers"] == 25
    assert starts == {str(NOW - DAY), str(NOW - onchain.OVERLAP_S)}


async def test_many_pages_are_read_over_several_tries_and_none_is_lost() -> None:
    served = transfers(1_150, step=60)
    with WhaleServer(transactions=served, now=NOW) as server:
        asked = source(server, FakeClock(NOW * 1_000_000))
        with pytest.raises(VenueUnavailable, match="more than 8 pages to read, 800 transfers so far"):
            await asked.collect(0)
        rows = await asked.collect(0)
    assert rows["whale_transfers"].iloc[0] == 1_150
    assert len(server.requests) == 8 + 5  # the last page is empty


async def test_an_error_between_pages_costs_only_that_page() -> None:
    served = transfers(250, step=60)
    with WhaleServer(transactions=served, now=NOW) as server:
        asked = source(server, FakeClock(NOW * 1_000_000))
        server.fault_on = lambda path: "cursor" in path
        server.faults = [Reply(b"busy", 503)]
        with pytest.raises(VenueUnavailable, match="HTTP 503"):
            await asked.collect(0)
        assert (await asked.collect(0))["whale_transfers"].iloc[0] == 250


async def test_a_cursor_that_is_refused_is_not_kept() -> None:
    served = transfers(250, step=60)
    with WhaleServer(transactions=served, now=NOW) as server:
        asked = source(server, FakeClock(NOW * 1_000_000))
        server.fault_on = lambda path: "cursor" in path
        server.faults = [Reply(b'{"result": "error", "message": "invalid cursor"}', 400)]
        with pytest.raises(DataError, match="refuses the request: 'invalid cursor'"):
            await asked.collect(0)
        assert (await asked.collect(0))["whale_transfers"].iloc[0] == 250


async def test_other_coins_small_amounts_and_mints_are_left_out_even_if_served() -> None:
    odd = [
        transaction(1, NOW - 10, 2e6, symbol="eth"),
        transaction(2, NOW - 10, 499_999.0),
        transaction(3, NOW - 10, 2e6, transaction_type="mint"),
        transaction(4, NOW - 10, 2e6, symbol="BTC"),
        transaction(5, NOW - DAY - 1, 2e6),
        transaction(6, NOW + 60, 2e6),  # after the end that was asked for
    ]
    body = json.dumps({"result": "success", "count": len(odd), "cursor": "", "transactions": odd})
    with WhaleServer(always=Reply(body.encode())) as server:
        rows = await source(server, FakeClock(NOW * 1_000_000)).collect(0)
    assert rows["whale_transfers"].tolist() == [1.0]


async def test_a_quiet_day_is_a_row_of_zeros() -> None:
    body = {"result": "success", "count": 0, "cursor": "c-0"}
    with WhaleServer(always=Reply(json.dumps(body).encode())) as server:
        row = (await source(server, FakeClock(NOW * 1_000_000)).collect(0)).iloc[0]
    assert (row["whale_transfers"], row["exchange_netflow"], row["whale_volume"]) == (0.0, 0.0, 0.0)


def page(**changes: object) -> bytes:
    served = transaction(1, NOW - 60, 1e6) | changes
    return json.dumps({"result": "success", "count": 1, "cursor": "x", "transactions": [served]}).encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (page(amount_usd=-1), "an amount that cannot be"),
        (page(amount_usd="1e6"), "an amount that cannot be"),
        (page(amount_usd=1e13), "an amount that cannot be"),
        (page(amount_usd=10**400), "an amount that cannot be"),
        (page(timestamp="now"), "without a time"),
        (page(timestamp=True), "without a time"),
        (page(timestamp=NOW * 1_000), "of the future"),
        (page(id=None, hash=None), "without an id"),
        (page(id={}, hash=["x"]), "without an id"),
        (page(symbol=5), "without symbol"),
        (page(to="binance"), 'strange "to"'),
        (b'{"result": "success", "count": 3}', "no list of transactions"),
        (b'{"result": "success", "transactions": [7], "count": 1}', "no object"),
        (b'{"result": "success", "transactions": [], "cursor": 5}', "a cursor that is none"),
        (b'{"result": "error", "message": "we\\nare tired"}', "an error: 'we are tired'"),
        (json.dumps({"result": "success", "transactions": [{}] * 101}).encode(), "101 transactions"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(body: bytes, reason: str) -> None:
    with WhaleServer(always=Reply(body)) as server, pytest.raises(VenueUnavailable, match=reason) as error:
        await source(server, FakeClock(NOW * 1_000_000)).collect(0)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


async def test_a_cursor_that_leads_nowhere_is_refused() -> None:
    with WhaleServer(always=Reply(page())) as server, pytest.raises(VenueUnavailable, match="no next one"):
        await source(server, FakeClock(NOW * 1_000_000)).collect(0)


async def test_a_plan_that_reaches_back_too_little_is_named() -> None:
    with (
        WhaleServer(now=NOW, history_s=600) as server,
        pytest.raises(VenueUnavailable, match="reaches back 600 s"),
    ):
        await source(server, FakeClock(NOW * 1_000_000)).collect(0)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_is_not_tried_again(status: int) -> None:
    with WhaleServer(always=Reply(b"no", status)) as server, pytest.raises(DataError, match=f"HTTP {status}"):
        await source(server, FakeClock(NOW * 1_000_000)).collect(0)


@pytest.mark.parametrize("key", ["", "two words", "ключ", "line\nbreak"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key") as error:
        OnchainSource(OnchainConfig(api_key=key), "BTCUSDT", FakeClock())
    assert not key or key not in str(error.value)


@pytest.mark.parametrize(
    ("symbol", "currency"), [("BTCUSDT", "btc"), ("1000SHIBUSDT", "shib"), ("ETHUSDC", "eth")]
)
async def test_the_coin_is_told_from_the_symbol(symbol: str, currency: str) -> None:
    with WhaleServer(now=NOW) as server:
        rows = await OnchainSource(config(server), symbol, FakeClock(NOW * 1_000_000)).collect(0)
        assert f"currency={currency}&" in server.requests[0]
    assert rows["symbol"].tolist() == [symbol]


def test_a_symbol_without_a_coin_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no coin"):
        OnchainSource(OnchainConfig(api_key=KEY), "XAUEUR", FakeClock())


def spelled(error: BaseException) -> str:
    """Everything that a log could hold of an error, its causes and contexts with it."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(json.dumps({"result": "error", "message": f"bad key {KEY}"}).encode(), 400),
        Reply(json.dumps({"result": "error", "message": f"{KEY} has no plan"}).encode()),
        Reply(page(amount_usd=KEY)),
        Reply(KEY.encode()),
        Reply(KEY.encode(), 401),
        Reply(KEY.encode(), 500),
        Reply(b"", 302, headers={"Location": "http://127.0.0.1:9/"}),
        Reply(b"{}", cut=True),
        Reply(b"{}", stall_s=3.0),
    ],
)
async def test_the_key_is_in_no_error_log_or_address(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with WhaleServer(always=reply) as server:
        asked = source(server, FakeClock(NOW * 1_000_000), timeout_s=0.5)
        with pytest.raises(AcmfError) as error:
            await asked.collect(0)
        assert not [path for path in server.requests if KEY in path]
        assert server.headers[0]["X-WA-API-KEY"] == KEY
    assert KEY not in spelled(error.value)
    assert KEY not in caplog.text
    assert KEY not in repr(asked)


async def test_the_key_is_in_no_error_when_nobody_is_there() -> None:
    asked = OnchainSource(
        OnchainConfig(api_key=KEY, base_url="http://127.0.0.1:9"), "BTCUSDT", FakeClock(NOW * 1_000_000)
    )
    with pytest.raises(VenueUnavailable, match="did not answer") as error:
        await asked.collect(0)
    assert KEY not in spelled(error.value)
