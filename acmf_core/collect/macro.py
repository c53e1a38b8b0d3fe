"""Daily closes of VIX, the dollar index, S&P 500 and gold futures (for the article's XAU), from Yahoo.

One row for each New York trading day: known at 18:00 New York, when all four have closed (ADR 084).
"""

import asyncio
import math
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pandas as pd
import tenacity

from acmf_core.collect.receipt import Receipt
from acmf_core.collect.web import answers
from acmf_core.collect.web.yahoo import SERVICE, Allowance, Series, Yahoo
from acmf_core.config import SourceConfig
from acmf_core.domain import DAY_US
from acmf_core.errors import VenueUnavailable
from acmf_core.ports import Clock

# Column: ticker, and between what a close can be believed.
SERIES: Final = {
    "vix": ("^VIX", 1.0, 500.0),
    "dxy": ("DX-Y.NYB", 20.0, 500.0),
    "sp500": ("^GSPC", 50.0, 1_000_000.0),
    "gold": ("GC=F", 50.0, 1_000_000.0),
}
NEW_YORK: Final = ZoneInfo("America/New_York")
CLOSED: Final = time(18)  # New York: the last of the four, the futures, stop at 17:00
_DAYS_LIVE: Final = 10
_HISTORY_TIMEOUT_S: Final = 60.0  # for years instead of days; `timeout_s` where that is longer
_SAME_PRICE: Final = 1e-6  # Yahoo's closes carry the noise of single precision, its price does not
_BACKOFF_S: Final = 0.5


class MacroSource:
    """The closes of the last ten days (port `Source`).

    Parameters
    ----------
    config : SourceConfig
        `timeout_s` is for all four tickers together. An empty `base_url` means Yahoo's own hosts.
    clock : Clock
        Says which days are over, and when an answer was received.
    """

    name = "macro"
    table = "macro"

    def __init__(self, config: SourceConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._yahoo = Yahoo(config.base_url)
        self._receipt = Receipt()

    async def collect(self, at: int) -> pd.DataFrame:
        """The finished trading days of the last ten days as rows of macro, oldest first.

        Raises
        ------
        VenueUnavailable
            A ticker got no usable answer: a row with a hole would keep it, so all four or none.
        """
        now = self._clock.now()
        self._receipt.ask(now)
        first = (_utc(now) - timedelta(days=_DAYS_LIVE)).date()
        allowance = Allowance(self._config.timeout_s)
        try:
            # The thread ends by itself: every request in it has what is left of the allowance.
            async with asyncio.timeout(self._config.timeout_s):
                series = await asyncio.to_thread(_ask, self._yahoo, first, allowance)
        except TimeoutError:
            raise VenueUnavailable(f"{SERVICE} did not answer within {self._config.timeout_s:g} s") from None
        finally:
            allowance.stop()
        received = self._clock.now()
        return _rows(series, received, self._receipt)


def macro_history(config: SourceConfig, start: int, end: int, now: int) -> pd.DataFrame:
    """Finished trading days with start <= event_time < end as rows of macro, oldest first.

    Parameters
    ----------
    config : SourceConfig
        `attempts` tries, with a growing wait between them.
    start, end, now : int
        Microseconds; a day is finished at 18:00 New York.

    Raises
    ------
    VenueUnavailable
        No usable answer in any try.
    """
    yahoo = Yahoo(config.base_url)
    first = _utc(start).date()

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(VenueUnavailable),
        stop=tenacity.stop_after_attempt(config.attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=_BACKOFF_S, max=20.0, jitter=_BACKOFF_S),
        reraise=True,
    )
    def ask() -> dict[str, Series]:
        return _ask(yahoo, first, Allowance(max(_HISTORY_TIMEOUT_S, config.timeout_s)))

    rows = _rows(ask(), now, None)
    stamps = pd.DatetimeIndex(rows["event_time"]).asi8
    return rows[(stamps >= start) & (stamps < end)].reset_index(drop=True)


def _ask(yahoo: Yahoo, first: date, allowance: Allowance) -> dict[str, Series]:
    found = {}
    for column, (ticker, low, high) in SERIES.items():
        found[column] = series = yahoo.daily(ticker, first, allowance)
        if not series.closes:
            answers.unusable(SERVICE, f"no close of {ticker} since {first}")
        for day, close in series.closes.items():
            if not low <= close <= high:
                answers.unusable(SERVICE, f"{ticker} {close:g} on {day}, outside {low:g} to {high:g}")
    return found


def _rows(series: dict[str, Series], now: int, receipt: Receipt | None) -> pd.DataFrame:
    """Rows of macro of the days that are over by `now`, when they were received; no receipt in history."""
    closes = {column: _settled(one) for column, one in series.items()}
    days = sorted({day for known in closes.values() for day in known if day.weekday() < 5})
    kept, stamps = [], []
    for day in days:
        known = known_at(day)
        if any(day not in of for of in closes.values()):
            known += DAY_US  # only then is it sure that no close is merely late
        if known <= now:
            kept.append(day)
            stamps.append(known)
    table = {column: [of.get(day, math.nan) for day in kept] for column, of in closes.items()}
    if receipt is not None:
        told = [(day, *(of.get(day) for of in closes.values())) for day in kept]
        stamps = receipt.moments(list(zip(told, stamps, strict=True)), now)
    return pd.DataFrame(
        {
            "event_time": pd.to_datetime(kept, utc=True).as_unit("us"),
            "available_at": pd.to_datetime(stamps, unit="us", utc=True).as_unit("us"),
        }
        | {column: pd.Series(values, dtype="float64") for column, values in table.items()}
    )


def _settled(series: Series) -> dict[date, float]:
    """The closes without the running price of a session that began after the last day's 18:00.

    Futures trade on from 18:00; until midnight Yahoo may show their price as the day's close.
    """
    if not series.closes or series.traded_at is None or series.price is None:
        return series.closes
    last = max(series.closes)
    running = series.traded_at > known_at(last) and math.isclose(
        series.closes[last], series.price, rel_tol=_SAME_PRICE
    )
    return {day: close for day, close in series.closes.items() if day != last or not running}


def known_at(day: date) -> int:
    """18:00 New York of a trading day in microseconds: from then on its closes are known."""
    return int(datetime.combine(day, CLOSED, NEW_YORK).timestamp()) * 1_000_000


def _utc(stamp: int) -> pd.Timestamp:
    return pd.Timestamp(stamp, unit="us", tz="UTC")
