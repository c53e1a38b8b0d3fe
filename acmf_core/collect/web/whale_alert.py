"""The wire format of Whale Alert's REST API, version 1: GET /v1/transactions, a page at a time.

Parameters: start (exclusive) and end (inclusive) in seconds, min_value in US dollars, currency, limit (at
most 100), cursor (of the page before, with the same start). Answer: {"result": "success", "cursor", "count",
"transactions": [{"id", "hash", "symbol", "transaction_type", "from": {"owner_type"}, "to": {"owner_type"},
"timestamp", "amount_usd", ...}]}, in the order in which Whale Alert learned of them.

Errors: {"result": "error", "message"}; 400 for a start that the plan does not reach back to, 401 for a wrong
key, 429 for too many requests. The key travels in the header X-WA-API-KEY, never in an address.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from acmf_core.collect.web import answers
from acmf_core.errors import DataError

SERVICE: Final = "Whale Alert"
BASE_URL: Final = "https://api.whale-alert.io"
PAGE_ROWS: Final = 100
_MAX_BYTES: Final = 2_000_000
_MAX_USD: Final = 1e12
_REFUSED: Final = {
    401: "does not know the key",
    402: "wants to be paid",
    403: "does not allow this to the key",
}
_HISTORY: Final = re.compile(r"maximum transaction history is (\d{2,8}) seconds")


@dataclass(frozen=True, slots=True)
class Question:
    """Transfers with start < time <= end (seconds); `cursor` continues after an earlier page."""

    start: int
    end: int
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One large transfer: when (seconds), how much in US dollars, whether an exchange is at either end."""

    key: str
    time: int
    usd: float
    from_exchange: bool
    to_exchange: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Transfers of one answer; `entries` were in it before any was left out, `cursor` leads to the next."""

    transfers: tuple[Transfer, ...]
    entries: int
    cursor: str


class TooFarBack(Exception):
    """The plan's history does not reach back to the start of the question.

    Attributes
    ----------
    history_s : int
        How far it does reach.
    """

    def __init__(self, history_s: int) -> None:
        super().__init__(f"{history_s} s of history")
        self.history_s = history_s


async def page(
    question: Question, *, base_url: str, key: str, currency: str, min_usd: float, timeout_s: float
) -> Page:
    """Ask for one page.

    Parameters
    ----------
    currency : str
        As Whale Alert writes it: btc. Entries of others are left out, like those below `min_usd`.

    Raises
    ------
    TooFarBack
        Ask again with a later start.
    VenueUnavailable
        No usable answer.
    DataError
        The key or the request is refused: another try cannot help.
    """
    asked = {
        "start": str(question.start),
        "end": str(question.end),
        "min_value": str(int(min_usd)),
        "currency": currency,
        "limit": str(PAGE_ROWS),
    }
    if question.cursor:
        asked["cursor"] = question.cursor
    status, body = await answers.fetch(
        SERVICE,
        f"{(base_url or BASE_URL).rstrip('/')}/v1/transactions",
        timeout_s=timeout_s,
        params=asked,
        headers={"X-WA-API-KEY": key},
        max_bytes=_MAX_BYTES,
    )
    body = body.replace(key.encode(), b"***")  # errors repeat pieces of it
    if status in _REFUSED:
        raise DataError(
            f"{SERVICE} {_REFUSED[status]}: HTTP {status}",
            "check sources.onchain.api_key and the plan behind it",
        )
    if status == 400:
        _refuse(answers.json_object(SERVICE, body))
    answers.refuse_status(SERVICE, status)
    return _page(answers.json_object(SERVICE, body), currency, min_usd)


def _refuse(answer: dict[str, Any]) -> None:
    said = _message(answer)
    reach = _HISTORY.search(said)
    if reach is not None:
        raise TooFarBack(int(reach.group(1)))
    raise DataError(f"{SERVICE} refuses the request: {answers.shown(said)}", "check sources.onchain")


def _message(answer: dict[str, Any]) -> str:
    """What the service says went wrong, in one line."""
    said = answer.get("message")
    return " ".join(said.split()) if isinstance(said, str) else "no reason given"


def _page(answer: dict[str, Any], currency: str, min_usd: float) -> Page:
    if answer.get("result") != "success":
        answers.unusable(SERVICE, f"an error: {answers.shown(_message(answer))}")
    entries = answer.get("transactions")
    if entries is None and answer.get("count") == 0:
        entries = []
    if not isinstance(entries, list):
        answers.unusable(SERVICE, "no list of transactions")
    if len(entries) > PAGE_ROWS:
        answers.unusable(SERVICE, f"{len(entries):,} transactions where {PAGE_ROWS} were asked for")
    cursor = answer.get("cursor")
    if cursor is not None and not (isinstance(cursor, str) and len(cursor) <= 200):
        answers.unusable(SERVICE, f"a cursor that is none: {answers.shown(cursor)}")
    found = (_transfer(entry) for entry in entries)
    wanted = tuple(one for symbol, one in found if symbol == currency and one.usd >= min_usd)
    return Page(wanted, len(entries), cursor or "")


def _transfer(entry: object) -> tuple[str, Transfer]:
    """A transaction and its currency, which is "" for what is no transfer (mints, burns, locks)."""
    if not isinstance(entry, dict):
        answers.unusable(SERVICE, f"a transaction that is no object: {answers.shown(entry)}")
    name, symbol, kind = (
        entry.get("id") or entry.get("hash"),
        entry.get("symbol"),
        entry.get("transaction_type"),
    )
    if isinstance(name, bool) or not isinstance(name, str | int) or len(str(name)) > 200:
        answers.unusable(SERVICE, f"a transaction without an id: {answers.shown(name)}")
    if not isinstance(symbol, str) or not isinstance(kind, str):
        answers.unusable(SERVICE, f"a transaction without symbol or type: {answers.shown(symbol)}")
    time, usd = entry.get("timestamp"), answers.number(entry.get("amount_usd"))
    if isinstance(time, bool) or not isinstance(time, int):
        answers.unusable(SERVICE, f"a transaction without a time: {answers.shown(time)}")
    if usd is None or not 0 <= usd <= _MAX_USD:
        answers.unusable(SERVICE, f"an amount that cannot be: {answers.shown(entry.get('amount_usd'))} USD")
    transfer = Transfer(str(name), time, usd, _of_exchange(entry, "from"), _of_exchange(entry, "to"))
    return symbol.lower() if kind == "transfer" else "", transfer


def _of_exchange(entry: dict[str, Any], end: str) -> bool:
    owner = entry.get(end) or {}
    if not isinstance(owner, dict):
        answers.unusable(SERVICE, f'a transaction with a strange "{end}": {answers.shown(owner)}')
    return owner.get("owner_type") == "exchange"
