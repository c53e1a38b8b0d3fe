"""How `acmf data check` shows what it found: for a person, and as plain values for --json."""

from typing import TYPE_CHECKING, Any

import click

from acmf_cli.data_report import plain_rows, records, table, when

if TYPE_CHECKING:
    from acmf_core.lake.audit import Agreement, Audit
    from acmf_core.lake.quality import Quality


def show_check(audits: list["Audit"], bridged: int) -> None:
    """One verdict a series and a table of its findings; then how timeframes agree."""
    if bridged:
        click.echo(f"bridged: {bridged:,} flat bars now stand in for outages")
    for audit in audits:
        for quality in audit.qualities:
            _show_quality(quality)
        for found in audit.agreements:
            click.echo(f"{audit.symbol} {_agreed(found)}")
    if not all(audit.ok for audit in audits):
        click.echo(
            "acmf data pull brings missing bars, acmf data check --bridge fills what the venue never had"
        )


def _show_quality(quality: "Quality") -> None:
    verdict = "ok" if quality.ok else "NOT OK"
    span = f"{when(quality.first)} to {when(quality.last)} UTC"
    click.echo(f"{quality.symbol} {quality.interval}: {quality.rows:,} rows, {span}: {verdict}")
    rows = [
        [f["severity"], f"{f['count']:,}", f["finding"], when(f["first"]), f["detail"]]
        for f in plain_rows(quality.findings)
    ]
    if rows:
        table(["severity", "count", "finding", "first", "detail"], rows, right={1})


def _agreed(found: "Agreement") -> str:
    said = "all agree" if not found.differ else f"{found.differ:,} differ"
    return f"{found.interval} made of {found.source}: {found.compared:,} compared, {said}"


def check_json(audits: list["Audit"]) -> dict[str, Any]:
    """What was found, as plain values: `checks` one a series, `agreement` one a pair of timeframes."""
    return {
        "ok": all(audit.ok for audit in audits),
        "checks": [_quality_json(quality) for audit in audits for quality in audit.qualities],
        "agreement": [
            {
                "symbol": audit.symbol,
                "interval": found.interval,
                "source": found.source,
                "compared": found.compared,
                "differ": found.differ,
            }
            for audit in audits
            for found in audit.agreements
        ],
    }


def _quality_json(quality: "Quality") -> dict[str, Any]:
    import pandas as pd

    line = {name: [getattr(quality, name)] for name in ("symbol", "interval", "rows", "first", "last", "ok")}
    return records(pd.DataFrame(line))[0] | {"findings": records(quality.findings)}
