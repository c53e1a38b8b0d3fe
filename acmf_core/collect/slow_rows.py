"""The slow tables of the lake as the frames of `MarketData`: what the bars of a window can depend on.

Rows are chosen by `available_at`, never by when the thing happened: a row known by the window's end is in,
a row whose value no bar of the window can use any more is out. How far back that is follows from the
features' declarations (`features.sources.span_us`, `looks_back`).
"""

import errno
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from acmf_core.features.market import COLUMNS
from acmf_core.features.sources import looks_back, needed, span_us
from acmf_core.lake import Lake
from acmf_core.lake.merging import brief, to_pandas
from acmf_core.lake.tables import AVAILABLE, STAMP, table

_TIMES: Final = ("event_time", AVAILABLE)
_COLLECTED: Final = "15m"  # long/short ratios that a daemon asked for; "5m" are the archive's
_GIVE_WAY: Final = pd.Timedelta(hours=1)


def slow_frames(
    lake: Lake,
    symbol: str,
    first_close: pd.Timestamp,
    last_close: pd.Timestamp,
    versions: Mapping[str, int] | None = None,
) -> dict[str, pd.DataFrame | None]:
    """Every slow frame of `MarketData` for bars that close in first_close..last_close.

    Parameters
    ----------
    lake : Lake
        Where to read.
    symbol : str
        Whose book, funding, ratios, transfers and news.
    first_close, last_close : Timestamp (UTC)
        Closes of the window's first and last bar. Rows known at the last one are in.
    versions : mapping, optional
        A whole state of the lake (`Lake.versions`): a table that it does not name did not exist then.

    Returns
    -------
    dict
        Field of `MarketData` to its rows, ordered by (available_at, event_time); None where there are none.

    Raises
    ------
    OSError
        The lake cannot be read.
    """
    frames: dict[str, pd.DataFrame | None] = {}
    for source in COLUMNS:
        frame = _known(lake, source, symbol, first_close, last_close, versions)
        if frame is not None:
            frame = _OWN_RULES.get(source, _as_it_is)(frame)
            frame = frame[needed(source, frame, _microseconds(first_close))].reset_index(drop=True)
        frames[source] = None if frame is None or frame.empty else frame
    return frames


def _known(
    lake: Lake,
    source: str,
    symbol: str,
    first_close: pd.Timestamp,
    last_close: pd.Timestamp,
    versions: Mapping[str, int] | None,
) -> pd.DataFrame | None:
    """Rows known by the last close, from the oldest that can matter; None where there is no such table."""
    if source not in versions if versions is not None else not lake.exists(source):
        return None
    spec, version = table(source), None if versions is None else versions[source]
    condition = pc.field(AVAILABLE) <= pa.scalar(last_close, STAMP)
    if not (looks_back(source) or source == "funding"):
        oldest = first_close - pd.Timedelta(span_us(source), "us") - _GIVE_WAY
        condition &= pc.field(AVAILABLE) >= pa.scalar(oldest, STAMP)
    if "symbol" in spec.partitions:
        condition &= pc.field("symbol") == symbol
    beside = [name for name in ("interval", "interval_hours") if name in spec.schema.names]
    columns = [*_TIMES, *COLUMNS[source], *beside]
    try:
        rows = lake.dataset(source, version).to_table(columns=columns, filter=condition)
    except pa.ArrowException as error:
        raise OSError(errno.EIO, f"the lake's table cannot be used: {brief(error)}", lake.uri) from error
    schema = pa.schema([spec.schema.field(name) for name in columns])
    return to_pandas(rows.cast(schema)).sort_values([AVAILABLE, "event_time"], ignore_index=True)


def _collected_first(frame: pd.DataFrame) -> pd.DataFrame:
    """Archive rows that became known within an hour after a collected one give way to it.

    A daemon that collected at 09:59 knew that row and no other until it was an hour old. Only earlier
    collected rows count: a row must not vanish because of something that was collected after it.
    """
    stamps, archived = frame[AVAILABLE], (frame["interval"] != _COLLECTED).to_numpy()
    collected = stamps[~archived]
    if archived.any() and len(collected):
        place = np.searchsorted(collected, stamps, side="right") - 1
        since = stamps.to_numpy() - collected.to_numpy()[np.maximum(place, 0)]
        frame = frame[~(archived & (place >= 0) & (since <= _GIVE_WAY.to_numpy()))]
    return frame.drop(columns="interval")


def _intervals_carried(frame: pd.DataFrame) -> pd.DataFrame:
    """A payment that does not say its interval (REST, most files) has the one last said."""
    return frame.assign(interval_hours=frame["interval_hours"].ffill().astype("float64"))


def _as_it_is(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


_OWN_RULES: Final = {"long_short": _collected_first, "funding": _intervals_carried}


def _microseconds(stamp: pd.Timestamp) -> int:
    return (stamp - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "us")
