"""Everything the lake holds of one symbol, checked: bars of every length, their agreement, the slow tables.

Series are read and checked in windows, so that memory stays bounded whatever their length; of longer candles
alone, which are few, a whole series is held to be compared with the bars it is made of.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pandas as pd

from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError
from acmf_core.lake.findings import WARNING, Findings, Quality
from acmf_core.lake.lake import Lake
from acmf_core.lake.merging import as_stamp
from acmf_core.lake.quality import MANDATORY, CandleCheck, CandleSurvey
from acmf_core.lake.resample import compared, disagreements
from acmf_core.lake.slow_quality import CHECKED, SlowCheck, SlowSurvey
from acmf_core.lake.tables import table

WINDOW_BARS: Final = 200_000  # read at once
SLOW_WINDOW: Final = pd.Timedelta(days=366)
MOST_DIFFERING: Final = 2_000
PRICES: Final = ("open", "high", "low", "close")

Stamp = str | int | pd.Timestamp | None
Windows = Callable[[], Iterator[pd.DataFrame]]  # rows of one series, oldest first, from the start each time


@dataclass(frozen=True)
class Agreement:
    """How the venue's candles of one length agree with those made of its shorter bars.

    Attributes
    ----------
    days : DataFrame
        By day: `compared` candles and how many of them `differ`.
    differing : DataFrame
        As `disagreements` returns them, the first MOST_DIFFERING.
    """

    source: str
    interval: str
    compared: int
    differ: int
    days: pd.DataFrame
    differing: pd.DataFrame


@dataclass(frozen=True)
class Audit:
    """What was found about one symbol.

    Attributes
    ----------
    candles : dict of CandleSurvey
        By interval, shortest first.
    agreements : tuple of Agreement
    slow : dict of SlowSurvey
        By table; only those that have rows.
    """

    symbol: str
    candles: Mapping[str, CandleSurvey]
    agreements: tuple[Agreement, ...]
    slow: Mapping[str, SlowSurvey]

    @property
    def main(self) -> CandleSurvey:
        """The bars that everything is made of: 15m, or the shortest where there are none."""
        return self.candles.get(MANDATORY) or next(iter(self.candles.values()))

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """The verdicts, candles first."""
        of_slow = (survey.quality for survey in self.slow.values())
        return (*(survey.quality for survey in self.candles.values()), *of_slow)

    @property
    def ok(self) -> bool:
        """Whether everything may be read: no error among the findings."""
        return all(quality.ok for quality in self.qualities)


def audit(
    lake: Lake,
    symbol: str,
    *,
    interval: str | None = None,
    start: Stamp = None,
    end: Stamp = None,
    max_ages: Mapping[str, pd.Timedelta] | None = None,
    versions: Mapping[str, int] | None = None,
) -> Audit:
    """Check what the lake holds of a symbol, start <= event time < end.

    Parameters
    ----------
    lake : Lake
    symbol : str
        The venue's name (BTCUSDT).
    interval : str, optional
        Only bars of this length; the slow tables are checked beside 15m bars only. None is everything.
    max_ages : mapping, optional
        Table to the age up to which features use its values; a table not named is not asked about its age.
    versions : mapping, optional
        Table to version; tables not named are read at their newest.

    Raises
    ------
    DataError
        The lake has no such bars in that window.
    """
    pinned, ages = lake.versions() | dict(versions or {}), dict(max_ages or {})  # one state, whoever writes
    reader = _Reader(lake, symbol, start, end, pinned)
    held = reader.held()
    asked = [name for name in held if interval in (None, name)]
    if not asked:
        what = " ".join(part for part in (interval, "bars of", symbol) if part)
        raise DataError(f"the lake at {lake.uri} has no {what} in that window", "acmf data status")
    slow = CHECKED if interval in (None, MANDATORY) else ()
    return inspect(
        symbol,
        {name: partial(reader.bars, name, held[name]) for name in asked},
        {name: partial(reader.slow, name, ages.get(name)) for name in slow if lake.exists(name)},
        max_ages=ages,
        beside={name: partial(reader.bars, name, held[name]) for name in held},
    )


def inspect(
    symbol: str,
    candles: Mapping[str, Windows],
    slow: Mapping[str, Windows] | None = None,
    *,
    max_ages: Mapping[str, pd.Timedelta] | None = None,
    beside: Mapping[str, Windows] | None = None,
) -> Audit:
    """The same for series that come from anywhere.

    Parameters
    ----------
    candles : mapping
        Interval to a function that yields rows of the candles table in windows, oldest first; windows begin
        at 00:00 UTC, so that no candle lies in two of them.
    slow : mapping, optional
        Table to such a function.
    beside : mapping, optional
        Bars to compare `candles` with, where that is more than `candles` themselves.
    """
    ordered = sorted(candles, key=INTERVAL_SECONDS.__getitem__)
    surveys = {name: _survey(symbol, name, candles[name]) for name in ordered}
    pool = dict(beside or candles)
    agreements = []
    for name in ordered:
        source = source_of(name, pool)
        if source is not None:
            agreement, findings = _agreement(source, name, pool[source], candles[name])
            quality = surveys[name].quality
            if len(findings):
                both = pd.concat([quality.findings, findings], ignore_index=True)
                surveys[name] = replace(surveys[name], quality=replace(quality, findings=both))
            agreements.append(agreement)
    span = Audit(symbol, surveys, (), {}).main.quality
    step = pd.Timedelta(seconds=INTERVAL_SECONDS[span.interval])
    since, until, ages = span.first + step, span.last + step, max_ages or {}
    found = {}
    for name, windows in (slow or {}).items():
        check = SlowCheck(name, symbol, max_age=ages.get(name))
        for rows in windows():
            check.see(rows)
        if check.rows:
            found[name] = check.survey(since, until)
    return Audit(symbol, surveys, tuple(agreements), found)


def source_of(interval: str, held: Mapping[str, object]) -> str | None:
    """The bars that candles are compared with: 15m as in the features, else the longest shorter ones."""
    seconds = INTERVAL_SECONDS[interval]
    shorter = [n for n in held if INTERVAL_SECONDS[n] < seconds and seconds % INTERVAL_SECONDS[n] == 0]
    if MANDATORY in shorter:
        return MANDATORY
    return max(shorter, key=INTERVAL_SECONDS.__getitem__, default=None)


def _survey(symbol: str, interval: str, windows: Windows) -> CandleSurvey:
    check = CandleCheck(symbol, interval)
    for rows in windows():
        check.see(rows)
    if not check.rows:
        raise DataError(f"there is no {interval} bar of {symbol} in that window", "acmf data status")
    return check.survey()


def _agreement(source: str, interval: str, fine: Windows, coarse: Windows) -> tuple[Agreement, pd.DataFrame]:
    candles = pd.concat(list(coarse()), ignore_index=True)
    stamps, differing = [], []
    for rows in fine():
        first, last = rows["open_time"].iloc[0].floor("D"), rows["open_time"].iloc[-1]
        own = candles[candles["open_time"].between(first, last)]
        stamps.append(compared(rows, own, interval, source=source)["open_time"])
        differing.append(disagreements(rows, own, interval, source=source))
    at, found = pd.concat(stamps), pd.concat(differing, ignore_index=True)
    days = at.groupby(at.dt.floor("D")).size().to_frame("compared")
    apart = found["open_time"].drop_duplicates()
    days["differ"] = apart.groupby(apart.dt.floor("D")).size().reindex(days.index, fill_value=0)
    made = Agreement(source, interval, len(at), len(apart), days, found.head(MOST_DIFFERING))
    return made, _agreement_findings(found, source)


def _agreement_findings(found: pd.DataFrame, source: str) -> pd.DataFrame:
    findings = Findings()
    prices = found["column"].isin(PRICES)
    for what, where in (("prices", prices), ("volumes", ~prices)):
        rows = found[where]
        if len(rows):
            worst = rows.iloc[int(rows["difference"].abs().fillna(0.0).to_numpy().argmax())]
            detail = (
                f"the worst {worst['column']} {100 * worst['difference']:+.3g}% at "
                f"{worst['open_time']:%Y-%m-%d %H:%M}"
            )
            findings.count(
                f"{what} differ from the {source} bars", WARNING, rows["open_time"].nunique(),
                rows["open_time"].iloc[0], detail,
            )  # fmt: skip
    return findings.table()


@dataclass(frozen=True)
class _Reader:
    """One symbol's rows in the lake, in windows."""

    lake: Lake
    symbol: str
    start: Stamp
    end: Stamp
    versions: Mapping[str, int]

    def held(self) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]]:
        """First and last opening time by interval, within the window asked about."""
        if not self.lake.exists("candles"):
            return {}
        query = "SELECT symbol, interval, min(open_time) AS first, max(open_time) AS last FROM candles"
        spans = self.lake.sql(f"{query} GROUP BY symbol, interval", dict(self.versions))
        spans = spans[spans["symbol"] == self.symbol].set_index("interval")
        low = None if self.start is None else as_stamp(self.start)
        high = None if self.end is None else as_stamp(self.end) - pd.Timedelta(1, "us")
        found = {}
        for name, first, last in zip(spans.index, spans["first"], spans["last"], strict=True):
            begin = first if low is None else max(first, low)
            finish = last if high is None else min(last, high)
            if begin <= finish:
                found[str(name)] = (begin, finish)
        return found

    def bars(self, interval: str, span: tuple[pd.Timestamp, pd.Timestamp]) -> Iterator[pd.DataFrame]:
        """Rows of the candles table; windows begin at midnight."""
        days = max(1, WINDOW_BARS * INTERVAL_SECONDS[interval] // 86_400)
        return self._windows("candles", span, pd.Timedelta(days=days), interval)

    def slow(self, name: str, max_age: pd.Timedelta | None) -> Iterator[pd.DataFrame]:
        """Rows of a slow table, from those that the first bar may still lean on."""
        spec = table(name)
        lean = pd.Timedelta(0) if max_age is None else max_age
        where = "WHERE symbol = '" + self.symbol.replace("'", "''") + "'" if "symbol" in spec.keys else ""
        query = f"SELECT min(event_time) AS first, max(event_time) AS last FROM {name} {where}"
        span = self.lake.sql(query, dict(self.versions)).iloc[0]
        if pd.isna(span["first"]):
            return iter(())
        first, last = span["first"], span["last"]
        if self.start is not None:
            first = max(first, as_stamp(self.start) - lean)
        if self.end is not None:
            last = min(last, as_stamp(self.end) - pd.Timedelta(1, "us"))
        return self._windows(name, (first, last), SLOW_WINDOW)

    def _windows(
        self,
        name: str,
        span: tuple[pd.Timestamp, pd.Timestamp],
        length: pd.Timedelta,
        interval: str | None = None,
    ) -> Iterator[pd.DataFrame]:
        spec = table(name)
        symbol = self.symbol if "symbol" in spec.keys else None
        same = {"symbol"} if interval is None else {"symbol", "interval"}  # in all rows: not worth the memory
        columns = [column for column in spec.schema.names if column not in same]
        first, last = span
        begin = first
        while begin <= last:
            end = min(begin.floor("D") + length, last + pd.Timedelta(1, "us"))
            rows = self.lake.read(
                name,
                symbol=symbol,
                interval=interval,
                start=begin,
                end=end,
                version=self.versions.get(name),
                columns=columns,
            )
            if len(rows):
                yield rows
            begin = end
