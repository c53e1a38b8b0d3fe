"""`acmf config`: what is configured, and where each value came from."""

import json

import click

from production.settings import Settings


@click.group()
def config() -> None:
    """The effective configuration."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def show(settings: Settings, as_json: bool) -> None:
    """Every setting with its origin; secrets are masked."""
    rows = settings.rows()
    if as_json:
        plain = settings.values()
        click.echo(json.dumps({key: {"value": plain[key], "from": origin} for key, _, origin in rows}))
        return
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        click.echo(f"{key:{width}}  {value:24}  {origin}")
