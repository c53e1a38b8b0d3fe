"""The order book at the close: 20 levels a side, and what the features make of them."""

from typing import Final

import pandas as pd

from acmf_core.collect.venue.client import Venue
from acmf_core.errors import StaleData
from acmf_core.features.sources import book_summaries
from acmf_core.ports import Clock

MAX_AGE: Final = pd.Timedelta(seconds=60)


class BookSource:
    """The book as it is now (port `Source`).

    Parameters
    ----------
    venue : Venue
        Where the book is kept.
    symbol : str
        The venue's name.
    clock : Clock
        Says when the answer was there: `available_at`.
    """

    name = "book"
    table = "book"

    def __init__(self, venue: Venue, symbol: str, clock: Clock) -> None:
        self._venue = venue
        self._symbol = symbol
        self._clock = clock

    async def collect(self, at: int) -> pd.DataFrame:
        """One row of the table `book`; `event_time` is the venue's own stamp, at the latest the receipt.

        Two clocks are never the same: a stamp of a clock ahead of ours would claim to be known before it was.
        A book with an empty side, or whose sides cross, is recorded as it came, its summaries null.

        Raises
        ------
        StaleData
            The venue's stamp is more than 60 s old: a cache between us, or an engine that stands still.
        VenueUnavailable, ConfigError, DataError
            As `Venue`.
        """
        rows = await self._venue.book(self._symbol, now_us=self._clock.now)
        stamp, received = rows["event_time"].iloc[0], rows["available_at"].iloc[0]
        if received - stamp > MAX_AGE:
            raise StaleData(
                f"the order book of {self._symbol} is of {stamp:%Y-%m-%d %H:%M:%S} UTC, "
                f"{(received - stamp).total_seconds():.0f} s before it was received",
                "an order book is good for 60 s; look at the venue's status and at proxies in between",
            )
        rows["event_time"] = min(stamp, received)
        return pd.concat([rows, book_summaries(rows)], axis=1)
