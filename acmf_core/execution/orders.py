"""Names of cycles and orders, derived from what they are for: saying a thing twice is saying it once.

A client id reads `acmf-<bar>-<lot>-<purpose>-<digest>`, all base 36 but the digest: the venue's word about
a fill can be given to its lot, and to the bar that decided it, without asking the store. The digest binds
the id to the whole cycle id (symbol included), so that two daemons on two symbols of one account never
collide. At most 36 characters of `[.A-Z:/a-z0-9_-]`, as Binance demands.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from acmf_core.domain import BAR_US, Purpose
from acmf_core.errors import DataError

MAX_LENGTH: Final = 36
_PREFIX: Final = "acmf"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_LETTERS: Final = {Purpose.ENTRY: "e", Purpose.EXIT: "x", Purpose.STOP: "s", Purpose.TARGET: "t"}
_PURPOSES: Final = {letter: purpose for purpose, letter in _LETTERS.items()}
_PATTERN: Final = re.compile(r"acmf-([0-9a-z]{1,7})-([0-9a-z]{1,8})-([exst])-([0-9a-f]{10})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OrderName:
    """What a client id says: the close of the deciding bar (microseconds), the lot, the purpose."""

    at: int
    lot: int
    purpose: Purpose


def cycle_id(symbol: str, at: int) -> str:
    """The name of the cycle of the bar that closed at `at` (microseconds): BTCUSDT:2024-01-31T00:15Z.

    Raises
    ------
    DataError
        `at` is no close of a 15-minute bar.
    """
    if at % BAR_US:
        raise DataError(f"{at} us is no close of a 15-minute bar", "give a time on the quarter of an hour")
    return f"{symbol}:{_EPOCH + timedelta(microseconds=at):%Y-%m-%dT%H:%M}Z"


def moment(at: int) -> str:
    """A time (microseconds) as people write it, to the minute, UTC."""
    return f"{_EPOCH + timedelta(microseconds=at):%Y-%m-%d %H:%M} UTC"


def cycle_time(name: str) -> int:
    """The close (microseconds) that a cycle id names.

    Raises
    ------
    DataError
        A text that is no cycle id.
    """
    try:
        moment = datetime.strptime(name.partition(":")[2], "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
    except ValueError:
        raise DataError(f"{name!r} is no cycle id", "it looks like BTCUSDT:2024-01-31T00:15Z") from None
    return (moment - _EPOCH) // timedelta(microseconds=1)


def client_id(cycle: str, lot: int, purpose: Purpose) -> str:
    """The one name of the order that serves `purpose` for `lot`, decided in `cycle` (a cycle id).

    Raises
    ------
    DataError
        A text that is no cycle id, or a negative lot.
    """
    if lot < 0:
        raise DataError(f"lot {lot} is negative", "lots are counted from 0")
    at = cycle_time(cycle)
    digest = sha256(f"{cycle}|{lot}|{purpose.value}".encode()).hexdigest()[:10]
    name = f"{_PREFIX}-{_base36(at // BAR_US)}-{_base36(lot)}-{_LETTERS[purpose]}-{digest}"
    if len(name) > MAX_LENGTH:
        raise DataError(f"lot {lot} does not fit into an order id of {MAX_LENGTH} characters")
    return name


def parse(name: str) -> OrderName | None:
    """What a client id says, or None where it is not one of ours."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    bar, lot, letter, _ = match.groups()
    return OrderName(int(bar, 36) * BAR_US, int(lot, 36), _PURPOSES[letter])


def _base36(number: int) -> str:
    digits = ""
    while number >= 36:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
    return _DIGITS[number] + digits
