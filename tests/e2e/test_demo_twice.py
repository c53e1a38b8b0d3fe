"""The demo from an empty folder, twice: it ends, it says what it found, and it finds the same again."""

import json
import subprocess
import sys

import pytest


def demo(folder):
    done = subprocess.run(
        [sys.executable, "-c", "from acmf_cli.main import main; main()", "demo", "--synthetic", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_same_demo_twice_gives_the_same_numbers(tmp_path):
    first, second = demo(tmp_path), demo(tmp_path)
    page = (tmp_path / first["report"]).read_text()
    assert "SYNTHETIC" in page
    assert first["synthetic"]
    assert first["replay"] == {"cycles": 2880, "trades": first["replay"]["trades"], "differences": 0}
    assert len(first["gate"]["checks"]) == 12
    for summary in (first, second):
        del summary["seconds"]
    assert first == second
