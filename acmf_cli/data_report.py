"""How `acmf data` shows what it did: lines and tables for a person, plain values for --json."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from acmf_core.collect.files.intake import ImportReport
    from acmf_core.collect.pull.backfill import Outcome
    from acmf_core.lake import Lake, MergeReport


def show_import(report: "ImportReport", file: Path, symbol: str, lake: "Lake") -> None:
    """What was read, what was guessed, what changed."""
    merged = report.merged
    click.echo(
        f"{file.name}: {report.rows:,} rows of {merged.table} for {symbol}, "
        f"{when(report.first)} to {when(report.last)} UTC"
    )
    renamed = [f"{theirs} -> {ours}" for ours, theirs in report.mapping.items() if ours != theirs]
    click.echo(f"columns: {', '.join(renamed) if renamed else 'as named'}")
    for note in report.notes:
        click.echo(f"note: {note}")
    if report.bridged:
        click.echo(f"bridged: {report.bridged:,} flat bars stand in for outages")
    click.echo(f"{lake.uri}: {_changes(merged)}")


def _changes(merged: "MergeReport") -> str:
    if not merged.changed:
        return f"nothing new, {merged.unchanged:,} rows were there already (version {merged.version})"
    parts = {"new": merged.inserted, "filled in": merged.filled, "corrected": merged.corrected}
    said = ", ".join(f"{count:,} {word}" for word, count in parts.items() if count)
    return f"{said}, {merged.unchanged:,} unchanged (version {merged.version})"


def show_pull(symbol: str, outcomes: "Sequence[Outcome]") -> None:
    """One line a series: what came, what the lake holds of the window, what is still missing."""
    rows = [
        [
            outcome.name,
            f"{outcome.report.files:,}",
            f"{outcome.report.merged.inserted:,}",
            when(outcome.first) if outcome.first is not None else "-",
            when(outcome.last) if outcome.last is not None else "-",
            f"{outcome.report.missing:,}",
            _pull_note(outcome),
        ]
        for outcome in outcomes
    ]
    click.echo(f"{symbol}")
    table(["series", "files", "new rows", "first", "last", "missing", "note"], rows, right={1, 2, 5})


def _pull_note(outcome: "Outcome") -> str:
    """What a person should know of one series, in a few words."""
    brought, merged = outcome.report, outcome.report.merged
    notes = ["FAILED" if outcome.first is None else "INCOMPLETE"] if outcome.error is not None else []
    if merged.conflicting_rows:
        notes.append(f"{merged.conflicting_rows:,} conflicting, kept out")
    if merged.corrected:
        notes.append(f"{merged.corrected:,} corrected")
    if merged.filled:
        notes.append(f"{merged.filled:,} filled in")
    if brought.notes:
        notes.append(some(brought.notes))
    if brought.damaged:
        notes.append(f"damaged: {some(brought.damaged)}")
    if brought.absent and (brought.missing or outcome.first is None or outcome.interval == "5m"):
        notes.append(f"not in the archive: {some(brought.absent)}")
    if not notes and not merged.changed:
        notes.append("nothing new")
    return "; ".join(notes)


def table(head: list[str], rows: list[list[str]], right: set[int]) -> None:
    """Columns under each other; those in `right` flush right."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    for line in [head, *rows]:
        cells = [
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())


def import_json(report: "ImportReport", file: Path) -> dict[str, Any]:
    """An import as plain values."""
    return {
        "file": str(file),
        "rows": report.rows,
        "bridged": report.bridged,
        "first": iso(report.first),
        "last": iso(report.last),
        "mapping": report.mapping,
        "notes": list(report.notes),
    } | _merge_json(report.merged)


def pull_json(outcomes: "Sequence[Outcome]") -> dict[str, Any]:
    """A pull as plain values."""
    return {
        "ok": all(o.error is None and not o.report.merged.conflicting_rows for o in outcomes),
        "series": [
            {
                "series": outcome.name,
                "interval": outcome.interval,
                "files": outcome.report.files,
                "first": iso(outcome.first),
                "last": iso(outcome.last),
                "missing": outcome.report.missing,
                "absent": list(outcome.report.absent),
                "damaged": list(outcome.report.damaged),
                "notes": list(outcome.report.notes),
                "error": None if outcome.error is None else str(outcome.error),
            }
            | _merge_json(outcome.report.merged)
            for outcome in outcomes
        ],
    }


def _merge_json(merged: "MergeReport") -> dict[str, Any]:
    return {
        "table": merged.table,
        "inserted": merged.inserted,
        "unchanged": merged.unchanged,
        "filled": merged.filled,
        "corrected": merged.corrected,
        "conflicts": merged.conflicting_rows,
        "version": merged.version,
    }


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as plain JSON values; stamps as ISO text."""
    import pandas as pd

    return [
        {
            name: iso(value)
            if isinstance(value, pd.Timestamp)
            else getattr(value, "item", lambda v=value: v)()
            for name, value in row.items()
        }
        for row in plain_rows(frame)
    ]


def plain_rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The lines of a frame, each a dictionary."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def some(periods: tuple[str, ...]) -> str:
    """The first three, and how many more."""
    shown = ", ".join(periods[:3])
    return shown if len(periods) <= 3 else f"{shown} and {len(periods) - 3} more"


def when(stamp: Any) -> str:
    """Minutes, UTC."""
    return f"{stamp:%Y-%m-%d %H:%M}"


def iso(stamp: Any) -> str | None:
    """Seconds, UTC, for a script; None of nothing."""
    return None if stamp is None else f"{stamp:%Y-%m-%dT%H:%M:%SZ}"
