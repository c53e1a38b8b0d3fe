"""Promotion, refusal, override and rollback over the directory that the daemon watches."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, FakeRegistry
from test_promote_gate import PAPER, REPLAY, good_evidence

from acmf_core.errors import ConfigError, ModelNotReady, PromotionRefused
from acmf_core.store.registry import DirectoryRegistry
from production.promote import assess, promote, promotions, rollback


class JsonBundle:
    """A stand-in for a loaded bundle: the evidence file, and a hash."""

    def __init__(self, path: Path) -> None:
        if (path / "broken").exists():
            raise ModelNotReady("booster.ubj does not match its hash", "train the bundle again")
        self.evidence: dict[str, Any] = json.loads((path / "evidence.json").read_text(encoding="utf-8"))
        self.hash = (path / "manifest.json").read_text(encoding="utf-8")


class FakeJournal:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def record_event(self, kind: str, payload: Any, *, at: int, actor: str) -> str:
        self.events.append((kind, payload))
        return ""

    def record_deployment(self, alias: str, version: str, bundle: str, **rest: Any) -> None:
        self.events.append((f"{alias}={version}", rest))


def bundle(folder: Path, name: str, evidence: dict[str, Any]) -> Path:
    path = folder / name
    path.mkdir()
    (path / "manifest.json").write_text(name, encoding="utf-8")
    (path / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    return path


def better(evidence: dict[str, Any], by: float) -> dict[str, Any]:
    daily = evidence["by_calibration"]["directional"]["daily"]
    daily["return"] = [r + by for r in daily["return"]]
    return evidence


def bad_evidence() -> dict[str, Any]:
    evidence = good_evidence()
    evidence["by_calibration"]["directional"]["trades"] = 7
    return evidence


@pytest.fixture
def registry(tmp_path: Path) -> DirectoryRegistry:
    return DirectoryRegistry(tmp_path / "models")


def go(path: Path, registry: Any, **options: Any) -> Any:
    return promote(path, registry, load=JsonBundle, replay=REPLAY, clock=FakeClock(1), **options)


def test_a_bundle_that_passes_becomes_champion_with_every_check_on_its_tags(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    done = go(bundle(tmp_path, "one", good_evidence()), registry)
    champion = registry.resolve("champion")
    assert champion is not None
    assert champion.version == done.version
    assert done.exported == champion.path
    assert champion.tags["gate"] == "passed"
    assert champion.tags["override_reason"] == ""
    assert len([key for key in champion.tags if key.startswith("gate.")]) == 12
    assert registry.resolve("previous") is None


def test_a_refused_bundle_is_not_registered_and_the_refusal_names_what_is_missing(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    journal = FakeJournal()
    with pytest.raises(PromotionRefused, match="out-of-sample trades") as refusal:
        go(bundle(tmp_path, "bad", bad_evidence()), registry, store=journal)
    assert refusal.value.exit_code == 1
    assert "--override" in refusal.value.fix
    assert registry.versions() == []
    assert journal.events[0][0] == "promotion_refused"
    (line,) = promotions(registry)
    assert line["event"] == "refused"
    assert len(line["checks"]) == 12


def test_an_unknown_check_refuses_as_a_failed_one_does(registry: DirectoryRegistry, tmp_path: Path) -> None:
    with pytest.raises(PromotionRefused, match="could not be computed: replay parity"):
        promote(bundle(tmp_path, "one", good_evidence()), registry, load=JsonBundle, clock=FakeClock())


def test_an_override_runs_in_paper_and_stays_written_on_the_version(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    journal = FakeJournal()
    path = bundle(tmp_path, "bad", bad_evidence())
    done = go(path, registry, store=journal, override_reason="look at it in paper")
    champion = registry.resolve("champion")
    assert champion is not None
    assert done.override_reason == "look at it in paper"
    assert champion.tags["gate"] == "overridden"
    assert champion.tags["override_reason"] == "look at it in paper"
    assert champion.tags["for"] == "paper"
    assert champion.tags["gate.02 out-of-sample trades"].startswith("failed: 7")
    assert journal.events[0][1]["reason"] == "look at it in paper"
    assert promotions(registry)[-1]["event"] == "overridden"


def test_an_override_is_never_for_live_and_never_without_a_reason(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    path = bundle(tmp_path, "bad", bad_evidence())
    with pytest.raises(ConfigError, match="paper only"):
        go(path, registry, override_reason="trust me", live=True, paper=PAPER)
    with pytest.raises(ConfigError, match="needs a reason"):
        go(path, registry, override_reason="  ")
    assert registry.versions() == []


def test_a_bundle_that_is_not_intact_cannot_be_overridden(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    path = bundle(tmp_path, "bad", good_evidence())
    (path / "broken").touch()
    with pytest.raises(PromotionRefused, match="does not match its hash"):
        go(path, registry, override_reason="please")
    assert registry.versions() == []


def test_an_override_that_was_not_needed_leaves_no_mark(registry: DirectoryRegistry, tmp_path: Path) -> None:
    done = go(bundle(tmp_path, "one", good_evidence()), registry, override_reason="just in case")
    assert done.override_reason == ""
    champion = registry.resolve("champion")
    assert champion is not None
    assert champion.tags["gate"] == "passed"


def test_a_better_challenger_takes_over_and_one_alias_move_brings_the_old_one_back(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    first = go(bundle(tmp_path, "one", good_evidence()), registry)
    second = go(bundle(tmp_path, "two", better(good_evidence(), 0.004)), registry)
    assert registry.aliases() == {"champion": second.version, "previous": first.version}
    assert second.previous == first.version
    back = rollback(registry, clock=FakeClock(2), reason="it drifts")
    assert back.version == first.version
    assert registry.aliases() == {"champion": first.version, "previous": first.version}
    with pytest.raises(ModelNotReady, match="champion already"):
        rollback(registry, clock=FakeClock(3))
    assert promotions(registry)[-1]["event"] == "rolled back"


def test_a_challenger_no_better_than_the_champion_is_refused(
    registry: DirectoryRegistry, tmp_path: Path
) -> None:
    go(bundle(tmp_path, "one", good_evidence()), registry)
    with pytest.raises(PromotionRefused, match="against the champion"):
        go(bundle(tmp_path, "two", good_evidence()), registry)


def test_promoting_the_champion_again_changes_nothing(registry: DirectoryRegistry, tmp_path: Path) -> None:
    path = bundle(tmp_path, "one", good_evidence())
    first = go(path, registry)
    again = go(path, registry)
    assert again.version == first.version
    assert registry.aliases() == {"champion": first.version}


def test_without_a_previous_champion_there_is_nothing_to_roll_back_to(registry: DirectoryRegistry) -> None:
    with pytest.raises(ModelNotReady, match="no previous champion"):
        rollback(registry, clock=FakeClock())


def test_promotion_in_another_registry_exports_the_bundle_to_the_watched_directory(tmp_path: Path) -> None:
    main, watched = FakeRegistry(), DirectoryRegistry(tmp_path / "watched")
    first = go(bundle(tmp_path, "one", good_evidence()), main, export=watched)
    second = go(bundle(tmp_path, "two", better(good_evidence(), 0.004)), main, export=watched)
    exported = watched.resolve("champion")
    assert exported is not None
    assert exported.path == second.exported
    assert exported.tags["registry_version"] == second.version
    rollback(main, export=watched, clock=FakeClock())
    for registry in (main, watched):
        champion = registry.resolve("champion")
        assert champion is not None
        assert (Path(champion.path) / "manifest.json").read_text(encoding="utf-8") == "one"
    assert first.exported != second.exported


def test_killed_between_the_two_alias_moves_the_same_promotion_again_ends_right(tmp_path: Path) -> None:
    class Killed(FakeRegistry):
        def set_alias(self, alias: str, version: str) -> None:
            if alias == "champion" and self.aliases:
                raise KeyboardInterrupt
            super().set_alias(alias, version)

    registry = Killed()
    first = go(bundle(tmp_path, "one", good_evidence()), registry)
    two = bundle(tmp_path, "two", better(good_evidence(), 0.004))
    with pytest.raises(KeyboardInterrupt):
        go(two, registry)
    assert registry.aliases == {"champion": first.version, "previous": first.version}
    whole = FakeRegistry(known=registry.known, aliases=registry.aliases)
    second = go(two, whole)
    assert whole.aliases == {"champion": second.version, "previous": first.version}


def test_a_path_without_a_bundle_is_one_clear_error(registry: DirectoryRegistry, tmp_path: Path) -> None:
    with pytest.raises(ModelNotReady, match="no bundle"):
        assess(tmp_path / "nothing", registry, load=JsonBundle)
