"""`acmf data collect`: one collection now, to see whether keys and network work."""

import asyncio
import json
import logging
import math
from typing import TYPE_CHECKING, Any

import click

from acmf_cli import data_report as report
from acmf_cli.data_options import as_json_option, open_lake
from production.settings import Settings

if TYPE_CHECKING:
    from acmf_core.domain import SourceHealth


@click.command()
@click.option("--no-record", is_flag=True, help="Look only: nothing goes into the lake.")
@as_json_option
@click.pass_obj
def collect(settings: Settings, no_record: bool, as_json: bool) -> None:
    """Ask all eight sources now, for the bar that closed last, and show how each did.

    Ages are as of now. Optional sources may fail; without candles the command fails.
    """
    if not as_json:
        seconds = settings.config.sources.deadline_s
        click.echo(f"asking eight sources, {seconds:g} s at the most", err=True)
    found = asyncio.run(_collected(settings, record=not no_record))
    if as_json:
        click.echo(json.dumps({name: value for name, value in found.items() if name != "error"}))
    else:
        _show(found)
    if found["error"] is not None:
        raise found["error"]


async def _collected(settings: Settings, *, record: bool) -> dict[str, Any]:
    """One collection: the close, health and newest row of every source, and what kept candles away."""
    from acmf_core.domain import BAR_US, Health
    from acmf_core.errors import AcmfError
    from acmf_core.execution.clock import SystemClock
    from acmf_core.monitoring.notify import LogNotifier
    from production.sources import data_sync

    clock, lake = SystemClock(), open_lake(settings) if record else None
    quiet = LogNotifier(loudest=logging.DEBUG)  # the table says it all
    sync = data_sync(settings.config, clock, quiet, lake=lake)
    error: AcmfError | None = None
    try:
        at = clock.now() // BAR_US * BAR_US
        try:
            await sync.collect(at)
        except AcmfError as refused:
            error = refused
        now = clock.now()
        health = sync.judged(now)
        newest = {one.source: sync.newest(one.source, now) for one in health}
    finally:
        await sync.close()
    offset = sync.clock_offset_s
    answered = any(one.status in (Health.OK, Health.STALE) for one in health)
    return {
        "symbol": settings.config.market.symbol,
        "close": report.iso(_stamp(at)),
        "clock_offset_s": None if math.isnan(offset) else round(offset, 3),
        "recorded": lake.uri if lake is not None and answered else None,
        "sources": [_line(one, newest[one.source], now) for one in health],
        "error": error,
    }


def _line(health: "SourceHealth", newest: int | None, now: int) -> dict[str, Any]:
    """One source as plain values; the age is that of its newest row now."""
    return {
        "source": health.source,
        "status": health.status.value,
        "latency_s": round(health.latency_s, 3),
        "age_s": None if newest is None else round((now - newest) / 1e6, 1),
        "newest": None if newest is None else report.iso(_stamp(newest)),
        "reason": health.reason,
    }


def _show(found: dict[str, Any]) -> None:
    from acmf_core.collect.asking.outages import lasted

    offset = found["clock_offset_s"]
    clock = "not measured" if offset is None else f"{offset:+.2f} s off"
    click.echo(f"{found['symbol']}, close of {_minutes(found['close'])} UTC; the exchange's clock: {clock}")
    rows = [
        [
            one["source"],
            one["status"],
            f"{one['latency_s']:.2f} s",
            "-" if one["age_s"] is None else lasted(one["age_s"]),
            _minutes(one["newest"]) if one["newest"] else "-",
            one["reason"],
        ]
        for one in found["sources"]
    ]
    report.table(["source", "status", "latency", "age", "known since", "reason"], rows, right={2, 3})
    click.echo(f"recorded in {found['recorded']}" if found["recorded"] else "nothing was recorded")


def _minutes(text: str) -> str:
    """Date and minute of an ISO stamp."""
    return text[: len("2024-01-31T12:00")].replace("T", " ")


def _stamp(moment: int) -> Any:
    import pandas as pd

    return pd.Timestamp(moment, unit="us", tz="UTC")
