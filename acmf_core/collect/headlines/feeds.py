"""Headlines from RSS and Atom feeds: fetched within a size and a time, cleaned, young, each once.

A feed is a stranger's. Only its titles and their times are taken; one that is broken, slow or hostile costs
its own headlines and nothing else.
"""

import asyncio
import calendar
import io
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.parsers import expat

import httpx

from acmf_core.collect.asking.policy import reason_of
from acmf_core.collect.headlines.cleaning import Headline, clean
from acmf_core.collect.web.answers import keep_addresses_out_of_the_log, web_address
from acmf_core.config import NewsConfig
from acmf_core.errors import VenueUnavailable

MAX_BYTES: Final = 2_000_000  # of one feed, unpacked
MAX_REDIRECTS: Final = 3
FUTURE_SLACK_US: Final = 600_000_000  # a clock ten minutes ahead is forgiven, a date of tomorrow is not
_MAX_ENTRIES: Final = 2_000
_MAX_ELEMENTS: Final = 50_000
_MAX_DEPTH: Final = 60
_MAX_ATTRIBUTES: Final = 60
_FIELDS: Final = ("title", "published_parsed", "updated_parsed")
_GZIP: Final = 31  # zlib's word for "expect a gzip header"


@dataclass(frozen=True)
class Gathered:
    """Headlines, newest first, and one line for each feed that failed."""

    headlines: tuple[Headline, ...]
    faults: tuple[str, ...]


async def gather(config: NewsConfig, now: int, timeout_s: float) -> Gathered:
    """The young headlines of all feeds, asked at once.

    Parameters
    ----------
    config : NewsConfig
        feeds, max_headlines, max_chars, max_age_hours.
    now : int
        Microseconds; ages count from here.
    timeout_s : float
        For each feed, whole.
    """
    found: list[list[Headline]] = []
    faults = []
    asked = (_feed(url, config, now, timeout_s) for url in config.feeds)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for url, answer in zip(config.feeds, answers, strict=True):
        if isinstance(answer, list):
            found.append(answer)
        elif isinstance(answer, str):
            faults.append(answer)
        elif isinstance(answer, Exception):  # one that nobody thought of costs its own feed, too
            faults.append(f"{_host(url)}: {reason_of('news', answer)}")
        else:
            raise answer
    return Gathered(tuple(_chosen(found, config.max_headlines)), tuple(faults))


async def _feed(url: str, config: NewsConfig, now: int, timeout_s: float) -> list[Headline] | str:
    """The young headlines of one feed, or why there are none to be had."""
    host = _host(url)
    try:
        async with asyncio.timeout(timeout_s):
            body = await _fetch(url, timeout_s)
            # In a thread: a body of full size takes seconds.
            entries = await asyncio.to_thread(_entries, body)
    except TimeoutError:
        return f"{host} did not answer within {timeout_s:g} s"
    except VenueUnavailable as error:
        return f"{host} {error.cause}"
    young = now - int(config.max_age_hours * 3_600_000_000)
    headlines = (_headline(entry, config.max_chars, now) for entry in entries)
    return [headline for headline in headlines if headline is not None and headline.published >= young]


async def _fetch(url: str, timeout_s: float) -> bytes:
    """The body, unpacked; VenueUnavailable with the rest of a sentence that begins with the host."""
    keep_addresses_out_of_the_log()
    try:
        async with httpx.AsyncClient(timeout=timeout_s, headers=_HEADERS) as client:
            address = web_address(url)
            for _ in range(MAX_REDIRECTS + 1):
                async with client.stream("GET", address) as answer:
                    if not answer.has_redirect_location:
                        return await _body(answer)
                    target = web_address(answer.headers["Location"], seen_from=address)
                if address.scheme == "https" and target.scheme == "http":
                    raise VenueUnavailable("sends us on from https to http")
                address = target
    except (httpx.InvalidURL, UnicodeError):  # the latter from httpx, of a Location with letters no name has
        raise VenueUnavailable("is no http or https address, or leads to none") from None
    except (httpx.RequestError, httpx.StreamError) as error:
        raise VenueUnavailable(f"did not answer: {type(error).__name__}") from None
    raise VenueUnavailable(f"sends us on more than {MAX_REDIRECTS} times")


_HEADERS: Final = {
    "User-Agent": "acmf",
    "Accept": "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.8",
    "Accept-Encoding": "gzip",
}


async def _body(answer: httpx.Response) -> bytes:
    if answer.status_code != httpx.codes.OK:
        raise VenueUnavailable(f"answered HTTP {answer.status_code}")
    raw = bytearray()
    async for chunk in answer.aiter_raw():
        raw += chunk
        if len(raw) > MAX_BYTES:
            raise VenueUnavailable(f"sent more than {MAX_BYTES:,} bytes")
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing in {"identity", ""}:
        return bytes(raw)
    if packing not in {"gzip", "x-gzip"}:
        raise VenueUnavailable("answered in a packing that was not asked for")
    return _unpacked(bytes(raw))


def _unpacked(raw: bytes) -> bytes:
    """Never more than MAX_BYTES in memory: a few kilobytes of gzip can hold gigabytes."""
    reader = zlib.decompressobj(_GZIP)
    try:
        body = reader.decompress(raw, MAX_BYTES + 1)
    except zlib.error:
        raise VenueUnavailable("sent broken gzip") from None
    if len(body) > MAX_BYTES:
        raise VenueUnavailable(f"sent more than {MAX_BYTES:,} bytes, unpacked")
    if not reader.eof:
        raise VenueUnavailable("sent a body that breaks off")
    return body


def _entries(body: bytes) -> Sequence[Any]:
    """The entries of a feed as feedparser reads them; VenueUnavailable where it is none."""
    _check_xml(body)
    import feedparser

    # BytesIO: bytes that are a path would be opened as a file, text that is an address would be fetched.
    parsed = feedparser.parse(io.BytesIO(body), sanitize_html=False, resolve_relative_uris=False)
    entries: Sequence[Any] = parsed.entries[:_MAX_ENTRIES]
    if not entries and not parsed.get("version"):
        raise VenueUnavailable("sent no feed")
    return entries


def _check_xml(body: bytes) -> None:
    """Refuse what is not plain, well-formed XML of a sane shape.

    feedparser would try to make sense of it all the same, in Python, for as long as it takes; and a feed
    needs no entities, which can grow a few bytes to gigabytes or name files of ours.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    open_elements, elements = 0, 0

    def started(name: str, attributes: dict[str, str]) -> None:
        nonlocal open_elements, elements
        open_elements, elements = open_elements + 1, elements + 1
        if open_elements > _MAX_DEPTH or elements > _MAX_ELEMENTS or len(attributes) > _MAX_ATTRIBUTES:
            raise VenueUnavailable("sent XML of a shape that no feed has")

    def ended(name: str) -> None:
        nonlocal open_elements
        open_elements -= 1

    def declared(*declaration: Any) -> None:
        raise VenueUnavailable("declares XML entities, which no feed needs")

    parser.StartElementHandler, parser.EndElementHandler = started, ended
    parser.EntityDeclHandler = declared
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise VenueUnavailable("sent no well-formed XML") from None


def _headline(entry: Any, max_chars: int, now: int) -> Headline | None:
    """A title and its time; None where either is missing, nothing is left of it, or it is of the future."""
    # dict.get: feedparser's own would give one time for the other, with a warning.
    title, published, updated = (dict.get(entry, name) for name in _FIELDS)
    stamp = published or updated
    if not isinstance(title, str) or not isinstance(stamp, time.struct_time):
        return None
    title = clean(title, max_chars)
    try:
        moment = calendar.timegm(stamp) * 1_000_000
    except (ValueError, OverflowError):
        return None
    if moment > now + FUTURE_SLACK_US or not any(c.isalnum() for c in title):
        return None
    return Headline(title, min(moment, now))


def _chosen(found: list[list[Headline]], limit: int) -> list[Headline]:
    """Each title once, newest first; beside another no feed fills more than half of the list."""
    share = -(-limit // 2) if len(found) > 1 else limit
    shares = [headline for headlines in found for headline in _once(headlines)[:share]]
    return _once(shares)[:limit]


def _once(headlines: Sequence[Headline]) -> list[Headline]:
    """Newest first; a title that comes again is as old as its first publication."""
    first: dict[str, Headline] = {}
    for headline in headlines:
        known = first.get(headline.hash)
        if known is None or headline.published < known.published:
            first[headline.hash] = headline
    return sorted(first.values(), key=lambda headline: (-headline.published, headline.hash))


def _host(url: str) -> str:
    """Whom to blame: an address may carry a key, its host does not."""
    try:
        return web_address(url).host
    except httpx.InvalidURL:
        return "a feed"
