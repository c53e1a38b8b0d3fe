"""Past bars as the daemon would have met them: at each close, what was known then and nothing else."""

from typing import Final

import numpy as np
import numpy.typing as npt

from acmf_core.collect.snapshot import MarketSnapshot
from acmf_core.domain import BAR_US, SourceHealth
from acmf_core.errors import MissingBars
from acmf_core.execution.orders import moment
from acmf_core.features import SCHEMA, MarketData
from acmf_core.features.market import open_times

MEND: Final = "fill the gap (acmf data pull) or bridge it (acmf data check --bridge)"
HISTORY_BARS: Final = SCHEMA.history  # what one live decision needs: 136 days


def check_whole(open_time: npt.NDArray[np.int64]) -> None:
    """Raise MissingBars, with the number and the first, where bars are missing between others.

    Parameters
    ----------
    open_time : (n,) int64
        Ascending, microseconds.
    """
    if len(open_time) == 0:
        return
    missing = int(open_time[-1] - open_time[0]) // BAR_US + 1 - len(open_time)
    if missing:
        before = int(open_time[np.argmax(np.diff(open_time) != BAR_US)])
        raise MissingBars(
            f"{missing} bars are missing in a window that the model would read, the first at "
            f"{moment(before + BAR_US)}",
            MEND,
        )


class ReplayFeed:
    """Serves recorded market data bar by bar (port `Feed`).

    Parameters
    ----------
    market : MarketData
        The recording. It may be longer than what is replayed, on both sides.
    """

    health: tuple[SourceHealth, ...] = ()  # a recording has no sources that could fail
    clock_offset_s = 0.0

    def __init__(self, market: MarketData) -> None:
        self._market = market
        self._open_time = open_times(market.candles)

    async def collect(self, at: int) -> MarketSnapshot:
        """The newest bars up to the one that closed at `at` (microseconds), slow rows as known then.

        Raises
        ------
        MissingBars
            The recording has no bar that closed at `at`.
        """
        newest = int(np.searchsorted(self._open_time, at - BAR_US))
        if newest == len(self._open_time) or self._open_time[newest] != at - BAR_US:
            raise MissingBars(
                f"the bar that closed at {moment(at)} is not in the feed, so nothing is decided on it",
                MEND,
            )
        oldest = max(0, newest + 1 - HISTORY_BARS)
        return MarketSnapshot(at, self._market.between(int(self._open_time[oldest]), at))
