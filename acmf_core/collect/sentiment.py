"""The Crypto Fear & Greed index of alternative.me: one value from 0 to 100 for each day.

Wire format: {"data": [{"value": "40", "value_classification": "Fear", "timestamp": "1704067200"}, ...],
"metadata": {"error": null}}; newest first, every number a string, stamps in seconds, as a rule at 00:00 UTC
(the service's own example is at 05:00).

A value belongs to the day of its stamp and is published at it. What history says of that moment is a
convention, one hour after the stamp; what the daemon received itself it knows from then on (ADR 084).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import pandas as pd
import tenacity

from acmf_core.collect.receipt import Receipt
from acmf_core.collect.web import answers
from acmf_core.config import SourceConfig
from acmf_core.domain import DAY_US
from acmf_core.errors import VenueUnavailable
from acmf_core.ports import Clock

SERVICE: Final = "Fear & Greed (alternative.me)"
BASE_URL: Final = "https://api.alternative.me"
FIRST_DAY: Final = 1_517_443_200_000_000  # 2018-02-01: the index's first
PUBLISHED_US: Final = 3_600_000_000  # so long after its stamp a value counts as known
CLASSES: Final = frozenset({"Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed"})
_DAYS_LIVE: Final = 10  # days asked for live: fills the holes of a short outage
_CLOCK_SLACK_US: Final = 3_600_000_000  # our clock may be wrong by that much before a stamp is absurd
_MAX_DAYS: Final = 20_000
_HISTORY_TIMEOUT_S: Final = 30.0  # for years instead of days; `timeout_s` where that is longer
_BACKOFF_S: Final = 0.5


class _Value(NamedTuple):
    """The index of one day; `stamp` (microseconds) is usually its 00:00 UTC, some days were stamped later."""

    stamp: int
    value: float
    classification: str | None


class FearGreedSource:
    """The newest values of the index (port `Source`).

    Parameters
    ----------
    config : SourceConfig
        An empty `base_url` means https://api.alternative.me.
    clock : Clock
        Says when an answer was received.
    """

    name = "fear_greed"
    table = "fear_greed"

    def __init__(self, config: SourceConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._receipt = Receipt()

    async def collect(self, at: int) -> pd.DataFrame:
        """The last ten days as rows of fear_greed, oldest first.

        The running day's value is known since it was received; older ones have been known since an hour after
        their day began, so that an index that stands still looks as old as it is.

        Raises
        ------
        VenueUnavailable
            No answer, one that contradicts itself, or one of the future.
        """
        self._receipt.ask(self._clock.now())
        days = await _ask(self._config, _DAYS_LIVE, self._config.timeout_s)
        received = self._clock.now()
        newest = max(days)
        if newest > received + _CLOCK_SLACK_US:
            answers.unusable(SERVICE, f"a value of the future: {_day(newest)}")
        said = [(one, one.stamp + PUBLISHED_US) for one in days.values()]
        return _rows(days, self._receipt.moments(said, received))


def fear_greed_history(config: SourceConfig) -> pd.DataFrame:
    """Every value since 2018-02-01 as rows of fear_greed, each known one hour after its day began.

    Parameters
    ----------
    config : SourceConfig
        `attempts` tries, with a growing wait between them.

    Raises
    ------
    VenueUnavailable
        No usable answer in any try.
    """
    timeout_s = max(_HISTORY_TIMEOUT_S, config.timeout_s)

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(VenueUnavailable),
        stop=tenacity.stop_after_attempt(config.attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=_BACKOFF_S, max=10.0, jitter=_BACKOFF_S),
        reraise=True,
    )
    def ask() -> dict[int, _Value]:
        # In a thread of its own: a notebook has a running loop already.
        with ThreadPoolExecutor(1, thread_name_prefix="fear-greed") as pool:
            return pool.submit(lambda: asyncio.run(_ask(config, 0, timeout_s))).result()

    days = ask()
    return _rows(days, [one.stamp + PUBLISHED_US for one in days.values()])


async def _ask(config: SourceConfig, limit: int, timeout_s: float) -> dict[int, _Value]:
    """Value and classification by day (microseconds); `limit` 0 is all."""
    url = f"{(config.base_url or BASE_URL).rstrip('/')}/fng/"
    status, body = await answers.fetch(SERVICE, url, timeout_s=timeout_s, params={"limit": str(limit)})
    answers.refuse_status(SERVICE, status)
    return _days(answers.json_object(SERVICE, body))


def _days(answer: dict[str, Any]) -> dict[int, _Value]:
    metadata = answer.get("metadata")
    error = metadata.get("error") if isinstance(metadata, dict) else None
    if error is not None:
        answers.unusable(SERVICE, f"an error: {answers.shown(error)}")
    entries = answer.get("data")
    if not isinstance(entries, list) or not entries:
        answers.unusable(SERVICE, "no list of values")
    if len(entries) > _MAX_DAYS:
        answers.unusable(SERVICE, f"{len(entries):,} values, more than there are days")
    days: dict[int, _Value] = {}
    for entry in entries:
        said = _entry(entry)
        day = said.stamp - said.stamp % DAY_US
        if days.setdefault(day, said).value != said.value:
            answers.unusable(SERVICE, f"two values of {_day(day)}: {days[day].value:g} and {said.value:g}")
    return days


def _entry(entry: object) -> _Value:
    if not isinstance(entry, dict):
        answers.unusable(SERVICE, f"an entry that is no object: {answers.shown(entry)}")
    value, stamp = _whole(entry.get("value")), _whole(entry.get("timestamp"))
    if value is None or not 0 <= value <= 100:
        answers.unusable(SERVICE, f"a value outside 0 to 100: {answers.shown(entry.get('value'))}")
    if stamp is None:
        answers.unusable(SERVICE, f"a time that is no number: {answers.shown(entry.get('timestamp'))}")
    moment = stamp * 1_000_000
    if not FIRST_DAY <= moment < FIRST_DAY + _MAX_DAYS * DAY_US:
        answers.unusable(SERVICE, f"a time of no day since 2018-02-01: {stamp}")
    named = entry.get("value_classification")
    return _Value(moment, float(value), named if isinstance(named, str) and named in CLASSES else None)


def _whole(value: object) -> int | None:
    """A whole number, as the service writes it (text) or as JSON; None where it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _rows(days: dict[int, _Value], known: list[int]) -> pd.DataFrame:
    """Rows of fear_greed, oldest first; `known` in the order of `days`."""
    known_at = {day: max(one.stamp, at) for (day, one), at in zip(days.items(), known, strict=True)}
    stamps = sorted(days)
    return pd.DataFrame(
        {
            "event_time": _times(stamps),
            "available_at": _times([known_at[day] for day in stamps]),
            "value": [days[day].value for day in stamps],
            "classification": pd.Series([days[day].classification for day in stamps], dtype="str"),
        }
    )


def _times(stamps: list[int]) -> pd.DatetimeIndex:
    return pd.to_datetime(stamps, unit="us", utc=True).as_unit("us")


def _day(stamp: int) -> str:
    return f"{pd.Timestamp(stamp, unit='us', tz='UTC'):%Y-%m-%d}"
