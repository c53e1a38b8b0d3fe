"""`acmf demo`: the main job end to end, from bars to a report that says what was earned."""

import json
from pathlib import Path

import click

from production.settings import Settings

HOME = Path("state/demo")
REPORTS = Path("reports/demo")


@click.command()
@click.option("--candles", type=click.Path(path_type=Path), help="Your own 15m bars (CSV or Parquet).")
@click.option("--funding", type=click.Path(path_type=Path), help="Your own funding rates, with --candles.")
@click.option("--synthetic", is_flag=True, help="A made-up market, stamped as such everywhere.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
@click.pass_obj
def demo(
    settings: Settings, candles: Path | None, funding: Path | None, synthetic: bool, as_json: bool
) -> None:
    """History, features, training, tuning, walk-forward, promotion gate, paper replay, report.

    Without options the history comes from the exchange's public archive. Everything is written under
    state/demo and reports/demo. Interrupted, the same command goes on; finished, it starts afresh.
    """
    from acmf_cli.journey import Journey

    if synthetic and candles:
        raise click.UsageError("--synthetic and --candles exclude each other")
    if funding and not candles:
        raise click.UsageError("--funding goes with --candles")
    summary = Journey(settings.config, HOME, REPORTS, quiet=as_json).run(
        candles=candles, funding=funding, synthetic=synthetic
    )
    if as_json:
        click.echo(json.dumps(summary))
