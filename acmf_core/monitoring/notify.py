"""Ways to reach a person."""

import logging

from acmf_core.domain import Alert

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}


class LogNotifier:
    """Writes alerts to the log (port `Notifier`): the messenger that is always there.

    Parameters
    ----------
    logger : logging.Logger, optional
        Default: `acmf.alerts`.
    loudest : int
        Nothing is logged above this level: alerts about the past (a replay) wake nobody.
    """

    def __init__(self, logger: logging.Logger | None = None, *, loudest: int = logging.CRITICAL) -> None:
        self._log = logger if logger is not None else logging.getLogger("acmf.alerts")
        self._loudest = loudest

    def send(self, alert: Alert) -> None:
        """Never raises; an unknown level is logged as a warning."""
        level = _LEVELS.get(alert.level, logging.WARNING)
        self._log.log(min(level, self._loudest), "%s", alert.text)
