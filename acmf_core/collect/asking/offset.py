"""How far this machine's clock is from the exchange's, and what a person hears of it (gate 10)."""

import math

from acmf_core.collect.asking.outages import Outages
from acmf_core.config import ExchangeConfig

CLOCK = "clock"
_BLOCKS = "clock-blocks"


class ClockOffset:
    """The offset as last measured.

    Parameters
    ----------
    config : ExchangeConfig
        From what offset on to warn, and what is wrong.
    outages : Outages
        Who tells of it.

    Attributes
    ----------
    seconds : float
        The exchange's clock minus ours; NaN where the latest collection could not measure it.
    wrong : bool
        Whether it is so far off, as last measured, that nothing is entered.
    """

    def __init__(self, config: ExchangeConfig, outages: Outages) -> None:
        self._config = config
        self._outages = outages
        self.seconds = math.nan
        self.wrong = False

    def meet(self, measured: float | None) -> None:
        """Keep the offset; warn of a clock that is off, louder where it blocks entries."""
        self.seconds = math.nan if measured is None else float(measured)
        off_by = abs(self.seconds)
        if math.isnan(off_by):
            return
        self.wrong = off_by > self._config.max_clock_offset_s
        if off_by <= self._config.warn_clock_offset_s:
            self._outages.end(_BLOCKS, "the clock is right again, entries are possible")
            self._outages.end(CLOCK, "the clock is right again")
            return
        side = "behind" if self.seconds > 0 else "ahead of"
        text = f"this machine's clock is {off_by:.1f} s {side} the exchange's; let NTP set it"
        if self.wrong:
            text += "; nothing is entered, and the lake keeps no rows of optional sources, until then"
            self._outages.begin(_BLOCKS, text, "critical")
        else:
            self._outages.begin(CLOCK, text)
