"""What is known to be wrong with the data of a symbol, asked the way the features would read it."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from acmf_core.collect.files.importer import read_candles, read_funding
from acmf_core.features import SCHEMA
from acmf_core.lake import Lake
from acmf_core.lake.audit import Audit, Stamp, audit, inspect
from acmf_core.lake.merging import as_stamp
from acmf_core.lake.tables import candle_rows, funding_rows


def max_ages() -> dict[str, pd.Timedelta]:
    """How old a value of each slow table may be at a close and still be used.

    Open interest feeds no feature yet; it comes with the long/short ratios and is held to their age.
    """
    ages = {name: pd.Timedelta(seconds=seconds) for name, seconds in SCHEMA.max_ages.items()}
    return ages | {"open_interest": ages["long_short"]}


def inspect_lake(
    lake: Lake,
    symbol: str,
    *,
    interval: str | None = None,
    start: Stamp = None,
    end: Stamp = None,
    versions: Mapping[str, int] | None = None,
) -> Audit:
    """`audit` with the maximum ages of the features.

    Parameters
    ----------
    interval : str, optional
        Only bars of this length; None is everything.
    start, end : str, int (microseconds), Timestamp with a zone, optional
        The window of event times; None is all there is.

    Raises
    ------
    DataError
        The lake has no such bars in that window.
    """
    return audit(
        lake, symbol, interval=interval, start=start, end=end, max_ages=max_ages(), versions=versions
    )


def inspect_file(
    candles: str | Path,
    funding: str | Path | None,
    symbol: str,
    interval: str = "15m",
    *,
    start: Stamp = None,
    end: Stamp = None,
) -> Audit:
    """The same for a file of bars, and one of funding rates, before they go into the lake.

    Raises
    ------
    DataError, BadCandle
        The importer refuses the file.
    """
    bars = read_candles(candles, interval, min_bars=1, allow_gaps=True).frame
    rows = _between(candle_rows(bars, symbol, interval), "open_time", start, end)
    slow = {}
    if funding:
        paid = _between(funding_rows(read_funding(funding).frame, symbol), "event_time", start, end)
        slow["funding"] = partial(_whole, paid)
    return inspect(symbol, {interval: partial(_whole, rows)}, slow, max_ages=max_ages())


def _between(rows: pd.DataFrame, time: str, start: Stamp, end: Stamp) -> pd.DataFrame:
    if start is not None:
        rows = rows[rows[time] >= as_stamp(start)]
    if end is not None:
        rows = rows[rows[time] < as_stamp(end)]
    return rows.reset_index(drop=True)


def _whole(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    yield rows
