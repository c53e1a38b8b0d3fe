"""The house's own promises: one set of pins, a self-documenting Makefile, no shadowed library."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {canonical(re.match(r"[A-Za-z0-9_.-]+", wish).group()) for group in groups for wish in group}


def test_everything_declared_is_pinned():
    assert declared() <= set(pins())


def test_torch_is_pinned_without_a_local_build_so_that_every_index_can_serve_it():
    assert pins()["torch"] == "2.13.0"


def test_conda_and_pip_install_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    inner = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    wanted = dict(entry.split("==") for entry in inner if "==" in entry)
    assert set(wanted) == declared()
    assert wanted == {name: pins()[name] for name in wanted}
    assert "--constraint constraints.txt" in inner


def test_what_is_installed_here_is_what_is_pinned():
    assert requires("acmf"), "run make setup"
    from importlib.metadata import version

    found = {name: version(name).split("+")[0] for name in ("numpy", "pandas", "torch", "numba", "deltalake")}
    assert found == {name: pins()[name] for name in found}


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "bench", "lab", "clean"])
def test_make_help_names_every_target(target):
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in text


def test_the_mlflow_folder_holds_no_python_file_that_would_shadow_the_library():
    assert not list((ROOT / "mlflow").rglob("*.py"))


def test_the_licence_is_apache_2():
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
