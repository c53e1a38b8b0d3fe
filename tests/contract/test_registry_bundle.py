"""A real bundle through `acmf models` and MLflow: promoted, loaded as a pyfunc, rolled back, refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_model
from made_records import made_result

from acmf_cli.main import main
from acmf_core.collect.history import warmup_bars
from acmf_core.collect.synthetic import synthetic_market
from acmf_core.lake import Lake
from acmf_core.lake.tables import candle_rows
from acmf_core.models import Bundle
from acmf_core.store.registry import DirectoryRegistry
from acmf_core.trading import TradeParams
from backtests.evidence import gather

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    return gather(made_result(days=60), symbol="BTCUSDT")


@pytest.fixture(scope="module")
def bundle(evidence: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "one"
    return small_model.fitted().save(
        path, params=TradeParams().to_dict(), evidence=evidence, lake_versions={"candles": 1}
    )


@pytest.fixture
def run(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `acmf` in a fresh folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("state").mkdir()
    shutil.copy(mlflow_template, "state/mlflow.db")

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return command


def test_promotion_by_override_listing_loading_and_rollback(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = run("models", "promote", bundle, "--override", "--reason", "paper only", "--json")
    done = json.loads(out)
    assert code == 0
    assert (done["gate"], done["override_reason"], done["version"]) == ("overridden", "paper only", "1")
    assert len(done["checks"]) == 12
    assert done["checks"][0]["verdict"] is True

    code, out, _ = run("models", "list", "--json")
    (row,) = json.loads(out)["versions"]
    assert row["aliases"] == ["champion"]
    assert row["override_reason"] == "paper only"
    assert row["for"] == "paper"
    code, out, _ = run("models", "list")
    assert "by override, paper only: paper only" in out
    code, out, _ = run("models", "show", "champion")
    assert "out-of-sample trades" in out

    exported = DirectoryRegistry("state/models").resolve("champion")
    assert exported is not None
    assert Path(exported.path).resolve() == Path(done["exported"]).resolve()
    assert Bundle.load(exported.path).hash == done["bundle"]

    import mlflow

    uri = f"sqlite:///{tmp_path / 'state' / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model("models:/acmf@champion")
    finally:
        mlflow.set_tracking_uri(before)
    features = small_model.rows(3000, 3120)
    table = features.tabular.assign(open_time=features.tabular.index.asi8).reset_index(drop=True)
    expected = Bundle.load(bundle).predict(features).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        model.predict(table[list(reversed(table.columns))]), expected, check_exact=True
    )
    assert np.isfinite(expected.to_numpy()).any()

    code, _, err = run("models", "rollback")
    assert code == 1
    assert "no previous champion" in err


def test_a_refusal_prints_every_check_names_what_is_missing_and_leaves_nothing(
    run: Run, bundle: Path
) -> None:
    code, out, err = run("models", "promote", bundle)
    assert code == 1
    assert out.count("(asked: ") == 12
    assert err.startswith("acmf: ")
    assert err.count("\n") == 1
    assert "checks failed" in err
    assert "replay parity" in err
    code, out, _ = run("models", "promote", bundle, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["promoted"] is False
    assert found["gate"] == "refused"
    assert json.loads(run("models", "list", "--json")[1]) == {"versions": []}
    assert "no model is registered yet" in run("models", "list")[1]


def test_promotion_replays_the_newest_days_of_the_lake_itself(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acmf_cli.replay.DEFAULT_DAYS", 1)
    made = synthetic_market(warmup_bars() + 192, seed=3)
    Lake("data_lake/store").merge("candles", candle_rows(made.candles, "BTCUSDT"))
    checks = json.loads(run("models", "promote", bundle, "--json")[1])["checks"]
    (parity,) = (check for check in checks if check["name"] == "replay parity")
    assert parity["verdict"] is None  # a day is not the thirty that are asked
    assert "the replay has 96 of 2880 cycles" in parity["detail"]


def test_a_bundle_with_one_byte_changed_is_refused_in_one_line_override_or_not(
    run: Run, bundle: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    file = broken / "booster.ubj"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    for extra in ((), ("--override", "--reason", "please")):
        code, _, err = run("models", "promote", broken, *extra)
        assert code == 1
        assert err.count("\n") == 1
        assert "booster.ubj" in err
    assert json.loads(run("models", "list", "--json")[1]) == {"versions": []}


def test_wrong_usage_is_exit_code_two_and_names_the_mend(run: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1, 2]", encoding="utf-8")
    for arguments, word in (
        (("promote", bundle, "--override"), "--reason"),
        (("promote", bundle, "--reason", "x"), "--override"),
        (("promote", bundle, "--replay", "nowhere.json"), "cannot be read"),
        (("promote", bundle, "--replay", "list.json"), "no JSON object"),
        (("promote", bundle, "--live", "--override", "--reason", "x"), "paper only"),
    ):
        code, _, err = run("models", *arguments)
        assert code == 2
        assert word in err
    code, _, err = run("models", "promote", tmp_path)
    assert (code, "no bundle" in err) == (1, True)
    code, _, err = run("models", "show", "champion")
    assert (code, 'no model version or alias "champion"' in err) == (1, True)
