"""The page about the data of one symbol: verdict first, then what was found, then the pictures."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from acmf_core.lake.audit import Audit
from acmf_core.lake.findings import Quality
from acmf_core.lake.quality import CandleSurvey
from backtests import figures, pages, quality_exhibits, quality_story
from backtests.palette import Palette
from backtests.typography import DASH, day, number, percent, share


def write(audit: Audit, path: str | Path, *, source: str) -> Path:
    """One self-contained file; returns its path.

    Parameters
    ----------
    audit : Audit
    path : str or Path
        Its folder is made.
    source : str
        Where the rows lie, for the reader.
    """
    first = audit.main
    return pages.write(
        "quality.html",
        path,
        subject=audit.symbol,
        source=source,
        span=f"{day(first.quality.first)} {DASH} {day(first.quality.last)}",
        verdict=quality_story.verdict(audit),
        tiles=_tiles(audit, first),
        series=[_series(quality) for quality in audit.qualities],
        first=_pictures(first)
        | {"price": _price(first), "interval": first.quality.interval, "kinds": _kinds(first)},
        others=[
            _pictures(survey) | {"interval": name, "rows": number(survey.quality.rows)}
            for name, survey in audit.candles.items()
            if survey is not first
        ],
        agreement=_agreement(audit),
        differing=_differing(audit),
        coverage=_coverage(audit, first),
    )


def _svg(draw: Callable[[Axes, bool, Palette], None], height: int, narrow: int | None = None) -> str:
    return figures.both(lambda axes, wide: draw(axes, wide, figures.STAND_INS), height, narrow_height=narrow)


def _pictures(survey: CandleSurvey) -> dict[str, str]:
    return {
        "calendar": _svg(
            partial(quality_exhibits.draw_calendar, survey), quality_exhibits.calendar_height(survey)
        ),
        "moves": _svg(partial(quality_exhibits.draw_moves, survey), 260, 230),
    }


def _price(survey: CandleSurvey) -> str:
    return _svg(partial(quality_exhibits.draw_price, survey), 300, 250)


def _agreement(audit: Audit) -> str:
    if not audit.agreements:
        return ""
    draw = partial(quality_exhibits.draw_agreement, audit.agreements)
    return _svg(draw, 50 + 46 * len(audit.agreements))


def _coverage(audit: Audit, first: CandleSurvey) -> str:
    slow = tuple(audit.slow.values())
    draw = partial(quality_exhibits.draw_coverage, first, slow)
    return _svg(draw, 44 + 30 * (1 + len(slow)))


def _tiles(audit: Audit, first: CandleSurvey) -> list[dict[str, str]]:
    found = quality_story.data_figures(audit)
    missing, holes = found["missing_bars"], int((first.days["missing"] > 0).sum())
    compared, differ = found["candles_compared"], found["candles_that_differ"]
    shares = [float(s.covered.mean()) for s in audit.slow.values() if s.max_age is not None]
    return [
        _tile(f"{first.quality.interval} bars", number(found["rows"]), f"{number(len(first.days))} days"),
        _tile("missing", number(missing), f"on {number(holes)} days", bad=missing > 0),
        _tile("bridged", number(found["bridged_bars"]), "stand-ins for outages"),
        _tile("without volume", number(found["bars_without_volume"]), "bars in which nobody traded"),
        _tile(
            "longer candles that differ", number(differ), f"of {number(compared)} compared", bad=differ > 0
        ),
        _tile(
            "slow sources",
            number(len(audit.slow)),
            f"the rarest was known at {share(min(shares))} of closes" if shares else "none in the lake",
        ),
    ]


def _tile(name: str, value: str, note: str, *, bad: bool = False) -> dict[str, str]:
    return {"name": name, "value": value, "note": note, "tone": "neg" if bad else ""}


def _kinds(survey: CandleSurvey) -> list[dict[str, str]]:
    """The legend of the calendar: colour, name and days of each kind."""
    kinds = quality_exhibits.day_kinds(survey.days)
    return [
        {"colour": f"--{role}", "name": name, "days": number(int((kinds == place).sum()))}
        for place, (name, role) in enumerate(quality_exhibits.DAY_KINDS)
    ]


def _series(quality: Quality) -> dict[str, Any]:
    findings = [
        {
            "severity": row["severity"],
            "finding": row["finding"],
            "count": number(row["count"]),
            "first": f"{row['first']:%Y-%m-%d %H:%M}",
            "detail": row["detail"],
            "meaning": quality_story.explained(row["finding"]),
        }
        for row in quality.findings.to_dict("records")
    ]
    return {
        "name": quality.interval.replace("_", " "),
        "ok": quality.ok,
        "rows": number(quality.rows),
        "span": f"{day(quality.first)} {DASH} {day(quality.last)}",
        "findings": findings,
    }


def _differing(audit: Audit) -> list[dict[str, str]]:
    """The first candles that differ, of all pairs."""
    return [
        {
            "pair": f"{found.interval} of {found.source}",
            "at": f"{row['open_time']:%Y-%m-%d %H:%M}",
            "column": row["column"].replace("_", " "),
            "made": f"{row['resampled']:,.10g}",
            "stored": f"{row['stored']:,.10g}",
            "difference": percent(row["difference"], 4, sign=True),
        }
        for found in audit.agreements
        for row in found.differing.head(20).to_dict("records")
    ]
