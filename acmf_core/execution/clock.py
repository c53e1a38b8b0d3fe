"""What time it is. The only file of the house that reads the system clock."""

import time

from acmf_core.errors import ConfigError


class SystemClock:
    """The machine's clock (port `Clock`)."""

    def now(self) -> int:
        """Microseconds since the epoch."""
        return time.time_ns() // 1_000


class ReplayClock:
    """A clock that stands still until it is moved (port `Clock`).

    Parameters
    ----------
    start : int
        Microseconds since the epoch.
    """

    def __init__(self, start: int) -> None:
        self._now = start

    def now(self) -> int:
        """Microseconds since the epoch."""
        return self._now

    def advance_to(self, moment: int) -> None:
        """Move to `moment`, microseconds since the epoch.

        Raises
        ------
        ConfigError
            `moment` lies in this clock's past: past bars are replayed in order.
        """
        if moment < self._now:
            raise ConfigError(
                f"a replay clock at {self._now} us cannot go back to {moment} us", "replay the bars in order"
            )
        self._now = moment
