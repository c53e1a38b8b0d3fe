"""`acmf data check`: whether the stored data can be trusted."""

import json
from typing import TYPE_CHECKING

import click

from acmf_cli import data_report as report
from acmf_cli.data_options import INTERVALS, as_json_option, open_lake, symbol_of

if TYPE_CHECKING:
    from acmf_core.lake import Lake
    from acmf_core.lake.quality import Quality


@click.command()
@click.option("--symbol", callback=symbol_of, help="Only this one [all in the lake].")
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

    lake = open_lake(ctx.obj)
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
