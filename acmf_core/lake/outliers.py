"""Bars that stand out: measured in robust units of the week before them, so that outliers hide no outlier.

The usual move is the median absolute close-to-close log return, the usual volume the median of its logarithm
with the median absolute deviation (MAD) around it; both of the USUAL_BARS before the bar.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

LEAP_MULTIPLE: Final = 25.0
SEAM_MULTIPLE: Final = 10.0
FLOOD_DEVIATIONS: Final = 6.0  # of log volume; volume has a long right tail and a short left one
DROUGHT_DEVIATIONS: Final = 4.0
USUAL_BARS: Final = 672  # seven days of 15m bars
CONTEXT_BARS: Final = 2 * USUAL_BARS + 2  # the deviation of a volume looks back twice
NORMAL: Final = 1.4826  # MAD -> standard deviation of a normal distribution

_FEWEST: Final = 20
_LEAST_MOVE: Final = 1e-5  # a dead market must not make every tick a jump
_LEAST_DEVIATION: Final = 0.05

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


class Outliers(NamedTuple):
    """One entry a bar.

    seam: opens far from the last close. leap: closes far from it. flood, drought: far more or far less volume
    than usual. change: close-to-close simple return. moves: its log in usual moves, signed.
    """

    seam: Booleans
    leap: Booleans
    flood: Booleans
    drought: Booleans
    change: Floats
    moves: Floats

    def since(self, bar: int) -> "Outliers":
        """The entries from `bar` on."""
        return Outliers(
            self.seam[bar:], self.leap[bar:], self.flood[bar:], self.drought[bar:], self.change[bar:],
            self.moves[bar:],
        )  # fmt: skip


def outliers(opens: Floats, closes: Floats, volumes: Floats, usable: Booleans) -> Outliers:
    """What stands out among bars in time order; a bar that is not `usable` is never marked.

    Bars with fewer than twenty before them are not judged.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_open = np.where(usable, np.log(opens), np.nan)
        log_close = np.where(usable, np.log(closes), np.nan)
        log_volume = np.where(usable & (volumes > 0), np.log(volumes), np.nan)
    move = np.diff(log_close, prepend=np.nan)
    gap = np.abs(log_open - np.concatenate([[np.nan], log_close[:-1]]))
    usual = np.maximum(_before(np.abs(move)), _LEAST_MOVE)
    surprise = log_volume - _before(log_volume)
    deviation = np.maximum(NORMAL * _before(np.abs(surprise)), _LEAST_DEVIATION)
    with np.errstate(invalid="ignore"):
        return Outliers(
            seam=gap > SEAM_MULTIPLE * usual,
            leap=np.abs(move) > LEAP_MULTIPLE * usual,
            flood=surprise > FLOOD_DEVIATIONS * deviation,
            drought=surprise < -DROUGHT_DEVIATIONS * deviation,
            change=np.expm1(move),
            moves=move / usual,
        )


def _before(values: Floats) -> Floats:
    """The median of the USUAL_BARS before each bar."""
    median = pd.Series(values).rolling(USUAL_BARS, min_periods=_FEWEST).median().shift(1)
    return median.to_numpy(dtype=np.float64)
