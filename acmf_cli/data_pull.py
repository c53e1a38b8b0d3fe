"""`acmf data pull`: history from the exchange's public archive, its newest end from the venue itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from acmf_cli import data_report as report
from acmf_cli.data_options import INTERVALS, as_json_option, corrections_option, open_lake, symbol_option
from production.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from acmf_core.collect.archive.client import Archive
    from acmf_core.collect.pull.backfill import Outcome
    from acmf_core.errors import AcmfError

TABLES = ("candles", "funding", "fear_greed", "macro", "long_short", "open_interest")
BAR_LENGTHS = ("15m", "1h", "4h", "1d")


@click.command()
@symbol_option
@click.option(
    "--interval",
    "intervals",
    type=INTERVALS,
    multiple=True,
    default=BAR_LENGTHS,
    help="Bar length, repeatable [15m 1h 4h 1d].",
)
@click.option(
    "--only",
    type=click.Choice(TABLES),
    multiple=True,
    help="A table to bring, repeatable [all]. Long/short and open interest are a file a day: slow.",
)
@click.option("--from", "start", required=True, help="First day (UTC), like 2023-01-01.")
@click.option("--to", "end", help="The moment after the last one [now].")
@click.option("--no-tail", is_flag=True, help="Only what the archive has: ask the venue for nothing.")
@corrections_option
@as_json_option
@click.pass_context
def pull(
    ctx: click.Context,
    symbol: str | None,
    intervals: tuple[str, ...],
    only: tuple[str, ...],
    start: str,
    end: str | None,
    no_tail: bool,
    accept_corrections: bool,
    as_json: bool,
) -> None:
    """Candles, funding, ratios, sentiment, macro of one symbol; run it again to go on or to bring the rest.

    Whole days come from the exchange's public archive, what it does not have (yet) from the venue's REST
    interface. What the lake has is not asked for again. A series that fails does not stop the others.
    """
    from acmf_cli.progress import ProgressBars
    from acmf_core.collect.pull.backfill import Backfill
    from acmf_core.execution.clock import SystemClock

    settings: Settings = ctx.obj
    lake = open_lake(settings)
    symbol = symbol or settings.config.market.symbol
    now = SystemClock().now()
    first, last = _window(start, end, now)
    outcomes: list[Outcome] = []
    with _archive(settings) as archive, ProgressBars(quiet=as_json) as bars:
        backfill = Backfill(
            lake,
            archive,
            settings.config,
            symbol,
            first,
            last,
            now=now,
            tail=not no_tail,
            accept_corrections=accept_corrections,
            progress=bars.report,
        )
        outcomes += backfill.run(only or TABLES, intervals)
    if as_json:
        head = {"lake": lake.uri, "symbol": symbol, "from": report.iso(first), "to": report.iso(last)}
        click.echo(json.dumps(head | report.pull_json(outcomes)))
    else:
        report.show_pull(symbol, outcomes)
    ctx.exit(_say_failures(outcomes))


def _window(start: str, end: str | None, now: int) -> "tuple[pd.Timestamp, pd.Timestamp]":
    from acmf_core.lake.merging import as_stamp

    moment = as_stamp(now)
    first, last = as_stamp(start).floor("D"), min(as_stamp(end), moment) if end else moment
    if first >= last:
        raise click.UsageError(f"--from {start} is not before {report.when(last)} UTC")
    return first, last


def _archive(settings: Settings) -> "Archive":
    from acmf_core.collect.archive.client import Archive

    sources = settings.config.sources
    return Archive(
        sources.archive_base_url,
        Path(settings.config.paths.state) / "archive",
        connections=sources.archive_connections,
        timeout_s=sources.archive_timeout_s,
    )


def _say_failures(outcomes: "Sequence[Outcome]") -> int:
    """One line a reason, with the series it stopped; the exit code."""
    reasons: dict[str, list[str]] = {}
    errors: list[AcmfError] = []
    for outcome in outcomes:
        for error in (outcome.error, outcome.report.merged.conflict()):
            if error is not None:
                reasons.setdefault(str(error), []).append(outcome.name)
                errors.append(error)
    for reason, names in reasons.items():
        click.echo(f"acmf: {', '.join(names)}: {' '.join(reason.split())}", err=True)
    return max((error.exit_code for error in errors), default=0)
