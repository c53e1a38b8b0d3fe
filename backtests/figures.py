"""The pictures of the report as inline SVG that takes its colours and fonts from the page.

Every figure is drawn twice, wide and narrow, because a picture that is scaled down to a phone cannot be
read. Colours are stand-ins that become CSS variables, so that one picture serves light and dark pages.
Only numbers go in; nothing is computed here but positions.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from backtests.palette import VARIABLES, Palette, look
from backtests.typography import MINUS

WIDE: Final = 880  # points, shown one to one
NARROW: Final = 340

# colours that become the variables of the page
STAND_INS: Final = Palette(*(f"#0{i}0{i}0{i}" for i in "123456789a"))
INK, MUTED, GRID, OWN, HOLD, RIVAL, GOOD, BAD, OTHER, SOFT = STAND_INS
_COLOURS: Final = dict(zip(STAND_INS, VARIABLES, strict=True))
_STYLE: Final[dict[str, Any]] = look(STAND_INS) | {
    "svg.fonttype": "none",
    "svg.hashsalt": "acmf",
    "font.size": 11,
    "axes.linewidth": 1.0,
    "xtick.major.pad": 6,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
}


@dataclass(frozen=True)
class Line:
    """One curve: name, values by time, colour, and whether it is drawn in front."""

    name: str
    values: pd.Series
    colour: str
    front: bool = False


def both(draw: Callable[[Axes, bool], None], height: int, *, narrow_height: int | None = None) -> str:
    """The picture in both widths as one HTML fragment; `draw(axes, wide)` fills it."""
    parts = [
        f'<div class="{name}">{_svg(draw, width, tall, name == "wide")}</div>'
        for name, width, tall in (("wide", WIDE, height), ("narrow", NARROW, narrow_height or height))
    ]
    return "".join(parts)


def _svg(draw: Callable[[Axes, bool], None], width: int, height: int, wide: bool) -> str:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72))
        draw(figure.subplots(), wide)
        return _inline(figure, width, height)


def _inline(figure: Figure, width: int, height: int) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<svg [^>]*>", f'<svg viewBox="0 0 {width} {height}" role="img">', text, count=1)
    text = re.sub(r' d="[^"]*"', _hundredths, text)  # of a point: nobody sees more
    text = re.sub(r"font-family:[^;\"]*;?|font: ?([0-9.]+)px [^;\"]*;?", _font, text)
    for stand_in, variable in _COLOURS.items():
        text = text.replace(stand_in, f"var({variable})")
    return re.sub(r"\s*\n\s*", " ", text)


def _hundredths(found: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", found[0])


def _font(found: re.Match[str]) -> str:
    return f"font-size: {found[1]}px;" if found[1] else ""


def equity(lines: Sequence[Line], edges: Sequence[pd.Timestamp]) -> str:
    """Growth curves on a logarithmic scale, labelled as gain or loss since the start.

    Values are multiples of the start; `edges` are where folds begin.
    """

    def draw(axes: Axes, wide: bool) -> None:
        axes.set_yscale("log")
        low, high = math.inf, 0.0
        for line in lines:
            values = line.values.clip(lower=1e-4)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            axes.plot(
                days(values.index), values.to_numpy(), color=line.colour,
                linewidth=2.2 if line.front else 1.4, zorder=3 if line.front else 2,
            )  # fmt: skip
        axes.axhline(1.0, color=MUTED, linewidth=0.8, zorder=1)
        ticks = growth_ticks(low, high)
        axes.set_ylim(min(low, ticks[0]) * 0.985, max(high, ticks[-1]) * 1.015)
        axes.set_yticks(ticks, [gain(tick) for tick in ticks])
        axes.set_yticks([], minor=True)
        time_axis(axes, wide)
        for edge in edges:
            axes.axvline(days(pd.DatetimeIndex([edge]))[0], color=GRID, linewidth=1.0, linestyle=(0, (3, 3)))

    return both(draw, 330, narrow_height=260)


def growth_ticks(low: float, high: float) -> list[float]:
    """Four to eight round multiples of the start that cover [low, high]."""
    if high / low < 2.5:
        for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5):
            first, last = math.floor(low / step), math.ceil(high / step)
            if last - first <= 7:
                return [round(step * k, 6) for k in range(first, last + 1) if k > 0]
    found = [
        m * 10.0**power
        for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for m in (1, 2, 5)
    ]
    first = max((i for i, tick in enumerate(found) if tick <= low), default=0)
    last = min((i for i, tick in enumerate(found) if tick >= high), default=len(found) - 1)
    ticks = found[first : last + 1]
    return ticks if len(ticks) <= 8 else ticks[:: math.ceil(len(ticks) / 8)]


def gain(multiple: float) -> str:
    if multiple >= 10:
        return f"x {multiple:,.0f}"
    percent = 100 * (multiple - 1)
    return (
        "start"
        if abs(percent) < 1e-9
        else f"{percent:+.{0 if abs(percent) >= 2 else 1}f} %".replace("-", MINUS)
    )


def drawdowns(lines: Sequence[Line]) -> str:
    """Distance below the running peak, filled for the first line."""

    def draw(axes: Axes, wide: bool) -> None:
        for line in lines:
            x, y = days(line.values.index), 100 * line.values.to_numpy()
            if line.front:
                axes.fill_between(x, y, 0, color=line.colour, alpha=0.18, linewidth=0)
            axes.plot(x, y, color=line.colour, linewidth=1.8 if line.front else 1.2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %".replace("-", MINUS))
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        axes.set_ylim(top=0)
        time_axis(axes, wide)

    return both(draw, 190, narrow_height=160)


def funnel(rows: Sequence[Mapping[str, Any]], bars: int) -> str:
    """Bars left after each gate, top to bottom, on a square-root scale so that the last ones are seen."""

    def draw(axes: Axes, wide: bool) -> None:
        names = ["all bars", *(str(row["gate"]).replace("_", " ") for row in rows)]
        left = np.array([bars, *(row["left"] for row in rows)], dtype=np.float64)
        places = np.arange(len(names))[::-1]
        axes.barh(places, np.sqrt(left), height=0.68, color=[SOFT] * (len(names) - 1) + [OWN])
        for place, count in zip(places, left, strict=True):
            _beside(axes, math.sqrt(count), place, f"{int(count):,}")
        axes.set_yticks(places, names, color=INK)
        axes.set_xlim(0, math.sqrt(max(bars, 1)) * (1.1 if wide else 1.22))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)

    return both(draw, 320)


def reliability(confidence: Sequence[Any], accuracy: Sequence[Any], count: Sequence[int]) -> str:
    """Promised against kept, one dot a bin, its area the number of predictions."""

    def draw(axes: Axes, wide: bool) -> None:
        kept = [(c, a, n) for c, a, n in zip(confidence, accuracy, count, strict=True) if n]
        axes.plot([0.3, 1], [0.3, 1], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        if kept:
            x, y, n = (np.array(column, dtype=np.float64) for column in zip(*kept, strict=True))
            bar = 1.645 * np.sqrt(x * (1 - x) / n)
            axes.vlines(x, x - bar, x + bar, color=SOFT, linewidth=7, zorder=2)
            axes.plot(x, y, color=OWN, linewidth=1.2, zorder=3)
            axes.scatter(x, y, s=30 + 330 * n / n.sum(), color=OWN, zorder=4, linewidth=0)
        axes.set_xlim(0.3, 1)
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_formatter(_percent)
        axes.yaxis.set_major_formatter(_percent)
        axes.set_xlabel("the model's confidence in its likeliest class")
        axes.set_ylabel("how often it was right")

    return both(draw, 330, narrow_height=300)


def losses(rows: Sequence[tuple[str, float]], own: str) -> str:
    """Log-loss of every prediction, best on top; lower is better."""

    def draw(axes: Axes, wide: bool) -> None:
        ordered = sorted(rows, key=lambda row: -row[1])
        values = [value for _, value in ordered]
        places = np.arange(len(ordered))
        low, high = min(values), max(values)
        pad = max(high - low, 1e-4)
        for place, (name, value) in zip(places, ordered, strict=True):
            colour = OWN if name == own else RIVAL
            axes.plot([low - 0.15 * pad, value], [place, place], color=GRID, linewidth=1.2, zorder=1)
            axes.scatter([value], [place], s=70, color=colour, zorder=3, linewidth=0)
            _beside(axes, value, place, f"{value:.4f}", 9)
        axes.set_yticks(places, [name for name, _ in ordered], color=INK)
        axes.set_xlim(low - 0.15 * pad, high + pad * (0.16 if wide else 0.42))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_ylim(-0.6, len(ordered) - 0.4)

    return both(draw, 40 + 30 * len(rows))


def importance(rows: Sequence[tuple[str, float]]) -> str:
    """Shares of the booster's total gain, largest on top."""

    def draw(axes: Axes, wide: bool) -> None:
        places = np.arange(len(rows))[::-1]
        values = [100 * value for _, value in rows]
        axes.barh(
            places,
            values,
            height=0.66,
            color=[OTHER if name.startswith("Mamba") else OWN for name, _ in rows],
        )
        for place, value in zip(places, values, strict=True):
            _beside(axes, value, place, f"{value:.1f} %")
        axes.set_yticks(places, [name for name, _ in rows], color=INK)
        axes.set_xlim(0, max(values) * (1.1 if wide else 1.3))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)

    return both(draw, 30 + 23 * len(rows))


def results(values: Sequence[float]) -> str:
    """Histogram of the trades' results in units of the risk taken."""

    def draw(axes: Axes, wide: bool) -> None:
        shown = np.clip(np.asarray(values), -3, 5)
        edges = np.linspace(-3, 5, 33 if wide else 17)
        heights, _ = np.histogram(shown, bins=edges)
        middle = (edges[1:] + edges[:-1]) / 2
        axes.bar(
            middle,
            heights,
            width=0.88 * (edges[1] - edges[0]),
            color=[GOOD if m > 0 else BAD for m in middle],
        )
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_xlim(-3.05, 5.05)
        axes.set_xlabel("result of a trade in R (1 R = the risk taken to the first stop)")
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))

    return both(draw, 190, narrow_height=180)


def logits(counts: Sequence[int], edges: Sequence[float]) -> str:
    """Distribution of lambda over the CSCV splits; at or below 0 the chosen trial is below the median."""

    def draw(axes: Axes, wide: bool) -> None:
        left, right = np.asarray(edges[:-1]), np.asarray(edges[1:])
        middle = (left + right) / 2
        share = 100 * np.asarray(counts) / max(sum(counts), 1)
        used = np.flatnonzero(share)
        axes.bar(middle, share, width=0.9 * (right - left), color=[GOOD if m > 0 else BAD for m in middle])
        axes.axvline(0, color=MUTED, linewidth=0.8)
        if len(used):
            axes.set_xlim(min(left[used[0]] - 0.5, -1), max(right[used[-1]] + 0.5, 1))
        axes.set_xlabel("λ of the chosen trial out of sample (0 = median trial)")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))

    return both(draw, 180)


def plateau(trials: pd.DataFrame, names: Sequence[str], chosen: int) -> str:
    """Score of every tuning trial against each tuned threshold; a plateau is wide, a fluke is a spike."""
    if not names:
        return ""
    score = trials["score"].to_numpy(dtype=np.float64)

    def panels(width: int, columns: int) -> str:
        rows = math.ceil(len(names) / columns)
        height = 122 * rows
        with mpl.rc_context(_STYLE | {"font.size": 10, "figure.constrained_layout.h_pad": 0.09}):
            figure = Figure(figsize=(width / 72, height / 72))
            grid = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
            for axes in grid[len(names) :]:
                axes.set_visible(False)
            for axes, name in zip(grid, names, strict=False):
                values = trials[name].to_numpy(dtype=np.float64)
                axes.scatter(values, score, s=13, color=RIVAL, linewidth=0, alpha=0.8)
                axes.scatter(values[chosen], score[chosen], s=46, color=OWN, linewidth=0, zorder=4)
                axes.set_title(name.replace("_", " "), fontsize=10, color=INK, loc="left")
                axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
                axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
            return _inline(figure, width, height)

    return f'<div class="wide">{panels(WIDE, 4)}</div><div class="narrow">{panels(NARROW, 2)}</div>'


def _beside(axes: Axes, x: float, y: float, text: str, gap: int = 6) -> None:
    """A label `gap` points to the right of a mark."""
    axes.annotate(
        text, (x, y), xytext=(gap, 0), textcoords="offset points", va="center", fontsize=10.5, color=INK
    )


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.0f} %"


def days(index: Any) -> Any:
    """Times as matplotlib's days, without their zone (all are UTC)."""
    return date2num(pd.DatetimeIndex(index).tz_localize(None).to_pydatetime())


def time_axis(axes: Axes, wide: bool) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=9 if wide else 5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.xaxis_date()
    axes.margins(x=0.01)


def variable(colour: str) -> str:
    """The CSS variable behind a stand-in colour."""
    return _COLOURS[colour]
