"""What an audit of the data says in words and figures; every sentence is drawn from computed values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from acmf_core.lake.audit import Audit
from acmf_core.lake.findings import ERROR, Quality
from backtests.canvas import Sentences
from backtests.typography import day, number, percent, share

# The beginning of a finding -> what it means to someone who is about to train on these bars.
EXPLAINED: Final[Mapping[str, str]] = {
    "missing bars": "Features of every window that would read the hole are absent.",
    "double stamps": "Two rows claim the same time; which one is right cannot be told.",
    "out of time order": "Rows do not follow their time.",
    "off the grid": "A bar must open on a multiple of its length.",
    "no number": "Such a bar counts as missing.",
    "open or close outside": "The bar contradicts itself.",
    "known before": "The future would leak into every feature made of it.",
    "zero volume": "Nobody traded for a whole bar: a halt, or a hole that the venue filled.",
    "flat with volume": "Traded, but at a single price.",
    "bridged": "Flat stand-ins, asked for with --bridge; no venue's data.",
    "close moved": "May well be the market: look at the news of that day before calling it a fault.",
    "open >": "A price jumped between two bars: perhaps two sources sewn together.",
    "volume > 6": "A flood: a liquidation, or a wrong unit.",
    "volume > 4": "A trickle: a partial bar, often beside an outage.",
    "taker volume": "The venue's own parts do not fit the whole.",
    "mean price": "Quote volume and volume belong to different bars.",
    "prices differ": "The venue's two timeframes contradict each other.",
    "volumes differ": "The venue's two timeframes contradict each other.",
    "no value young enough": "At those closes the features made of it are absent.",
    "nothing known yet": "Until then the features made of it are absent.",
    "stale": "From there on the features made of it are absent.",
    "payments missing": "Backtests would not charge them.",
    "best bid": "A crossed book: the features made of it are wrong.",
    "levels out of order": "The book was not sorted.",
    "netflow": "The parts do not add up.",
}

MOST_SAID: Final = 6  # findings told beside the verdict; the rest stand in their table


@dataclass(frozen=True)
class Verdict:
    """Whether the data may be read, and what to do about it."""

    passed: bool
    word: str
    headline: str
    answer: str
    reasons: tuple[str, ...]
    remedy: str


def explained(finding: str) -> str:
    """What a finding means; empty where its name says it all."""
    if " outside " in finding and not finding.startswith(("open or close", "taker", "mean")):
        return "A wrong unit, a wrong column or a broken answer."
    return next((text for start, text in EXPLAINED.items() if finding.startswith(start)), "")


def verdict(audit: Audit) -> Verdict:
    """The word on an audit."""
    errors = tuple(_said(quality, row) for quality, row in _rows(audit) if row["severity"] == ERROR)
    main = audit.main.quality
    span = f"{number(main.rows)} {main.interval} bars, {day(main.first)} to {day(main.last)}"
    if errors:
        return Verdict(
            False,
            "must not be read as they are",
            f"{audit.symbol}: {_count(len(errors), 'fault')} to mend first",
            f"No. {span}; a model that reads them would learn from what never was.",
            errors,
            _remedy(audit),
        )
    said = tuple(_said(quality, row) for quality, row in _rows(audit))
    more = f", with {_count(len(said), 'thing')} to know" if said else ""
    reasons = said[:MOST_SAID]
    if len(said) > MOST_SAID:
        reasons += (f"and {len(said) - MOST_SAID} more, under Findings",)
    missing = int(audit.main.days["missing"].sum())
    return Verdict(
        True,
        "may be read",
        f"{audit.symbol} is whole{more}",
        f"Yes. {span}, {number(missing) if missing else 'none'} missing.",
        reasons or ("Nothing was found.",),
        "Nothing has to be done. Warnings are worth a look: they may be the market, or the venue's mistake.",
    )


def data_figures(audit: Audit) -> dict[str, Any]:
    """Of one audit, plain values by name."""
    by_severity = pd.Series([row["severity"] for _, row in _rows(audit)], dtype=object).value_counts()
    first = audit.main
    return {
        "ok": audit.ok,
        "rows": first.quality.rows,
        "missing_bars": int(first.days["missing"].sum()),
        "bridged_bars": int(first.days["bridged"].sum()),
        "bars_without_volume": int(first.days["zero"].sum()),
        "outliers": len(first.marked),
        "errors": int(by_severity.get(ERROR, 0)),
        "warnings": int(by_severity.get("warning", 0)),
        "candles_compared": sum(found.compared for found in audit.agreements),
        "candles_that_differ": sum(found.differ for found in audit.agreements),
    }


def data_conclusions(audit: Audit) -> Sentences:
    """What an audit says, for the end of a notebook."""
    word, first = verdict(audit), audit.main
    sentences = [f"{word.headline}: {word.answer.partition('. ')[2]}"]
    found = data_figures(audit)
    days = int((first.days["missing"] > 0).sum())
    if found["missing_bars"]:
        lacking = found["missing_bars"] / max(int(first.days["slots"].sum()), 1)
        holes = f"{_count(found['missing_bars'], 'bar')} missing ({percent(lacking, 3)})"
        sentences.append(f"{holes}, on {_count(days, 'day')}. {word.remedy}")
    marked = first.marked[first.marked["kind"] == "price"]
    if len(marked):
        worst = marked.loc[marked["change"].abs().idxmax()]
        largest = f"{percent(float(worst['change']), sign=True)} on {day(worst['open_time'])}"
        sentences.append(
            f"{_count(len(marked), 'outlier')} of price, the largest {largest}: kept as they are, for no "
            "check can tell a crash from a fault, and a model must survive crashes."
        )
    if audit.agreements:
        told = "all agree" if not found["candles_that_differ"] else f"{found['candles_that_differ']} differ"
        sentences.append(f"Of {number(found['candles_compared'])} longer candles that were compared, {told}.")
    else:
        sentences.append("There was no second timeframe to compare with.")
    shares = {name.replace("_", " "): float(survey.covered.mean()) for name, survey in audit.slow.items()}
    told = ", ".join(f"{name} at {share(part)}" for name, part in shares.items() if not pd.isna(part))
    if told:
        sentences.append(f"Share of closes at which a value young enough was known: {told}.")
    return Sentences(tuple(sentences))


def _rows(audit: Audit) -> list[tuple[Quality, Mapping[str, Any]]]:
    return [
        (quality, {str(key): value for key, value in row.items()})
        for quality in audit.qualities
        for row in quality.findings.to_dict("records")
    ]


def _said(quality: Quality, row: Mapping[str, Any]) -> str:
    detail = f" ({row['detail']})" if row["detail"] else ""
    return (
        f"{quality.interval}: {row['finding']}, {number(row['count'])}, the first at "
        f"{row['first']:%Y-%m-%d %H:%M}{detail}"
    )


def _remedy(audit: Audit) -> str:
    for survey in audit.candles.values():
        holes = survey.days[survey.days["missing"] > 0]
        if len(holes) and not survey.quality.ok:
            begin, end = holes.index[0], holes.index[-1] + pd.Timedelta(days=1)
            return (
                f"acmf data pull --symbol {audit.symbol} --from {begin:%Y-%m-%d} --to {end:%Y-%m-%d}, then "
                "acmf data check --bridge for what the venue never had."
            )
    return "acmf data import FILE --accept-corrections brings better rows in the place of these."


def _count(count: int, what: str) -> str:
    return f"{number(count)} {what}{'' if count == 1 else 's'}"
