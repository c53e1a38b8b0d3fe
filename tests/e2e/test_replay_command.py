"""`acmf replay` as a person or a script runs it: files in, figures out, one line for every mistake."""

import json
import shutil

import pandas as pd
import pytest
import small_model
from replaying import PARAMS

from acmf_cli.main import main
from acmf_core.collect.synthetic import synthetic_market
from production import daemon

BARS = 13_300


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Bars, funding and a trained bundle on disk."""
    folder = tmp_path_factory.mktemp("replay")
    market = synthetic_market(BARS, seed=9)
    market.candles.reset_index().to_parquet(folder / "bars.parquet")
    market.funding[["event_time", "funding_rate"]].rename(columns={"event_time": "funding_time"}).to_parquet(
        folder / "funding.parquet"
    )
    small_model.fitted().save(folder / "bundle", params=PARAMS.to_dict(), evidence={}, lake_versions={})
    return folder


@pytest.fixture
def acmf(capsys, tmp_path, monkeypatch):
    """Runs the command in an empty folder; returns exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture
def command(files):
    return (
        "replay",
        "--candles",
        files / "bars.parquet",
        "--funding",
        files / "funding.parquet",
        "--bundle",
        files / "bundle",
        "--from",
        "2020-05-17T12:00",
        "--to",
        "2020-05-18",
    )


def test_json_is_one_object_on_stdout_and_nothing_else(acmf, command, tmp_path):
    code, out, err = acmf(*command, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["cycles"] == said["ran"] == 48
    assert said["differences"] == 0
    assert said["first_difference"] is None
    assert said["trades"] >= 1
    assert said["journal"] is True
    assert (said["from"], said["to"]) == ("2020-05-17 12:00 UTC", "2020-05-18 00:00 UTC")
    assert len(said["bundle"]) == 64
    assert said["seconds"] > 0
    assert said["equity"] != 10_000.0
    assert list(tmp_path.iterdir()) == []  # no set-up needed, nothing left behind


def test_a_person_gets_a_table(acmf, command):
    code, out, _ = acmf(*command)
    assert code == 0
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert {name.strip() for name in lines} >= {"cycles", "trades", "differences from simulate", "journal"}
    assert lines["differences from simulate"].strip() == "0"


def test_a_kept_store_is_gone_on_with(acmf, command, tmp_path):
    code, out, _ = acmf(*command, "--store", "kept/replay.db", "--json")
    first = json.loads(out)
    assert (tmp_path / "kept" / "replay.db").is_file()
    longer = [*command[:-1], "2020-05-18T03:00", "--store", "kept/replay.db", "--json"]
    code, out, _ = acmf(*longer)
    second = json.loads(out)
    assert code == 0
    assert (first["ran"], second["ran"], second["cycles"], second["differences"]) == (48, 12, 60, 0)


def test_a_difference_is_exit_code_1_with_its_place(acmf, command, monkeypatch):
    """The command tells the truth when replay and simulate disagree."""
    honest = daemon.simulated

    def off_by_a_hair(*arguments):
        expected = honest(*arguments)
        expected.result.equity[7] += 1e-9
        return expected

    monkeypatch.setattr(daemon, "simulated", off_by_a_hair)
    code, out, _ = acmf(*command, "--json")
    said = json.loads(out)
    assert (code, said["differences"]) == (1, 1)
    assert said["first_difference"]["bar"] == "2020-05-17 13:45 UTC"
    code, out, _ = acmf(*command)
    assert code == 1
    assert "first difference: 2020-05-17 13:45 UTC, cycles.equity" in out


def test_one_changed_byte_in_the_bundle_is_refused(acmf, command, files, tmp_path):
    shutil.copytree(files / "bundle", tmp_path / "bundle")
    victim = tmp_path / "bundle" / "booster.ubj"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    arguments = [tmp_path / "bundle" if a == files / "bundle" else a for a in command]
    code, out, err = acmf(*arguments, "--json")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "booster.ubj" in err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--from": "yesterday"}, 2, "'yesterday' is no date; write 2024-12-01"),
        ({"--from": "2020-05-18", "--to": "2020-05-18"}, 2, "--from must lie before --to"),
        ({"--to": "2030-01-01"}, 2, "those there are: 2020-01-01 00:00 UTC to 2020-05-18 13:00 UTC"),
        ({"--from": "2019-01-01"}, 2, "no bars for a replay from 2019-01-01 00:00 UTC"),
        ({"--candles": "nowhere.parquet"}, None, "nowhere.parquet"),
        ({"--bundle": "nowhere"}, 1, "nowhere"),
        ({"--store": "."}, 2, "is a directory"),
    ],
)
def test_a_mistake_is_one_line_with_its_cause(acmf, command, tmp_path, change, code, words):
    arguments = list(command)
    for option, value in change.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value]
    stopped, out, err = acmf(*arguments)
    assert stopped == code if code is not None else stopped in (2, 3)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_a_gap_in_the_file_is_refused(acmf, command, files, tmp_path):
    bars = pd.read_parquet(files / "bars.parquet")
    bars.drop(index=BARS - 100).to_parquet(tmp_path / "holed.parquet")
    arguments = [tmp_path / "holed.parquet" if a == files / "bars.parquet" else a for a in command]
    code, out, err = acmf(*arguments)
    assert (code, out) == (2, "")
    assert "missing" in err
    assert len(err.splitlines()) == 1
