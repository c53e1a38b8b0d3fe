"""Daily closes from Yahoo Finance through yfinance, kept on a short leash.

yfinance is one shared state for the whole process (session, cookie, settings, caches), answers errors with
empty frames unless told otherwise, and keeps a cache on disk with pickles in it. Here one thread at a time
asks it, for a limited time; it raises what goes wrong and writes nothing.
"""

import logging
import math
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from acmf_core.collect.web import answers
from acmf_core.errors import VenueUnavailable

SERVICE: Final = "Yahoo Finance"
_CHART: Final = "/v8/finance/chart/"
_GATE: Final = threading.Lock()  # yfinance keeps its state in module globals
# What yfinance and pandas let through when an answer is not what they expect.
_FAULTS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,  # every exception of curl_cffi is one
    RuntimeError,
    TypeError,
    ValueError,
)


class Allowance:
    """The time that one question may take; may be taken back from another thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.perf_counter() + seconds
        self._stopped = threading.Event()

    def stop(self) -> None:
        """No further request is sent."""
        self._stopped.set()

    def left(self) -> float:
        """Seconds left; VenueUnavailable where none are."""
        left = self._end - time.perf_counter()
        if left <= 0 or self._stopped.is_set():
            raise self.over()
        return left

    def over(self) -> VenueUnavailable:
        """The error that says so."""
        return VenueUnavailable(f"{SERVICE} did not answer within {self.seconds:g} s")


@dataclass(frozen=True, slots=True)
class Series:
    """Daily closes of one ticker.

    Attributes
    ----------
    closes : dict of date to float
        By trading day in the exchange's own zone; unadjusted; days without a close are not there.
    traded_at : int or None
        When it last traded, microseconds, as Yahoo says; None where it does not.
    price : float or None
        At what.
    """

    closes: dict[date, float]
    traded_at: int | None
    price: float | None


class Yahoo:
    """One session with Yahoo Finance.

    Parameters
    ----------
    base_url : str
        Empty for Yahoo's own hosts. Else scheme and host of every request, whichever host yfinance names, are
        replaced by it and redirects are not followed: nothing goes anywhere else.
    """

    def __init__(self, base_url: str = "") -> None:
        self._base_url = base_url
        self._session: Any = None
        self._tickers: dict[str, Any] = {}  # each knows its exchange's zone once it has asked for it

    def daily(self, ticker: str, first: date, allowance: Allowance) -> Series:
        """Closes since `first`, the running day's included.

        Raises
        ------
        VenueUnavailable
            No answer in time, or one that yfinance can make nothing of.
        """
        if not _GATE.acquire(timeout=allowance.left()):
            raise allowance.over()
        try:
            return self._ask(ticker, first, allowance)
        except VenueUnavailable:
            self._tickers.pop(ticker, None)
            raise
        except _FAULTS as error:
            self._tickers.pop(ticker, None)
            raise VenueUnavailable(f"{SERVICE}, {ticker}: {_reason(error)}") from None
        finally:
            _GATE.release()

    def _ask(self, ticker: str, first: date, allowance: Allowance) -> Series:
        import yfinance
        from yfinance.data import YfData
        from yfinance.exceptions import YFException, YFRateLimitError

        # How it uses pandas is not ours to mend, nor news to the operator.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")
        # A folder that cannot be made: yfinance then goes without its caches on disk.
        yfinance.set_tz_cache_location(os.devnull)
        # Answers about the past are remembered for good, even "HTTP 500".
        YfData.cache_get.cache_clear()
        if self._session is None:
            self._session = _session_class()(self._base_url)
        self._session.allowance = allowance
        with _frank(yfinance):
            try:
                asked = yfinance.Ticker(ticker, session=self._session)
                asked = self._tickers.setdefault(ticker, asked)
                frame = asked.history(
                    start=first.isoformat(), interval="1d", auto_adjust=False, actions=False
                )
                return _series(frame, asked.history_metadata)
            except YFRateLimitError:
                raise VenueUnavailable(f"{SERVICE} was asked too often: HTTP 429") from None
            except YFException as error:
                raise VenueUnavailable(f"{SERVICE}, {ticker}: {_reason(error)}") from None


@contextmanager
def _frank(yfinance: Any) -> Iterator[None]:
    """Let yfinance raise its errors and log none of them, for as long as it works for us."""
    debug, logger = yfinance.config.debug, logging.getLogger("yfinance")
    hidden, level = debug.hide_exceptions, logger.level
    debug.hide_exceptions = False
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        debug.hide_exceptions = hidden
        logger.setLevel(level)


@cache
def _session_class() -> type[Any]:
    """The session, made on first use: curl_cffi loads a browser's TLS stack."""
    from curl_cffi import CurlOpt, requests

    class LeashedSession(requests.Session):  # type: ignore[type-arg]
        """A session of yfinance's kind that knows where to go, for how long, and how much to read."""

        allowance: Allowance

        def __init__(self, base_url: str) -> None:
            limits = {CurlOpt.MAXFILESIZE_LARGE: answers.MAX_BYTES}
            super().__init__(impersonate="chrome", curl_options=limits)
            self._stand_in = urlsplit(base_url) if base_url else None

        def request(self, method: Any, url: str, *args: Any, **options: Any) -> Any:
            asked = urlsplit(url)
            if self._stand_in is not None:
                path = self._stand_in.path.rstrip("/") + asked.path
                url = urlunsplit(
                    asked._replace(scheme=self._stand_in.scheme, netloc=self._stand_in.netloc, path=path)
                )
                options["allow_redirects"] = False
            options["timeout"] = self.allowance.left()
            answer = super().request(method, url, *args, **options)
            if len(answer.content) > answers.MAX_BYTES:
                answers.unusable(SERVICE, f"a body of more than {answers.MAX_BYTES:,} bytes")
            if asked.path.startswith(_CHART) and answer.status_code >= 500:
                # yfinance would change its cookies and ask again at once.
                raise VenueUnavailable(f"{SERVICE} answered HTTP {answer.status_code}")
            return answer

    return LeashedSession


def _series(frame: pd.DataFrame, metadata: Any) -> Series:
    days = pd.DatetimeIndex(frame.index)
    closes = {
        day.date(): float(close)
        for day, close in zip(days, frame["Close"].to_numpy(dtype="float64"), strict=True)
        if not math.isnan(close)
    }
    traded, price = metadata.get("regularMarketTime"), answers.number(metadata.get("regularMarketPrice"))
    if isinstance(traded, pd.Timestamp):
        traded = traded.timestamp()
    seconds = answers.number(traded)
    return Series(closes, None if seconds is None else int(seconds * 1e6), price)


def _reason(error: Exception) -> str:
    """The first line of a foreign error, cut short."""
    text = " ".join(str(error).split()).partition(". See https://curl")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
