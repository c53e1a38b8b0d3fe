"""`acmf data`: history into the lake, what the lake holds, and whether it can be trusted."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acmf_cli import data_report as report
from production.settings import Settings

if TYPE_CHECKING:
    from acmf_core.collect.pull import PullReport
    from acmf_core.lake import Lake, MergeReport
    from acmf_core.lake.quality import Quality

INTERVALS = click.Choice(["1m", "15m", "1h", "4h", "1d"])


def _symbol(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The venue writes BTCUSDT; people write btc/usdt."""
    if value is None:
        return None
    plain = value.upper().replace("/", "")
    if not re.fullmatch(r"[A-Z0-9-]{2,30}", plain):
        raise click.BadParameter(f'"{value}" is no symbol like BTCUSDT')
    return plain


as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
symbol_option = click.option("--symbol", callback=_symbol, help="The venue's name [market.symbol].")
interval_option = click.option("--interval", type=INTERVALS, default="15m", show_default=True)
corrections_option = click.option(
    "--accept-corrections",
    is_flag=True,
    help="Take values that differ from stored ones (kept out otherwise).",
)


@click.group()
def data() -> None:
    """History into the lake: import, pull, status, check."""


@data.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@symbol_option
@interval_option
@click.option("--table", type=click.Choice(["candles", "funding"]), help="What the file holds [guessed].")
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
    """Candles or funding from a CSV or Parquet FILE; all or nothing."""
    from acmf_core.collect.importer import table_of
    from acmf_core.collect.intake import import_candles, import_funding

    lake = _lake(settings)
    symbol = symbol or settings.config.market.symbol
    if (table or table_of(file)) == "funding":
        done = import_funding(lake, file, symbol, sort=sort, accept_corrections=accept_corrections)
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
        )
    if as_json:
        click.echo(json.dumps({"lake": lake.uri, "symbol": symbol} | report.import_json(done, file)))
    else:
        report.show_import(done, file, symbol, lake)
    _raise_conflict(done.merged)


@data.command()
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

    lake = _lake(settings)
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
    _raise_conflict(candles.merged)
    _raise_conflict(funding.merged)
    _raise_damaged(symbol, candles)


@data.command()
@as_json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """What the lake holds: one line per table and symbol."""
    lake = _lake(settings)
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


@data.command()
@click.option("--symbol", callback=_symbol, help="Only this one [all in the lake].")
@click.option("--interval", type=INTERVALS, help="Only this bar length [all in the lake].")
@click.option("--from", "start", help="First day (UTC).")
@click.option("--to", "end", help="The day after the last one.")
@click.option(
    "--bridge", is_flag=True, help="Fill outages of at most a day with flat zero-volume bars, marked."
)
@as_json_option
@click.pass_context
def check(
    ctx: click.Context,
    symbol: str | None,
    interval: str | None,
    start: str | None,
    end: str | None,
    bridge: bool,
    as_json: bool,
) -> None:
    """Gaps, doubles, off-grid stamps, impossible bars, jumps. Exit code 1 where candles have an error."""
    from acmf_core.collect.intake import bridge_lake
    from acmf_core.errors import DataError

    lake = _lake(ctx.obj)
    held = lake.status()
    held = held[held["table"] == "candles"] if len(held) else held
    chosen = [
        (row["symbol"], row["interval"])
        for row in report.plain_rows(held)
        if symbol in (None, row["symbol"]) and interval in (None, row["interval"])
    ]
    if not chosen:
        what = " ".join(part for part in (symbol, interval) if part) or "candles"
        raise DataError(f"the lake at {lake.uri} has no {what}", "acmf data import FILE, or acmf data pull")
    bridged = 0
    if bridge:
        bridged = sum(bridge_lake(lake, name, length).inserted for name, length in chosen)
    results = [quality for pair in chosen for quality in _check(lake, *pair, start, end)]
    ok = all(quality.ok for quality in results)
    if as_json:
        answer = {
            "lake": lake.uri,
            "ok": ok,
            "bridged": bridged,
            "checks": [report.quality_json(q) for q in results],
        }
        click.echo(json.dumps(answer))
    else:
        report.show_check(results, bridged)
    ctx.exit(0 if ok else 1)


def _lake(settings: Settings) -> "Lake":
    from acmf_core.lake import Lake

    return Lake(settings.config.paths.lake)


def _archive(settings: Settings) -> Any:
    from acmf_core.collect.archive import Archive

    sources = settings.config.sources
    return Archive(
        sources.archive_base_url,
        Path(settings.config.paths.state) / "archive",
        connections=sources.archive_connections,
        timeout_s=sources.archive_timeout_s,
    )


def _check(lake: "Lake", symbol: str, interval: str, start: str | None, end: str | None) -> list["Quality"]:
    from acmf_core.errors import DataError
    from acmf_core.lake.quality import check_candles, check_funding

    bars = lake.read("candles", symbol=symbol, interval=interval, start=start, end=end)
    if bars.empty:
        raise DataError(f"the lake has no {interval} bars of {symbol} in that window", "acmf data status")
    results = [check_candles(bars, symbol, interval)]
    if interval == "15m" and lake.exists("funding"):
        paid = lake.read("funding", symbol=symbol, start=start, end=end)
        if len(paid):
            results.append(check_funding(paid, symbol, until=bars["available_at"].iloc[-1]))
    return results


def _raise_conflict(merged: "MergeReport") -> None:
    error = merged.conflict()
    if error is not None:
        raise error


def _raise_damaged(symbol: str, candles: "PullReport") -> None:
    from acmf_core.errors import VenueUnavailable

    if candles.damaged and candles.missing:
        raise VenueUnavailable(
            f"{candles.missing} bar(s) of {symbol} are missing because {len(candles.damaged)} file(s) of the "
            f"archive are damaged ({report.some(candles.damaged)})",
            "try again later, or bring those days with acmf data import FILE",
        )
