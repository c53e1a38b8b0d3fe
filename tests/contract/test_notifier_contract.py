"""What every Notifier must do."""

import logging

import pytest
from fakes import FakeNotifier

from acmf_core.domain import Alert
from acmf_core.monitoring.notify import LogNotifier
from acmf_core.ports import Notifier


@pytest.mark.parametrize("notifier", [LogNotifier(), FakeNotifier()], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("level", ["info", "warning", "critical", "shout", ""])
def test_a_notifier_takes_any_alert_without_raising(notifier, level):
    assert isinstance(notifier, Notifier)
    notifier.send(Alert(level, "100 % of {nothing} %s"))


def test_the_log_carries_text_and_level_as_they_are(caplog):
    with caplog.at_level(logging.INFO, logger="acmf.alerts"):
        LogNotifier().send(Alert("critical", "stopped at 5 %"))
        LogNotifier().send(Alert("shout", "unknown level"))
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert said == [(logging.CRITICAL, "stopped at 5 %"), (logging.WARNING, "unknown level")]


def test_alerts_about_the_past_wake_nobody(caplog):
    with caplog.at_level(logging.INFO, logger="acmf.alerts"):
        LogNotifier(loudest=logging.INFO).send(Alert("critical", "stopped"))
    assert [record.levelno for record in caplog.records] == [logging.INFO]
