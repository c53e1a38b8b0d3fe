"""How the venue's HTTP answers are read: bodies are capped, redirects refused, refusals named, bans kept.

ccxt classifies errors by class names that depend on the host; here the status and the numeric code decide.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from acmf_core.collect.venue.answers import RETRY, shown
from acmf_core.errors import AcmfError, ConfigError, DataError, VenueUnavailable

MAX_BODY: Final = 5_000_000  # bytes; a full page of klines has 0.3 million
_WAIT_S: Final = {429: 60.0, 418: 120.0}  # where the venue does not say for how long
_LONGEST_S: Final = 3 * 86_400.0  # the longest ban the venue speaks of
_TOO_MANY, _BANNED, _REGION, _OK_ABOVE = 429, 418, 451, 300
_FREQUENT, _UNKNOWN_SYMBOL = -1003, -1121
_REFUSED: Final = range(-1199, -1099)  # 11xx: the request itself is wrong
_NAME_THREADS: Final = 4


class Silence:
    """Until when the venue wants to hear nothing; asking on would turn a limit into a ban."""

    def __init__(self) -> None:
        self._until = 0.0

    def keep(self, seconds: float) -> None:
        """No request for so long from now."""
        self._until = max(self._until, asyncio.get_running_loop().time() + seconds)

    def respect(self, asked: str) -> None:
        """Raise VenueUnavailable while it lasts."""
        left = self._until - asyncio.get_running_loop().time()
        if left > 0:
            raise VenueUnavailable(
                f"{asked}: not asked, the venue wants no request for another {left:.0f} s (too many before)",
                f"wait {left:.0f} s; look for other programs behind this address",
            )


def exchange_class(silence: Silence) -> Any:
    """ccxt's asynchronous binanceusdm, with the answers judged here."""
    from ccxt.async_support import binanceusdm

    class _Binance(binanceusdm):  # type: ignore[misc]
        async def fetch(self, url: str, *rest: Any) -> Any:
            silence.respect(_place(url))  # again: it may have waited for its turn while a ban came
            return await super().fetch(url, *rest)

        def handle_errors(
            self,
            code: int,
            reason: str,
            url: str,
            method: str,
            headers: Mapping[str, str],
            body: str,
            *rest: object,
        ) -> None:
            error = refusal(code, url, headers, body, rest[0])
            if code in _WAIT_S or _code(rest[0]) == _FREQUENT:
                silence.keep(wait_s(code, headers))
            if error is not None:
                raise error

    return _Binance


def refusal(status: int, url: str, headers: Mapping[str, str], body: str, answer: object) -> AcmfError | None:
    """The error that an answer stands for, or None.

    Parameters
    ----------
    status, url, headers, body : int, str, mapping, str
        Of the answer.
    answer : object
        The decoded body; None where it is no JSON.
    """
    asked = _place(url)
    code, said = _code(answer), _said(answer, body)
    if status in _WAIT_S or code == _FREQUENT:
        wait = wait_s(status, headers)
        what = "this address is banned" if status == _BANNED else "too many requests"
        return VenueUnavailable(
            f"{asked}: HTTP {status}, {what}: Retry-After {wait:.0f} s", f"wait {wait:.0f} s"
        )
    if code == _UNKNOWN_SYMBOL:
        symbol = next((p[7:] for p in url.split("?", 1)[-1].split("&") if p.startswith("symbol=")), "it")
        return ConfigError(f"the venue does not know the symbol {shown(symbol)}", "mend market.symbol")
    if status == _REGION:
        return ConfigError(
            f"{asked}: HTTP 451, the venue does not serve this region: {said}",
            "run where it does; trying on is no use",
        )
    if code in _REFUSED:
        return DataError(f"{asked}: the venue refuses the request: {code} {said}")
    if code not in (None, 0, 200):
        return VenueUnavailable(f"{asked}: HTTP {status}, code {code}: {said}", RETRY)
    if not 200 <= status < _OK_ABOVE:
        return VenueUnavailable(f"{asked}: HTTP {status}: {said}", RETRY)
    if answer is None:
        what = f"{len(body)} characters that are no JSON: {shown(body)}" if body else "an empty body"
        return VenueUnavailable(f"{asked}: HTTP {status} with {what}", RETRY)
    return None


def wait_s(status: int, headers: Mapping[str, str]) -> float:
    """Seconds of silence that an answer asks for."""
    given = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    if given.isascii() and given.isdecimal() and len(given) < len("1000000"):
        return min(max(float(given), 1.0), _LONGEST_S)
    return _WAIT_S.get(status, _WAIT_S[_TOO_MANY])


def open_session(cafile: str) -> Any:
    """An aiohttp session that reads at most `MAX_BODY` bytes of a body and follows no redirect."""
    import aiohttp

    class _Capped(aiohttp.ClientResponse):
        async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
            body = bytearray()
            async for chunk in self.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > MAX_BODY:
                    self.close()
                    raise VenueUnavailable(
                        f"{self.url.path}: more than {MAX_BODY / 1e6:g} MB of answer", RETRY
                    )
            return body.decode(encoding or "utf-8", errors)

    async def refuse(session: object, context: object, seen: aiohttp.TraceRequestRedirectParams) -> None:
        target = shown(seen.response.headers.get("Location", ""))
        raise VenueUnavailable(f"{seen.url.path}: redirected to {target}, which is not followed", RETRY)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    connector = _connector(ssl.create_default_context(cafile=cafile))
    return aiohttp.ClientSession(connector=connector, response_class=_Capped, trace_configs=[trace])


def _connector(context: ssl.SSLContext) -> Any:
    """Connections whose names are looked up in threads of their own.

    Names that do not resolve hold a thread for half a minute: a few of other sources, in the loop's shared
    threads, would keep the venue's own name waiting beyond every deadline.
    """
    import aiohttp

    threads = ThreadPoolExecutor(_NAME_THREADS, "venue-names")

    class _Names(aiohttp.abc.AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[aiohttp.abc.ResolveResult]:
            look_up = partial(
                socket.getaddrinfo,
                host,
                port,
                family=family,
                type=socket.SOCK_STREAM,
                flags=socket.AI_ADDRCONFIG,
            )
            found = await asyncio.get_running_loop().run_in_executor(threads, look_up)
            return [
                aiohttp.abc.ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
                for kind, _, protocol, _, address in found
            ]

        async def close(self) -> None:
            threads.shutdown(wait=False, cancel_futures=True)

    class _Connector(aiohttp.TCPConnector):
        async def close(self, *, abort_ssl: bool = False) -> None:
            await super().close(abort_ssl=abort_ssl)
            await names.close()  # aiohttp closes no resolver that it was given

    names = _Names()
    return _Connector(resolver=names, ssl=context, limit=8)


def _place(url: str) -> str:
    """Host, port and path: what stands before the host or after the path may be secret."""
    host, slash, path = url.split("?", 1)[0].split("://", 1)[-1].partition("/")
    return host.rpartition("@")[2] + slash + path


def _code(answer: object) -> int | None:
    """The venue's numeric error code."""
    code = answer.get("code") if isinstance(answer, dict) else None
    if isinstance(code, str) and code.lstrip("-").isdecimal() and len(code) < len("-1000000"):
        code = int(code)
    return code if type(code) is int else None


def _said(answer: object, body: str) -> str:
    return shown(answer.get("msg", answer)) if isinstance(answer, dict) else shown(body)
