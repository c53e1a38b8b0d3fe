"""A user's file into the lake: read, bridged where asked, checked against what is stored, merged at once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from acmf_core.collect.files.columns import plain
from acmf_core.collect.files.importer import read_candles, read_funding
from acmf_core.collect.files.slow import LAYOUTS, read_slow
from acmf_core.collect.history import warmup_bars
from acmf_core.errors import DataError
from acmf_core.lake import Lake, MergeReport
from acmf_core.lake.quality import bridge, gaps, interval_step, missing_bars
from acmf_core.lake.tables import AVAILABLE, candle_rows, funding_rows, table


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    rows, bridged : int
        Rows in the file; flat bars added for outages.
    first, last : Timestamp
        Of the file.
    mapping : dict
        Our column to the file's.
    notes : tuple of str
        What was assumed.
    """

    merged: MergeReport
    rows: int
    bridged: int
    first: pd.Timestamp
    last: pd.Timestamp
    mapping: dict[str, str]
    notes: tuple[str, ...]


def import_candles(
    lake: Lake,
    path: str | Path,
    symbol: str,
    interval: str = "15m",
    *,
    sort: bool = False,
    allow_gaps: bool = False,
    bridge_outages: bool = False,
    allow_short: bool = False,
    accept_corrections: bool = False,
    now: int | None = None,
) -> ImportReport:
    """Bars of a file into the lake, all or nothing.

    Parameters
    ----------
    lake : Lake
        Where to.
    path : str or Path
        CSV or Parquet (`importer.read_candles`).
    symbol, interval : str
        Whose bars these are.
    sort : bool
        Put rows in order and drop identical doubles.
    allow_gaps, bridge_outages : bool
        Take the file with its gaps; fill outages of at most a day with flat zero-volume bars, marked.
    allow_short : bool
        Take fewer bars (the stored ones included) than one decision of a model needs.
    accept_corrections : bool
        Take values that differ from stored ones.
    now : int, optional
        Microseconds; a bar that closes later is refused.

    Raises
    ------
    DataError
        As `read_candles`, and where the file leaves a gap between itself and what is stored (MissingBars).
    OSError
        File or lake cannot be read or written.
    """
    file = read_candles(path, interval, sort=sort, allow_gaps=allow_gaps or bridge_outages)
    _refuse_future(pd.DatetimeIndex(file.frame.index) + interval_step(interval), now, Path(path).name)
    held = lake.read("candles", symbol=symbol, interval=interval, columns=["open_time", "close"])
    stored = held["open_time"]
    bars, notes = _without_needless_stand_ins(file.frame.reset_index(), stored)
    filled = _stand_ins(bars, held, interval) if bridge_outages else bars.iloc[:0]
    if len(filled):
        marked = bars if "bridged" in bars else bars.assign(bridged=False)
        bars = pd.concat([marked, filled]).sort_values("open_time", ignore_index=True)
    together = pd.DatetimeIndex(stored).union(pd.DatetimeIndex(bars["open_time"]).as_unit("us"))
    if not allow_short and interval == "15m" and len(together) < warmup_bars():
        raise DataError(
            f"{Path(path).name} holds {len(bars):,} bars"
            + (f" ({len(together):,} with the stored ones)" if len(stored) else "")
            + f", one decision of a model needs {warmup_bars():,}",
            "bring a longer history; acmf data import --allow-short stores it all the same",
        )
    if not allow_gaps:
        _refuse_new_gaps(pd.DatetimeIndex(stored), together, interval, Path(path).name)
    merged = lake.merge(
        "candles",
        candle_rows(bars, symbol, interval),
        accept_corrections=accept_corrections,
        source=f"file {Path(path).name}",
    )
    return ImportReport(
        merged,
        len(file.frame),
        len(filled),
        file.frame.index[0],
        file.frame.index[-1],
        file.mapping,
        (*file.notes, *notes, *_other_market(file.market, symbol)),
    )


def import_funding(
    lake: Lake,
    path: str | Path,
    symbol: str,
    *,
    sort: bool = False,
    accept_corrections: bool = False,
    now: int | None = None,
) -> ImportReport:
    """Funding payments of a file into the lake, all or nothing; parameters and errors as `import_candles`."""
    file = read_funding(path, sort=sort)
    _refuse_future(pd.DatetimeIndex(file.frame["event_time"]), now, Path(path).name)
    rows = funding_rows(file.frame, symbol)
    if AVAILABLE in file.frame:
        rows[AVAILABLE] = file.frame[AVAILABLE]
    merged = lake.merge(
        "funding",
        rows,
        accept_corrections=accept_corrections,
        source=f"file {Path(path).name}",
    )
    times = file.frame["event_time"]
    notes = (*file.notes, *_other_market(file.market, symbol))
    return ImportReport(merged, len(times), 0, times.iloc[0], times.iloc[-1], file.mapping, notes)


def import_slow(
    lake: Lake,
    path: str | Path,
    name: str,
    symbol: str,
    *,
    sort: bool = False,
    accept_corrections: bool = False,
    now: int | None = None,
) -> ImportReport:
    """Rows of a slow table (`slow.LAYOUTS`) out of a file into the lake, all or nothing.

    Parameters as `import_candles`; `symbol` is left out where the table has none. Ratios and open interest
    lie beside the archive's ("5m"), whatever their spacing.

    Raises
    ------
    DataError
        As `read_slow`.
    OSError
        File or lake cannot be read or written.
    """
    file = read_slow(path, name, sort=sort)
    _refuse_future(pd.DatetimeIndex(file.frame["event_time"]), now, Path(path).name)
    keys = {"symbol": symbol, "interval": LAYOUTS[name].interval}
    rows = file.frame.assign(**{key: keys[key] for key in table(name).partitions})
    merged = lake.merge(name, rows, accept_corrections=accept_corrections, source=f"file {Path(path).name}")
    times = file.frame["event_time"]
    notes = (*file.notes, *_other_market(file.market, symbol))
    return ImportReport(merged, len(times), 0, times.iloc[0], times.iloc[-1], file.mapping, notes)


def _refuse_future(times: pd.DatetimeIndex, now: int | None, name: str) -> None:
    """Nothing that happens after `now` can be known."""
    if now is None or not len(times):
        return
    late = np.flatnonzero(times.as_unit("us").asi8 > now)
    if len(late):
        today = pd.Timestamp(now, unit="us", tz="UTC")
        raise DataError(
            f"{name}: {len(late):,} row(s) lie in the future, the first at "
            f"{times[late[0]]:%Y-%m-%d %H:%M} UTC; it is {today:%Y-%m-%d %H:%M}",
            "check the time column and its unit, and this machine's clock",
        )


def bridge_lake(lake: Lake, symbol: str, interval: str = "15m") -> MergeReport:
    """Fill every stored outage of at most a day with flat zero-volume bars, marked `bridged`.

    A real bar that comes later takes a bridged bar's place.
    """
    stored = lake.read("candles", symbol=symbol, interval=interval, columns=["open_time", "close"])
    return lake.merge("candles", candle_rows(bridge(stored, interval), symbol, interval), source="bridge")


def _without_needless_stand_ins(bars: pd.DataFrame, stored: pd.Series) -> tuple[pd.DataFrame, list[str]]:
    """The file's bars but for those that stand in for an outage where the lake has a bar."""
    if "bridged" not in bars:
        return bars, []
    needless = bars["bridged"] & bars["open_time"].isin(stored)
    said = [f"{int(needless.sum())} stand-in(s) left out: the lake has those bars"] if needless.any() else []
    return bars[~needless].reset_index(drop=True), said


def _stand_ins(bars: pd.DataFrame, held: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Flat bars for the outages within a file that the stored bars do not fill either."""
    if bars.empty:
        return bars
    between = held["open_time"].between(bars["open_time"].iloc[0], bars["open_time"].iloc[-1])
    only_held = held[between & ~held["open_time"].isin(bars["open_time"])]
    known = pd.concat([bars[["open_time", "close"]], only_held]).sort_values("open_time", ignore_index=True)
    return bridge(known, interval)


def _refuse_new_gaps(stored: pd.DatetimeIndex, together: pd.DatetimeIndex, interval: str, name: str) -> None:
    """Gaps that the file brings, in itself or towards the stored bars; older gaps do not count."""
    holes = gaps(together, interval)
    if holes.empty:
        return
    known = gaps(stored, interval)
    new = holes[~holes["first"].isin(known["first"]) & ~holes["last"].isin(known["last"])]
    if len(new):
        raise missing_bars(
            new,
            name if stored.empty else f"{name} and the stored bars",
            "bring the bars between first, or acmf data import --allow-gaps",
        )


def _other_market(named: str, symbol: str) -> tuple[str, ...]:
    """A word of warning where a file names another market than the one it is stored for."""
    same = not named or plain(named) == plain(symbol)
    return () if same else (f'the file names its market "{named}", it is stored as {symbol} (--symbol)',)
