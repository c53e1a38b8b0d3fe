"""`acmf data`: history into the lake, what the lake holds, and whether it can be trusted."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from production.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from acmf_core.collect.intake import ImportReport
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
        report = import_funding(lake, file, symbol, sort=sort, accept_corrections=accept_corrections)
    else:
        report = import_candles(
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
        click.echo(json.dumps({"lake": lake.uri, "symbol": symbol} | _import_json(report, file)))
    else:
        _show_import(report, file, symbol, lake)
    _raise_conflict(report.merged)


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
        tables = {"candles": _pull_json(candles), "funding": _pull_json(funding)}
        click.echo(json.dumps({"lake": lake.uri, "symbol": symbol, "interval": interval} | tables))
    else:
        _show_pull(symbol, candles, funding)
    _raise_conflict(candles.merged)
    _raise_conflict(funding.merged)


@data.command()
@as_json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """What the lake holds: one line per table and symbol."""
    lake = _lake(settings)
    held = lake.status()
    if as_json:
        click.echo(json.dumps({"lake": lake.uri, "versions": lake.versions(), "tables": _records(held)}))
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
            _when(row["first"]),
            _when(row["last"]),
            f"{row['missing']:,}",
            f"{row['bridged']:,}",
            str(row["version"]),
        ]
        for row in _rows(held)
    ]
    _table(
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
        for row in _rows(held)
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
            "checks": [_quality_json(q) for q in results],
        }
        click.echo(json.dumps(answer))
    else:
        _show_check(results, bridged)
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


def _show_import(report: "ImportReport", file: Path, symbol: str, lake: "Lake") -> None:
    merged = report.merged
    click.echo(
        f"{file.name}: {report.rows:,} rows of {merged.table} for {symbol}, "
        f"{_when(report.first)} to {_when(report.last)} UTC"
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


def _show_pull(symbol: str, candles: "PullReport", funding: "PullReport") -> None:
    for name, report in (("candles", candles), ("funding", funding)):
        if not (report.files or report.absent or report.damaged):
            click.echo(f"{symbol} {name}: nothing to fetch, the lake has it all")
        else:
            click.echo(f"{symbol} {name}: {report.files} file(s); {_changes(report.merged)}")
        if report.absent:
            click.echo(f"note: the archive does not have {_some(report.absent)}")
        if report.damaged:
            click.echo(f"note: damaged in the archive: {_some(report.damaged)}")
    if candles.missing:
        click.echo(f"note: {candles.missing} bar(s) are missing in between; acmf data check names them")


def _show_check(results: list["Quality"], bridged: int) -> None:
    if bridged:
        click.echo(f"bridged: {bridged:,} flat bars now stand in for outages")
    for quality in results:
        verdict = "ok" if quality.ok else "NOT OK"
        span = f"{_when(quality.first)} to {_when(quality.last)} UTC"
        click.echo(f"{quality.symbol} {quality.interval}: {quality.rows:,} rows, {span}: {verdict}")
        rows = [
            [f["severity"], f"{f['count']:,}", f["finding"], _when(f["first"]), f["detail"]]
            for f in _rows(quality.findings)
        ]
        if rows:
            _table(["severity", "count", "finding", "first", "detail"], rows, right={1})
    if not all(quality.ok for quality in results):
        click.echo(
            "acmf data pull brings missing bars, acmf data check --bridge fills what the venue never had"
        )


def _table(head: list[str], rows: list[list[str]], right: set[int]) -> None:
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    for line in [head, *rows]:
        cells = [
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())


def _import_json(report: "ImportReport", file: Path) -> dict[str, Any]:
    return {
        "file": str(file),
        "rows": report.rows,
        "bridged": report.bridged,
        "first": _iso(report.first),
        "last": _iso(report.last),
        "mapping": report.mapping,
        "notes": list(report.notes),
    } | _merge_json(report.merged)


def _pull_json(report: "PullReport") -> dict[str, Any]:
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


def _quality_json(quality: "Quality") -> dict[str, Any]:
    return {
        "symbol": quality.symbol,
        "interval": quality.interval,
        "rows": quality.rows,
        "first": _iso(quality.first),
        "last": _iso(quality.last),
        "ok": quality.ok,
        "findings": _records(quality.findings),
    }


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows as plain JSON values; stamps as ISO text."""
    import pandas as pd

    return [
        {
            name: _iso(value)
            if isinstance(value, pd.Timestamp)
            else getattr(value, "item", lambda v=value: v)()
            for name, value in row.items()
        }
        for row in _rows(frame)
    ]


def _rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _some(periods: tuple[str, ...]) -> str:
    shown = ", ".join(periods[:3])
    return shown if len(periods) <= 3 else f"{shown} and {len(periods) - 3} more"


def _when(stamp: Any) -> str:
    return f"{stamp:%Y-%m-%d %H:%M}"


def _iso(stamp: Any) -> str:
    return f"{stamp:%Y-%m-%dT%H:%M:%SZ}"
