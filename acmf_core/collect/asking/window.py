"""The bars that a live decision reads, in memory: a rolling window that never changes a closed bar."""

from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from acmf_core.domain import BAR_US, INTERVAL_SECONDS
from acmf_core.features import SCHEMA
from acmf_core.lake.tables import OHLCV

SLACK_BARS: Final = 96  # beside those of one decision: a day of bars that are still to be met
_COLUMNS: Final = [*OHLCV, "bridged"]
_PRICES: Final = ("open", "high", "low", "close")


class Conflict(NamedTuple):
    """A closed bar that came again with another value; the held one stays."""

    open_time: pd.Timestamp
    column: str
    held: float
    offered: float

    def __str__(self) -> str:
        return f"{self.open_time:%Y-%m-%d %H:%M} UTC {self.column} {self.held:g}, offered {self.offered:g}"


class CandleWindow:
    """15m bars by open time, contiguous unless a hole could not be filled.

    Parameters
    ----------
    bars : int
        How many are held; older ones are dropped.
    """

    def __init__(self, bars: int = SCHEMA.history + SLACK_BARS) -> None:
        self.bars = bars
        index = pd.DatetimeIndex([], dtype="datetime64[us, UTC]", name="open_time")
        self._held = pd.DataFrame({name: pd.Series(dtype=float) for name in OHLCV}, index=index)
        self._held["bridged"] = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def newest(self) -> int | None:
        """Open time of the newest bar (microseconds)."""
        return int(self._stamps[-1]) if len(self._held) else None

    @property
    def oldest(self) -> int | None:
        """Open time of the oldest bar (microseconds)."""
        return int(self._stamps[0]) if len(self._held) else None

    def newest_before(self, at: int) -> int | None:
        """Open time of the newest bar that closed by `at` (microseconds)."""
        place = int(np.searchsorted(self._stamps, at - BAR_US, side="right"))
        return int(self._stamps[place - 1]) if place else None

    def holes(self) -> list[tuple[int, int]]:
        """(open time of the bar before, open time of the bar after) of every hole, oldest first."""
        stamps = self._stamps
        before = np.flatnonzero(np.diff(stamps) != BAR_US)
        return [(int(stamps[i]), int(stamps[i + 1])) for i in before]

    def has(self, open_time: int) -> bool:
        """Whether a bar that opened then (microseconds) is held."""
        place = int(np.searchsorted(self._stamps, open_time))
        return place < len(self._held) and int(self._stamps[place]) == open_time

    def take(self, rows: pd.DataFrame) -> list[Conflict]:
        """Bring rows of the candles table in; a real bar takes the place of a bridged one.

        Returns
        -------
        list of Conflict
            What was offered for held bars and differs: it is not taken.
        """
        if rows.empty:
            return []
        offered = rows.set_index("open_time")[_COLUMNS].sort_index()
        offered.index = pd.DatetimeIndex(offered.index).as_unit("us")
        offered = offered.astype(dict.fromkeys(OHLCV, float) | {"bridged": bool})
        known = offered.index.intersection(pd.DatetimeIndex(self._held.index))
        held, again = self._held.loc[known], offered.loc[known]
        stand_in = held["bridged"].to_numpy(bool) & ~again["bridged"].to_numpy(bool)
        held_values, offered_values = (part[list(OHLCV)].to_numpy() for part in (held, again))
        differs = (held_values != offered_values) & ~stand_in[:, None]
        # A bridge offered for a bar that is there is no contradiction, only less knowledge.
        differs &= ~again["bridged"].to_numpy(bool)[:, None]
        keep = self._held.drop(index=known[stand_in]) if stand_in.any() else self._held
        fresh = offered.drop(index=known[~stand_in])
        if len(fresh):
            joined = pd.concat([keep, fresh]) if len(keep) else fresh
            self._held = joined.sort_index().iloc[-self.bars :]
        return [
            Conflict(known[row], OHLCV[column], held_values[row, column], offered_values[row, column])
            for row, column in np.argwhere(differs).tolist()
        ]

    def until(self, at: int) -> pd.DataFrame:
        """The bars of one decision at the close `at` (microseconds): OHLCV by open time."""
        stop = int(np.searchsorted(self._stamps, at - BAR_US, side="right"))
        return self._held.iloc[max(0, stop - SCHEMA.history) : stop][list(OHLCV)]

    def disagreements(self, rows: pd.DataFrame, interval: str) -> list[Conflict]:
        """Prices of a longer timeframe's candles that are not those of the bars held for them."""
        step = INTERVAL_SECONDS[interval] * 1_000_000
        found = []
        for row in rows.to_dict("records"):
            opened = pd.Timestamp(row["open_time"])
            first = int(np.searchsorted(self._stamps, opened.value // 1_000))
            part = self._held.iloc[first : first + step // BAR_US]
            if len(part) < step // BAR_US or pd.Timestamp(part.index[0]) != opened:
                continue
            if int(self._stamps[first + len(part) - 1] - self._stamps[first]) != step - BAR_US:
                continue
            mine = (part["open"].iloc[0], part["high"].max(), part["low"].min(), part["close"].iloc[-1])
            found += [
                Conflict(opened, f"{interval} {name}", float(held), float(row[name]))
                for name, held in zip(_PRICES, mine, strict=True)
                if held != row[name]
            ]
        return found

    @property
    def _stamps(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return pd.DatetimeIndex(self._held.index).asi8
