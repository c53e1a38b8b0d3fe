"""What features are made of: 15m candles, and whatever slow sources there are."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import pandas as pd

from acmf_core.domain import BAR_MINUTES, BAR_US
from acmf_core.errors import BadCandle, DataError

OHLCV: Final = ("open", "high", "low", "close", "volume")
BOOK_LEVELS: Final = 20
_BOOK = tuple(
    f"{side}_{what}_{i}"
    for side in ("bid", "ask")
    for what in ("px", "qty")
    for i in range(1, BOOK_LEVELS + 1)
)
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "book": _BOOK,
    "funding": ("funding_rate",),
    "long_short": ("long_short_ratio",),
    "fear_greed": ("value",),
    "macro": ("vix", "dxy", "sp500", "gold"),
    "onchain": ("whale_transfers", "exchange_netflow"),
    "news": ("score",),
}
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {"funding": ("interval_hours",)}


@dataclass(frozen=True, eq=False)
class MarketData:
    """Everything known about one market; the only input of `build_features`.

    Every frame is normalised when the object is made: times to datetime64[us, UTC] (a naive time is UTC),
    numbers to float64, slow rows ordered by (available_at, event_time), funding stamps floored to the second.

    Attributes
    ----------
    candles : DataFrame
        15m bars by `open_time`: open, high, low, close, volume (other columns are dropped). Bars may be
        missing, and one with a number not finite, a price <= 0 or a negative volume is as good as missing.
    book, funding, long_short, fear_greed, macro, onchain, news : DataFrame or None
        `available_at`, usually `event_time`, and the columns of `COLUMNS`; others are kept. `funding_rate` is
        the fraction paid per interval; funding may say its `interval_hours` (none, or NaN: eight).

    Raises
    ------
    BadCandle
        Bars out of order, doubled or off the 15-minute grid.
    DataError
        A column is missing or is not what it should be.
    """

    candles: pd.DataFrame
    book: pd.DataFrame | None = None
    funding: pd.DataFrame | None = None
    long_short: pd.DataFrame | None = None
    fear_greed: pd.DataFrame | None = None
    macro: pd.DataFrame | None = None
    onchain: pd.DataFrame | None = None
    news: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "candles", _candles(self.candles))
        for source in COLUMNS:
            frame = getattr(self, source)
            if frame is not None:
                object.__setattr__(self, source, _slow(source, frame))

    @classmethod
    def from_candles(cls, candles: pd.DataFrame, **slow: pd.DataFrame | None) -> Self:
        """Market data from one table of 15m bars, checked bar by bar.

        Parameters
        ----------
        candles : DataFrame
            `open_time` as the index or as a column (any datetime unit; naive means UTC) and OHLCV columns.
            Nothing is sorted or repaired.
        **slow : DataFrame or None
            The optional frames of `MarketData`.

        Raises
        ------
        BadCandle
            As `MarketData`, and where a bar contradicts itself (high below low, open or close outside them);
            the first bad bar is named.
        DataError
            A column is missing or is not what it should be.
        """
        market = cls(candles, **slow)
        _refuse_contradictions(market.candles)
        return market

    @property
    def slow(self) -> dict[str, pd.DataFrame]:
        """The slow sources that are there, by name."""
        return {name: getattr(self, name) for name in COLUMNS if getattr(self, name) is not None}

    def between(self, start: object = None, end: object = None) -> Self:
        """The candles with start <= open_time < end, and every slow row with available_at <= end.

        Bounds are anything pandas reads as a time; integers are microseconds, naive means UTC, None no bound.
        """
        index = _time_index(self.candles)
        first = index.searchsorted(_utc(start)) if start is not None else 0
        stop = index.searchsorted(_utc(end)) if end is not None else len(index)
        slow = self.slow
        if end is not None:
            known = {
                name: frame["available_at"].searchsorted(_utc(end), side="right")
                for name, frame in slow.items()
            }
            slow = {name: frame.iloc[: known[name]] for name, frame in slow.items()}
        return self._part(self.candles.iloc[first:stop], slow)

    def _part(self, candles: pd.DataFrame, slow: Mapping[str, pd.DataFrame]) -> Self:
        """Rows of this object: normalised already, so not again (a live cycle cuts its window this way)."""
        part = object.__new__(type(self))
        for name in COLUMNS:
            object.__setattr__(part, name, slow.get(name))
        object.__setattr__(part, "candles", candles)
        return part

    def __len__(self) -> int:
        return len(self.candles)

    def __repr__(self) -> str:
        sources = ", ".join(["candles", *self.slow])
        return f"MarketData({len(self):,} bars of 15m{_range(_time_index(self.candles))}; {sources})"

    def _repr_html_(self) -> str:
        index = _time_index(self.candles)
        steps = (index[-1] - index[0]) // pd.Timedelta(minutes=BAR_MINUTES) if len(index) else -1
        rows = [("candles", f"{len(index):,}", f"{_range(index)}, {steps + 1 - len(index):,} bars missing")]
        for field in fields(self)[1:]:
            frame = getattr(self, field.name)
            if frame is None:
                rows.append((field.name, "-", "not there: its features are NaN"))
            else:
                stamps = pd.DatetimeIndex(frame["available_at"])
                rows.append((field.name, f"{len(frame):,}", _range(stamps)))
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><tr><th>source</th><th>rows</th><th>known</th></tr>{body}</table>"


def open_times(candles: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Open times of normalised candles in microseconds."""
    return _time_index(candles).asi8


def _time_index(frame: pd.DataFrame) -> pd.DatetimeIndex:
    index = frame.index
    assert isinstance(index, pd.DatetimeIndex)
    return index


def _range(index: pd.DatetimeIndex) -> str:
    return f" {index[0]:%Y-%m-%d %H:%M} to {index[-1]:%Y-%m-%d %H:%M} UTC" if len(index) else ""


def _utc(time: object) -> pd.Timestamp:
    if isinstance(time, (int, np.integer)):
        return pd.Timestamp(int(time), unit="us", tz="UTC")
    stamp = pd.Timestamp(time)  # type: ignore[arg-type]
    return stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")


def _utc_times(times: pd.Index | pd.Series, what: str) -> pd.DatetimeIndex:
    """Times as datetime64[us, UTC], or DataError."""
    if not pd.api.types.is_datetime64_any_dtype(times.dtype):
        raise DataError(
            f"{what} is {times.dtype}, not a time",
            "convert it with pandas.to_datetime(..., utc=True), naming the unit",
        )
    index = pd.DatetimeIndex(times)
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    return index.as_unit("us")


def _with_numbers(frame: pd.DataFrame, columns: tuple[str, ...], what: str) -> pd.DataFrame:
    """A copy in which these columns are float64, or DataError."""
    if not frame.columns.is_unique:
        raise DataError(f"{what} have a column twice", "keep one of each name")
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DataError(
            f'{what} lack the column "{absent[0]}"{more}', "add it, as NaN where the value is not known"
        )
    kinds = frame.dtypes
    wrong = [column for column in columns if kinds[column] != np.float64]
    if not wrong:
        return frame.copy(deep=False)
    try:
        return frame.astype(dict.fromkeys(wrong, np.float64))
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: {error}", "make the columns numbers") from None


def _candles(frame: pd.DataFrame) -> pd.DataFrame:
    if "open_time" in frame.columns:
        frame = frame.set_index("open_time")
    times = _utc_times(frame.index, "open_time of the candles")
    stamps = times.asi8
    if times.hasnans:
        raise BadCandle(f"bar {int(np.argmax(times.isna()))} has no open_time", "give it one, or drop it")
    off_grid = stamps % BAR_US != 0
    if off_grid.any():
        raise BadCandle(
            f"bar {times[int(np.argmax(off_grid))]} does not open on a quarter of an hour",
            "give 15m bars stamped with their open time",
        )
    steps = np.diff(stamps)
    if (steps <= 0).any():
        first = int(np.argmax(steps <= 0)) + 1
        if steps[first - 1] == 0:
            raise BadCandle(f"bar {times[first]} is there twice", "keep one of them")
        raise BadCandle(f"bar {times[first]} comes after {times[first - 1]}", "sort the bars by open_time")
    numbers = _with_numbers(frame, OHLCV, "the candles")[list(OHLCV)]
    return numbers.set_axis(times.rename("open_time"), axis=0)


def _slow(source: str, frame: pd.DataFrame) -> pd.DataFrame:
    if "available_at" not in frame.columns:
        raise DataError(
            f"{source} has no column available_at",
            "say when each row could first be known: joins use nothing else",
        )
    there = tuple(name for name in _OPTIONAL.get(source, ()) if name in frame.columns)
    frame = _with_numbers(frame, (*COLUMNS[source], *there), f"the rows of {source}")
    if there and (frame["interval_hours"] <= 0.0).any():
        raise DataError(
            f"funding is paid every {frame['interval_hours'].min():g} hours",
            "leave interval_hours empty where it is not known",
        )
    stamps = []
    for column in ("available_at", "event_time"):
        if column not in frame.columns:
            continue
        times = _utc_times(frame[column], f"{column} of {source}")
        if times.hasnans:
            raise DataError(
                f"{np.count_nonzero(times.isna())} rows of {source} have no {column}",
                "give them one, or drop them",
            )
        times = times.floor("s") if source == "funding" else times
        frame[column] = times
        stamps.append(times.asi8)
    order = np.lexsort(stamps[::-1])  # stable, by the last key first
    return frame.iloc[order].reset_index(drop=True)


def _refuse_contradictions(candles: pd.DataFrame) -> None:
    open_, high, low, close, volume = (candles[column].to_numpy() for column in OHLCV)
    present = np.isfinite(candles.to_numpy()).all(axis=1)
    present &= (open_ > 0) & (high > 0) & (low > 0) & (close > 0) & (volume >= 0)
    for wrong, words in (
        (high < low, "high {high} below low {low}"),
        ((open_ > high) | (open_ < low), "open {open} outside low {low} to high {high}"),
        ((close > high) | (close < low), "close {close} outside low {low} to high {high}"),
    ):
        bad = wrong & present
        if bad.any():
            i = int(np.argmax(bad))
            raise BadCandle(
                f"bar {candles.index[i]}: " + words.format(**candles.iloc[i]),
                "look at the source, or drop the bar",
            )
