"""Pictures of what a check of the data found: drawn once, shown on a page (SVG) and in a notebook (PNG).

A drawing function takes axes, whether they are wide, and the colours by role. Only the figures of an `Audit`
go in; nothing is computed here but positions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.path import Path as Shape
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from matplotlib.transforms import Affine2D
from pandas.io.formats.style import Styler

from acmf_core.lake.audit import Agreement, Audit
from acmf_core.lake.outliers import LEAP_MULTIPLE, NORMAL
from acmf_core.lake.quality import MOVE_EDGES, CandleSurvey
from acmf_core.lake.slow_quality import SlowSurvey
from backtests import figures
from backtests.canvas import Picture, picture
from backtests.palette import LIGHT, Palette
from backtests.typography import MINUS, SPACE, number, percent, share, typeset

Draw = Callable[[Axes, bool, Palette], None]

NAMED_OUTLIERS: Final = 3  # that carry their size in the picture of the price
ROW: Final = 17  # points a month is high in the calendar
_MOST_ROWS: Final = 48  # months of full height; more of them are lower

# What a day of the calendar can be, worst first: name, role of its colour.
DAY_KINDS: Final = (
    ("bars missing", "bad"),
    ("stand-ins for an outage", "hold"),
    ("bars without volume", "other"),
    ("whole", "soft"),
)


# --- drawing --------------------------------------------------------------------------------------


def day_kinds(days: pd.DataFrame) -> npt.NDArray[np.int64]:
    """For each day of a survey the place of its kind in DAY_KINDS."""
    marks = [(days[name] > 0).to_numpy() for name in ("missing", "bridged", "zero")]
    return np.asarray(np.select(marks, [0, 1, 2], default=3), dtype=np.int64)


def draw_calendar(survey: CandleSurvey, axes: Axes, wide: bool, colours: Palette) -> None:
    """A row a month, a square a day; on a wide page the count of missing bars is written into its day."""
    days = survey.days
    index = pd.DatetimeIndex(days.index)
    month = (index.year - index.year[0]) * 12 + index.month - index.month[0]
    kinds = day_kinds(days)
    for place, (_, role) in enumerate(DAY_KINDS):
        chosen = np.flatnonzero(kinds == place)
        squares = [_square(int(index.day[k]), int(month[k])) for k in chosen]
        if squares:
            one = Shape.make_compound_path(*squares)  # a single shape keeps the page small
            shape = PathCollection([one], facecolors=getattr(colours, role), linewidths=0)
            axes.add_collection(shape)
    if wide:
        for k in np.flatnonzero(kinds == 0):
            axes.annotate(
                f"{days['missing'].iloc[k]}", (index.day[k], month[k]), ha="center", va="center",
                fontsize=8.5, color="white",
            )  # fmt: skip
    _calendar_axes(axes, index, int(month[-1]) + 1, wide)


def _square(day: int, month: int) -> Shape:
    return Shape.unit_rectangle().transformed(_scaled(0.9, 0.84, day - 0.45, month - 0.42))


def _scaled(width: float, height: float, left: float, bottom: float) -> Affine2D:
    return Affine2D().scale(width, height).translate(left, bottom)


def _calendar_axes(axes: Axes, index: pd.DatetimeIndex, months: int, wide: bool) -> None:
    first = index[0].tz_localize(None).to_period("M")
    every = 1 if months <= 36 else 3
    shown = [k for k in range(months) if every == 1 or (first + k).month % every == 1]
    forms = {k: "%b %Y" if k == shown[0] or (first + k).month == 1 else "%b" for k in shown}
    axes.set_yticks(shown, [(first + k).strftime(form) for k, form in forms.items()])
    axes.set_ylim(months - 0.5, -0.5)
    axes.set_xlim(0.4, 31.6)
    ticks = range(1, 32) if wide else (1, 5, 10, 15, 20, 25, 31)
    axes.set_xticks(list(ticks))
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    for side in ("top", "bottom"):
        axes.spines[side].set_visible(False)


def calendar_height(survey: CandleSurvey) -> int:
    """Points that the calendar needs."""
    first, last = survey.days.index[0], survey.days.index[-1]
    months = (last.year - first.year) * 12 + last.month - first.month + 1
    return round(46 + ROW * min(months, _MOST_ROWS) + 8 * max(months - _MOST_ROWS, 0))


def draw_price(survey: CandleSurvey, axes: Axes, wide: bool, colours: Palette) -> None:
    """Daily range and close on a logarithmic scale; bars that stand out as dots, the largest named."""
    days, marked = survey.days, survey.marked
    x = figures.days(days.index)
    axes.set_yscale("log")
    axes.fill_between(
        x, days["low"].to_numpy(), days["high"].to_numpy(), color=colours.soft, linewidth=0, step="mid"
    )
    axes.plot(x, days["close"].to_numpy(), color=colours.rival, linewidth=1.1)
    for kind, colour in (("volume", colours.other), ("price", colours.bad)):
        rows = marked[marked["kind"] == kind]
        axes.scatter(
            figures.days(rows["open_time"]), rows["close"], s=17 if wide else 11, color=colour, linewidth=0,
            alpha=0.85, zorder=3,
        )  # fmt: skip
    _name_outliers(axes, marked[marked["kind"] == "price"], wide)
    low, high = float(days["low"].min()), float(days["high"].max())
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high) if high / low < 6 else None
    if ticks is not None:
        axes.set_yticks([tick for tick in ticks if low * 0.97 <= tick <= high * 1.03])
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.minorticks_off()
    figures.time_axis(axes, wide)


def _name_outliers(axes: Axes, rows: pd.DataFrame, wide: bool) -> None:
    """Sizes beside the largest, those that lie too near to a larger one left out."""
    taken: list[float] = []
    span = max((rows["open_time"].max() - rows["open_time"].min()).days, 1) if len(rows) else 1
    for row in rows.loc[rows["change"].abs().sort_values(ascending=False).index].itertuples():
        at = float(figures.days([row.open_time])[0])
        if len(taken) == (NAMED_OUTLIERS if wide else 1):
            return
        if all(abs(at - other) > span * 0.07 for other in taken):
            text = percent(row.change, 1, sign=True)
            down = -12 if row.change < 0 else 12
            axes.annotate(
                text, (at, row.close), xytext=(0, down), textcoords="offset points", ha="center", va="center",
                fontsize=9.5,
            )  # fmt: skip
            taken.append(at)


def draw_moves(survey: CandleSurvey, axes: Axes, wide: bool, colours: Palette) -> None:
    """How often which move, in usual moves, on a logarithmic scale; dashed: a normal market."""
    counts = survey.moves
    if not counts.any():
        return _said(axes, "Too few bars to say what a usual move is.", colours)
    middle = (MOVE_EDGES[1:] + MOVE_EDGES[:-1]) / 2
    width = MOVE_EDGES[1] - MOVE_EDGES[0]
    beyond = np.abs(middle) > LEAP_MULTIPLE
    axes.set_yscale("log")
    for where, colour in ((~beyond, colours.soft), (beyond, colours.bad)):
        axes.bar(middle[where], counts[where], width=width, color=colour, linewidth=0)
    with np.errstate(under="ignore"):
        normal = np.exp(-0.5 * (middle / NORMAL) ** 2) / (NORMAL * np.sqrt(2 * np.pi))
    expected = counts.sum() * width * normal
    seen = expected >= 0.5
    axes.plot(middle[seen], expected[seen], color=colours.own, linewidth=1.4, linestyle=(0, (4, 3)))
    for edge in (-LEAP_MULTIPLE, LEAP_MULTIPLE):
        axes.axvline(edge, color=colours.muted, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_ylim(0.6, max(2.0, 2 * counts.max()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.minorticks_off()
    axes.set_xlim(MOVE_EDGES[0] - 0.5, MOVE_EDGES[-1] + 0.5)
    ticks = (-40, -25, -10, 0, 10, 25, 40) if wide else (-40, -25, 0, 25, 40)
    axes.set_xticks(ticks, [f"{MINUS if tick < 0 else ''}{abs(tick)}" for tick in ticks])
    axes.set_xlabel("move from close to close, in usual moves" + (" (40: or more)" if wide else ""))


def draw_agreement(agreements: Sequence[Agreement], axes: Axes, wide: bool, colours: Palette) -> None:
    """A row a pair of timeframes: where candles were compared, and where they differ."""
    if not agreements:
        return _said(axes, "There is no second timeframe to compare with.", colours)
    places = np.arange(len(agreements))[::-1]
    for place, found in zip(places, agreements, strict=True):
        index = pd.DatetimeIndex(found.days.index)
        for start, length in _runs(index):
            axes.barh(place, length, left=start, height=0.42, color=colours.soft)
        apart = index[found.days["differ"].to_numpy() > 0]
        axes.scatter(
            figures.days(apart) + 0.5, np.full(len(apart), place), s=44, marker="d",
            color=colours.bad, linewidth=0, zorder=3,
        )  # fmt: skip
        said = f"{number(found.compared)} compared, " + (
            "all agree" if not found.differ else f"{number(found.differ)} differ"
        )
        axes.annotate(
            said, (0.0, place), xycoords=("axes fraction", "data"), xytext=(2, 17),
            textcoords="offset points", va="center", fontsize=9.5, color=colours.muted,
        )  # fmt: skip
    axes.set_yticks(places, [f"{a.interval} of {a.source}" for a in agreements], color=colours.ink)
    axes.set_ylim(-0.6, len(agreements) - 0.25)
    axes.grid(visible=False)
    figures.time_axis(axes, wide)


def draw_coverage(
    survey: CandleSurvey, slow: Sequence[SlowSurvey], axes: Axes, wide: bool, colours: Palette
) -> None:
    """A row a source: days on which every close knew a value young enough, days with some, days with none."""
    bars = 1.0 - survey.days["missing"] / survey.days["slots"].clip(lower=1)
    rows = [(f"{survey.quality.interval} bars", bars)]
    rows += [(_source_name(found, wide), found.covered) for found in slow if found.max_age is not None]
    places = np.arange(len(rows))[::-1]
    for place, (_, part) in zip(places, rows, strict=True):
        index, values = pd.DatetimeIndex(part.index), part.to_numpy(dtype=np.float64)
        for low, high, colour in (
            (0.999999, np.inf, colours.own),
            (1e-9, 0.999999, colours.hold),
            (-np.inf, 1e-9, colours.grid),
        ):
            for start, length in _runs(index[(values >= low) & (values < high)]):
                axes.barh(place, length, left=start, height=0.5, color=colour, linewidth=0)
        axes.annotate(
            f"{share(float(np.nanmean(values)))} of closes" if wide else share(float(np.nanmean(values))),
            (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=9.5,
        )  # fmt: skip
    axes.set_yticks(places, [name for name, _ in rows], color=colours.ink)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False)
    figures.time_axis(axes, wide)
    axes.set_xlim(*figures.days([survey.days.index[0], survey.days.index[-1] + pd.Timedelta(days=1)]))


def _said(axes: Axes, text: str, colours: Palette) -> None:
    """A sentence in the place of a picture."""
    axes.set_axis_off()
    axes.text(0.0, 0.5, text, va="center", color=colours.muted)


def _source_name(found: SlowSurvey, wide: bool) -> str:
    name = found.table.replace("_", " ")
    hours = found.max_age / pd.Timedelta(hours=1) if found.max_age is not None else 0.0
    age = f"{hours:g} h" if 1 <= hours < 72 else f"{hours / 24:g} d" if hours >= 72 else f"{hours * 3600:g} s"
    return f"{name}, {age}" if wide else name


def _runs(days: pd.DatetimeIndex) -> list[tuple[float, float]]:
    """Stretches of consecutive days as start and length in matplotlib's days."""
    if not len(days):
        return []
    x = figures.days(days)
    ends = np.flatnonzero(np.diff(x, append=x[-1] + 9) > 1.5)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [(float(x[a]), float(x[b] - x[a] + 1)) for a, b in zip(starts, ends, strict=True)]


# --- in a notebook --------------------------------------------------------------------------------


def calendar(survey: CandleSurvey) -> Picture:
    """Every day of a series: whole, with bars missing, with stand-ins, with bars that saw no trade."""
    word = f"{survey.quality.symbol} {survey.quality.interval}"
    missing, bridged, zero = (number(survey.days[name].sum()) for name in ("missing", "bridged", "zero"))
    alt = f"Calendar of {word}: {missing} bars missing, {bridged} stand-ins"
    title = f"{missing} bars missing (red), {bridged} bridged (ochre), {zero} without volume (violet)"
    return _shown(calendar_height(survey) / 72 + 0.5, alt, title, partial(draw_calendar, survey))


def price(survey: CandleSurvey) -> Picture:
    """The price with the bars that stand out."""
    kinds = survey.marked["kind"].value_counts()
    counts = {name: int(kinds.get(name, 0)) for name in ("price", "volume")}
    title = (
        f"{number(counts['price'])} outliers of price (red), {number(counts['volume'])} of volume (violet)"
    )
    return _shown(3.6, f"Price with outliers: {title}", title, partial(draw_price, survey))


def moves(survey: CandleSurvey) -> Picture:
    """Distribution of the moves against a normal one."""
    beyond = int(survey.moves[np.abs((MOVE_EDGES[1:] + MOVE_EDGES[:-1]) / 2) > LEAP_MULTIPLE].sum())
    title = (
        f"{number(beyond)} of {number(survey.moves.sum())} moves beyond {LEAP_MULTIPLE:g} usual ones (red)"
    )
    return _shown(3.2, f"Distribution of moves: {title}", title, partial(draw_moves, survey))


def agreement(audit: Audit) -> Picture:
    """Where longer candles were compared with those made of shorter bars, and where they differ."""
    said = ", ".join(
        f"{a.interval} of {a.source}: {a.differ} of {a.compared} differ" for a in audit.agreements
    )
    title = "Longer candles against the bars they are made of (diamonds: they differ)"
    draw = partial(draw_agreement, audit.agreements)
    return _shown(
        0.9 + 0.55 * max(len(audit.agreements), 1), f"Agreement: {said or 'nothing to compare'}", title, draw
    )


def coverage(audit: Audit) -> Picture:
    """At how many closes each source knew a value young enough."""
    survey, slow = audit.main, tuple(audit.slow.values())
    title = "Blue: known at every close of the day; ochre: at some; grey: at none"
    draw = partial(draw_coverage, survey, slow)
    return _shown(1.0 + 0.34 * (1 + len(slow)), f"Coverage of {1 + len(slow)} sources", title, draw)


def _shown(height: float, alt: str, title: str, draw: Callable[[Axes, bool, Palette], None]) -> Picture:
    def fill(axes: Axes) -> None:
        draw(axes, True, LIGHT)
        axes.set_title(title)

    return picture(height, alt, fill)


def finding_table(audit: Audit) -> Styler:
    """Every finding of an audit, errors first."""
    from backtests.exhibits import quiet

    rows = [
        {
            "series": f"{quality.symbol} {quality.interval}",
            "finding": typeset(row["finding"]),
            "severity": row["severity"],
            "first": f"{row['first']:%Y-%m-%d %H:%M}".replace(" ", SPACE),
            "detail": typeset(row["detail"]),
            "count": number(row["count"]),
        }
        for quality in audit.qualities
        for row in quality.findings.to_dict("records")
    ]
    columns = ["series", "finding", "severity", "first", "detail", "count"]
    table = pd.DataFrame(rows, columns=columns).sort_values("severity", kind="stable").reset_index(drop=True)
    note = f"{len(rows)} findings in {len(audit.qualities)} series." if rows else "No finding."
    return quiet(table.style.hide(axis="index").format(escape="html"), note, left=5)
