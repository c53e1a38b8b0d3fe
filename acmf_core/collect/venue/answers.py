"""The venue's raw answers, checked row by row before anything believes them.

Numbers come as decimal text and become the nearest double, so that a bar asked live equals, bit for bit, the
one in the archive's CSV. Whatever is not exactly what was asked for makes the whole answer unusable: a
half-right answer is asked again, not mended. Two exceptions lose nothing: rows out of order are sorted, and a
row that came twice with the same values counts once.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import VenueUnavailable
from acmf_core.lake.tables import candle_rows, funding_rows

CLOCK_TOLERANCE_US: Final = 60_000_000  # the venue's clock and ours may differ by so much, not more
RETRY: Final = "it is asked again; if it stays so, check exchange.base_url and the venue's status page"

_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_KLINE_COLUMNS: Final = 12
_OLDEST_MS: Final = 1_483_228_800_000  # 2017: before the venue existed
_SHOWN: Final = 40


class Kline(NamedTuple):
    """One bar as the venue tells it; stamps in milliseconds, `close_ms` = open + interval - 1."""

    open_ms: int
    close_ms: int
    trades: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    taker_buy_volume: float
    taker_buy_quote_volume: float


def klines(answer: object, asked: str, *, interval: str, now: int, limit: int) -> list[Kline]:
    """Bars of /fapi/v1/klines, by open time, the unfinished one included.

    Parameters
    ----------
    answer : object
        The decoded body: rows of twelve columns.
    asked : str
        What was asked, for messages.
    interval : str
        15m, 1h, 4h, 1d, ...
    now : int
        Microseconds; a bar that opens later than a minute after it is refused.
    limit : int
        At most so many rows were asked for.

    Raises
    ------
    VenueUnavailable
        Naming the first thing that is wrong.
    """
    step_ms = 1_000 * INTERVAL_SECONDS[interval]
    bars: dict[int, Kline] = {}
    for row in _rows(answer, asked, limit):
        if not isinstance(row, list) or len(row) != _KLINE_COLUMNS:
            raise unusable(asked, f"a bar has not {_KLINE_COLUMNS} columns but is {shown(row)}")
        bar = _kline(row, asked)
        _refuse_implausible(bar, asked, step_ms, now)
        if bars.setdefault(bar.open_ms, bar) != bar:
            raise unusable(asked, f"the bar of {_when(bar.open_ms)} came twice with different values")
    return [bars[stamp] for stamp in sorted(bars)]


def kline_rows(bars: Sequence[Kline], symbol: str, interval: str) -> pd.DataFrame:
    """Bars as rows of the table `candles`."""
    frame = pd.DataFrame(bars, columns=list(Kline._fields))
    frame["open_time"] = _utc(frame.pop("open_ms"))
    counts = frame["trades"].astype("int64")
    prices = frame.drop(columns=["open_time", "close_ms", "trades"]).astype("float64")
    return candle_rows(prices.assign(open_time=frame["open_time"], trades=counts), symbol, interval)


def funding(
    answer: object, asked: str, *, symbol: str, limit: int, now: int | None
) -> list[tuple[int, float]]:
    """Paid rates of /fapi/v1/fundingRate by time: (milliseconds, fraction)."""
    rates: dict[int, float] = {}
    for row in _rows(answer, asked, limit):
        _refuse_other_symbol(row, asked, symbol)
        stamp = _stamp(_of(row, "fundingTime", asked), asked)
        if now is not None:
            _refuse_future(stamp, asked, now)
        rate = decimal(_of(row, "fundingRate", asked), asked)
        if abs(rate) >= 1.0:
            raise unusable(asked, f"a funding rate of {rate:g} is not plausible")
        if rates.setdefault(stamp, rate) != rate:
            raise unusable(asked, f"the funding of {_when(stamp)} came twice with different rates")
    return sorted(rates.items())


def funding_frame(rates: Sequence[tuple[int, float]], symbol: str) -> pd.DataFrame:
    """Paid rates as rows of the table `funding`; the interval is that since the payment before.

    Only the usual intervals count: after a hole it is unknown (null).
    """
    frame = pd.DataFrame(rates, columns=["event_time", "funding_rate"])
    frame["funding_rate"] = frame["funding_rate"].astype("float64")
    hours = (frame["event_time"].astype("int64").diff() / 3.6e6).round(2)
    frame["interval_hours"] = hours.where(hours.isin([1.0, 2.0, 4.0, 8.0])).astype("Int64")
    frame["event_time"] = _utc(frame["event_time"])
    return funding_rows(frame, symbol)


def series(
    answer: object,
    asked: str,
    *,
    symbol: str,
    period: str,
    names: dict[str, str],
    now: int,
    limit: int,
) -> pd.DataFrame:
    """A statistic of /futures/data as rows with both times; known at `now`.

    Parameters
    ----------
    names : dict
        The venue's name of a positive number to the table's column.
    """
    step_ms = 1_000 * INTERVAL_SECONDS[period]
    found: dict[int, tuple[float, ...]] = {}
    for row in _rows(answer, asked, limit):
        _refuse_other_symbol(row, asked, symbol)
        stamp = _stamp(_of(row, "timestamp", asked), asked)
        if stamp % step_ms:
            raise unusable(asked, f"a row at {_when(stamp)} is off the {period} grid")
        _refuse_future(stamp, asked, now)
        values = tuple(decimal(_of(row, name, asked), asked) for name in names)
        if min(values) <= 0.0:
            raise unusable(asked, f"the row of {_when(stamp)} holds {min(values):g}, not a positive number")
        if found.setdefault(stamp, values) != values:
            raise unusable(asked, f"the row of {_when(stamp)} came twice with different values")
    frame = pd.DataFrame([found[stamp] for stamp in sorted(found)], columns=list(names.values()), dtype=float)
    frame["event_time"] = _utc(pd.Series(sorted(found), dtype="int64"))
    return frame.assign(symbol=symbol, interval=period, available_at=moment(now))


def server_time(answer: object, asked: str) -> int:
    """Microseconds, of /fapi/v1/time."""
    return 1_000 * _stamp(_of(answer, "serverTime", asked), asked)


def depth_stamp(answer: object, asked: str, *, now: int) -> int:
    """When the book was so, milliseconds: the matching engine's time T, else the time of the message E."""
    if not isinstance(answer, dict):
        raise unusable(asked, f"not a book but {shown(answer)}")
    stamp = _stamp(answer.get("T", answer.get("E")), asked)
    _refuse_future(stamp, asked, now)
    return stamp


def depth_side(answer: object, asked: str, *, side: str, limit: int) -> list[tuple[float, float]]:
    """Levels (price, quantity) of "bids" or "asks", best first."""
    levels: list[tuple[float, float]] = []
    for row in _rows(_of(answer, side, asked), asked, limit):
        if not isinstance(row, list) or len(row) != len(("price", "quantity")):
            raise unusable(asked, f"a level of the {side} is {shown(row)}")
        price, quantity = decimal(row[0], asked), decimal(row[1], asked)
        if price <= 0.0 or quantity <= 0.0:
            raise unusable(asked, f"a level of the {side} holds {quantity:g} at {price:g}")
        levels.append((price, quantity))
    prices = [price for price, _ in levels]
    if prices != sorted(set(prices), reverse=side == "bids"):
        raise unusable(asked, f"the {side} are not in order, best first")
    return levels


def decimal(value: object, asked: str) -> float:
    """Decimal text as the nearest double; no NaN, no infinity, no exponent."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise unusable(asked, f"{shown(value)} is not a decimal number")
    return float(value)


def moment(stamp_us: int) -> pd.Timestamp:
    """Microseconds since the epoch as a time."""
    return pd.Timestamp(stamp_us, unit="us", tz="UTC").as_unit("us")


def unusable(asked: str, why: str) -> VenueUnavailable:
    """The error of an answer that cannot be believed."""
    return VenueUnavailable(f"{asked}: unusable answer: {why}", RETRY)


def shown(value: object) -> str:
    """The start of something untrusted, on one line."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * _SHOWN].split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return f'"{text[:_SHOWN]}.."' if len(text) > _SHOWN else f'"{text}"'


def _rows(answer: object, asked: str, limit: int) -> list[Any]:
    if not isinstance(answer, list):
        raise unusable(asked, f"not a list of rows but {shown(answer)}")
    if len(answer) > limit:
        raise unusable(asked, f"{len(answer)} rows where {limit} were asked for")
    return answer


def _of(row: object, name: str, asked: str) -> object:
    if not isinstance(row, dict) or name not in row:
        raise unusable(asked, f'no "{name}" in {shown(row)}')
    return row[name]


def _stamp(value: object, asked: str) -> int:
    """Milliseconds, as a number or (as /futures/data does at times) as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < len("1" * 16):
        value = int(value)
    if type(value) is not int or not _OLDEST_MS <= value < 10 * _OLDEST_MS:
        raise unusable(asked, f"{shown(value)} is not a time in milliseconds")
    return value


def _kline(row: list[Any], asked: str) -> Kline:
    if type(row[8]) is not int or not 0 <= row[8] < 1 << 53:
        raise unusable(asked, f"{shown(row[8])} is not a number of trades")
    first, last = _stamp(row[0], asked), _stamp(row[6], asked)
    numbers = [decimal(row[i], asked) for i in (1, 2, 3, 4, 5, 7, 9, 10)]
    return Kline(first, last, row[8], *numbers)


def _refuse_implausible(bar: Kline, asked: str, step_ms: int, now: int) -> None:
    name = f"the bar of {_when(bar.open_ms)}"
    if bar.open_ms % step_ms or bar.close_ms != bar.open_ms + step_ms - 1:
        raise unusable(asked, f"{name} is off the grid (closes {_when(bar.close_ms)})")
    _refuse_future(bar.open_ms, asked, now)
    if not 0.0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        prices = f"open {bar.open:g} high {bar.high:g} low {bar.low:g} close {bar.close:g}"
        raise unusable(asked, f"{name} contradicts itself: {prices}")
    volumes = (bar.volume, bar.quote_volume, bar.taker_buy_volume, bar.taker_buy_quote_volume)
    if min(volumes) < 0.0:
        raise unusable(asked, f"{name} has a volume of {min(volumes):g}")


def _refuse_future(stamp_ms: int, asked: str, now: int) -> None:
    if 1_000 * stamp_ms > now + CLOCK_TOLERANCE_US:
        raise VenueUnavailable(
            f"{asked}: unusable answer: a row of {_when(stamp_ms)} when it is {_when(now // 1_000)} here",
            "check this machine's clock against a time server",
        )


def _refuse_other_symbol(row: object, asked: str, symbol: str) -> None:
    if _of(row, "symbol", asked) != symbol:
        raise unusable(asked, f"a row is not of {symbol} but {shown(row)}")


def _utc(stamps_ms: "pd.Series[int]") -> "pd.Series[pd.Timestamp]":
    return pd.to_datetime(stamps_ms.astype("int64"), unit="ms", utc=True).dt.as_unit("us")


def _when(stamp_ms: int) -> str:
    return f"{moment(1_000 * stamp_ms):%Y-%m-%d %H:%M:%S}"
