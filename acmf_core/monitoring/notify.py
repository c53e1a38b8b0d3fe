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
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger if logger is not None else logging.getLogger("acmf.alerts")

    def send(self, alert: Alert) -> None:
        """Never raises; an unknown level is logged as a warning."""
        self._log.log(_LEVELS.get(alert.level, logging.WARNING), "%s", alert.text)
