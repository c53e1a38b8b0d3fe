"""Market data of Binance USDT-M, without a key, through ccxt's raw endpoints.

The raw (implicit) endpoints keep every column and every decimal, and need no table of markets. ccxt does the
plumbing (urls, throttle); what an answer means is decided here, because ccxt says nothing at all about a 200
with a web page in it (see `http`, `answers`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from acmf_core.collect.venue import answers
from acmf_core.collect.venue.http import Silence, exchange_class, open_session
from acmf_core.config import ExchangeConfig
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import ConfigError, VenueUnavailable

MAX_KLINES: Final = 1_500
MAX_FUNDING: Final = 1_000
MAX_SERIES: Final = 500
BOOK_LIMIT: Final = 20
_LONG_SHORT: Final = {"longShortRatio": "long_short_ratio"}
_OPEN_INTEREST: Final = {"sumOpenInterest": "open_interest", "sumOpenInterestValue": "open_interest_value"}


class Venue:
    """Binance's public market data. One event loop; `aclose` it after use.

    Every method returns rows of a table of the lake, or raises

    * VenueUnavailable: no answer, or one that cannot be believed; another try may succeed. After a 429 or 418
      no request leaves this object until the venue's Retry-After is over.
    * ConfigError: the venue does not know the symbol, or does not serve this region.
    * DataError: it refuses the request as it is.

    Parameters
    ----------
    config : ExchangeConfig
        With a `base_url`, scheme and host of every URL are replaced by it (tests, mirrors).
    timeout_s : float
        For one request, from connecting to the last byte.
    """

    def __init__(self, config: ExchangeConfig, *, timeout_s: float = 10.0) -> None:
        self._base = _origin(config.base_url)
        self._timeout_s = timeout_s
        self._silence = Silence()
        self._class = exchange_class(self._silence)  # the import takes a second: here, not in the first call
        self._exchange: Any = None
        self._session: Any = None

    async def klines(
        self,
        symbol: str,
        interval: str,
        *,
        now: int,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1_000,
    ) -> pd.DataFrame:
        """Closed bars with start <= open_time < end, all kline columns, oldest first.

        A bar that closed less than a minute ago counts as closed only once the venue shows the next one or
        its clock is past the close: a fast clock here must not take an unfinished bar.

        Parameters
        ----------
        symbol, interval : str
            BTCUSDT; 1m, 5m, 15m, 1h, 4h or 1d.
        now : int
            Microseconds; bars that close later are left out.
        start, end : int, optional
            Microseconds. Without a start: the newest `limit` bars, the unfinished one counted.
        limit : int
            Rows a request, 2..1500; with a start, as many requests as it takes.
        """
        if interval not in INTERVAL_SECONDS or not 2 <= limit <= MAX_KLINES:
            raise ConfigError(
                f"no klines of {interval} by {limit}", f"intervals: {', '.join(INTERVAL_SECONDS)}"
            )
        until_ms = now // 1_000 if end is None else min(now, end) // 1_000
        asking = _Klines(self, symbol, interval, now, None if end is None else -(-end // 1_000) - 1)
        cursor = None if start is None else -(-start // 1_000)
        bars: dict[int, answers.Kline] = {}
        while cursor is None or cursor < until_ms:
            page = await asking.page(cursor, limit)
            known = len(bars)
            bars.update({bar.open_ms: bar for bar in page})
            if cursor is None or len(bars) == known or page[-1].close_ms + 1 >= until_ms:
                break
            cursor = page[-1].open_ms  # once more: a bar is only final where its successor is beside it
        closed = await asking.closed(bars)
        return answers.kline_rows(closed, symbol, interval)

    async def funding(
        self, symbol: str, *, start: int | None = None, limit: int = MAX_FUNDING, now: int | None = None
    ) -> pd.DataFrame:
        """Paid funding rates, oldest first.

        `interval_hours` is derived from the payment before; null for the first row and after a hole.

        Parameters
        ----------
        start : int, optional
            Microseconds; without it the newest `limit` payments.
        now : int, optional
            Microseconds; a payment later than a minute after it is refused.
        """
        asked = f"funding of {symbol}"
        rates: dict[int, float] = {}
        cursor = None if start is None else -(-start // 1_000)
        while True:
            wanted = {"symbol": symbol, "limit": limit} | ({} if cursor is None else {"startTime": cursor})
            answer = await self._call("fapiPublicGetFundingRate", asked, wanted)
            page = answers.funding(answer, asked, symbol=symbol, limit=limit, now=now)
            if cursor is not None and page and page[0][0] < cursor:
                raise answers.unusable(asked, "rows from before the start that was asked for")
            rates.update(page)
            if cursor is None or len(page) < limit:
                return answers.funding_frame(sorted(rates.items()), symbol)
            cursor = page[-1][0] + 1

    async def long_short(
        self, symbol: str, *, now: int, period: str = "15m", start: int | None = None, limit: int = MAX_SERIES
    ) -> pd.DataFrame:
        """Accounts long to accounts short, all traders; the venue keeps the last 30 days.

        Parameters
        ----------
        now : int
            Microseconds: the moment of receipt, `available_at` of every row.
        start : int, optional
            Microseconds; without it the newest `limit` rows.
        """
        call = "fapiDataGetGlobalLongShortAccountRatio"
        return await self._series(
            call, f"long/short ratio of {symbol}", _LONG_SHORT, symbol, now, period, start, limit
        )

    async def open_interest(
        self, symbol: str, *, now: int, period: str = "15m", start: int | None = None, limit: int = MAX_SERIES
    ) -> pd.DataFrame:
        """Open interest in base units and in quote units; parameters as `long_short`."""
        call = "fapiDataGetOpenInterestHist"
        return await self._series(
            call, f"open interest of {symbol}", _OPEN_INTEREST, symbol, now, period, start, limit
        )

    async def book(self, symbol: str, *, now_us: Callable[[], int]) -> pd.DataFrame:
        """The order book, 20 levels a side, one row; its summaries are left to `BookSource`.

        Parameters
        ----------
        now_us : callable
            The clock; read once the answer is here: that moment is `available_at`.
        """
        asked = f"order book of {symbol}"
        answer = await self._call("fapiPublicGetDepth", asked, {"symbol": symbol, "limit": BOOK_LIMIT})
        now = now_us()
        stamp = answers.depth_stamp(answer, asked, now=now)
        row: dict[str, Any] = {
            "symbol": symbol,
            "event_time": answers.moment(1_000 * stamp),
            "available_at": answers.moment(now),
        }
        for side, name in (("bids", "bid"), ("asks", "ask")):
            levels = answers.depth_side(answer, asked, side=side, limit=BOOK_LIMIT)
            levels += [(float("nan"), float("nan"))] * (BOOK_LIMIT - len(levels))
            row |= {f"{name}_px_{i}": price for i, (price, _) in enumerate(levels, start=1)}
            row |= {f"{name}_qty_{i}": quantity for i, (_, quantity) in enumerate(levels, start=1)}
        return pd.DataFrame([row])

    async def server_time(self) -> int:
        """The venue's clock, microseconds."""
        asked = "server time"
        return answers.server_time(await self._call("fapiPublicGetTime", asked, {}), asked)

    async def aclose(self) -> None:
        """Close the connections; another call opens new ones."""
        exchange, session = self._exchange, self._session
        self._exchange = self._session = None
        if exchange is not None:
            await exchange.close()
        if session is not None:
            await session.close()

    async def _series(
        self,
        call: str,
        asked: str,
        names: dict[str, str],
        symbol: str,
        now: int,
        period: str,
        start: int | None,
        limit: int,
    ) -> pd.DataFrame:
        """Statistics of /futures/data: windows of `limit` rows from `start` on, or the newest ones."""
        step_us = 1_000_000 * INTERVAL_SECONDS[period]
        wanted: dict[str, Any] = {"symbol": symbol, "period": period, "limit": limit}
        read = partial(
            answers.series, asked=asked, symbol=symbol, period=period, names=names, now=now, limit=limit
        )
        if start is None:
            return read(await self._call(call, asked, wanted))
        frames = [read([])]  # a start in the future has no window
        for first in range(start, now + 1, limit * step_us):
            window = {"startTime": -(-first // 1_000), "endTime": (first + limit * step_us) // 1_000 - 1}
            frames.append(read(await self._call(call, asked, wanted | window)))
        return pd.concat(frames, ignore_index=True)

    async def _call(self, name: str, asked: str, parameters: dict[str, Any]) -> Any:
        """One raw request; the decoded body."""
        import aiohttp
        from ccxt.base.errors import BaseError, RequestTimeout

        self._silence.respect(asked)
        if self._exchange is None:
            self._open()
        try:
            return await getattr(self._exchange, name)(parameters)
        except RequestTimeout:
            raise VenueUnavailable(
                f"{asked}: no answer within {self._timeout_s:g} s", answers.RETRY
            ) from None
        except (BaseError, aiohttp.ClientError, OSError) as error:
            raise VenueUnavailable(f"{asked}: {_plain(error)}", answers.RETRY) from None
        except RecursionError:
            raise answers.unusable(asked, "lists within lists without end") from None

    def _open(self) -> None:
        exchange = self._class({"enableRateLimit": True, "timeout": int(1_000 * self._timeout_s)})
        if self._base:
            exchange.urls["api"] = _moved(exchange.urls["api"], self._base)
        self._session = open_session(exchange.cafile)
        exchange.own_session, exchange.session = False, self._session
        exchange.timeout_on_exit = 0  # a pause for sessions that ccxt closes itself
        self._exchange = exchange


class _Klines:
    """The requests of one `Venue.klines`."""

    def __init__(self, venue: Venue, symbol: str, interval: str, now: int, last_ms: int | None) -> None:
        self._venue, self._interval, self._now = venue, interval, now
        self._asked = f"{interval} bars of {symbol}"
        self._wanted: dict[str, Any] = {"symbol": symbol, "interval": interval}
        if last_ms is not None:
            self._wanted["endTime"] = last_ms

    async def page(self, first_ms: int | None, limit: int) -> list[answers.Kline]:
        """Up to `limit` bars that open at or after `first_ms`; without it the newest."""
        wanted = self._wanted | {"limit": limit} | ({} if first_ms is None else {"startTime": first_ms})
        answer = await self._venue._call("fapiPublicGetKlines", self._asked, wanted)
        bars = answers.klines(answer, self._asked, interval=self._interval, now=self._now, limit=limit)
        if bars and first_ms is not None and bars[0].open_ms < first_ms:
            raise answers.unusable(self._asked, "bars from before the start that was asked for")
        return bars

    async def closed(self, bars: dict[int, answers.Kline]) -> list[answers.Kline]:
        """The bars that are closed for certain."""
        now_ms = self._now // 1_000
        closed = [bars[stamp] for stamp in sorted(bars) if bars[stamp].close_ms < now_ms]
        if not closed or max(bars) > closed[-1].open_ms:
            return closed
        newest = closed[-1]
        if 1_000 * (now_ms - newest.close_ms) > answers.CLOCK_TOLERANCE_US:
            return closed
        if await self._venue.server_time() <= 1_000 * newest.close_ms:
            return closed[:-1]  # our clock is ahead: the venue still trades in this bar
        again = await self.page(newest.open_ms, limit=2)
        return closed[:-1] + [bar for bar in again if bar.open_ms == newest.open_ms]


def _origin(base_url: str) -> tuple[str, str] | None:
    if not base_url:
        return None
    mend = "e.g. http://127.0.0.1:8080"
    try:
        parts = urlsplit(base_url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    # Nothing of it is repeated: with a user, a password or a key in it, it would be in every log.
    if not fine or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("exchange.base_url is not scheme://host[:port]", mend)
    if "@" in parts.netloc:
        raise ConfigError("exchange.base_url has a user in it, which errors and logs would repeat", mend)
    return parts.scheme, parts.netloc


def _moved(urls: dict[str, str], origin: tuple[str, str]) -> dict[str, str]:
    """Every URL at another scheme and host; the paths stay."""
    return {key: urlunsplit((*origin, *urlsplit(url)[2:])) for key, url in urls.items()}


def _plain(error: BaseException) -> str:
    """The innermost cause, in a few words: ccxt's own text is only the URL."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"[:160] if str(cause) else type(cause).__name__
