"""The command line: one line and an exit code for every way to be wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import acmf_cli.main as program
from acmf_core.errors import ModelNotReady, PromotionRefused, VenueUnavailable


def acmf(*arguments, cwd=None):
    command = [sys.executable, "-c", "from acmf_cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=60)


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom acmf_cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'torch', 'pydantic', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for name in program.COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", sorted(program.COMMANDS))
def test_every_command_exists_and_explains_itself(name):
    done = acmf(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: acmf" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nope"], 2, "No such command 'nope'"),
        (["config", "show", "--bad"], 2, "No such option"),
        (["--config", "nope.toml", "config", "show"], 2, "no configuration file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(tmp_path, arguments, code, words):
    done = acmf(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_key_in_the_file_is_named_with_its_mend(tmp_path):
    (tmp_path / "acmf.toml").write_text("[market]\nsymbl = 'ETHUSDT'\n")
    done = acmf("config", "show", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'unknown key "market.symbl"; did you mean "symbol"?' in done.stderr


def test_config_show_as_json_is_one_object(tmp_path):
    done = acmf("config", "show", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["market.symbol"] == {"value": "BTCUSDT", "from": "default"}
    assert json.loads(done.stdout)["sources.deadline_s"]["value"] == 20.0
    assert json.loads(done.stdout)["anthropic.api_key"]["value"] == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PromotionRefused("no"), 1),
        (ModelNotReady("no bundle"), 1),
        (VenueUnavailable("no answer"), 3),
        (PermissionError(13, "Permission denied", "/x"), 3),
        (ZeroDivisionError("float division"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_is_one_line_and_its_exit_code(monkeypatch, capsys, error, code):
    monkeypatch.setattr(program.cli, "main", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit) as stop:
        program.main(["x"])
    assert stop.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


def test_debug_shows_the_traceback_and_keeps_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(program.cli, "main", lambda *_, **__: 1 / 0)
    with pytest.raises(SystemExit) as left:
        program.main(["x", "--debug"])
    assert left.value.code == 3
    assert "ZeroDivisionError" in capsys.readouterr().err.splitlines()[-2]


def test_help_answers_at_once():
    started = time.perf_counter()
    acmf("--help", cwd=Path.cwd())
    assert time.perf_counter() - started < 3.0  # a stuck import, not a benchmark: the goal is 0.3 s
