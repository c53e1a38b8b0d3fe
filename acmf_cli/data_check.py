"""`acmf data check`: whether the stored data can be trusted."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from acmf_cli.data_findings import check_json, show_check
from acmf_cli.data_options import INTERVALS, as_json_option, open_lake, symbol_of
from acmf_cli.data_report import plain_rows
from production.settings import Settings

if TYPE_CHECKING:
    from acmf_core.lake import Lake
    from acmf_core.lake.audit import Audit

_OWN_FOLDER = "reports/data"


@click.command()
@click.option("--symbol", callback=symbol_of, help="Only this one [all in the lake].")
@click.option("--interval", type=INTERVALS, help="Only this bar length [all in the lake].")
@click.option("--from", "start", help="First day (UTC).")
@click.option("--to", "end", help="The day after the last one.")
@click.option(
    "--bridge", is_flag=True, help="Fill outages of at most a day with flat zero-volume bars, marked."
)
@click.option(
    "--report",
    "page",
    is_flag=False,
    flag_value=_OWN_FOLDER,
    metavar="[FILE]",
    help="Write an HTML page with pictures, one a symbol [reports/data/SYMBOL.html].",
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
    page: str | None,
    as_json: bool,
) -> None:
    """Gaps, doubles, impossible bars, outliers, timeframes that disagree, leaks, stale sources.

    Exit code 1 where 15m bars have an error, or any row was known before it happened.
    """
    from acmf_core.collect.files.intake import bridge_lake
    from acmf_core.collect.inspection import inspect_lake

    lake = open_lake(ctx.obj)
    chosen = _chosen(lake, symbol, interval)
    symbols = list(dict.fromkeys(name for name, _ in chosen))
    pages = _pages(ctx.obj, symbols, page)
    bridged = sum(bridge_lake(lake, *pair).inserted for pair in chosen) if bridge else 0
    audits = [inspect_lake(lake, name, interval=interval, start=start, end=end) for name in symbols]
    for found, path in zip(audits, pages, strict=False):
        _write(found, path, lake)
    if as_json:
        written = {"bridged": bridged, "reports": [str(path) for path in pages]}
        click.echo(json.dumps({"lake": lake.uri} | check_json(audits) | written))
    else:
        show_check(audits, bridged)
        for path in pages:
            click.echo(f"report: {path}")
    ctx.exit(0 if all(found.ok for found in audits) else 1)


def _chosen(lake: "Lake", symbol: str | None, interval: str | None) -> list[tuple[str, str]]:
    """Symbol and interval of every series of bars that was asked for."""
    from acmf_core.errors import DataError

    held = lake.status()
    held = held[held["table"] == "candles"] if len(held) else held
    chosen = [
        (row["symbol"], row["interval"])
        for row in plain_rows(held)
        if symbol in (None, row["symbol"]) and interval in (None, row["interval"])
    ]
    if not chosen:
        what = " ".join(part for part in (symbol, interval) if part) or "candles"
        raise DataError(f"the lake at {lake.uri} has no {what}", "acmf data import FILE, or acmf data pull")
    return chosen


def _pages(settings: Settings, symbols: list[str], page: str | None) -> list[Path]:
    """Where the pages go, one a symbol; none where none was asked for."""
    from acmf_core.errors import ConfigError

    if page is None:
        return []
    if page == _OWN_FOLDER:
        folder = Path(settings.config.paths.reports) / "data"
        return [folder / f"{re.sub('[^A-Za-z0-9-]', '_', symbol)}.html" for symbol in symbols]
    if len(symbols) > 1:
        raise ConfigError(f"one file cannot hold {len(symbols)} symbols", "name one with --symbol")
    return [Path(page)]


def _write(found: "Audit", path: Path, lake: "Lake") -> None:
    from backtests import quality_page

    quality_page.write(found, path, source=lake.uri)
