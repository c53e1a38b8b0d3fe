"""The sheet that exhibits are drawn on: house colours, a picture that knows its size, a list of sentences.

A PNG is shown alike in JupyterLab, in an executed notebook and in its HTML page, trusted or not.
"""

import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from backtests.palette import LIGHT, VARIABLES, look
from backtests.typography import percent

DPI: Final = 200
WIDTH: Final = 9.2  # inches, shown at 100 points an inch

PALETTE: Final = dict(zip(VARIABLES, LIGHT, strict=True))
INK, MUTED, GRID, OWN, HOLD, RIVAL, GOOD, BAD, OTHER, SOFT = LIGHT
_STYLE: Final[dict[str, Any]] = look(LIGHT) | {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure that shows itself in a notebook; `figure` is there to be changed or saved."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        """The picture at 200 dots an inch."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.figure.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        width, height = (round(100 * inches) for inches in self.figure.get_size_inches())
        return self.png(), {"width": width, "height": height, "alt": self.alt}

    def __repr__(self) -> str:
        return self.alt


@dataclass(frozen=True)
class Sentences:
    """Sentences drawn from computed values, shown as a list."""

    sentences: tuple[str, ...]

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        return f'<ul style="line-height:1.6;max-width:62em">{items}</ul>'

    def __repr__(self) -> str:
        return "\n".join(self.sentences)


def picture(height: float, alt: str, *draw: Callable[[Axes], None], **grid: Any) -> Picture:
    """One panel a drawing function, side by side unless `grid` says otherwise."""
    shape = {"nrows": 1, "ncols": len(draw)} | grid
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height))
        panels = np.atleast_1d(figure.subplots(**shape))
        for panel, fill in zip(panels, draw, strict=True):
            fill(panel)
        figure.canvas.draw()  # ticks are made now, in this style
    return Picture(figure, alt)


def beside(axes: Axes, x: float, y: float, text: str) -> None:
    """A label just right of a mark."""
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9.5)


def bare(axes: Axes) -> None:
    """No horizontal axis: the labels beside the marks say it all."""
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)


def percent_axis(value: float, _: int) -> str:
    """Ticks of an axis whose values are in percent."""
    return percent(value / 100, 0)
