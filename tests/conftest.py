"""Shared by every test: where the real market data lie."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded market data; a test that needs it is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recorded market data at {folder}")
    return folder


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database with all its tables, made once: the migrations take seconds."""
    from acmf_core.store.mlflow_registry import MlflowRegistry

    file = tmp_path_factory.mktemp("mlflow") / "template.db"
    assert MlflowRegistry(f"sqlite:///{file}").versions() == []
    return file
