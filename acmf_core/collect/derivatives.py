"""What the perpetual future tells beside its price: funding paid, accounts long and short, open interest."""

from typing import Final

import pandas as pd

from acmf_core.collect.receipt import Receipt
from acmf_core.collect.venue.client import Venue
from acmf_core.errors import StaleData, VenueUnavailable
from acmf_core.ports import Clock

PERIOD: Final = "15m"
PAYMENTS: Final = 100  # a month at one every eight hours, four days at one an hour
PERIODS: Final = 5  # the last hour, and one more
MAX_AGE: Final = pd.Timedelta(hours=1)
LATE_US: Final = 60_000_000  # no collection waits so long for a payment
_HOUR_US: Final = 3_600_000_000


class FundingSource:
    """Funding rates that were paid (port `Source`).

    Parameters
    ----------
    venue : Venue
        Where they were paid.
    symbol : str
        The venue's name.
    clock : Clock, optional
        With one, a payment of the future is refused, and a late one is known since its receipt.
    """

    name = "funding"
    table = "funding"

    def __init__(self, venue: Venue, symbol: str, clock: Clock | None = None) -> None:
        self._venue = venue
        self._symbol = symbol
        self._clock = clock
        self._receipt = Receipt()

    def due(self, at: int) -> bool:
        """Whether a payment can happen at `at` (microseconds): the venue pays on whole hours."""
        return at % _HOUR_US == 0

    async def collect(self, at: int) -> pd.DataFrame:
        """The last hundred payments as rows of the table `funding`.

        Raises
        ------
        VenueUnavailable, ConfigError, DataError
            As `Venue`; also where the venue knows no payment at all.
        """
        now = None if self._clock is None else self._clock.now()
        rows = _some(
            await self._venue.funding(self._symbol, limit=PAYMENTS, now=now),
            f"funding payment of {self._symbol}",
        )
        if self._clock is None or now is None:
            return rows
        self._receipt.ask(now)
        return rows.assign(available_at=self._known(rows, self._clock.now()))

    def _known(self, rows: pd.DataFrame, received: int) -> pd.DatetimeIndex:
        """When each was known: as it was paid, unless it came too late for the close at that second."""
        paid = pd.DatetimeIndex(rows["event_time"]).asi8.tolist()
        told = [((at, rate), at) for at, rate in zip(paid, rows["funding_rate"], strict=True)]
        moments = self._receipt.moments(told, received)
        known = [moment if moment > at + LATE_US else at for at, moment in zip(paid, moments, strict=True)]
        return pd.to_datetime(known, unit="us", utc=True).as_unit("us")


class LongShortSource:
    """Accounts long to accounts short, all traders, every 15 minutes (port `Source`).

    Parameters
    ----------
    venue, symbol : Venue, str
        As for `FundingSource`.
    clock : Clock
        Says when the answer was there: `available_at`.
    """

    name = "long_short"
    table = "long_short"

    def __init__(self, venue: Venue, symbol: str, clock: Clock) -> None:
        self._venue = venue
        self._symbol = symbol
        self._clock = clock

    async def collect(self, at: int) -> pd.DataFrame:
        """The last five rows of the table `long_short`, all known since now.

        Raises
        ------
        StaleData
            The newest is more than an hour old.
        VenueUnavailable, ConfigError, DataError
            As `Venue`; also where there is no row.
        """
        rows = await self._venue.long_short(self._symbol, now=self._clock.now(), period=PERIOD, limit=PERIODS)
        return _fresh(rows, f"long/short ratio of {self._symbol}", self._clock.now())


def _some(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    if rows.empty:
        raise VenueUnavailable(f"the venue has no {what}", "ask again later, or switch the source off")
    return rows


def _fresh(rows: pd.DataFrame, what: str, now: int) -> pd.DataFrame:
    """The rows, known since `now` (microseconds), if the newest is young enough to mean anything."""
    received = pd.Timestamp(now, unit="us", tz="UTC").as_unit("us")
    newest = _some(rows, what)["event_time"].iloc[-1]
    age = received - newest
    if age > MAX_AGE:
        raise StaleData(
            f"the newest {what} is {age.total_seconds() / 60:.0f} minutes old ({newest:%Y-%m-%d %H:%M} UTC)",
            "the venue's statistics stand still; it is good for an hour",
        )
    return rows.assign(available_at=received)
