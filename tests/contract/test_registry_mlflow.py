"""What only the MLflow registry does: runs, a signature with every column, loading without pickle."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from acmf_core.config import PathsConfig
from acmf_core.errors import AcmfError
from acmf_core.features import SCHEMA
from acmf_core.store.mlflow_registry import MlflowRegistry, signature, tracking_uri


@pytest.fixture
def registry(mlflow_template: Path, tmp_path: Path) -> MlflowRegistry:
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    return MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")


def test_a_run_keeps_its_parameters_metrics_tags_and_files(registry: MlflowRegistry, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    page = tmp_path / "report.html"
    page.write_text("<p>refused</p>", encoding="utf-8")
    run = registry.log_run(
        "walk-forward",
        params={"seed": 7, **{f"p{i}": i for i in range(120)}},
        metrics={"sharpe": -0.4, "pbo": None, "dsr": math.nan},
        artifacts={"": page},
        tags={"verdict": "refused"},
    )
    found = MlflowClient(registry.uri, registry.uri).get_run(run)
    assert found.info.status == "FINISHED"
    assert found.data.params["seed"] == "7"
    assert len(found.data.params) == 121
    assert found.data.metrics == {"sharpe": -0.4}
    assert found.data.tags["verdict"] == "refused"
    stored = list((tmp_path / "artifacts").rglob("report.html"))
    assert len(stored) == 1


def test_the_signature_names_every_column_once_and_in_the_schema_order() -> None:
    names = signature().inputs.input_names()
    assert names == ["open_time", *SCHEMA.tabular]
    assert signature().outputs.input_names() == ["p_long", "p_short", "p_neutral"]


def test_nothing_that_mlflow_stores_of_a_bundle_is_a_pickle(registry: MlflowRegistry, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    registry.register(str(folder), {})
    stored = [file.name for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]
    assert "MLmodel" in stored
    assert not [name for name in stored if name.endswith((".pkl", ".pickle", ".joblib"))]
    (model,) = (tmp_path / "artifacts").rglob("MLmodel")
    assert "loader_module: acmf_core.store.pyfunc" in model.read_text(encoding="utf-8")


def test_without_a_tracking_uri_everything_lies_under_the_state_folder(tmp_path: Path) -> None:
    paths = PathsConfig(state=str(tmp_path / "state"))
    assert tracking_uri(paths) == f"sqlite:///{tmp_path / 'state' / 'mlflow.db'}"
    given = PathsConfig(state=str(tmp_path), tracking_uri="http://tracking:5000")
    assert tracking_uri(given) == "http://tracking:5000"


def test_a_store_that_cannot_be_opened_is_one_error_that_hides_the_password(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text("this is no database", encoding="utf-8")
    with pytest.raises(AcmfError, match="the MLflow store sqlite"):
        MlflowRegistry(f"sqlite:///{file}").versions()


def test_the_daemons_registry_never_imports_mlflow() -> None:
    code = "import sys, acmf_core.store.registry, production.promote; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
