"""`acmf data compact`: the lake's small files into large ones."""

import json

import click

from acmf_cli import data_report as report
from acmf_cli.data_options import as_json_option, open_lake
from production.settings import Settings


@click.command()
@click.option("--table", "name", help="Only this one [all in the lake].")
@as_json_option
@click.pass_obj
def compact(settings: Settings, name: str | None, as_json: bool) -> None:
    """Small files into large ones; no row changes and every earlier version stays readable."""
    lake = open_lake(settings)
    done = lake.compact(name)
    if as_json:
        click.echo(json.dumps({"lake": lake.uri, "tables": report.records(done)}))
        return
    if done.empty:
        click.echo(f"{lake.uri} is empty; acmf data import FILE or acmf data pull fills it")
        return
    click.echo(f"{lake.uri}")
    rows = [
        [
            row["table"],
            f"{row['files_before']:,}",
            f"{row['files_after']:,}",
            f"{row['rewritten_bytes'] / 1e6:,.1f}",
            str(row["version"]),
        ]
        for row in report.plain_rows(done)
    ]
    report.table(["table", "files before", "after", "MB rewritten", "version"], rows, right={1, 2, 3, 4})
