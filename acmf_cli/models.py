"""`acmf models`: the registry, and the gate in front of it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from production.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acmf_core.domain import Check, Deployment
    from acmf_core.ports import ModelRegistry
    from acmf_core.store.registry import DirectoryRegistry
    from production.promote import Assessment, Promotion

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
_MARKS = {True: "passed ", False: "FAILED ", None: "unknown"}


class JsonFile(click.ParamType):
    """A file that holds one JSON object."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            found = json.loads(Path(value).read_text(encoding="utf-8"))
        except OSError as error:
            self.fail(f"{value} cannot be read ({error.strerror})", param, ctx)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.fail(f"{value} holds no JSON object; write it with --json > {value}", param, ctx)
        return found


@click.group()
def models() -> None:
    """The model registry: list, show, promote, rollback."""


@models.command("list")
@json_option
@click.pass_obj
def list_models(settings: Settings, as_json: bool) -> None:
    """Every registered version with its aliases and the gate's word."""
    registry, _ = _registries(settings)
    rows = [_row(deployment, _aliases(registry)) for deployment in registry.versions()]
    if as_json:
        click.echo(json.dumps({"versions": rows}))
        return
    if not rows:
        click.echo("no model is registered yet; acmf models promote BUNDLE registers one")
        return
    click.echo(f"{'version':8} {'aliases':20} {'gate':11} {'for':6} {'promoted (UTC)':17} bundle")
    for row in rows:
        click.echo(
            f"{row['version']:8} {', '.join(row['aliases']) or '-':20} {row['gate'] or '-':11} "
            f"{row['for'] or '-':6} {row['promoted_at'] or '-':17} {row['bundle'][:12]}"
        )
        if row["override_reason"]:
            click.echo(f"{'':8} by override, paper only: {row['override_reason']}")


@models.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(settings: Settings, name: str, as_json: bool) -> None:
    """One version, by number or alias: where it lies, and what the gate said of it."""
    registry, _ = _registries(settings)
    found = _find(registry, name)
    row = _row(found, _aliases(registry)) | {"path": found.path, "tags": dict(found.tags)}
    if as_json:
        click.echo(json.dumps(row))
        return
    aliases = ", ".join(row["aliases"]) or "none"
    click.echo(f"version {row['version']} (aliases: {aliases}), bundle {row['bundle']}\n{row['path']}")
    click.echo(f"gate: {row['gate'] or 'never judged'}; for {row['for'] or 'nothing'}")
    if row["override_reason"]:
        click.echo(f"by override, paper only: {row['override_reason']}")
    for key, text in sorted(found.tags.items()):
        if key.startswith("gate."):
            click.echo(f"  {key.removeprefix('gate.'):28} {text}")


@models.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--replay", type=JsonFile(), help="What acmf replay --json printed for this bundle.")
@click.option("--live", is_flag=True, help="Ask for live trading: the paper record counts too.")
@click.option("--paper", type=JsonFile(), help="Record of the paper run (live only).")
@click.option("--override", is_flag=True, help="Promote for paper although the gate refuses; needs --reason.")
@click.option("--reason", help="Why the override; it stays written on the version.")
@json_option
@click.pass_obj
def promote(
    settings: Settings,
    bundle: Path,
    replay: dict[str, Any] | None,
    live: bool,
    paper: dict[str, Any] | None,
    override: bool,
    reason: str | None,
    as_json: bool,
) -> int:
    """Put a bundle in front of the gate; make it champion only if every check passes.

    Each check is printed with figure, bound and verdict; one that cannot be computed does not pass. Exit
    code 1 when the gate refuses. The replay of the last 30 days is made here, from the lake, unless
    --replay hands one in.
    """
    from acmf_core.errors import PromotionRefused
    from production import promote as promotion
    from production.bootstrap import open_store

    if override and not (reason or "").strip():
        raise click.UsageError('--override needs --reason "..."')
    if reason and not override:
        raise click.UsageError("--reason goes with --override")
    registry, export = _registries(settings)
    replayed = replay if replay is not None else _replayed(settings, bundle, quiet=as_json)
    assessment = promotion.assess(bundle, registry, replay=replayed, paper=paper, live=live)
    if not as_json:
        show_checks(assessment.checks)
    with open_store(settings.config) as store:
        try:
            done = promotion.promote(
                bundle,
                registry,
                store,
                reason if override else None,
                assessment=assessment,
                live=live,
                export=export,
            )
        except PromotionRefused as refusal:
            if not as_json:
                raise
            click.echo(json.dumps(_outcome(assessment, None) | {"cause": refusal.cause, "fix": refusal.fix}))
            return 1
    if as_json:
        click.echo(json.dumps(_outcome(assessment, done)))
        return 0
    word = f"by override, paper only: {done.override_reason}" if done.override_reason else assessment.summary
    click.echo(f"version {done.version} is champion ({word})\n{done.exported}")
    return 0


@models.command()
@click.option("--reason", default="", help="Written into the record.")
@json_option
@click.pass_obj
def rollback(settings: Settings, reason: str, as_json: bool) -> None:
    """Make the previous champion champion again: one alias move."""
    from production import promote as promotion
    from production.bootstrap import open_store

    registry, export = _registries(settings)
    with open_store(settings.config) as store:
        done = promotion.rollback(registry, store, reason=reason, export=export)
    if as_json:
        words = {"version": done.version, "from": done.previous, "exported": done.exported}
        click.echo(json.dumps(words | {"override_reason": done.override_reason}))
        return
    click.echo(f"version {done.version} is champion again (was {done.previous})\n{done.exported}")


def _replayed(settings: Settings, bundle: Path, *, quiet: bool) -> Any:
    """The newest days of the lake through the daemon; None where that cannot be done."""
    from acmf_cli.replay import replay_newest
    from acmf_core.collect.history import load_market
    from acmf_core.errors import AcmfError
    from acmf_core.lake import Lake
    from acmf_core.models import Bundle

    symbol = settings.config.market.symbol
    try:
        model = Bundle.load(bundle)
    except AcmfError:
        return None  # the gate's first check says what is wrong with it
    try:
        return replay_newest(
            load_market(Lake(settings.config.paths.lake), symbol), model, symbol, quiet=quiet
        )
    except AcmfError as error:
        if not quiet:
            click.echo(f"no replay was made: {error}")
        return None


def show_checks(checks: "Sequence[Check]") -> None:
    """The gate as a list: verdict, figure, bound, and why."""
    for number, check in enumerate(checks, start=1):
        mark = "not asked" if check.figure == "not asked" else _MARKS[check.verdict]
        colour = {True: "green", False: "red"}.get(check.verdict)
        asked = f"  (asked: {check.bound})" if check.bound else ""
        click.echo(
            f"{number:2}  {click.style(f'{mark:9}', fg=colour)}  {check.name:22} {check.figure}{asked}"
        )
        if check.detail:
            click.echo(f"{'':15} {check.detail}")


def _registries(settings: Settings) -> "tuple[ModelRegistry, DirectoryRegistry]":
    """MLflow where it is installed, else the watched directory itself; and that directory."""
    from acmf_core.store.registry import DirectoryRegistry

    watched = DirectoryRegistry(settings.config.paths.models)
    try:
        from acmf_core.store.mlflow_registry import MlflowRegistry
    except ImportError:
        return watched, watched
    return MlflowRegistry.open(settings.config.paths), watched


def _aliases(registry: "ModelRegistry") -> dict[str, list[str]]:
    """Version to aliases."""
    found: dict[str, list[str]] = {}
    for alias in ("champion", "challenger", "previous"):
        deployment = registry.resolve(alias)
        if deployment is not None:
            found.setdefault(deployment.version, []).append(alias)
    return found


def _find(registry: "ModelRegistry", name: str) -> "Deployment":
    from acmf_core.errors import ModelNotReady

    known = registry.versions()
    found = registry.resolve(name) or next((d for d in known if d.version == name), None)
    if found is None:
        versions = ", ".join(deployment.version for deployment in known) or "none"
        raise ModelNotReady(f'no model version or alias "{name}"', f"versions: {versions}")
    return found


def _row(deployment: "Deployment", aliases: dict[str, list[str]]) -> dict[str, Any]:
    tags = deployment.tags
    return {
        "version": deployment.version,
        "aliases": aliases.get(deployment.version, []),
        "gate": tags.get("gate", ""),
        "for": tags.get("for", ""),
        "override_reason": tags.get("override_reason", ""),
        "promoted_at": _moment(tags.get("promoted_at", "")),
        "bundle": tags.get("bundle", ""),
    }


def _moment(micros: str) -> str:
    from datetime import UTC, datetime, timedelta

    if not micros.isdigit():
        return ""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(micros)):%Y-%m-%d %H:%M}"


def _outcome(assessment: "Assessment", done: "Promotion | None") -> dict[str, Any]:
    return {
        "promoted": done is not None,
        "gate": "passed" if assessment.passed else "overridden" if done is not None else "refused",
        "summary": assessment.summary,
        "live": assessment.live,
        "bundle": assessment.hash,
        "version": done.version if done is not None else None,
        "previous": done.previous if done is not None else None,
        "exported": done.exported if done is not None else None,
        "override_reason": done.override_reason if done is not None else "",
        "checks": [asdict(check) for check in assessment.checks],
    }
