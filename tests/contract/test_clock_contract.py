"""What every Clock must do."""

import datetime as dt

import pytest
from fakes import FakeClock

from acmf_core.errors import ConfigError
from acmf_core.execution.clock import ReplayClock, SystemClock
from acmf_core.ports import Clock

AT = 1_704_067_200_000_000


@pytest.mark.parametrize(
    "clock", [SystemClock(), ReplayClock(AT), FakeClock(AT)], ids=lambda c: type(c).__name__
)
def test_a_clock_says_whole_microseconds_and_never_goes_back(clock):
    assert isinstance(clock, Clock)
    times = [clock.now() for _ in range(100)]
    assert all(type(time) is int for time in times)
    assert times == sorted(times)


def test_the_system_clock_says_what_the_machine_says():
    before = dt.datetime.now(dt.UTC).timestamp()
    now = SystemClock().now() / 1e6
    assert before - 1e-3 <= now <= dt.datetime.now(dt.UTC).timestamp() + 1e-3


def test_a_replay_clock_stands_still_until_it_is_moved_and_only_moves_on():
    clock = ReplayClock(AT)
    assert clock.now() == AT
    clock.advance_to(AT + 5)
    clock.advance_to(AT + 5)
    assert clock.now() == AT + 5
    with pytest.raises(ConfigError, match="cannot go back"):
        clock.advance_to(AT)
