"""The columns of a user's file: found by their usual names, read as numbers, put in order or refused."""

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.errors import BadCandle, DataError

_MARKETS: Final = ("pair", "symbol", "instrument", "ticker", "market", "asset", "coin")  # most telling first

_INTERVALS: Final = frozenset({"interval", "period", "timeframe"})


def map_columns(
    frame: pd.DataFrame, names: Mapping[str, tuple[str, ...]], optional: tuple[str, ...], file: str
) -> dict[str, str]:
    """Our name to the file's column, by aliases.

    Parameters
    ----------
    frame : DataFrame
        The file's columns.
    names : mapping
        Our name to the names it goes by, most telling first, as `plain` writes them.
    optional : tuple of str
        Names that may be missing.
    file : str
        For the error.

    Raises
    ------
    DataError
        Naming what is missing and what is there.
    """
    present: dict[str, str] = {}
    for column in frame.columns:
        present.setdefault(plain(column), column)
    mapping: dict[str, str] = {}
    for ours, aliases in names.items():
        found = next((present[a] for a in aliases if a in present), None)
        if found is not None:
            mapping[ours] = found
    missing = [ours for ours in names if ours not in mapping and ours not in optional]
    if missing:
        shown = ", ".join(str(c)[:30] for c in frame.columns[:12])
        raise DataError(
            f"{file} has no column for {', '.join(missing)} (its columns: {shown})",
            f"name it {' / '.join(missing)}",
        )
    return mapping


def plain(column: object) -> str:
    """A column's name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", str(column).lower())


def market_named(frame: pd.DataFrame, file: str) -> str:
    """The market that a column of the file names, "" where none does; DataError where one names several."""
    named = ""
    for kind in _MARKETS:
        for column in (c for c in frame.columns if plain(c) == kind):
            symbols = list(dict.fromkeys(frame[column].astype(str)))
            if len(symbols) > 1:
                raise DataError(
                    f"{file} holds {len(symbols)} symbols ({', '.join(s[:30] for s in symbols[:4])})",
                    "import one file a symbol",
                )
            named = named or symbols[0][:30]
    return named


def require_one_interval(frame: pd.DataFrame, file: str) -> None:
    """DataError where a column of the file tells rows of several spacings apart: they are several series."""
    for column in (c for c in frame.columns if plain(c) in _INTERVALS):
        several = list(dict.fromkeys(frame[column].astype(str)))
        if len(several) > 1:
            raise DataError(
                f"{file} holds {len(several)} intervals ({', '.join(s[:30] for s in several[:4])})",
                "import one file an interval",
            )


def left_out(frame: pd.DataFrame, mapping: Mapping[str, str]) -> list[str]:
    """A note of the columns that nothing was taken from, none where all were used."""
    ignored = [str(c)[:30] for c in frame.columns if c not in mapping.values()]
    return [f"left out: {', '.join(ignored)}"] if ignored else []


def numbers(frame: pd.DataFrame, mapping: Mapping[str, str], file: str) -> pd.DataFrame:
    """The mapped columns as float64 under our names: an empty cell is NaN, other text an error."""
    columns = {}
    for ours, theirs in mapping.items():
        values = pd.to_numeric(frame[theirs], errors="coerce")
        broken = np.flatnonzero(values.isna().to_numpy() & frame[theirs].notna().to_numpy())
        if len(broken):
            text = str(frame[theirs].iloc[broken[0]])[:30]
            raise DataError(
                f'{file}: row {broken[0] + 1}: {theirs} is "{text}", which is no number',
                "mend that row",
            )
        columns[ours] = values.to_numpy(dtype="float64", na_value=np.nan)
    return pd.DataFrame(columns)


def in_order(frame: pd.DataFrame, file: str, sort: bool) -> tuple[pd.DataFrame, list[str]]:
    """Rows indexed by ascending unique times, and what was done for it.

    Raises
    ------
    DataError
        Out of order or doubled, and `sort` is off.
    BadCandle
        Two different rows for one moment.
    """
    notes: list[str] = []
    times = pd.DatetimeIndex(frame.index)
    if not frame.index.is_monotonic_increasing:
        back = int(np.flatnonzero(np.diff(times.asi8) < 0)[0]) + 1
        if not sort:
            raise DataError(
                f"{file} is not in time order: row {back + 1} ({when(frame.index[back])}) "
                f"comes after {when(frame.index[back - 1])}",
                "sort the file, or --sort",
            )
        frame = frame.sort_index(kind="stable")
        notes.append("rows were put in time order")
    double = frame.index.duplicated()
    if not double.any():
        return frame, notes
    first = frame.index[double][0]
    whole = frame.reset_index()
    same = whole.duplicated().to_numpy()
    if not sort:
        raise DataError(
            f"{file} has {int(double.sum())} row(s) twice, the first is {when(first)}",
            "drop the doubles, or --sort where they are identical",
        )
    if (double & ~same).any():
        raise BadCandle(
            f"{file} has two different rows for {when(frame.index[double & ~same][0])}", "keep the right one"
        )
    return frame.loc[~double], [*notes, f"{int(double.sum())} identical double(s) were dropped"]


def when(stamp: pd.Timestamp) -> str:
    """Minutes, UTC."""
    return f"{stamp:%Y-%m-%d %H:%M} UTC"
