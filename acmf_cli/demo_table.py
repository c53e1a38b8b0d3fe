"""The demo's final table."""

import textwrap
from typing import Any

import click


def show(summary: dict[str, Any]) -> None:
    """The final table: what was there, what it would have earned, what the gate says, how long it took."""
    rows: list[tuple[str, str]] = [
        (
            "market",
            f"{summary['symbol']}, {summary['bars']:,} bars, {summary['first_bar']} to {summary['last_bar']}",
        )
    ]
    for name, found in summary["calibrations"].items():
        label = "the demo's choice, more trades" if name == "temperature" else "fully calibrated"
        rows.append((f"out of sample, {name}", f"{_earned(found)}  ({label})"))
    losses = summary["log_loss"]
    rows += [
        ("log-loss", ", ".join(f"{name} {value:.4f}" for name, value in losses.items())),
        (
            "paper replay",
            "{cycles:,} cycles, {trades} trades, {differences} differences from the backtest".format(
                **summary["replay"]
            ),
        ),
        ("verdict of the gate", "PROMOTED" if summary["gate"]["promoted"] else "REFUSED"),
        ("", summary["gate"]["summary"]),
        ("seconds", ", ".join(f"{name} {seconds:.0f}" for name, seconds in summary["seconds"].items())),
        ("report", summary["report"]),
    ]
    if summary["synthetic"]:
        rows.insert(
            0, ("SYNTHETIC MARKET", "made up by a program; nothing here says anything about a real one")
        )
    width = max(len(name) for name, _ in rows)
    click.echo()
    for name, text in rows:
        first, *rest = textwrap.wrap(text, 96) or [""]
        click.echo(f"{name:{width}}  {first}")
        for line in rest:
            click.echo(" " * (width + 2) + line)


def _earned(found: dict[str, Any]) -> str:
    if not found["trades"]:
        return "no trades"
    sharpe = found["sharpe_daily_annualised"]
    ratio = "-" if sharpe is None else f"{sharpe:.2f}"
    return (
        f"{found['trades']} trades, {found['total_return']:+.2%}, drawdown {found['max_drawdown']:.2%}, "
        f"Sharpe {ratio}"
    )
