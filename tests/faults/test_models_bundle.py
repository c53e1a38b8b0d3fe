"""The bundle: round trip, and every way in which it is refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import small_model

from acmf_core.domain import Span
from acmf_core.errors import ConfigError, ModelNotReady, SchemaMismatch
from acmf_core.features import schema as schema_module
from acmf_core.fingerprint import file_hash, fingerprint
from acmf_core.models import Bundle
from acmf_core.models import bundle as bundle_module
from acmf_core.models.bundle import DECIDING, FILES, MANIFEST

GIVEN = {
    "params": {"min_ratio": 1.5},
    "evidence": {"dsr": 0.1, "nan": float("nan")},
    "lake_versions": {"candles": 3},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small_model.fitted().save(tmp_path_factory.mktemp("models") / "one", **GIVEN, commit="0" * 40)


@pytest.fixture
def copied(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def resealed(folder, change=None):
    """Make the manifest consistent again after a change, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("seal")
    for name in FILES:
        file = folder / name
        manifest["files"][name] = {"sha256": file_hash(file), "bytes": file.stat().st_size}
    manifest["hash"] = fingerprint({name: manifest["files"][name]["sha256"] for name in DECIDING})
    if change:
        change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"seal": fingerprint(manifest)}))


def test_a_loaded_bundle_predicts_the_bits_of_the_training_that_wrote_it(original):
    bundle, fitted = Bundle.load(original), small_model.fitted()
    rows = small_model.rows(3_000, 3_400)
    for kind in (None, "directional", "temperature"):
        pd.testing.assert_frame_equal(
            bundle.predict(rows, kind), fitted.predict(rows, kind), check_exact=True
        )
    windows, _ = rows.windows(small_model.WINDOW)
    np.testing.assert_array_equal(bundle.hidden(windows), fitted.stack.encoder.hidden(windows))
    assert bundle.params == GIVEN["params"]
    assert bundle.evidence == {"dsr": 0.1, "nan": None}
    assert bundle.manifest["lake_versions"] == {"candles": 3}
    assert bundle.manifest["commit"] == "0" * 40
    assert bundle.spans["encoder"] == fitted.spans["A"]
    assert bundle.spans["calibration"] == fitted.spans["C"]
    assert isinstance(bundle.spans["booster"], Span)
    assert bundle.fingerprint == small_model.features().schema.fingerprint


def test_the_hash_names_what_decides_trades_and_nothing_else(original, tmp_path):
    fitted = small_model.fitted()
    same = fitted.save(tmp_path / "two", **GIVEN | {"evidence": {"seconds": 12.3}}, commit="1" * 40)
    other = fitted.save(tmp_path / "three", **GIVEN | {"params": {"min_ratio": 1.6}}, commit="0" * 40)
    hashes = [Bundle.load(path).hash for path in (original, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_same_training_written_twice_is_the_same_byte_for_byte(original, tmp_path):
    again = small_model.fitted().save(tmp_path / "again", **GIVEN, commit="0" * 40)
    for name in (*FILES, MANIFEST):
        assert (again / name).read_bytes() == (original / name).read_bytes(), name


def test_a_bundle_loads_and_predicts_in_another_process_without_pickle_sklearn_or_mlflow(original):
    code = (
        "import sys, pickle\n"
        "def no(*a, **k): raise AssertionError('pickle was used')\n"
        "from acmf_core.models import Bundle\n"
        "pickle.load = pickle.loads = pickle.Unpickler = no\n"
        f"b = Bundle.load({str(original)!r})\n"
        "bad = {'mlflow', 'transformers', 'optuna', 'vectorbt'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "print(b.hash)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == Bundle.load(original).hash


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_one_changed_byte_in_any_file_is_refused_by_name(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 0x01
    (copied / name).write_bytes(bytes(content))
    with pytest.raises(ModelNotReady, match=name):
        Bundle.load(copied)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_or_shortened_file_is_refused_by_name(copied, name):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelNotReady, match=name):
        Bundle.load(copied)
    (copied / name).unlink()
    with pytest.raises(ModelNotReady, match=name):
        Bundle.load(copied)


def test_a_path_that_holds_no_bundle_is_refused(tmp_path):
    with pytest.raises(ModelNotReady, match="does not exist"):
        Bundle.load(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ModelNotReady, match="not a directory"):
        Bundle.load(file)
    with pytest.raises(ModelNotReady, match="has no manifest"):
        Bundle.load(tmp_path)


def test_a_bundle_trained_with_reordered_columns_is_refused_naming_the_first(copied):
    schema = json.loads((copied / "schema.json").read_text())
    columns = schema["schema"]["sequence"]
    columns[6], columns[7] = columns[7], columns[6]
    (copied / "schema.json").write_text(json.dumps(schema))
    resealed(copied)
    with pytest.raises(
        SchemaMismatch, match="channel 6 is bb_upper_10, the bundle was trained with bb_lower_10"
    ):
        Bundle.load(copied)


def test_code_whose_features_changed_refuses_the_bundle(original, monkeypatch):
    monkeypatch.setattr(
        schema_module,
        "_technical",
        lambda name, d, **p: schema_module.Feature(
            name, d, "technical", {"period": 8} if name == "rsi_7" else p
        ),
    )
    with pytest.raises(SchemaMismatch, match=r"channel 0 \(rsi_7\)"):
        Bundle.load(original)


def test_a_bundle_whose_fit_spans_overlap_is_refused(copied):
    def overlap(manifest):
        manifest["spans"]["booster"][0] = manifest["spans"]["encoder"][1]

    resealed(copied, overlap)
    with pytest.raises(ModelNotReady, match="booster saw labels from"):
        Bundle.load(copied)


def test_a_model_that_predicts_something_else_is_refused_and_says_what_changed(copied, original):
    other = small_model.fitted().stack.booster.copy()
    other[:1].save_model(copied / "booster.ubj")

    def older(manifest):
        manifest["versions"]["xgboost"] = "1.0.0"

    resealed(copied, older)
    with pytest.raises(ModelNotReady, match=r"golden predictions .* since then xgboost 1\.0\.0 -> "):
        Bundle.load(copied)
    Bundle.load(original)


@pytest.mark.parametrize(("name", "content"), [("encoder.safetensors", b"\x00" * 64), ("booster.ubj", b"{}")])
def test_a_model_file_of_nonsense_is_refused_even_with_a_matching_hash(copied, name, content):
    (copied / name).write_bytes(content)
    resealed(copied)
    with pytest.raises(ModelNotReady):
        Bundle.load(copied)


def test_a_golden_file_of_nonsense_is_refused(copied):
    (copied / "golden.npz").write_bytes(b"not a zip file")
    resealed(copied)
    with pytest.raises(ModelNotReady, match=r"golden\.npz cannot be read"):
        Bundle.load(copied)


def test_an_unknown_format_is_refused(copied):
    resealed(copied, lambda manifest: manifest.update(format=99))
    with pytest.raises(ModelNotReady, match="format 99"):
        Bundle.load(copied)


def test_writing_replaces_a_bundle_but_nothing_else(tmp_path):
    fitted = small_model.fitted()
    path = fitted.save(tmp_path / "model", **GIVEN)
    fitted.save(path, **GIVEN | {"params": {"min_ratio": 2.0}})
    assert Bundle.load(path).params == {"min_ratio": 2.0}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="not a bundle"):
        fitted.save(tmp_path / "mine", **GIVEN)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep me"
    (tmp_path / "empty").mkdir()
    Bundle.load(fitted.save(tmp_path / "empty", **GIVEN))
    with pytest.raises(ConfigError, match="cannot be written"):
        fitted.save(tmp_path / "mine" / "thesis.txt" / "model", **GIVEN)


def test_a_crash_while_writing_leaves_the_old_bundle_and_no_debris(tmp_path, monkeypatch):
    fitted = small_model.fitted()
    path = fitted.save(tmp_path / "model", **GIVEN)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(bundle_module, "_manifest", full)
    with pytest.raises(OSError, match="no space"):
        fitted.save(path, **GIVEN | {"params": {"min_ratio": 9.0}})
    assert Bundle.load(path).params == GIVEN["params"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
