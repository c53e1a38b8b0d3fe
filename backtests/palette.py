"""The house's colours by role, and the one look of all pictures, on paper (PNG) as on a page (SVG)."""

from typing import Any, Final, NamedTuple


class Palette(NamedTuple):
    """A colour for each role.

    own: the model, or what is well. hold: the coin, or what to know. rival: what it is compared with.
    """

    ink: str
    muted: str
    grid: str
    own: str
    hold: str
    rival: str
    good: str
    bad: str
    other: str
    soft: str


VARIABLES: Final = tuple(f"--{role}" for role in Palette._fields)  # of the page's style sheet

# the light page
LIGHT: Final = Palette(
    ink="#1d2025",
    muted="#646a73",
    grid="#e3e1da",
    own="#2357d5",
    hold="#b07d1e",
    rival="#8b93a1",
    good="#17805a",
    bad="#c03d37",
    other="#7a58d2",
    soft="#cdd9f7",
)


def look(colours: Palette) -> dict[str, Any]:
    """matplotlib's settings for quiet axes in these colours."""
    return {
        "axes.edgecolor": colours.grid,
        "axes.labelcolor": colours.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": colours.grid,
        "grid.linewidth": 0.8,
        "text.color": colours.ink,
        "xtick.color": colours.muted,
        "ytick.color": colours.muted,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "figure.constrained_layout.use": True,
    }
