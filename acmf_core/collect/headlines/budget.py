"""What may be spent in a day: reserved before a request is sent, settled when its cost is known."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from acmf_core.domain import DAY_US
from acmf_core.errors import DataError, VenueUnavailable
from acmf_core.ports import Cache, Clock

_TTL_S: Final = 2 * 86_400.0
_LOG: Final = logging.getLogger("acmf.news")


@dataclass(frozen=True, slots=True)
class Reserved:
    """Tokens set aside under the day's counter."""

    key: str
    tokens: int


class TokenBudget:
    """Tokens of one UTC day, counted in the cache: across restarts, and across processes that share it.

    In doubt nothing is spent: without the cache no request may be sent, and what was reserved stays counted
    where nobody knows what the request cost.

    Parameters
    ----------
    limit : int
        Tokens a day, input and output together.
    """

    def __init__(self, limit: int, cache: Cache, clock: Clock) -> None:
        self._limit, self._cache, self._clock = limit, cache, clock

    async def reserve(self, tokens: int) -> Reserved:
        """Set aside what a request may cost at most.

        Raises
        ------
        DataError
            It is more than the day has left.
        VenueUnavailable
            The cache is out of reach.
        """
        key = f"news:tokens:{self._clock.now() // DAY_US}"
        try:
            total = await asyncio.to_thread(self._cache.add, key, tokens, _TTL_S)
            if total > self._limit:
                await asyncio.to_thread(self._cache.add, key, -tokens, _TTL_S)
        except OSError as error:
            raise VenueUnavailable(
                f"nothing was sent to Anthropic, because the day's tokens cannot be counted: {error}"
            ) from None
        if total > self._limit:
            raise DataError(
                f"the budget of {self._limit:,} tokens a day is spent "
                f"({total - tokens:,} gone, a request may need {tokens:,})",
                "again after 00:00 UTC, or raise anthropic.max_tokens_per_day",
            )
        return Reserved(key, tokens)

    async def settle(self, reserved: Reserved, used: int) -> None:
        """Count what was used instead of what was reserved."""
        try:
            await asyncio.to_thread(self._cache.add, reserved.key, used - reserved.tokens, _TTL_S)
        except OSError as error:
            _LOG.warning("used tokens could not be settled, %d stay counted: %s", reserved.tokens, error)
