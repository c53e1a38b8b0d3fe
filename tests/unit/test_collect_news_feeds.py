"""Headlines from RSS and Atom feeds over HTTP on loopback: what is taken, and what a broken feed costs."""

import contextlib
import gzip
import logging
import time
import zlib

import pandas as pd
import pytest
from feed_server import FeedServer, Page, atom, rss

from acmf_core.collect.headlines import feeds
from acmf_core.config import NewsConfig
from acmf_core.errors import VenueUnavailable

NOW = pd.Timestamp("2024-03-01 12:00", tz="UTC")
NOW_US = NOW.value // 1_000
GOOD = rss([("Bitcoin rises", NOW - pd.Timedelta("1h")), ("Ether falls", NOW - pd.Timedelta("2h"))])


@pytest.fixture
def server():
    with FeedServer() as running:
        yield running


def ago(hours: float) -> pd.Timestamp:
    return NOW - pd.Timedelta(hours=hours)


async def gather(*urls: str, timeout_s: float = 20.0, **changes) -> feeds.Gathered:
    return await feeds.gather(NewsConfig(feeds=urls, **changes), NOW_US, timeout_s)


def titles(gathered: feeds.Gathered) -> list[str]:
    return [headline.title for headline in gathered.headlines]


@pytest.mark.parametrize("write", [rss, atom])
async def test_titles_come_newest_first_with_their_times(server, write):
    server.pages["/feed"] = Page(
        write([("Old", ago(5)), ("<b>New</b> &amp; hot", ago(0.5)), ("Mid", ago(2))])
    )
    gathered = await gather(server.url())
    assert titles(gathered) == ["New & hot", "Mid", "Old"]
    assert [NOW_US - headline.published for headline in gathered.headlines] == [
        1_800_000_000,
        7_200_000_000,
        18_000_000_000,
    ]
    assert gathered.faults == ()


async def test_old_undated_and_future_headlines_are_left_out_and_a_fast_clock_is_forgiven(server):
    body = rss(
        [("Yesterday", ago(23.9)), ("Too old", ago(24.1)), ("Tomorrow", ago(-24)), ("Fast clock", ago(-0.1))]
    )
    undated = (
        b"<item><title>No date</title></item><item><title>Bad date</title><pubDate>soon</pubDate></item>"
    )
    server.pages["/feed"] = Page(body.replace(b"</channel>", undated + b"</channel>"))
    gathered = await gather(server.url())
    assert titles(gathered) == ["Fast clock", "Yesterday"]
    assert gathered.headlines[0].published == NOW_US


async def test_a_repeated_title_counts_once_and_from_its_first_publication(server):
    server.pages["/a"] = Page(rss([("Hack at exchange", ago(1)), ("HACK at exchange!", ago(9))]))
    server.pages["/b"] = Page(rss([("Hack at Exchange", ago(0.2)), ("Other", ago(3))]))
    gathered = await gather(server.url("/a"), server.url("/b"))
    assert titles(gathered) == ["Other", "HACK at exchange!"]


async def test_count_and_length_are_capped_and_no_feed_crowds_out_the_others(server):
    server.pages["/loud"] = Page(
        rss([(f"Loud {number} " + "x" * 300, ago(number / 64)) for number in range(500)])
    )
    server.pages["/quiet"] = Page(rss([(f"Quiet {number}", ago(10 + number)) for number in range(4)]))
    both = await gather(server.url("/loud"), server.url("/quiet"), max_headlines=10, max_chars=50)
    assert len(both.headlines) == 9
    assert sum(title.startswith("Quiet") for title in titles(both)) == 4
    assert {len(title) for title in titles(both) if title.startswith("Loud")} == {50}
    alone = await gather(server.url("/loud"), max_headlines=10)
    assert [title.split()[1] for title in titles(alone)] == [str(number) for number in range(10)]


def packed(body: bytes, wbits: int = 31) -> bytes:
    packer = zlib.compressobj(9, wbits=wbits)
    return packer.compress(body) + packer.flush()


async def test_gzip_is_unpacked_and_redirects_are_followed(server):
    server.pages["/feed"] = Page(status=301, headers={"Location": "/moved"})
    server.pages["/moved"] = Page(status=307, headers={"Location": server.url("/final")})
    server.pages["/final"] = Page(gzip.compress(GOOD), headers={"Content-Encoding": "gzip"})
    assert titles(await gather(server.url())) == ["Bitcoin rises", "Ether falls"]


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY l0 "lol">'
    + b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    + b']><rss version="2.0"><channel><item><title>&l9;</title></item></channel></rss>'
)
OUTSIDE = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><channel><item><title>&x;</title></item></channel></rss>'
BROKEN = {
    "404": (Page(b"gone", 404), "HTTP 404"),
    "500": (Page(GOOD, 500), "HTTP 500"),
    "HTML": (Page(b"<!DOCTYPE html><html><body>Just a moment...</body></html>"), "no feed"),
    "JSON": (Page(b'{"items": []}'), "no well-formed XML"),
    "nothing": (Page(b""), "no well-formed XML"),
    "a path": (Page(b"/etc/passwd"), "no well-formed XML"),
    "an address": (Page(b"http://127.0.0.1:9/other"), "no well-formed XML"),
    "a page": (Page(b"<html><body><p>Just a moment</p></body></html>"), "no feed"),
    "a torn feed": (Page(GOOD[:-60]), "no well-formed XML"),
    "an unknown encoding": (Page(GOOD.replace(b"UTF-8", b"klingon")), "no well-formed XML"),
    "depth": (Page(b"<rss>" + b"<a>" * 99 + b"</a>" * 99 + b"</rss>"), "of a shape"),
    "width": (Page(b"<rss>" + b"<a/>" * 99_000 + b"</rss>"), "of a shape"),
    "too much": (Page(GOOD + b" " * 2_000_000), "more than 2,000,000 bytes"),
    "a gzip bomb": (Page(packed(b"\0" * 200_000_000), headers={"Content-Encoding": "gzip"}), "unpacked"),
    "half a gzip": (Page(gzip.compress(GOOD)[:-30], headers={"Content-Encoding": "gzip"}), "breaks off"),
    "no gzip": (Page(GOOD, headers={"Content-Encoding": "gzip"}), "broken gzip"),
    "deflate": (Page(packed(GOOD, 15), headers={"Content-Encoding": "deflate"}), "not asked for"),
    "billion laughs": (Page(LAUGHS), "XML entities"),
    "laughs in UTF-16": (Page(LAUGHS.decode().encode("utf-16")), "XML entities"),
    "an outside entity": (Page(OUTSIDE), "XML entities"),
    "cut": (Page(GOOD, cut=True), "did not answer"),
    "slow": (Page(GOOD, stall_s=30), "within 1.5 s"),
    "round in circles": (Page(status=302, headers={"Location": "/broken"}), "more than 3 times"),
    "to a file": (Page(status=302, headers={"Location": "file:///etc/passwd"}), "no http or https address"),
    "to no port": (Page(status=302, headers={"Location": "http://127.0.0.1:99999/"}), "leads to none"),
    "to less than a port": (Page(status=302, headers={"Location": "http://127.0.0.1:-1/"}), "leads to none"),
    "to no name": (Page(status=302, headers={"Location": "http://xn--a/"}), "leads to none"),
    "to half a bracket": (Page(status=302, headers={"Location": "http://[::1"}), "did not answer"),
    "nowhere": (Page(status=302), "HTTP 302"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_feed_costs_its_own_headlines_and_is_named(server, fault):
    page, reason = BROKEN[fault]
    server.pages |= {"/broken": page, "/good": Page(GOOD)}
    began = time.perf_counter()
    gathered = await gather(
        server.url("/broken?key=s3cret"), server.url("/good"), timeout_s=1.5 if fault == "slow" else 20.0
    )
    assert time.perf_counter() - began < 15
    assert titles(gathered) == ["Bitcoin rises", "Ether falls"]
    (said,) = gathered.faults
    assert said.startswith("127.0.0.1 ")
    assert "s3cret" not in said
    assert reason in said


async def test_all_feeds_are_asked_at_once(server):
    server.pages |= {f"/{number}": Page(GOOD, stall_s=0.5) for number in range(6)}
    began = time.perf_counter()
    gathered = await gather(*(server.url(f"/{number}") for number in range(6)))
    assert time.perf_counter() - began < 2.5
    assert gathered.faults == ()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "feed",
        "ftp://127.0.0.1/feed",
        "file:///etc/passwd",
        "http://",
        "http://a b\x00",
        "http://127.0.0.1:99999/feed",
        "http://127.0.0.1:-1/feed",
        "http://xn--a/feed",
    ],
)
async def test_what_is_no_web_address_is_a_fault_and_no_crash(server, url):
    server.pages["/good"] = Page(GOOD)
    gathered = await gather(url, server.url("/good"))
    assert titles(gathered) == ["Bitcoin rises", "Ether falls"]
    assert len(gathered.faults) == 1


async def test_an_error_that_nobody_thought_of_costs_its_own_feed_and_keeps_its_text(server, monkeypatch):
    """The parser is a stranger's, and old: it may stumble over a feed in a way of its own."""
    read = feeds._entries

    def stumbling(body):
        return {}["s3cret"] if b"odd" in body else read(body)

    monkeypatch.setattr(feeds, "_entries", stumbling)
    server.pages |= {"/odd": Page(rss([("odd", ago(1))])), "/good": Page(GOOD)}
    gathered = await gather(server.url("/odd?key=s3cret"), server.url("/good"))
    assert titles(gathered) == ["Bitcoin rises", "Ether falls"]
    (said,) = gathered.faults
    assert said.startswith("127.0.0.1: bug in ")
    assert "KeyError" in said
    assert "s3cret" not in said


async def test_the_log_of_the_http_library_holds_no_address(server, caplog):
    """Whoever turns logging on sees warnings of httpx, and not the key in a feed's address."""
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    server.pages["/feed"] = Page(GOOD)
    assert titles(await gather(server.url("/feed?key=s3cret")))
    assert server.requests == ["/feed?key=s3cret"]
    assert "s3cret" not in caplog.text


async def test_a_feed_body_that_is_a_path_is_never_opened(server, tmp_path):
    local = tmp_path / "local.xml"
    local.write_bytes(GOOD)
    server.pages["/feed"] = Page(str(local).encode())
    assert titles(await gather(server.url())) == []


FLOODS = {
    "unclosed tags": b"<a " * 600_000,
    "unclosed items": b"<item>" * 300_000,
    "ampersands": b"<title>" + b"&" * 1_800_000,
    "one title": b"<item><title>" + b"&lt;b&gt;" * 200_000 + b"</title></item></channel></rss>",
    "one date": b"<item><title>x</title><pubDate>" + b"1" * 1_800_000 + b"</pubDate></item></channel></rss>",
    "items": b"<item><title>x</title><pubDate>Fri, 01 Mar 2024 11:00:00 GMT</pubDate></item>" * 15_000
    + b"</channel></rss>",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_body_of_full_size_made_to_be_slow_is_read_or_refused_in_a_few_seconds(flood):
    body = b'<rss version="2.0"><channel>' + FLOODS[flood]
    assert 1_000_000 < len(body) < feeds.MAX_BYTES
    began = time.thread_time()
    with contextlib.suppress(VenueUnavailable):
        feeds._entries(body)
    assert time.thread_time() - began < 5


async def test_a_body_that_takes_too_long_to_read_costs_its_own_headlines_only(server):
    server.pages["/feed"] = Page(b'<rss version="2.0"><channel>' + FLOODS["items"])
    server.pages["/good"] = Page(GOOD)
    gathered = await gather(server.url("/feed"), server.url("/good"), timeout_s=3.0)
    assert "Bitcoin rises" in titles(gathered)
