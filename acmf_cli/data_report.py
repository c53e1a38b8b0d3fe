"""How `acmf data` shows what it did: lines and tables for a person, plain values for --json."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from acmf_core.collect.intake import ImportReport
    from acmf_core.collect.pull import PullReport
    from acmf_core.lake import Lake, MergeReport
    from acmf_core.lake.quality import Quality


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


def show_pull(symbol: str, candles: "PullReport", funding: "PullReport") -> None:
    """What came from the archive, and what it does not have."""
    for name, report in (("candles", candles), ("funding", funding)):
        if not (report.files or report.absent or report.damaged):
            click.echo(f"{symbol} {name}: nothing to fetch, the lake has it all")
        else:
            click.echo(f"{symbol} {name}: {report.files} file(s); {_changes(report.merged)}")
        if report.absent:
            click.echo(f"note: the archive does not have {some(report.absent)}")
        if report.damaged:
            click.echo(f"note: damaged in the archive: {some(report.damaged)}")
    if candles.missing:
        click.echo(f"note: {candles.missing} bar(s) are missing in between; acmf data check names them")


def show_check(results: list["Quality"], bridged: int) -> None:
    """One verdict a series, and a table of its findings."""
    if bridged:
        click.echo(f"bridged: {bridged:,} flat bars now stand in for outages")
    for quality in results:
        verdict = "ok" if quality.ok else "NOT OK"
        span = f"{when(quality.first)} to {when(quality.last)} UTC"
        click.echo(f"{quality.symbol} {quality.interval}: {quality.rows:,} rows, {span}: {verdict}")
        rows = [
            [f["severity"], f"{f['count']:,}", f["finding"], when(f["first"]), f["detail"]]
            for f in plain_rows(quality.findings)
        ]
        if rows:
            table(["severity", "count", "finding", "first", "detail"], rows, right={1})
    if not all(quality.ok for quality in results):
        click.echo(
            "acmf data pull brings missing bars, acmf data check --bridge fills what the venue never had"
        )


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
        "first": _iso(report.first),
        "last": _iso(report.last),
        "mapping": report.mapping,
        "notes": list(report.notes),
    } | _merge_json(report.merged)


def pull_json(report: "PullReport") -> dict[str, Any]:
    """A pull of one table as plain values."""
    return {
        "files": report.files,
        "absent": list(report.absent),
        "damaged": list(report.damaged),
        "missing": report.missing,
    } | _merge_json(report.merged)


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


def quality_json(quality: "Quality") -> dict[str, Any]:
    """A check of one series as plain values."""
    return {
        "symbol": quality.symbol,
        "interval": quality.interval,
        "rows": quality.rows,
        "first": _iso(quality.first),
        "last": _iso(quality.last),
        "ok": quality.ok,
        "findings": records(quality.findings),
    }


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as plain JSON values; stamps as ISO text."""
    import pandas as pd

    return [
        {
            name: _iso(value)
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


def _iso(stamp: Any) -> str:
    return f"{stamp:%Y-%m-%dT%H:%M:%SZ}"
