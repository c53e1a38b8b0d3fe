"""The eighth source: what the headlines of the last day say, as one number."""

import json
import logging
from typing import Final

import pandas as pd

from acmf_core.collect.headlines import feeds
from acmf_core.collect.headlines.judgement import NewsScore
from acmf_core.collect.headlines.prompt import PROMPT_VERSION
from acmf_core.collect.headlines.scoring import Scorer
from acmf_core.config import AnthropicConfig, NewsConfig
from acmf_core.errors import VenueUnavailable
from acmf_core.ports import Cache, Clock

FEEDS_SHARE: Final = 0.4  # of the time for one try; the rest is the model's
_LOG: Final = logging.getLogger("acmf.news")


class NewsSource:
    """Headlines from RSS feeds, scored by Claude (port `Source`).

    Asked once every few hours: DataSync keeps its answers in a cache. Where the headlines are those of this
    process's last score, that score is said again as of now, at no cost: the model would read the same text.

    Parameters
    ----------
    config : NewsConfig
        The feeds, how many headlines, of which age and length; `timeout_s` is for feeds and score together.
    anthropic : AnthropicConfig
        The model and its daily budget of tokens.
    symbol : str
        Whose market the score is about.
    cache : Cache
        Counts the tokens of the day.

    Raises
    ------
    ConfigError
        There is no key.
    """

    name = "news"
    table = "news"

    def __init__(
        self, config: NewsConfig, anthropic: AnthropicConfig, symbol: str, cache: Cache, clock: Clock
    ) -> None:
        self._config, self._symbol, self._clock = config, symbol, clock
        self._scorer = Scorer(anthropic, cache, clock)
        self._last: tuple[frozenset[str], NewsScore] | None = None

    async def collect(self, at: int) -> pd.DataFrame:
        """One row of the table: both its times are the moment of scoring.

        The newest headline's publication would be no key: the same headline may lead two sets that are scored
        differently.

        Raises
        ------
        VenueUnavailable
            No headlines, no usable score, or the token counter is out of reach.
        DataError
            The request is refused for good, or the day's budget is spent.
        """
        del at  # a score is about now
        gathered = await feeds.gather(self._config, self._clock.now(), self._config.timeout_s * FEEDS_SHARE)
        if gathered.faults:
            _LOG.warning(
                "%d of %d feeds: %s",
                len(gathered.faults),
                len(self._config.feeds),
                "; ".join(gathered.faults),
            )
        headlines = gathered.headlines
        if not headlines:
            raise VenueUnavailable(_no_headlines(self._config, gathered.faults))
        hashes = [headline.hash for headline in headlines]
        score = await self._score(frozenset(hashes), [headline.title for headline in headlines])
        return _row(self._symbol, self._clock.now(), score, hashes)

    async def _score(self, names: frozenset[str], titles: list[str]) -> NewsScore:
        if self._last is not None and self._last[0] == names:
            return self._last[1].again()
        score = await self._scorer.score(self._symbol, titles, self._config.timeout_s * (1 - FEEDS_SHARE))
        self._last = (names, score)
        return score


def _no_headlines(config: NewsConfig, faults: tuple[str, ...]) -> str:
    said = f"no headline of the last {config.max_age_hours:g} hours in {len(config.feeds)} feeds"
    return f"{said}: {'; '.join(faults)}" if faults else said


def _row(symbol: str, scored: int, score: NewsScore, hashes: list[str]) -> pd.DataFrame:
    moment = pd.to_datetime([scored], unit="us", utc=True).as_unit("us")
    return pd.DataFrame(
        {
            "symbol": [symbol],
            "event_time": moment,
            "available_at": moment,
            "score": [score.score],
            "confidence": [score.confidence],
            "headlines": [len(hashes)],
            "model": [score.model],
            "prompt_version": [PROMPT_VERSION],
            "drivers": [json.dumps(list(score.drivers), ensure_ascii=False)],
            "headline_hashes": [json.dumps(hashes)],
            "input_tokens": [score.input_tokens],
            "output_tokens": [score.output_tokens],
        }
    )
