"""A trained model as a directory of plain files: what is promoted, and what the daemon trusts.

| file | holds |
|---|---|
| encoder.safetensors | weights and the standardiser |
| booster.ubj | the trees |
| params.json | TradeParams |
| schema.json | columns, selection, scaler, calibration, label and training configuration |
| evidence.json | walk-forward and gate figures |
| golden.npz | 32 inputs with the hidden states and probabilities expected of them |
| manifest.json | SHA-256 and size of each file, versions, commit, lake versions, fit spans, a seal |

No pickle anywhere, and no time stamp: the same seed, data and machine give the same `hash`. The hash names
what decides trades (encoder, booster, schema, golden, params); the seal covers the whole manifest.
"""

import json
import math
import os
import platform
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from acmf_core.config import EncoderConfig, TrainConfig
from acmf_core.domain import Span
from acmf_core.errors import ConfigError, ModelNotReady
from acmf_core.features import Features, schema_for
from acmf_core.fingerprint import file_hash, fingerprint
from acmf_core.models.calibration import Calibration, Kind
from acmf_core.models.encoder import Encoder
from acmf_core.models.splits import prove_no_overlap, stage_spans
from acmf_core.models.stack import Stack

if TYPE_CHECKING:
    from acmf_core.models.fit import Fitted

FORMAT: Final = 1
GOLDEN_TOLERANCE: Final = 1e-5
MANIFEST: Final = "manifest.json"
DECIDING: Final = ("booster.ubj", "encoder.safetensors", "golden.npz", "params.json", "schema.json")
FILES: Final = (*DECIDING, "evidence.json")
_LIBRARIES: Final = ("acmf", "numpy", "pandas", "safetensors", "torch", "xgboost")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified model, ready to predict.

    Attributes
    ----------
    path : Path
    stack : Stack
    config : TrainConfig
    params : dict
        TradeParams as plain values.
    evidence : dict
    manifest : dict
    """

    path: Path
    stack: Stack
    config: TrainConfig
    params: dict[str, Any]
    evidence: dict[str, Any]
    manifest: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> "Bundle":
        """Read a bundle and check everything before it may predict.

        Order: every file's SHA-256, the columns against the running code's schema, the overlap proof, and
        the golden predictions to 1e-5.

        Raises
        ------
        ModelNotReady
            When there is no bundle, a file is missing, changed or cut short, fit spans overlap, or this
            machine predicts something else than the one that wrote it.
        SchemaMismatch
            When the bundle was trained with other columns, in another order or with other definitions.
        """
        folder = Path(str(path).removeprefix("file://"))
        manifest = _verified_manifest(folder)
        schema = _json(folder / "schema.json")
        config = TrainConfig(**schema["train"])
        running = schema_for(config.features)
        running.compare(schema["schema"])
        prove_no_overlap({name: Span(*span) for name, span in manifest["spans"].items()})
        encoder = Encoder(EncoderConfig(**schema["train"]["encoder"]), len(running.sequence))
        booster = xgb.Booster()
        try:
            encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
            booster.load_model(folder / "booster.ubj")
        except (SafetensorError, RuntimeError, xgb.core.XGBoostError) as error:
            reason = str(error).splitlines()[0]
            raise ModelNotReady(f"{folder}: the model cannot be read ({reason})", _RETRAIN) from error
        encoder.eval()
        booster.set_param({"nthread": 1})
        selected = tuple(running.tabular.index(name) for name in schema["selected"])
        stack = Stack(encoder, booster, selected, Calibration(**schema["calibration"]), running)
        _check_goldens(folder, stack, manifest)
        return cls(
            folder, stack, config, _json(folder / "params.json"), _json(folder / "evidence.json"), manifest
        )

    def predict(self, features: Features, calibration: Kind | None = None) -> pd.DataFrame:
        """Probabilities p_long, p_short, p_neutral of every row; NaN where the window is not complete."""
        return self.stack.predict(features, calibration or self.config.calibration)

    def hidden(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Hidden states (m, 128) of windows (m, 192, 22)."""
        return self.stack.encoder.hidden(windows)

    @property
    def hash(self) -> str:
        """Names what decides trades: the same seed, data and machine give the same."""
        return str(self.manifest["hash"])

    @property
    def fingerprint(self) -> str:
        """Of the schema the model was trained with."""
        return self.stack.schema.fingerprint

    @property
    def spans(self) -> dict[str, Span]:
        """What each fitted thing saw."""
        return {name: Span(*span) for name, span in self.manifest["spans"].items()}


_RETRAIN = "train it again, or copy it again from where it was written"


def write(
    fitted: "Fitted",
    path: Path,
    *,
    params: Mapping[str, Any],
    evidence: Mapping[str, Any],
    lake_versions: Mapping[str, Any],
    commit: str,
) -> Path:
    """Write the bundle of a training beside `path`, then rename it there; an old bundle is replaced.

    Raises
    ------
    ConfigError
        When `path` is something else than a bundle or an empty folder, or cannot be written.
    """
    if path.exists() and not (path / MANIFEST).is_file() and not _is_empty_folder(path):
        raise ConfigError(f"{path} exists and is not a bundle", "choose another path")
    aside = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path} cannot be written ({reason})", "choose another path") from error
    try:
        _write_files(fitted, aside, params, evidence)
        _write_json(aside / MANIFEST, _manifest(fitted, aside, lake_versions, commit))
        if path.exists():
            old = path.with_name(f".{path.name}.old-{os.getpid()}")
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old)
        else:
            aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _write_files(
    fitted: "Fitted", folder: Path, params: Mapping[str, Any], evidence: Mapping[str, Any]
) -> None:
    stack, config = fitted.stack, fitted.config
    state = {name: value.contiguous() for name, value in stack.encoder.state_dict().items()}
    (folder / "encoder.safetensors").write_bytes(save(state))
    stack.booster.save_model(folder / "booster.ubj")
    _write_json(folder / "params.json", dict(params))
    _write_json(folder / "evidence.json", dict(evidence))
    scaler = {"mean": state["mean"].tolist(), "std": state["std"].tolist()}
    schema = {
        "schema": stack.schema.to_dict(),
        "fingerprint": stack.schema.fingerprint,
        "selected": [stack.schema.tabular[i] for i in stack.selected],
        "inputs": list(stack.inputs),
        "scaler": scaler,
        "calibration": stack.calibration.to_dict(),
        "neutral_multiple": fitted.k,
        "train": config.model_dump(mode="json"),
    }
    _write_json(folder / "schema.json", schema)
    golden: dict[str, Any] = fitted.golden | _answers(stack, fitted.golden)
    np.savez_compressed(folder / "golden.npz", **golden)


def _answers(stack: Stack, golden: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    hidden = stack.encoder.hidden(golden["windows"])
    kinds: tuple[Kind, ...] = ("directional", "temperature")
    return {"hidden": hidden} | {kind: stack.probabilities(hidden, golden["tabular"], kind) for kind in kinds}


def _manifest(
    fitted: "Fitted", folder: Path, lake_versions: Mapping[str, Any], commit: str
) -> dict[str, Any]:
    files = {
        name: {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size} for name in FILES
    }
    manifest = {
        "format": FORMAT,
        "files": files,
        "hash": _deciding_hash(files),
        "versions": _versions(),
        "commit": commit,
        "lake_versions": _plain(dict(lake_versions)),
        "window": [fitted.window.start, fitted.window.end],
        "spans": {name: [s.start, s.end] for name, s in stage_spans(fitted.spans).items()},
        "fingerprints": {"schema": fitted.stack.schema.fingerprint, "train": fitted.config.fingerprint},
        "seed": fitted.config.seed,
    }
    return manifest | {"seal": fingerprint(manifest)}


def _deciding_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    return fingerprint({name: files[name]["sha256"] for name in DECIDING})


def _verified_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, after every file it names was found whole."""
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise ModelNotReady(f"{folder} {what}", "name the directory of a bundle")
    if not (folder / MANIFEST).is_file():
        raise ModelNotReady(f"{folder} has no {MANIFEST}", "name the directory of a bundle")
    manifest = _json(folder / MANIFEST)
    seal = manifest.pop("seal", None)
    if not isinstance(manifest.get("files"), dict) or seal != fingerprint(manifest):
        raise ModelNotReady(f"{folder}: {MANIFEST} was changed after it was written", _RETRAIN)
    if manifest["format"] != FORMAT:
        raise ModelNotReady(
            f"{folder} has format {manifest['format']}, this code reads {FORMAT}", "use the code it came with"
        )
    for name in FILES:
        file, expected = folder / name, manifest["files"][name]
        if not file.is_file():
            raise ModelNotReady(f"{folder}: {name} is missing", _RETRAIN)
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise ModelNotReady(
                f"{folder}: {name} has {size} bytes, the manifest says {expected['bytes']}", _RETRAIN
            )
        digest = file_hash(file)
        if digest != expected["sha256"]:
            raise ModelNotReady(
                f"{folder}: {name} was changed (SHA-256 {digest[:12]}, the manifest says "
                f"{expected['sha256'][:12]})",
                _RETRAIN,
            )
    return manifest


def _check_goldens(folder: Path, stack: Stack, manifest: Mapping[str, Any]) -> None:
    try:
        with np.load(folder / "golden.npz", allow_pickle=False) as stored:
            golden = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelNotReady(f"{folder}: golden.npz cannot be read ({error})", _RETRAIN) from error
    for name, answer in _answers(stack, golden).items():
        off = float(np.abs(answer - golden[name]).max())
        if not off <= GOLDEN_TOLERANCE:
            changed = _changed_versions(manifest["versions"])
            why = f"; since then {changed}" if changed else ""
            raise ModelNotReady(
                f"{folder}: the golden predictions ({name}) differ by {off:.2g}, "
                f"at most {GOLDEN_TOLERANCE:g} is allowed{why}",
                "run the library versions it was trained with, or train it again",
            )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        found[name] = version("xgboost-cpu") if name == "xgboost" else version(name)
    return found


def _changed_versions(then: Mapping[str, str]) -> str:
    now = _versions()
    changed = [
        f"{name} {then[name]} -> {now.get(name)}" for name in sorted(then) if now.get(name) != then[name]
    ]
    return ", ".join(changed)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotReady(f"{path} cannot be read ({error})", _RETRAIN) from error
    if not isinstance(content, dict):
        raise ModelNotReady(f"{path} is not a JSON object", _RETRAIN)
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(_plain(dict(content)), indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """JSON values: numpy scalars unwrapped, NaN and infinity as null, as JSON knows neither."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
