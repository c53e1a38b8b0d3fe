"""Whale transfers and exchange flows of the last 24 hours, from Whale Alert.

The transfers of the last day are kept in memory, and only what is new is asked for. A row is made only of a
whole day: a plan that reaches back one hour gives the first row after 24 hours of running (ADR 085).
"""

import asyncio
import logging
import math
import re
from dataclasses import replace
from typing import Final

import pandas as pd

from acmf_core.collect.web import answers
from acmf_core.collect.web.whale_alert import PAGE_ROWS, SERVICE, Page, Question, TooFarBack, Transfer, page
from acmf_core.config import OnchainConfig
from acmf_core.errors import ConfigError, DataError, VenueUnavailable
from acmf_core.ports import Clock

_LOG: Final = logging.getLogger("acmf.collect")
WINDOW_S: Final = 86_400
OVERLAP_S: Final = 1_800  # asked for again: some transfers are reported late, some owners named later
MAX_PAGES: Final = 8  # in one collection; the smallest plan allows 10 requests a minute
MAX_TRANSFERS: Final = 100_000
_MARGIN_S: Final = 20  # the plan's reach is measured by their clock when the question arrives
_SLACK_S: Final = 3_600  # a clock may be wrong by that much before a time is absurd
_FRESH_S: Final = 60  # an answer up to here is up to now
COLUMNS: Final = (
    "symbol",
    "event_time",
    "available_at",
    "whale_transfers",
    "exchange_netflow",
    "exchange_inflow",
    "exchange_outflow",
    "whale_volume",
)
_QUOTES: Final = re.compile(r"^(?:10+)?([A-Z0-9]{2,12}?)(?:USDT|USDC|FDUSD|BUSD|USD)$")


class OnchainSource:
    """The last 24 hours of large transfers of a symbol's coin (port `Source`).

    Parameters
    ----------
    config : OnchainConfig
        The key, and from how many US dollars on a transfer is a whale's.
    symbol : str
        BTCUSDT: transfers of btc.
    clock : Clock
        Says where the 24 hours end, and when an answer was received.

    Raises
    ------
    ConfigError
        No key, one that no header can carry, or a symbol whose coin cannot be told.
    """

    name = "onchain"
    table = "onchain"

    def __init__(self, config: OnchainConfig, symbol: str, clock: Clock) -> None:
        key = config.api_key.get_secret_value()
        if not key or not (key.isascii() and key.isprintable()) or " " in key:
            state = "holds characters that no key has" if key else "is empty"
            raise ConfigError(
                f"sources.onchain.api_key {state}", "set it to the key of your Whale Alert plan"
            )
        coin = _QUOTES.match(symbol)
        if coin is None:
            raise ConfigError(f"{symbol} names no coin that could be asked for", "turn sources.onchain off")
        self._config = config
        self._symbol = symbol
        self._currency = coin.group(1).lower()
        self._clock = clock
        self._seen: dict[str, Transfer] = {}
        self._covered: tuple[int, int] | None = None  # every transfer between these seconds is in `_seen`
        self._open: Question | None = None  # not answered to its end yet
        self._reach_s = WINDOW_S  # how far back the plan lets us ask

    async def collect(self, at: int) -> pd.DataFrame:
        """One row of onchain for the 24 hours until now; no row until 24 hours have been seen.

        A question that needs more pages than one collection may ask, or that breaks off, goes on where it
        stopped at the next try.

        Raises
        ------
        VenueUnavailable
            No usable answer, or not all of it yet.
        DataError
            The key or the request is refused: another try cannot help.
        """
        try:
            async with asyncio.timeout(self._config.timeout_s):
                covered = await self._catch_up()
        except TimeoutError:
            raise VenueUnavailable(f"{SERVICE} did not answer within {self._config.timeout_s:g} s") from None
        since, until = covered
        self._forget(until - WINDOW_S)
        if since > until - WINDOW_S:
            _LOG.info("%s: %.1f of 24 h seen so far, no row yet", SERVICE, (until - since) / 3_600)
            return _rows([])
        return _rows([self._row(until)])

    async def _catch_up(self) -> tuple[int, int]:
        """Ask until everything up to now is known; returns the stretch that is, in seconds."""
        for _ in range(MAX_PAGES):
            question = self._question()
            try:
                answer = await self._page(question)
            except TooFarBack as error:
                self._shorten(error.history_s)
                continue
            except DataError:
                self._open = None  # should it have been the cursor: the next question begins without one
                raise
            self._take(question, answer)
            if (
                self._open is None
                and self._covered is not None
                and self._now() - self._covered[1] <= _FRESH_S
            ):
                return self._covered
        raise VenueUnavailable(
            f"{SERVICE} has more than {MAX_PAGES} pages to read, {len(self._seen):,} transfers so far",
            "the next try goes on from there",
        )

    def _question(self) -> Question:
        """The one that is open, or a new one: from what is known, or as far back as allowed, until now."""
        if self._open is None:
            now = self._now()
            oldest = now - self._reach_s
            known = self._covered[1] - OVERLAP_S if self._covered is not None else oldest
            self._open = Question(max(oldest, known), now)
        return self._open

    async def _page(self, question: Question) -> Page:
        return await page(
            question,
            base_url=self._config.base_url,
            key=self._config.api_key.get_secret_value(),
            currency=self._currency,
            min_usd=self._config.min_usd,
            timeout_s=self._config.timeout_s,
        )

    def _shorten(self, history_s: int) -> None:
        """Ask less far back from now on; a little less again where their clock is ahead of ours."""
        self._open = None
        self._reach_s = min(history_s, self._reach_s) - _MARGIN_S
        if self._reach_s <= OVERLAP_S:
            answers.unusable(SERVICE, f"that the plan reaches back {history_s} s: too little to go on with")

    def _take(self, question: Question, answer: Page) -> None:
        """Keep what a page brought, and note what is covered where it was the question's last."""
        latest = self._now() + _SLACK_S
        for transfer in answer.transfers:
            if transfer.time > latest:
                answers.unusable(SERVICE, f"a transfer of the future: {transfer.time} s since the epoch")
            if question.start < transfer.time <= question.end:
                self._seen[transfer.key] = transfer  # the newest word on who owns what counts
        if len(self._seen) > MAX_TRANSFERS:
            self._seen.clear()
            self._open = self._covered = None
            answers.unusable(SERVICE, f"more than {MAX_TRANSFERS:,} transfers in a day")
        if answer.entries and (answer.cursor or answer.entries == PAGE_ROWS):
            if answer.cursor in {"", question.cursor}:
                self._open = None
                answers.unusable(SERVICE, "a page that leads to no next one")
            self._open = replace(question, cursor=answer.cursor)
            return
        whole = self._covered is not None and question.start <= self._covered[1]
        since = self._covered[0] if whole and self._covered is not None else question.start
        self._covered, self._open = (since, question.end), None

    def _forget(self, before: int) -> None:
        self._seen = {key: one for key, one in self._seen.items() if one.time > before}

    def _row(self, until: int) -> dict[str, object]:
        day = [one for one in self._seen.values() if one.time <= until]
        inflow = math.fsum(one.usd for one in day if one.to_exchange and not one.from_exchange)
        outflow = math.fsum(one.usd for one in day if one.from_exchange and not one.to_exchange)
        event = until * 1_000_000
        return {
            "symbol": self._symbol,
            "event_time": event,
            "available_at": max(event, self._clock.now()),
            "whale_transfers": float(len(day)),
            "exchange_netflow": inflow - outflow,
            "exchange_inflow": inflow,
            "exchange_outflow": outflow,
            "whale_volume": math.fsum(one.usd for one in day),
        }

    def _now(self) -> int:
        return self._clock.now() // 1_000_000


def _rows(rows: list[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[3:], "float64"))
    for column in ("event_time", "available_at"):
        frame[column] = pd.to_datetime(frame[column].astype("int64"), unit="us", utc=True).dt.as_unit("us")
    return frame.astype({"symbol": "str"})
