"""MLflow as model registry and run log. The only file of the house that imports mlflow.

Imported by research and by the command line only: the daemon reads the exported directory
(`registry.py`) and never pays for, or depends on, a tracking server. Every call goes through a client
bound to one URI; the process-wide tracking URI is not touched.
"""

import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

from acmf_core import __version__
from acmf_core.config import PathsConfig
from acmf_core.domain import PROBABILITIES, Deployment
from acmf_core.errors import AcmfError, ModelNotReady
from acmf_core.features import SCHEMA
from acmf_core.store.registry import CONTENT, content_hash

# MLflow takes these from the environment alone, while it is imported. Written here, never read: no
# usage reports leave the machine, and nothing that needs pickle can be loaded.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
with warnings.catch_warnings():  # of its own type hints and dependencies, while it is imported
    warnings.simplefilter("ignore")
    import mlflow.artifacts
    import mlflow.pyfunc
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

MODEL: Final = "acmf"
EXPERIMENT: Final = "acmf"
_LOADER: Final = "acmf_core.store.pyfunc"
_PARAMS_AT_ONCE: Final = 100
_METRICS_AT_ONCE: Final = 1000

for _noisy in ("mlflow", "alembic"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)


def tracking_uri(paths: PathsConfig) -> str:
    """The configured tracking URI, or SQLite under the state directory."""
    given = paths.tracking_uri.get_secret_value()
    return given or f"sqlite:///{(Path(paths.state) / 'mlflow.db').resolve()}"


def signature() -> ModelSignature:
    """Every column by name: open_time in microseconds, the 66 features; three probabilities out."""
    columns: list[ColSpec | TensorSpec] = [ColSpec("long", "open_time")]
    columns += [ColSpec("double", name) for name in SCHEMA.tabular]
    probabilities: list[ColSpec | TensorSpec] = [ColSpec("double", name) for name in PROBABILITIES]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(probabilities))


class MlflowRegistry:
    """Runs, versions and aliases on an MLflow tracking store (port `ModelRegistry`).

    Parameters
    ----------
    uri : str
        Tracking and registry URI; a SQLite file's folder and tables are made on first use.
    artifacts : Path, optional
        Where artifacts go; None leaves it to the server behind the URI. Bundles of a remote server
        are fetched into its `fetched` folder, or a temporary one.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self._artifacts = artifacts.resolve() if artifacts is not None else None
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        with _reported(uri):
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @classmethod
    def open(cls, paths: PathsConfig) -> "MlflowRegistry":
        """The configured registry; with no configuration a SQLite file and a folder under `state`."""
        local = not paths.tracking_uri.get_secret_value()
        return cls(tracking_uri(paths), Path(paths.state) / "mlflow" if local else None)

    def log_run(
        self,
        name: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        artifacts: Mapping[str, Path] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """One finished run; returns its id.

        Parameters
        ----------
        params, tags : mapping
            Values are stored as text.
        metrics : mapping
            Figures; None and NaN are left out.
        artifacts : mapping
            Folder inside the run ("" for its root) -> file or directory to store there.
        """
        with _reported(self.uri):
            run = self._client.create_run(self._experiment(), run_name=name)
            self._log(run.info.run_id, params or {}, metrics or {}, tags or {})
            for folder, path in (artifacts or {}).items():
                log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
                log(run.info.run_id, str(path), folder or None)
            self._client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def register(self, path: str, tags: Mapping[str, str]) -> str:
        """Store a bundle as a pyfunc model version; the same content again is the same version.

        Raises
        ------
        ModelNotReady
            The path is no bundle.
        AcmfError
            The tracking store cannot be reached or refused.
        """
        source = Path(path)
        content = content_hash(source)
        with _reported(self.uri):
            for known in self.versions():
                if known.tags.get(CONTENT) == content:
                    for key, value in tags.items():
                        self._client.set_model_version_tag(MODEL, known.version, key, value)
                    return known.version
            self._ensure_model()
            return self._store(source, {**tags, CONTENT: content})

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version. ModelNotReady when the version does not exist."""
        with _reported(self.uri):
            known = [deployment.version for deployment in self.versions()]
            if version not in known:
                raise ModelNotReady(
                    f"no model version {version} in {MODEL}", f"versions: {', '.join(known) or 'none'}"
                )
            self._client.set_registered_model_alias(MODEL, alias, version)

    def resolve(self, alias: str) -> Deployment | None:
        """What the alias points at with its bundle on this machine, or None."""
        with _reported(self.uri):
            version = self.aliases().get(alias)
            if version is None:
                return None
            found = self._client.get_model_version(MODEL, version)
            return Deployment(version, str(self._local(found)), dict(found.tags))

    def versions(self) -> list[Deployment]:
        """Everything registered, oldest first. The path is where the bundle is stored, maybe remote."""
        with _reported(self.uri):
            found = self._client.search_model_versions(f"name = '{MODEL}'", max_results=1000)
            ordered = sorted(found, key=lambda v: int(v.version))
            return [Deployment(str(v.version), _where(v.source), dict(v.tags)) for v in ordered]

    def aliases(self) -> dict[str, str]:
        """Alias to version."""
        with _reported(self.uri):
            found = self._client.search_registered_models(f"name = '{MODEL}'")
            return {a: str(v) for model in found for a, v in model.aliases.items()}

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(EXPERIMENT)
        if known is not None:
            return str(known.experiment_id)
        where = self._artifacts.as_uri() if self._artifacts is not None else None
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=where))

    def _ensure_model(self) -> None:
        if not self._client.search_registered_models(f"name = '{MODEL}'"):
            self._client.create_registered_model(MODEL, description="ACMF bundles; gates in the version tags")

    def _log(
        self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        texts = [Param(key, str(value)) for key, value in params.items()]
        figures = [
            Metric(key, float(value), 0, 0)
            for key, value in metrics.items()
            if value is not None and not math.isnan(value)
        ]
        labels = [RunTag(key, str(value)) for key, value in tags.items()]
        for start in range(0, len(texts), _PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=texts[start : start + _PARAMS_AT_ONCE])
        for start in range(0, len(figures), _METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=figures[start : start + _METRICS_AT_ONCE])
        for start in range(0, len(labels), _PARAMS_AT_ONCE):
            self._client.log_batch(run_id, tags=labels[start : start + _PARAMS_AT_ONCE])

    def _store(self, bundle: Path, tags: Mapping[str, str]) -> str:
        experiment = self._experiment()
        model = self._client.create_logged_model(experiment, name="bundle", model_type="acmf bundle")
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder) / "model"
            _pack(bundle, packed)
            self._client.log_model_artifacts(model.model_id, str(packed))
        model = self._client.finalize_logged_model(model.model_id, "READY")
        # Without model_id: the store would look it up at the process-wide URI instead of at ours.
        version = self._client.create_model_version(MODEL, source=model.artifact_location, tags=dict(tags))
        return str(version.version)

    def _local(self, version: Any) -> Path:
        where = _where(version.source)
        if "://" not in where:
            folder = Path(where)
        else:
            target = (self._artifacts or Path(tempfile.gettempdir()) / "acmf") / "fetched" / version.version
            target.mkdir(parents=True, exist_ok=True)
            folder = Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=where, dst_path=str(target), tracking_uri=self.uri
                )
            )
        if not folder.is_dir():
            raise ModelNotReady(
                f"model version {version.version} is registered, but {folder} is gone",
                "restore it from a backup, or promote another bundle",
            )
        return folder


def _where(source: str | None) -> str:
    """The bundle inside a stored model: a path for local stores, else a URI."""
    plain = source or ""
    if plain.startswith("file:"):
        plain = url2pathname(urlsplit(plain).path)
    return f"{plain}/data/bundle"


def _pack(bundle: Path, target: Path) -> None:
    """The MLflow model directory around a bundle."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        named = Path(folder) / "bundle"  # MLflow keeps the last part of the path
        named.symlink_to(bundle.resolve(), target_is_directory=True)
        warnings.filterwarnings("ignore", message=".*input example was not provided", category=UserWarning)
        mlflow.pyfunc.save_model(
            str(target),
            loader_module=_LOADER,
            data_path=str(named),
            signature=signature(),
            pip_requirements=[f"acmf=={__version__}"],
        )


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    """Errors of the store as ours, naming the store without its password; its deprecations silenced."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SADeprecationWarning)
            yield
    except (MlflowException, SQLAlchemyError) as error:
        raise AcmfError(
            f"the MLflow store {_masked(uri)} refused: {str(error).splitlines()[0]}",
            "check paths.tracking_uri and that the server or file can be written",
        ) from error


def _masked(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
