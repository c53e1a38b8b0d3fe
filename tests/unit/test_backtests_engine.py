"""Fan-out: order, progress, errors, engines, and what an interruption leaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from acmf_core.errors import ConfigError, DataError
from backtests.engine import UNITS, fan_out


def square(number, report):
    report(0.5)
    return number * number, os.getpid(), os.environ.get("NUMBA_NUM_THREADS")


def refuse(number, report):
    raise DataError(f"task {number} has no data", "bring some")


def report_wildly(report):
    for share in (0.4, 0.2, 7.0, -1.0):
        report(share)


def test_results_come_in_the_order_of_the_tasks():
    found = fan_out(square, [(3,), (1,), (2,)], workers=1)
    assert [value for value, _, _ in found] == [9, 1, 4]
    assert {pid for _, pid, _ in found} == {os.getpid()}  # one worker runs here


def test_two_workers_are_other_processes_with_one_thread_each():
    found = fan_out(square, [(3,), (1,), (2,)], workers=2)
    assert [value for value, _, _ in found] == [9, 1, 4]
    assert os.getpid() not in {pid for _, pid, _ in found}
    assert {threads for _, _, threads in found} == {"1"}


def test_an_error_of_a_task_comes_out_as_it_is_from_this_and_from_other_processes():
    for workers in (1, 2):
        with pytest.raises(DataError, match="has no data") as caught:
            fan_out(refuse, [(0,), (1,)], workers=workers)
        assert caught.value.fix == "bring some"


def test_progress_only_grows_stays_within_bounds_and_ends_at_the_total():
    heard = []
    fan_out(report_wildly, [(), ()], stage="folds", workers=1, progress=lambda *word: heard.append(word))
    assert heard[-1] == ("folds", 2 * UNITS, 2 * UNITS)
    done = [word[1] for word in heard]
    assert done == sorted(done)
    assert max(done) <= 2 * UNITS


def test_the_listening_thread_ends_with_the_work_also_after_an_error():
    with pytest.raises(DataError):
        fan_out(refuse, [(0,)], workers=1, progress=lambda *_: None)
    assert not [thread for thread in threading.enumerate() if thread.name == "acmf-progress"]


SLEEPERS = """
import time
from backtests.engine import fan_out

def sleep(seconds, report):
    report(0.5)
    time.sleep(seconds)

if __name__ == "__main__":
    fan_out(sleep, [(60,), (60,)], workers=2, progress=lambda *word: print(word[1], flush=True))
"""


def test_ctrl_c_ends_the_parent_and_its_workers_at_once(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    run = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in run.stdout:
        if int(line) == UNITS:  # both are in the middle of their sleep
            break
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    assert run.returncode != 0
    assert not still_alive(run.pid)


def still_alive(group):
    """Whether a process of the group is left; workers get a moment to go."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def test_no_tasks_are_no_work():
    assert fan_out(square, []) == []


def test_a_dask_engine_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="Dask") as caught:
        fan_out(square, [(1,)], engine="dask://host:8786")
    assert "local" in caught.value.fix
