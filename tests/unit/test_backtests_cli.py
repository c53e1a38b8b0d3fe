"""`acmf train`, `tune` and `backtest` on a small lake."""

import json

import pytest
from small_walk_forward import CONFIG, TRAIN, market

from acmf_cli.main import main
from acmf_core.lake import Lake
from acmf_core.lake.tables import candle_rows, funding_rows
from acmf_core.models import Bundle
from acmf_core.trading import TradeParams


def toml(values):
    """Nested plain values as TOML."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    return lines, {key: value for key, value in values.items() if isinstance(value, dict)}


def write_toml(path, values, prefix=""):
    lines, sections = toml(values)
    text = "\n".join(lines) + "\n"
    for name, inner in sections.items():
        text += f"[{prefix}{name}]\n" + write_toml(None, inner, f"{prefix}{name}.")
    if path is not None:
        path.write_text(text)
    return text


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with a lake and a configuration for tiny trainings."""
    folder = tmp_path_factory.mktemp("research")
    lake = Lake(folder / "data_lake" / "store")
    lake.merge("candles", candle_rows(market().candles, "BTCUSDT"), source="test")
    lake.merge("funding", funding_rows(market().funding, "BTCUSDT"), source="test")
    sizes = CONFIG.model_dump(
        mode="json", include={"folds", "train_days", "test_days", "holdout_days", "workers"}
    )
    tuning = {"trials": 2, "min_trades": 1}
    values = {"walk_forward": sizes, "train": TRAIN.model_dump(mode="json"), "tune": tuning}
    write_toml(folder / "acmf.toml", values)
    return folder


def run(home, monkeypatch, capsys, *arguments):
    monkeypatch.chdir(home)
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def test_train_writes_a_bundle_that_loads_with_the_tuned_parameters(home, monkeypatch, capsys):
    code, out, err = run(home, monkeypatch, capsys, "train", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    bundle = Bundle.load(home / told["bundle"])
    assert bundle.params == told["params"]
    assert TradeParams.from_dict(bundle.params)
    assert bundle.manifest["lake_versions"]["candles"] >= 0


def test_tune_shows_its_trials_and_takes_the_training_from_where_train_left_it(home, monkeypatch, capsys):
    code, out, _ = run(home, monkeypatch, capsys, "tune", "--trials", "3")
    assert code == 0
    assert "log-loss on the calibration block" in out
    assert "min_confidence_ranging" in out


def test_backtest_tells_folds_and_counts_and_keeps_the_ledger(home, monkeypatch, capsys):
    code, out, err = run(home, monkeypatch, capsys, "backtest", "--folds", "1", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert set(told["metrics"]) == {"directional", "temperature", "tabular_only"}
    assert (len(told["folds"]), told["trials"], told["evaluations"]) == (1, 2, 3)
    ledger = home / "state" / "walk_forward" / "trials.jsonl"
    assert len(ledger.read_text().splitlines()) == 1 + 3
    code, out, _ = run(home, monkeypatch, capsys, "backtest", "--folds", "1", "--report", "pages/report.html")
    assert code == 0
    assert "3 evaluations" in out  # the same run again is no new trial
    assert "BTCUSDT" in (home / "pages" / "report.html").read_text()


def test_train_with_evidence_carries_what_the_gate_reads(home, monkeypatch, capsys):
    code, out, err = run(home, monkeypatch, capsys, "train", "--evidence", "--json")
    assert (code, err) == (0, "")
    evidence = Bundle.load(home / json.loads(out)["bundle"]).evidence
    assert evidence["symbol"] == "BTCUSDT"
    assert len(evidence["folds"]) == 2
    assert evidence["by_calibration"]["temperature"]["holdout"]


def test_evidence_and_a_window_of_ones_own_exclude_each_other(home, monkeypatch, capsys):
    code, _, err = run(home, monkeypatch, capsys, "train", "--evidence", "--from", "2020-02-01")
    assert code == 2
    assert "leave --from and --to away" in err


def test_a_folder_that_is_no_bundle_is_refused_before_training(home, monkeypatch, capsys):
    (home / "letters").mkdir(exist_ok=True)
    code, _, err = run(home, monkeypatch, capsys, "train", "--out", "letters")
    assert code == 2
    assert "is not a bundle" in err


def test_a_window_before_the_first_bar_is_one_line_and_code_2(home, monkeypatch, capsys):
    code, out, err = run(home, monkeypatch, capsys, "train", "--from", "2019-01-01")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "2020-01-01" in err


def test_too_many_folds_are_one_line_and_code_2(home, monkeypatch, capsys):
    code, _, err = run(home, monkeypatch, capsys, "backtest", "--folds", "20")
    assert code == 2
    assert "days of bars are too few" in err


def test_an_empty_lake_is_one_line_and_no_half_written_state(tmp_path, monkeypatch, capsys):
    code, _, err = run(tmp_path, monkeypatch, capsys, "backtest")
    assert code == 2
    assert "acmf data" in err
    assert not (tmp_path / "state").exists()
