"""`acmf data`: history into the lake, what the lake holds, and whether it can be trusted."""

import json
from pathlib import Path

import click

from acmf_cli import data_report as report
from acmf_cli.data_check import check
from acmf_cli.data_collect import collect
from acmf_cli.data_compact import compact
from acmf_cli.data_options import (
    as_json_option,
    corrections_option,
    interval_option,
    open_lake,
    raise_conflict,
    symbol_option,
)
from acmf_cli.data_pull import pull
from production.settings import Settings

IMPORTED = ("candles", "funding", "long_short", "open_interest", "fear_greed", "macro", "onchain", "news")
EVERYWHERE = ("fear_greed", "macro")  # tables without a symbol


@click.group()
def data() -> None:
    """History into the lake: import, pull, status, check, compact."""


@data.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@symbol_option
@interval_option
@click.option("--table", type=click.Choice(IMPORTED), help="What the file holds [guessed].")
@click.option("--sort", is_flag=True, help="Put rows in time order, drop identical doubles.")
@click.option(
    "--bridge", is_flag=True, help="Fill outages of at most a day with flat zero-volume bars, marked."
)
@click.option("--allow-gaps", is_flag=True, help="Take bars with gaps as they are.")
@click.option("--allow-short", is_flag=True, help="Take fewer bars than one decision of a model needs.")
@corrections_option
@as_json_option
@click.pass_obj
def import_file(
    settings: Settings,
    file: Path,
    symbol: str | None,
    interval: str,
    table: str | None,
    sort: bool,
    bridge: bool,
    allow_gaps: bool,
    allow_short: bool,
    accept_corrections: bool,
    as_json: bool,
) -> None:
    """Rows of one table from a CSV or Parquet FILE; all or nothing.

    A column available_at says when each row was known. Without one the usual delay of the table is taken;
    onchain and news need it.
    """
    from acmf_core.collect.files.importer import table_of
    from acmf_core.collect.files.intake import import_candles, import_funding, import_slow
    from acmf_core.execution.clock import SystemClock

    lake, now = open_lake(settings), SystemClock().now()
    symbol = symbol or settings.config.market.symbol
    table = table or table_of(file)
    if table == "funding":
        done = import_funding(lake, file, symbol, sort=sort, accept_corrections=accept_corrections, now=now)
    elif table != "candles":
        done = import_slow(
            lake, file, table, symbol, sort=sort, accept_corrections=accept_corrections, now=now
        )
    else:
        done = import_candles(
            lake,
            file,
            symbol,
            interval,
            sort=sort,
            allow_gaps=allow_gaps,
            bridge_outages=bridge,
            allow_short=allow_short,
            accept_corrections=accept_corrections,
            now=now,
        )
    if as_json:
        click.echo(json.dumps({"lake": lake.uri, "symbol": symbol} | report.import_json(done, file)))
    else:
        report.show_import(done, file, "every symbol" if table in EVERYWHERE else symbol, lake)
    raise_conflict(done.merged)


@data.command()
@as_json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """What the lake holds: one line per table and symbol."""
    lake = open_lake(settings)
    held = lake.status()
    if as_json:
        click.echo(
            json.dumps({"lake": lake.uri, "versions": lake.versions(), "tables": report.records(held)})
        )
        return
    if held.empty:
        click.echo(f"{lake.uri} is empty; acmf data import FILE or acmf data pull fills it")
        return
    click.echo(f"{lake.uri}")
    rows = [
        [
            row["table"],
            row["symbol"],
            row["interval"],
            f"{row['rows']:,}",
            report.when(row["first"]),
            report.when(row["last"]),
            f"{row['missing']:,}",
            f"{row['bridged']:,}",
            str(row["version"]),
        ]
        for row in report.plain_rows(held)
    ]
    report.table(
        ["table", "symbol", "bars", "rows", "first", "last", "missing", "bridged", "version"],
        rows,
        right={3, 6, 7, 8},
    )


data.add_command(pull)
data.add_command(collect)
data.add_command(check)
data.add_command(compact)
