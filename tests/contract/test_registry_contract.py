"""What every model registry promises, over the directory, MLflow on SQLite, and the fake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeRegistry

from acmf_core.errors import ModelNotReady
from acmf_core.ports import ModelRegistry
from acmf_core.store.registry import DirectoryRegistry


def write_bundle(folder: Path, text: str) -> str:
    """A directory with a manifest: all that a registry asks of a bundle."""
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "weights.txt").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.fixture(params=["directory", "mlflow", "fake"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if request.param == "directory":
        return DirectoryRegistry(tmp_path / "registry")
    if request.param == "fake":
        return FakeRegistry()
    from acmf_core.store.mlflow_registry import MlflowRegistry

    (tmp_path / "a state folder").mkdir()  # a blank in the path is a real case
    file = tmp_path / "a state folder" / "mlflow.db"
    file.write_bytes(request.getfixturevalue("mlflow_template").read_bytes())
    return MlflowRegistry(f"sqlite:///{file}", tmp_path / "a state folder" / "artifacts")


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[[str], str]:
    def written(text: str) -> str:
        return write_bundle(tmp_path / "bundles" / text, text)

    return written


def test_a_new_registry_knows_no_version_and_no_alias(registry: ModelRegistry) -> None:
    assert registry.versions() == []
    assert registry.resolve("champion") is None


def test_a_registered_bundle_can_be_found_again_with_its_bytes_and_tags(
    registry: ModelRegistry, bundle: Callable[[str], str]
) -> None:
    version = registry.register(bundle("one"), {"gate": "passed"})
    registry.set_alias("champion", version)
    found = registry.resolve("champion")
    assert found is not None
    assert found.version == version
    assert found.tags["gate"] == "passed"
    assert (Path(found.path) / "weights.txt").read_text(encoding="utf-8") == "one"
    assert (Path(found.path) / "manifest.json").is_file()


def test_versions_come_oldest_first_and_each_keeps_its_own_bytes(
    registry: ModelRegistry, bundle: Callable[[str], str]
) -> None:
    given = [registry.register(bundle(text), {"name": text}) for text in ("a", "b", "c")]
    found = registry.versions()
    assert [d.version for d in found] == given
    assert [d.tags["name"] for d in found] == ["a", "b", "c"]
    assert [(Path(d.path) / "weights.txt").read_text(encoding="utf-8") for d in found] == ["a", "b", "c"]


def test_the_same_bundle_registered_twice_is_one_version_with_the_newer_tags(
    registry: ModelRegistry, bundle: Callable[[str], str]
) -> None:
    path = bundle("same")
    first = registry.register(path, {"gate": "refused", "kept": "yes"})
    assert registry.register(path, {"gate": "passed"}) == first
    (found,) = registry.versions()
    assert found.tags["gate"] == "passed"
    assert found.tags["kept"] == "yes"


def test_an_alias_moves_and_the_other_aliases_stay(
    registry: ModelRegistry, bundle: Callable[[str], str]
) -> None:
    one, two = (registry.register(bundle(text), {}) for text in ("one", "two"))
    registry.set_alias("champion", one)
    registry.set_alias("previous", one)
    registry.set_alias("champion", two)
    resolved: dict[str, Any] = {name: registry.resolve(name) for name in ("champion", "previous")}
    assert resolved["champion"].version == two
    assert resolved["previous"].version == one


def test_an_alias_cannot_point_at_a_version_that_is_not_there(
    registry: ModelRegistry, bundle: Callable[[str], str]
) -> None:
    registry.register(bundle("one"), {})
    with pytest.raises(ModelNotReady, match="version 7"):
        registry.set_alias("champion", "7")
    assert registry.resolve("champion") is None


def test_a_directory_without_a_manifest_is_no_bundle(registry: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotReady, match="no bundle"):
        registry.register(str(tmp_path / "empty"), {})
    assert registry.versions() == []
