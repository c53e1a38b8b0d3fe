"""JSON answers of web services nobody vouches for: asked for once, within a time and a size, read strictly.

No error says more of a request than who was asked: an address may carry a key.
"""

import asyncio
import json
import logging
import math
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NoReturn

import httpx

from acmf_core.errors import VenueUnavailable

MAX_BYTES: Final = 8_000_000
# Packed twice, a kilobyte holds a gigabyte, and the client unpacks before anybody can count.
_HEADERS: Final = {"User-Agent": "acmf", "Accept-Encoding": "identity"}
TOO_MANY: Final = httpx.codes.TOO_MANY_REQUESTS
_SCHEMES: Final = ("http", "https")
_PORTS: Final = range(65_536)
_SHOWN: Final = 60  # characters of anything foreign that an error repeats


async def fetch(
    service: str,
    url: str,
    *,
    timeout_s: float,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[int, bytes]:
    """Status and body of one GET; redirects are not followed.

    Parameters
    ----------
    service : str
        Who is asked, for errors.
    timeout_s : float
        For everything together: a body that trickles in does not outlast it.
    max_bytes : int
        A longer body is refused, and not read on.

    Raises
    ------
    VenueUnavailable
        No whole answer.
    """
    keep_addresses_out_of_the_log()
    try:
        address = web_address(url)
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(timeout=timeout_s, verify=_tls(), headers=_HEADERS) as client,
            client.stream("GET", address, params=params, headers=headers) as answer,
        ):
            if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                unusable(service, "in a packing that was not asked for")
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    unusable(service, f"a body of more than {max_bytes:,} bytes")
            return answer.status_code, bytes(body)
    except (TimeoutError, httpx.TimeoutException):
        raise VenueUnavailable(f"{service} did not answer within {timeout_s:g} s") from None
    except httpx.InvalidURL:
        raise VenueUnavailable(f"{service} cannot be asked: its base_url is no address") from None
    except (httpx.RequestError, httpx.StreamError, UnicodeError) as error:
        # The kind alone: the text of a foreign exception may hold the address, and that a key. UnicodeError:
        # httpx reads redirects that it does not follow, and their hosts may be in letters that no name has.
        raise VenueUnavailable(f"{service} did not answer: {type(error).__name__}") from None


def web_address(url: str, *, seen_from: httpx.URL | None = None) -> httpx.URL:
    """An http or https address with a host and a port that can be.

    Parameters
    ----------
    seen_from : httpx.URL, optional
        The address of the page that names `url`, which may then be a relative one.

    Raises
    ------
    httpx.InvalidURL
        It is none. Asked for all the same, it would end in errors of the libraries below httpx.
    """
    try:
        address = httpx.URL(url) if seen_from is None else seen_from.join(url)
        fine = address.scheme in _SCHEMES and address.host and (address.port or 0) in _PORTS
    except ValueError:  # a host in letters that no name can have
        fine = False
    if not fine:
        raise httpx.InvalidURL("no http or https address")
    return address


def keep_addresses_out_of_the_log() -> None:
    """Have httpx log warnings only: each request it logs with the whole address, and that may hold a key."""
    logging.getLogger("httpx").setLevel(logging.WARNING)


def refuse_status(service: str, status: int) -> None:
    """VenueUnavailable unless the status is 200."""
    if status == TOO_MANY:
        raise VenueUnavailable(f"{service} was asked too often: HTTP 429")
    if status != httpx.codes.OK:
        raise VenueUnavailable(f"{service} answered HTTP {status}")


def json_object(service: str, body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; VenueUnavailable where it is anything else."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        unusable(service, f"no JSON: {shown(body[:_SHOWN].decode('utf-8', 'replace'))}")
    if not isinstance(value, dict):
        unusable(service, f"a JSON {type(value).__name__} instead of an object")
    return value


def number(value: object) -> float | None:
    """A finite JSON number (not a truth value), or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def shown(value: object) -> str:
    """Anything foreign as one short line, for an error."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}.."


def unusable(service: str, what: str) -> NoReturn:
    """Raise VenueUnavailable: the service answered, but nothing that can be used."""
    raise VenueUnavailable(f"{service} answered {what}")


@cache
def _tls() -> ssl.SSLContext:
    """The machine's trusted certificates: read once, they take longer than a request."""
    return httpx.create_ssl_context()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
