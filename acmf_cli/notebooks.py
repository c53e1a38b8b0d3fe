"""`acmf run`: a parameterised notebook through papermill, to an executed .ipynb and an HTML page."""

import html
import json
from pathlib import Path
from typing import Any

import click

from acmf_core import errors
from acmf_core.errors import AcmfError, ConfigError
from production.settings import Settings

FOLDER = Path("notebooks")
_NO_ALT = 'alt="No description has been provided for this image"'
_WIDGET = "application/vnd.jupyter.widget-view+json"


@click.command()
@click.argument("notebook")
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="KEY=VALUE", help="Repeat as needed.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the results [paths.reports].")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
@click.pass_obj
def run(settings: Settings, notebook: str, pairs: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Run NOTEBOOK (a path, a name such as 05_walk_forward, or just 05) and keep what it shows.

    The executed notebook and an HTML page land under the reports folder, results.json beside them;
    the run is logged in MLflow.
    """
    source = find(notebook)
    folder = out or Path(settings.config.paths.reports)
    parameters = dict(_parameter(pair) for pair in pairs)
    executed, page, result = execute(source, folder, parameters, quiet=as_json)
    logged = _log(settings, source.stem, parameters, result, [executed, page])
    outcome = {"notebook": str(executed), "html": str(page), "result": result, "mlflow_run": logged}
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        for key, value in result.items():
            click.echo(f"  {key}: {value}")
        click.echo(f"executed: {executed}\nreport:   {page}")


def find(name: str) -> Path:
    """The notebook of that path, name or number.

    Raises
    ------
    ConfigError
        When none or several fit.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    candidates = sorted(FOLDER.glob("[0-9]*.ipynb"))
    hits = [p for p in candidates if p.stem == name or p.stem.startswith(f"{name}_")]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise ConfigError(f'"{name}" fits {len(hits)} notebooks', ", ".join(p.stem for p in hits))
    if not candidates:
        raise ConfigError(
            f'no notebook "{name}": there is no {FOLDER} folder here',
            "run it in ACMF's folder, or give a path",
        )
    raise ConfigError(f'no notebook "{name}"', f"known: {', '.join(p.stem for p in candidates)}")


def _parameter(pair: str) -> tuple[str, Any]:
    key, separator, text = pair.partition("=")
    if not separator or not key.isidentifier():
        raise ConfigError(f'parameter "{pair}" is not key=value', "for example -p seed=7")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return key, text
    if isinstance(value, (dict, list)):
        raise ConfigError(
            f"parameter {key} is not a single value", "papermill takes numbers, texts, booleans"
        )
    return key, value


def execute(
    source: Path, folder: Path, parameters: dict[str, Any], *, quiet: bool = False
) -> tuple[Path, Path, dict[str, Any]]:
    """Run a notebook; returns the executed notebook, its HTML page and what it put into its result file.

    Both files are written aside and renamed; of a failed run the notebook with the error stays
    as `<name>.failed.ipynb`.

    Raises
    ------
    ConfigError
        For a parameter that the notebook does not have.
    AcmfError
        The error that a cell raised, of its own class, naming cell and notebook.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    folder.mkdir(parents=True, exist_ok=True)
    known = papermill.inspect_notebook(str(source))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigError(
            f"{source.stem} has no parameter {unknown[0]}", f"known: {', '.join(sorted(known))}"
        )
    aside = folder / f".{source.stem}.running.ipynb"
    result_file = folder / f"{source.stem}.result.json"
    failed = folder / f"{source.stem}.failed.ipynb"
    for stale in (result_file, failed):
        stale.unlink(missing_ok=True)
    inner = parameters | ({"result_path": str(result_file.resolve())} if "result_path" in known else {})
    try:
        papermill.execute_notebook(
            str(source),
            str(aside),
            parameters=inner,
            kernel_name="python3",
            progress_bar=not quiet,
            config=Config({"KernelManager": {"transport": "ipc"}}),  # TCP is open to others on the machine
        )
    except PapermillExecutionError as error:
        aside.replace(failed)
        raise _cell_error(error, source, failed) from None
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _drop_progress(aside)
    page = _page(aside, folder / f"{source.stem}.html")
    executed = aside.replace(folder / f"{source.stem}.ipynb")
    result = json.loads(result_file.read_text()) if result_file.is_file() else {}
    return executed, page, result


def _cell_error(error: Any, source: Path, failed: Path) -> AcmfError:
    kind = getattr(errors, error.ename, AcmfError)
    kind = kind if isinstance(kind, type) and issubclass(kind, AcmfError) else AcmfError
    text = error.evalue.splitlines()[0] if error.evalue else error.ename
    named = text if kind is not AcmfError else f"{error.ename}: {text}"
    return kind(f"{source.stem} failed in cell {error.exec_count}: {named}", f"open {failed}")


def _drop_progress(executed: Path) -> None:
    """Take out the progress bars: their widgets died with the kernel and would show as "0%"."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [out for out in cell["outputs"] if _WIDGET not in out.get("data", {})]
    notebook["metadata"].pop("widgets", None)
    executed.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def _page(executed: Path, target: Path) -> Path:
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(embed_images=True).from_filename(str(executed))
    for alt in _pictures(executed):
        body = body.replace(_NO_ALT, f'alt="{html.escape(alt)}"', 1)
    aside = target.with_suffix(".html.part")
    aside.write_text(body, encoding="utf-8")
    return aside.replace(target)


def _pictures(executed: Path) -> list[str]:
    """What each picture says of itself, in order; nbconvert's own template leaves that out."""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    shown = [out.get("data", {}) for cell in cells for out in cell.get("outputs", ())]
    return ["".join(data.get("text/plain", "")) for data in shown if "image/png" in data]


def _log(
    settings: Settings, name: str, parameters: dict[str, Any], result: dict[str, Any], files: list[Path]
) -> str:
    from acmf_core.store.mlflow_registry import MlflowRegistry

    metrics = {
        k: float(v) for k, v in result.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
    }
    registry = MlflowRegistry.open(settings.config.paths)
    artifacts = {file.suffix.removeprefix("."): file for file in files}
    return registry.log_run(name, params=parameters, metrics=metrics, artifacts=artifacts)
