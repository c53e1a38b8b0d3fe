"""Promotion: assess a bundle, and only when the gate says yes make it champion.

The bundle is registered, the alias `champion` moves, the one before becomes `previous`, and the bundle
is exported to the directory that the daemon watches. Every attempt leaves a line in `promotions.jsonl`.
An override is for paper only, needs a reason, and stays written on the version for as long as it exists.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from acmf_core.domain import Check, Deployment
from acmf_core.errors import AcmfError, ConfigError, ModelNotReady, PromotionRefused
from acmf_core.execution.clock import SystemClock
from acmf_core.ports import Clock, ModelRegistry
from acmf_core.store.registry import CONTENT, DirectoryRegistry, content_hash
from production.gate import BUNDLE, judge, passed, required, summary

__all__ = [
    "Assessment",
    "Promotion",
    "assess",
    "judge",
    "passed",
    "promote",
    "required",
    "rollback",
    "summary",
]

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"
RECORD: Final = "promotions.jsonl"
_WORDS: Final = {True: "passed", False: "failed", None: "unknown"}


class Loaded(Protocol):
    """What promotion needs of a loaded bundle."""

    @property
    def hash(self) -> str: ...
    @property
    def evidence(self) -> Mapping[str, Any]: ...


class Journal(Protocol):
    """What promotion needs of a store."""

    def record_event(self, kind: str, payload: Mapping[str, Any], *, at: int, actor: str) -> str: ...
    def record_deployment(
        self,
        alias: str,
        version: str,
        bundle: str,
        *,
        at: int,
        actor: str,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None: ...


@dataclass(frozen=True)
class Assessment:
    """A bundle in front of the gate.

    `hash` is empty where it could not be loaded. `alternatives` is what the gate would say of the other
    calibrations that the evidence holds; a replay trades only the chosen one.
    """

    path: Path
    hash: str
    checks: tuple[Check, ...]
    live: bool
    alternatives: Mapping[str, tuple[Check, ...]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the gate says yes."""
        return passed(self.checks, live=self.live)

    @property
    def summary(self) -> str:
        """One sentence naming what failed and what is missing."""
        return summary(self.checks, live=self.live)


@dataclass(frozen=True)
class Promotion:
    """What a promotion or rollback did. `exported` is the bundle's place in the watched directory."""

    version: str
    previous: str
    exported: str
    override_reason: str
    checks: tuple[Check, ...] = ()


def assess(
    bundle_path: str | Path,
    registry: ModelRegistry,
    *,
    replay: Any = None,
    paper: Mapping[str, Any] | None = None,
    live: bool = False,
    load: Callable[[Path], Loaded] | None = None,
) -> Assessment:
    """Load a bundle and put it in front of the gate, against the registry's champion.

    Parameters
    ----------
    bundle_path : path
        The directory that training wrote.
    replay, paper, live
        As in `judge`.
    load : callable, optional
        Instead of `Bundle.load`.

    Raises
    ------
    ModelNotReady
        There is no bundle at that path at all.
    """
    path = Path(bundle_path)
    content = content_hash(path)
    try:
        bundle: Any = (load or _load)(path)
        evidence: Mapping[str, Any] = bundle.evidence
        name = str(bundle.hash)
    except AcmfError as error:
        bundle, evidence, name = error, {}, ""
    reigning = registry.resolve(CHAMPION)
    rival = None
    if reigning is not None and reigning.tags.get(CONTENT) != content:
        rival = _evidence_of(reigning)
    checks = judge(evidence, bundle=bundle, replay=replay, champion=rival, live=live, paper=paper)
    others = {
        other: tuple(judge(evidence, bundle=bundle, champion=rival, live=live, calibration=other))
        for other in evidence.get("by_calibration", {})
        if other != evidence.get("calibration")
    }
    return Assessment(path, name, tuple(checks), live, others)


def promote(
    bundle_path: str | Path,
    registry: ModelRegistry,
    store: Journal | None = None,
    override_reason: str | None = None,
    *,
    assessment: Assessment | None = None,
    replay: Any = None,
    paper: Mapping[str, Any] | None = None,
    live: bool = False,
    export: DirectoryRegistry | None = None,
    clock: Clock | None = None,
    actor: str = "operator",
    load: Callable[[Path], Loaded] | None = None,
) -> Promotion:
    """Make a bundle champion where the gate, or an override for paper, allows it.

    Parameters
    ----------
    bundle_path, registry, replay, paper, live, load
        As in `assess`; `assessment` hands in one that was made already.
    store : Journal, optional
        Gets the deployment, or the refusal, as an event.
    override_reason : str, optional
        Promotes for paper although the gate refuses. A bundle that is not intact cannot be overridden.
    export : DirectoryRegistry, optional
        The directory that the daemon watches, where `registry` is not that directory itself.
    clock : Clock, optional
        Of the records' times.

    Raises
    ------
    PromotionRefused
        The gate says no; the cause names every check that failed or is missing.
    ConfigError
        An override for live trading, or without a reason.
    """
    at, watched = (clock or SystemClock()).now(), _watched(registry, export)
    if override_reason is not None:
        _check_override(override_reason, live)
    found = assessment or assess(bundle_path, registry, replay=replay, paper=paper, live=live, load=load)
    intact = any(check.name == BUNDLE and check.verdict is True for check in found.checks)
    if not found.passed and (override_reason is None or not intact):
        _write(watched, {"at": at, "event": "refused", "actor": actor, **_record(found)})
        if store is not None:
            store.record_event("promotion_refused", _record(found), at=at, actor=actor)
        raise PromotionRefused(_refusal(found, intact), _next_step(found, intact))
    reason = "" if found.passed else (override_reason or "")
    version = registry.register(str(found.path), _tags(found, reason, at))
    exported = _export(found.path, registry, watched, version, _tags(found, reason, at))
    before = _crown(registry, version)
    if watched is not None and watched is not registry:
        _crown(watched, exported)
    if store is not None:
        store.record_deployment(
            CHAMPION, version, found.hash, at=at, actor=actor, reason=reason, evidence=_record(found)
        )
    event = {"event": "overridden" if reason else "promoted", "version": version, "reason": reason}
    _write(watched, {"at": at, "actor": actor, **event, **_record(found)})
    place = "" if watched is None else str(watched.root / "versions" / exported)
    return Promotion(version, before, place, reason, found.checks)


def rollback(
    registry: ModelRegistry,
    store: Journal | None = None,
    *,
    reason: str = "",
    export: DirectoryRegistry | None = None,
    clock: Clock | None = None,
    actor: str = "operator",
) -> Promotion:
    """Make the previous champion champion again: one alias move.

    Raises
    ------
    ModelNotReady
        There is no previous champion, or it reigns already.
    """
    at, watched = (clock or SystemClock()).now(), _watched(registry, export)
    champion, previous = registry.resolve(CHAMPION), registry.resolve(PREVIOUS)
    if previous is None:
        raise ModelNotReady(
            "there is no previous champion to go back to", "acmf models list shows the versions"
        )
    if champion is not None and champion.version == previous.version:
        raise ModelNotReady(
            f"version {previous.version} is champion already; it was rolled back to before",
            "promote a version to move on",
        )
    exported = _export(Path(previous.path), registry, watched, previous.version, previous.tags)
    registry.set_alias(CHAMPION, previous.version)
    if watched is not None and watched is not registry:
        watched.set_alias(CHAMPION, exported)
    before = champion.version if champion is not None else ""
    words = {"version": previous.version, "from": before, "reason": reason}
    if store is not None:
        bundle = previous.tags.get("bundle", "")
        store.record_deployment(
            CHAMPION, previous.version, bundle, at=at, actor=actor, reason=reason or "rollback"
        )
    _write(watched, {"at": at, "event": "rolled back", "actor": actor, **words})
    place = "" if watched is None else str(watched.root / "versions" / exported)
    return Promotion(previous.version, before, place, previous.tags.get("override_reason", ""))


def _load(path: Path) -> Loaded:
    from acmf_core.models import Bundle

    return Bundle.load(path)


def _evidence_of(deployment: Deployment) -> Mapping[str, Any]:
    """What a registered bundle says of itself; the registry holds it as it was verified."""
    file = Path(deployment.path) / "evidence.json"
    try:
        found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _check_override(reason: str, live: bool) -> None:
    if live:
        raise ConfigError("an override is for paper only", "for live trading every check must pass")
    if not reason.strip():
        raise ConfigError("an override needs a reason", 'give --reason "why this model may run in paper"')


def _refusal(found: Assessment, intact: bool) -> str:
    return found.summary if intact else f"the bundle cannot run: {found.checks[0].detail}"


def _next_step(found: Assessment, intact: bool) -> str:
    if not intact:
        return found.checks[0].fix or "train the bundle again"
    if found.live:
        return "the figures are in acmf models promote --json; there is no override for live trading"
    return 'the figures are in acmf models promote --json; for paper only: --override --reason "..."'


def _tags(found: Assessment, override_reason: str, at: int) -> dict[str, str]:
    """What stays written on a version: the gate's word, each check, and the override."""
    each = {
        f"gate.{number:02d} {check.name}": f"{_WORDS[check.verdict]}: {check.figure} (bound {check.bound})"
        for number, check in enumerate(found.checks, start=1)
    }
    return {
        "gate": "overridden" if override_reason else "passed",
        "override_reason": override_reason,
        "for": "live" if found.live and not override_reason else "paper",
        "bundle": found.hash,
        "promoted_at": str(at),
        **each,
    }


def _record(found: Assessment) -> dict[str, Any]:
    return {
        "bundle": found.hash,
        "live": found.live,
        "passed": found.passed,
        "checks": [asdict(check) for check in found.checks],
    }


def _crown(registry: ModelRegistry, version: str) -> str:
    """Move the aliases; returns the version that reigned before, empty where none did.

    `previous` moves first: killed in between, previous and champion are the same, and the same
    promotion again ends right. The same version again changes nothing.
    """
    reigning = registry.resolve(CHAMPION)
    if reigning is not None and reigning.version == version:
        return version
    if reigning is not None:
        registry.set_alias(PREVIOUS, reigning.version)
    registry.set_alias(CHAMPION, version)
    return reigning.version if reigning is not None else ""


def _watched(registry: ModelRegistry, export: DirectoryRegistry | None) -> DirectoryRegistry | None:
    """The directory that the daemon reads: the export, or the registry itself."""
    return registry if export is None and isinstance(registry, DirectoryRegistry) else export


def _export(
    path: Path,
    registry: ModelRegistry,
    watched: DirectoryRegistry | None,
    version: str,
    tags: Mapping[str, str],
) -> str:
    if watched is None or watched is registry:
        return version
    return watched.register(str(path), {**tags, "registry_version": version})


def _write(watched: DirectoryRegistry | None, line: Mapping[str, Any]) -> None:
    """Append one line to the record of attempts beside the versions."""
    if watched is None:
        return
    watched.root.mkdir(parents=True, exist_ok=True)
    with (watched.root / RECORD).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, sort_keys=True) + "\n")


def promotions(watched: DirectoryRegistry) -> Sequence[Mapping[str, Any]]:
    """Every attempt recorded beside the versions, oldest first."""
    file = watched.root / RECORD
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
