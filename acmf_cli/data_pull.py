"""`acmf data pull`: history from the exchange's public archive into the lake."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acmf_cli import data_report as report
from acmf_cli.data_options import (
    as_json_option,
    corrections_option,
    interval_option,
    open_lake,
    raise_conflict,
    symbol_option,
)
from production.settings import Settings

if TYPE_CHECKING:
    from acmf_core.collect.pull import PullReport


@click.command()
@symbol_option
@interval_option
@click.option("--from", "start", required=True, help="First day (UTC), like 2023-01-01.")
@click.option("--to", "end", help="The day after the last one [today].")
@corrections_option
@as_json_option
@click.pass_obj
def pull(
    settings: Settings,
    symbol: str | None,
    interval: str,
    start: str,
    end: str | None,
    accept_corrections: bool,
    as_json: bool,
) -> None:
    """Candles and funding from the exchange's public archive; run it again to go on or to bring the rest."""
    from acmf_cli.progress import ProgressBars
    from acmf_core.collect.pull import pull_candles, pull_funding
    from acmf_core.execution.clock import SystemClock
    from acmf_core.lake.merging import as_stamp

    lake = open_lake(settings)
    symbol = symbol or settings.config.market.symbol
    today = as_stamp(SystemClock().now()).floor("D")
    first, last = as_stamp(start), min(as_stamp(end), today) if end else today
    if first.floor("D") >= last.floor("D"):
        raise click.UsageError(f"--from {start} leaves no whole day before {last:%Y-%m-%d}")
    with _archive(settings) as archive, ProgressBars(quiet=as_json) as bars:
        candles = pull_candles(
            lake,
            archive,
            symbol,
            first,
            last,
            interval,
            accept_corrections=accept_corrections,
            progress=bars.report,
        )
        funding = pull_funding(
            lake,
            archive,
            symbol,
            first,
            last,
            accept_corrections=accept_corrections,
            progress=bars.report,
        )
    if as_json:
        tables = {"candles": report.pull_json(candles), "funding": report.pull_json(funding)}
        click.echo(json.dumps({"lake": lake.uri, "symbol": symbol, "interval": interval} | tables))
    else:
        report.show_pull(symbol, candles, funding)
    raise_conflict(candles.merged)
    raise_conflict(funding.merged)
    _raise_damaged(symbol, candles)


def _archive(settings: Settings) -> Any:
    from acmf_core.collect.archive import Archive

    sources = settings.config.sources
    return Archive(
        sources.archive_base_url,
        Path(settings.config.paths.state) / "archive",
        connections=sources.archive_connections,
        timeout_s=sources.archive_timeout_s,
    )


def _raise_damaged(symbol: str, candles: "PullReport") -> None:
    from acmf_core.errors import VenueUnavailable

    if candles.damaged and candles.missing:
        raise VenueUnavailable(
            f"{candles.missing} bar(s) of {symbol} are missing because {len(candles.damaged)} file(s) of the "
            f"archive are damaged ({report.some(candles.damaged)})",
            "try again later, or bring those days with acmf data import FILE",
        )
