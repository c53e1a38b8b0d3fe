"""The tables of the report as rows ready to be set: words and numbers from the evidence."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from acmf_core.domain import Check, Regime
from acmf_core.trading import SimulationResult, TradeParams
from backtests import story
from backtests.typography import DASH, TIMES, day, number, p_value, percent

TRADES_SHOWN: Final = 50
_DAYS: Final = ("train_days", "test_days", "holdout_days")
Rows = list[dict[str, Any]]


def tiles(evidence: Mapping[str, Any], view: Mapping[str, Any]) -> Rows:
    """Six figures for the eye."""
    found, held, sharpe, costs = view["performance"], evidence["buy_and_hold"], view["sharpe"], view["costs"]
    span = "needs trades"
    if sharpe["annual_90"]:
        low, high = sharpe["annual_90"]
        span = f"90 %: {number(low, 1)} to {number(high, 1)}"
    total, fall = found["total_return"], found["max_drawdown"]
    held_total, held_fall = percent(held["total_return"], sign=True), percent(-held["max_drawdown"])
    net, gross = costs["mean_net_bps"], number(costs["mean_gross_bps"], 1, sign=True)
    return [
        _tile("Total return", percent(total, sign=True), f"holding the coin: {held_total}", total),
        _tile("Sharpe ratio, annual", number(sharpe["annual"], 2), span, sharpe["annual"]),
        _tile("Deepest fall", percent(-fall), f"holding the coin: {held_fall}"),
        _tile("Trades", number(view["trades"]), f"{percent(found['exposure'], 0)} of the time in the market"),
        _tile("Net a trade, bps", number(net, 1, sign=True), f"before fees and funding: {gross}", net),
        _tile("More than luck", percent(sharpe["dsr"]), "deflated Sharpe ratio; 95 % asked"),
    ]


def _tile(name: str, value: str, note: str, tone: float | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "note": note, "tone": _tone(tone)}


def _tone(value: float | None) -> str:
    return "pos" if value is not None and value > 0 else "neg" if value is not None and value < 0 else ""


def cards(evidence: Mapping[str, Any], verdicts: Mapping[str, Sequence[Check]]) -> Rows:
    """The calibrations side by side, where the one asked for is not the fully calibrated one."""
    if evidence["calibration"] == "directional":
        return []
    titles = {
        "temperature": (
            "Temperature only",
            "too sure of direction; chosen here so that there are trades to see",
        ),
        "directional": (
            "Fully calibrated",
            "the honest one: sure of a side only as far as that was worth it",
        ),
    }
    rows = []
    for name, (title, note) in titles.items():
        checks, view = verdicts.get(name), evidence["by_calibration"][name]
        word = story.verdict(evidence, view, checks, "") if checks else None
        rows.append(
            {
                "title": title,
                "note": note,
                "passed": word is not None and word.passed,
                "verdict": story.tally(checks) if checks else "",
                "rows": _card_rows(view, evidence["losses"].get(name, {})),
            }
        )
    return rows


def _card_rows(view: Mapping[str, Any], losses: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("trades", number(view["trades"])),
        ("total return", percent(view["performance"]["total_return"], sign=True)),
        ("annual Sharpe ratio", number(view["sharpe"]["annual"], 2)),
        ("deflated Sharpe ratio", number(view["sharpe"]["dsr"], 3)),
        ("log-loss", number(losses.get("log_loss"), 4)),
        ("calibration error", number(view["reliability"]["ece"], 4)),
        ("gain in direction, nats", number(view["direction"]["gain"], 5, sign=True)),
        ("last block", _last_block(view["holdout"])),
    ]


def _last_block(holdout: Mapping[str, Any]) -> str:
    if holdout["reason"]:
        return DASH
    found = holdout["performance"]
    return f"{number(found['trades'])} trades, {percent(found['total_return'], sign=True)}"


def luck(evidence: Mapping[str, Any], view: Mapping[str, Any]) -> Rows:
    """Every statistic on luck as a question, its figure, and how it was computed."""
    rows = _record_luck(evidence, view) + _tuning_luck(evidence)
    return [{"question": question, "figure": figure, "how": how} for question, figure, how in rows]


def _record_luck(evidence: Mapping[str, Any], view: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sharpe, tests, looked = view["sharpe"], view["superior"], evidence["ledger"]["out_of_sample"]
    needed = f"{number(sharpe['min_track_days'])} days" if sharpe["min_track_days"] else "none would"
    return [
        (
            "Is the Sharpe ratio above zero?",
            percent(sharpe["psr"]),
            f"probabilistic Sharpe ratio of {sharpe['days']} daily returns; "
            f"skew {number(sharpe['skew'], 2)}, kurtosis {number(sharpe['kurtosis'], 1)}",
        ),
        (
            "Is it above what the luckiest try gives?",
            percent(sharpe["dsr"]),
            f"deflated Sharpe ratio; N = {looked} series of these days were ever looked at, the best of so "
            f"many without skill has {number(sharpe['expected_max'], 3)} a day; asked: 95 %",
        ),
        (
            "How long a record would settle it?",
            needed,
            f"minimum track record length at 95 %; there are {sharpe['days']} days",
        ),
        (
            "Does it beat doing nothing?",
            p_value(tests["flat"]["p"]),
            tests["flat"]["reason"] or "SPA test (Hansen), consistent p-value; asked: at most 0.05",
        ),
        (
            "Does it beat the tabular-only model?",
            p_value(tests["tabular_only"]["p"]),
            tests["tabular_only"]["reason"] or "the same test on the difference of daily returns",
        ),
    ]


def _tuning_luck(evidence: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    tuning, ledger = evidence["tuning"], evidence["ledger"]
    if tuning["reason"]:
        return [("Was the tuning lucky?", DASH, tuning["reason"])]
    return [
        (
            "Would the tuned choice lose elsewhere?",
            percent(tuning["loss_probability"]),
            f"CSCV, {number(tuning['splits'])} splits of {tuning['days']} training days; asked: at most 5 %",
        ),
        (
            "Would it be below the median trial?",
            percent(tuning["pbo"]),
            f"PBO; counts only where the trials truly differ (p = {number(tuning['dispersion_p'], 3)} here)",
        ),
        (
            "Is the in-sample Sharpe ratio luck?",
            percent(tuning["in_sample_dsr"]),
            f"deflated by {tuning['trials']} trials of the last fold; "
            f"{number(ledger['tuning'])} inner trials in all",
        ),
    ]


def data_rows(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    data = evidence["data"]
    versions = ", ".join(f"{name} v{version}" for name, version in sorted(data["lake_versions"].items()))
    never = [name.replace("_", " ") for name in data["sources_never_seen"]]
    return [
        ("market", evidence["symbol"] or DASH),
        ("history", f"{day(data['history_start'])} {DASH} {day(data['history_end'])}"),
        ("out of sample", f"{day(data['start'])} {DASH} {day(data['end'])}"),
        ("bars out of sample", number(data["bars"])),
        ("lake versions", versions or "not from the lake"),
        ("funding rates", "yes" if data["funding"] else "none: funding counts as 0"),
        ("sources never seen", ", ".join(never) or "none"),
        ("synthetic", "YES" if evidence["synthetic"] else "no"),
    ]


def run_rows(evidence: Mapping[str, Any], replay: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How the run was set up, and its replay through the daemon."""
    settings = evidence["settings"]
    spans = " / ".join(number(settings[name]) for name in _DAYS)
    rows = [
        ("profile", f"{settings['profile']}, seed {settings['seed']}"),
        ("calibration", evidence["calibration"]),
        ("folds", f"{settings['folds']}, {settings['scheme']}"),
        ("train / test / last block", f"{spans} days"),
        ("label horizon", f"{settings['horizon_bars']} bars ({settings['labels']})"),
        ("tuning trials a fold", number(settings["trials_a_fold"])),
        ("starting equity", number(settings["equity"])),
    ]
    if replay is not None:
        rows.append(("replay", f"{number(replay['cycles'])} cycles, {replay['differences']} differences"))
    return rows


def params(given: TradeParams) -> Rows:
    """Every trading parameter beside its default."""
    default = TradeParams().to_dict()
    return [
        {
            "name": name.replace("_", " "),
            "value": _value(value),
            "default": _value(default[name]),
            "changed": value != default[name],
        }
        for name, value in given.to_dict().items()
    ]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(f"{each:g}" for each in value)
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def months(found: Mapping[str, Any]) -> dict[str, Any]:
    """Years down, months across, tinted by gain and loss; months that no year has are left out."""
    returns = dict(zip(found["month"], found["return"], strict=True))
    full = max((abs(value) for value in returns.values() if value is not None), default=0.0)
    years = sorted({month[:4] for month in returns})
    used = [m for m in range(1, 13) if any(f"{year}-{m:02d}" in returns for year in years)]
    rows = []
    for year in years:
        values = [returns.get(f"{year}-{m:02d}") for m in used]
        known = [value for value in values if value is not None]
        rows.append(
            {
                "year": year,
                "cells": [_month_cell(value, full) for value in values],
                "total": percent(float(np.prod([1 + value for value in known]) - 1), sign=True),
            }
        )  # fmt: skip
    return {"months": [f"{pd.Timestamp(2024, m, 1):%b}" for m in used], "rows": rows}


def _month_cell(value: float | None, full: float) -> dict[str, str]:
    return {"text": "" if value is None else percent(value, sign=True), "tint": tint(value, full)}


def stress(found: Mapping[str, Any]) -> dict[str, Any]:
    """Multiples of fee and slippage down; delay and funding across."""
    cells = {
        ((row["fee"], row["slippage"]), (row["delay"], row["funding"])): row for row in found["rows"]
    }  # fmt: skip
    down, across = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    full = max((abs(row["total_return"]) for row in cells.values()), default=0.0)
    delays = sorted({delay for delay, _ in across})
    return {
        "groups": [
            {
                "name": "orders on time"
                if delay == 0
                else f"orders {delay:g} bar{'s' if delay > 1 else ''} late",
                "span": sum(1 for late, _ in across if late == delay),
            }
            for delay in delays
        ],
        "columns": [f"funding {TIMES}{funding:g}" for _, funding in across],
        "rows": [
            {
                "name": f"fee {TIMES}{fee:g}, slippage {TIMES}{slippage:g}",
                "cells": [_stress_cell(cells[(fee, slippage), rest], full) for rest in across],
            }
            for fee, slippage in down
        ],
    }


def _stress_cell(row: Mapping[str, Any], full: float) -> dict[str, str]:
    if not row["trades"]:
        return {"text": "no trade", "tint": "transparent"}
    return {"text": percent(row["total_return"], sign=True), "tint": tint(row["total_return"], full)}


def tint(value: float | None, full: float) -> str:
    """A background between transparent and the colour of gain or loss."""
    if value is None or not value or not full:
        return "transparent"
    strength = 8 + 40 * min(1.0, abs(value) / full)
    return f"color-mix(in srgb, var(--{'good' if value > 0 else 'bad'}) {strength:.0f}%, transparent)"


def trades(simulation: SimulationResult) -> dict[str, Any]:
    """The first trades for the page, all of them as CSV in base64."""
    table = simulation.trades.copy()
    rows = [
        {
            "entry": f"{row.entry_time:%Y-%m-%d %H:%M}",
            "exit": f"{row.exit_time:%Y-%m-%d %H:%M}",
            "side": "long" if row.side > 0 else "short",
            "entry_price": row.entry_price,
            "exit_price": row.exit_price,
            "reason": row.reason,
            "regime": Regime(row.regime).name.lower().replace("_", " "),
            "confidence": row.confidence,
            "r": row.net / row.risk if row.risk else None,
            "net": row.net,
        }
        for row in table.head(TRADES_SHOWN).itertuples()
    ]
    table["side"] = table["side"].map({1: "long", -1: "short"})
    table["regime"] = table["regime"].map({int(regime): regime.name.lower() for regime in Regime})
    text = table.drop(columns="bar").to_csv(index=False, float_format="%.10g")
    return {"rows": rows, "csv": base64.b64encode(text.encode()).decode()}
