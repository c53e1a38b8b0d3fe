"""Times of unknown make into UTC microseconds: integer units told apart by their size, text read strictly."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from acmf_core.errors import DataError

UNITS: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
FIRST_YEAR: Final = 2009  # no coin was traded before
LAST_YEAR: Final = 2100
_FIRST_S: Final = 1_230_768_000  # 2009-01-01, seconds
_LAST_S: Final = 4_102_444_800  # 2100-01-01


def to_utc(column: pd.Series, name: str) -> tuple[pd.Series, list[str]]:
    """Stamps as datetime64[us, UTC], and what was assumed.

    Parameters
    ----------
    column : Series
        Integers (seconds to nanoseconds), datetimes, or ISO 8601 text. No zone means UTC.
    name : str
        The file's name, for errors.

    Raises
    ------
    DataError
        Empty stamps, mixed units, years outside 2009..2100, text that is no ISO date.
    """
    if column.empty:
        return pd.Series(pd.DatetimeIndex([], tz="UTC").as_unit("us")), []
    empty = np.flatnonzero(column.isna().to_numpy())
    if len(empty):
        raise DataError(f"{name}: row {empty[0] + 1} has no time", "fill or drop that row")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        times, notes = _zoned(column)
    elif pd.api.types.is_numeric_dtype(column.dtype):
        times, notes = _from_numbers(column, name)
    else:
        digits = pd.to_numeric(column, errors="coerce")
        times, notes = _from_text(column, name) if digits.isna().any() else _from_numbers(digits, name)
    _plausible(times, name)
    return times.dt.as_unit("us"), notes


def unit_of(stamps: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index into UNITS of every stamp by its size, -1 where none gives a year in 2009..2100."""
    unit = np.full(len(stamps), -1, dtype=np.int64)
    for code, factor in enumerate(UNITS.values()):
        unit[(stamps >= _FIRST_S * factor) & (stamps < _LAST_S * factor)] = code
    return unit


def _from_numbers(column: pd.Series, name: str) -> tuple[pd.Series, list[str]]:
    unit = unit_of(column.to_numpy(dtype="float64"))
    strange = np.flatnonzero(unit < 0)
    if len(strange):
        raise DataError(
            f"{name}: row {strange[0] + 1}: {column.iloc[strange[0]]} is no epoch time in s, ms, us or ns",
            "give epoch stamps or ISO dates",
        )
    other = np.flatnonzero(unit != unit[0])
    names = list(UNITS)
    if len(other):
        raise DataError(
            f"{name} mixes time units: row 1 is in {names[unit[0]]}, "
            f"row {other[0] + 1} in {names[unit[other[0]]]}",
            "bring all stamps to one unit",
        )
    ticks = column.to_numpy()
    if ticks.dtype.kind == "f" and (ticks % 1).any():
        ticks = np.round(ticks * (1_000_000 / UNITS[names[unit[0]]]))
        return pd.Series(pd.to_datetime(ticks.astype("int64"), unit="us", utc=True)), [
            "times: fractional epoch"
        ]
    times = pd.to_datetime(ticks.astype("int64"), unit=names[unit[0]], utc=True)
    return pd.Series(times), [f"times: epoch in {names[unit[0]]}"]


def _from_text(column: pd.Series, name: str) -> tuple[pd.Series, list[str]]:
    times = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(times.isna().to_numpy())
    if len(bad):
        raise DataError(
            f'{name}: row {bad[0] + 1}: "{str(column.iloc[bad[0]])[:40]}" is no date',
            "write times as 2024-01-31 12:00:00 (ISO 8601) or as epoch stamps",
        )
    zoned = column.astype(str).str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$").any()
    return times, [] if zoned else ["times without a zone were taken as UTC"]


def _zoned(column: pd.Series) -> tuple[pd.Series, list[str]]:
    column = column.reset_index(drop=True)
    if column.dt.tz is None:
        return column.dt.tz_localize("UTC"), ["times without a zone were taken as UTC"]
    notes = (
        [] if str(column.dt.tz) in {"UTC", "Etc/UTC"} else [f"times were brought from {column.dt.tz} to UTC"]
    )
    return column.dt.tz_convert("UTC"), notes


def _plausible(times: pd.Series, name: str) -> None:
    years = times.dt.year.to_numpy()
    strange = np.flatnonzero((years < FIRST_YEAR) | (years >= LAST_YEAR))
    if len(strange):
        raise DataError(
            f"{name}: row {strange[0] + 1} is of the year {years[strange[0]]}",
            "the stamps were read in the wrong unit (s, ms, us): write them again",
        )
