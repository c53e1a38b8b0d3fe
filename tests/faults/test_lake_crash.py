"""Writers that are killed, and writers that meet: nothing is torn, nothing committed is lost."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST

from acmf_core.lake import Lake
from acmf_core.lake.quality import gaps

TESTS = Path(__file__).resolve().parent.parent
CHUNK = 40

# The parent imports once and never touches delta-rs (its runtime does not survive a fork); every child
# merges chunk after chunk, says so, gathers small files now and then, and is killed at a random moment.
KILLED_WRITERS = """
import os, random, select, signal, sys, time
import pandas as pd
import acmf_core.lake.lake
from lake_rows import FIRST, rows
from acmf_core.lake import Lake

uri, kills, chunk = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(11)
for _ in range(kills):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        lake = Lake(uri)
        while True:
            held = len(lake.read("candles", columns=["open_time"]))
            lake.merge("candles", rows(chunk, FIRST + held * pd.Timedelta(minutes=15), price=100.0 + held))
            os.write(into, f"{held + chunk}\\n".encode())
            if held // chunk % 2:
                lake.compact(target_bytes=200_000)
    os.close(into)
    said = b""
    while not said.endswith(b"\\n"):
        said += os.read(out, 64)
    time.sleep(random.uniform(0.0, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(out, 4096):
        said += part
    os.close(out)
    print(said.split()[-1].decode(), flush=True)
"""


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_writers_killed_at_random_tear_nothing_and_lose_nothing_committed(tmp_path: Path, kills: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, str(tmp_path / "lake"), str(kills), str(CHUNK)],
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    committed = [int(line) for line in run.stdout.split()]
    assert len(committed) == kills
    lake = Lake(tmp_path / "lake")
    held = lake.read("candles")
    assert len(held) >= committed[-1]
    assert len(held) % CHUNK == 0
    assert gaps(held["open_time"]).empty
    assert held["open"].tolist() == [100.0 + i for i in range(len(held))]
    history = lake.history("candles")
    gathered = history["note"].str.startswith("gathered").sum()
    assert gathered >= kills // 200  # most attempts are killed; some must have come through
    assert history["version"].tolist() == list(range(len(history)))[::-1]
    assert len(history) == 1 + len(held) // CHUNK + gathered  # one version a chunk, none without rows
    count = 0
    for version in range(1, len(history), 1 + kills // 40):
        rows = len(lake.read("candles", version=version, columns=["open_time"]))
        assert rows % CHUNK == 0
        assert rows >= count
        count = rows
    lake.compact()
    pd.testing.assert_frame_equal(lake.read("candles"), held)


MEETING_WRITER = """
import sys
import pandas as pd
from lake_rows import FIRST, rows
from acmf_core.lake import Lake

lake = Lake(sys.argv[1])
for part in range(1, 11):
    lake.merge("candles", rows(20 * part))
print("done")
"""


def test_writers_that_meet_leave_every_bar_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING_WRITER, str(tmp_path / "lake")],
            env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=60)
        assert out == "done\n", err
    held = Lake(tmp_path / "lake").read("candles")
    assert len(held) == 200
    assert not held["open_time"].duplicated().any()
    assert held["open_time"].iloc[-1] == FIRST + 199 * pd.Timedelta(minutes=15)
