"""`acmf replay`: past bars at full speed through the daemon, held against `simulate` value by value."""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from production.settings import Settings

if TYPE_CHECKING:
    from acmf_core.features import MarketData
    from acmf_core.models import Bundle
    from production.daemon import ReplayResult

DEFAULT_DAYS = 30


class Instant(click.ParamType):
    """An ISO date or time as microseconds since the epoch; without a zone it means UTC."""

    name = "iso"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from datetime import UTC, datetime, timedelta

        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write 2024-12-01 or 2024-12-01T06:00", param, ctx)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@click.command()
@click.option("--candles", required=True, type=click.Path(path_type=Path), help="15m bars, CSV or Parquet.")
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Directory of a model bundle.")
@click.option("--funding", type=click.Path(path_type=Path), help="Funding rates, CSV or Parquet.")
@click.option("--from", "start", type=Instant(), help=f"First bar [{DEFAULT_DAYS} days before the end].")
@click.option("--to", "end", type=Instant(), help="The bar after the last [the end of the file].")
@click.option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="SQLite file to keep the cycles in; the same command goes on from it [a temporary one].",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
@click.pass_obj
def replay(
    settings: Settings,
    candles: Path,
    bundle: Path,
    funding: Path | None,
    start: int | None,
    end: int | None,
    store: Path | None,
    as_json: bool,
) -> int:
    """Past bars through the daemon in paper mode, compared with a simulation value by value.

    Exit code 1 when anything differs. Times are UTC; --from is included, --to is not.
    """
    from acmf_cli.progress import ProgressBars
    from acmf_core.collect.history import load_file
    from acmf_core.models import Bundle
    from acmf_core.store.sql import SqlStore
    from production import daemon

    market = load_file(candles, funding)
    start, end = _window(market, start, end)
    model = Bundle.load(bundle)

    def report(done: int, total: int) -> None:
        bars.report("replay", done, total)
        if done == total and not as_json:
            click.echo("comparing with simulate over the same bars", err=True)

    with ExitStack() as stack:
        bars = stack.enter_context(ProgressBars(quiet=as_json))
        if store is None:
            store = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmf-replay-"))) / "replay.db"
            )
        opened = stack.enter_context(SqlStore.open(store))
        result = daemon.replay(
            market,
            model,
            start=start,
            end=end,
            store=opened,
            symbol=settings.config.market.symbol,
            progress=report,
        )
        journal = opened.verify_journal()
    if as_json:
        click.echo(json.dumps(_figures(result) | {"journal": journal.verdict}))
    else:
        _show(result, journal.figure if journal.verdict else journal.detail)
    return 0 if result.differences == 0 and journal.verdict else 1


def replay_newest(
    market: "MarketData", model: "Bundle", symbol: str, *, quiet: bool = False
) -> "ReplayResult":
    """The newest days of a market through the daemon, on a store that is thrown away."""
    from acmf_cli.progress import ProgressBars
    from acmf_core.store.sql import SqlStore
    from production import daemon

    start, end = _window(market, None, None)
    with (
        tempfile.TemporaryDirectory(prefix="acmf-replay-") as folder,
        SqlStore.open(Path(folder) / "replay.db") as store,
        ProgressBars(quiet=quiet) as bars,
    ):
        return daemon.replay(
            market,
            model,
            start=start,
            end=end,
            store=store,
            symbol=symbol,
            progress=lambda done, total: bars.report("replay", done, total),
        )


def _window(market: "MarketData", start: int | None, end: int | None) -> tuple[int, int]:
    from acmf_core.domain import BAR_US, DAY_US

    times = market.candles.index
    first, stop = (int(t.value) // 1_000 for t in (times[0], times[-1]))
    end = stop + BAR_US if end is None else end
    start = max(first, end - DEFAULT_DAYS * DAY_US) if start is None else start
    if start >= end:
        raise click.UsageError("--from must lie before --to")
    return start, end


def _figures(result: "ReplayResult") -> dict[str, Any]:
    from acmf_core.execution.orders import moment

    return {
        "cycles": result.cycles,
        "trades": result.trades,
        "differences": result.differences,
        "seconds": round(result.seconds, 3),
        "first_difference": result.first_difference,
        "equity": result.equity,
        "ran": result.ran,
        "bundle": result.bundle,
        "from": moment(result.start),
        "to": moment(result.end),
        "stage_ms": {name: round(ms, 3) for name, ms in result.timings.items()},
    }


def _show(result: "ReplayResult", journal: str) -> None:
    speed = (
        f"{result.ran / result.seconds:.0f} cycles/s" if result.ran and result.seconds else "all met before"
    )
    rows = [
        ("cycles", f"{result.cycles:,}"),
        ("trades", f"{result.trades:,}"),
        ("equity at the end", f"{result.equity:,.2f}"),
        ("differences from simulate", f"{result.differences:,}"),
        ("seconds", f"{result.seconds:.1f} ({speed})"),
        ("ms per cycle", ", ".join(f"{name} {ms:.1f}" for name, ms in result.timings.items()) or "-"),
        ("journal", journal),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")
    if result.first_difference is not None:
        where = "{bar}, {table}.{column}: replay {replay!r}, simulate {simulate!r}".format(
            **result.first_difference
        )
        click.echo(f"first difference: {where}")
