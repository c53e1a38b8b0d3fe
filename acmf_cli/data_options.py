"""What the commands under `acmf data` share: options, the lake, and how a conflict ends."""

import re
from typing import TYPE_CHECKING

import click

from production.settings import Settings

if TYPE_CHECKING:
    from acmf_core.lake import Lake, MergeReport

INTERVALS = click.Choice(["1m", "15m", "1h", "4h", "1d"])


def symbol_of(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The venue writes BTCUSDT; people write btc/usdt."""
    if value is None:
        return None
    plain = value.upper().replace("/", "")
    if not re.fullmatch(r"[A-Z0-9-]{2,30}", plain):
        raise click.BadParameter(f'"{value}" is no symbol like BTCUSDT')
    return plain


as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
symbol_option = click.option("--symbol", callback=symbol_of, help="The venue's name [market.symbol].")
interval_option = click.option("--interval", type=INTERVALS, default="15m", show_default=True)
corrections_option = click.option(
    "--accept-corrections",
    is_flag=True,
    help="Take values that differ from stored ones (kept out otherwise).",
)


def open_lake(settings: Settings) -> "Lake":
    from acmf_core.lake import Lake

    return Lake(settings.config.paths.lake)


def raise_conflict(merged: "MergeReport") -> None:
    error = merged.conflict()
    if error is not None:
        raise error
