"""What a notebook shows: pictures and tables about a training or a walk-forward record.

Every figure comes from the computations behind the report (`activity`, `measures`, `returns`, `scoring`);
here it is only drawn.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from pandas.errors import Pandas4Warning
from pandas.io.formats.style import Styler

from acmf_core.domain import Check, Label
from acmf_core.trading import TradeParams
from backtests import activity, figures, story
from backtests.canvas import (
    BAD,
    GOOD,
    GRID,
    INK,
    MUTED,
    OTHER,
    OWN,
    PALETTE,
    RIVAL,
    SOFT,
    Picture,
    bare,
    beside,
    percent_axis,
    picture,
)
from backtests.measures import reliability
from backtests.report import ENCODER, NAMES, gain_shares, growth_lines
from backtests.returns import drawdown
from backtests.tune import TuneResult
from backtests.typography import DASH, SPACE, day, number, percent, sentence, typeset
from backtests.walk_forward import FoldResult, WalkForwardResult

COLUMNS_SHOWN: Final = 15  # of the feature gain

_ENOUGH_IN_A_BIN: Final = 10  # predictions; a bin with fewer says nothing and is not drawn
_CLASS_COLOURS: Final = {Label.LONG: GOOD, Label.NEUTRAL: GRID, Label.SHORT: BAD}


# --- a training -----------------------------------------------------------------------------------


def label_balance(labels: pd.DataFrame) -> Picture:
    """Shares of the three classes, month by month, and over the whole.

    Parameters
    ----------
    labels : DataFrame
        As `acmf_core.models.label` returns it.
    """
    month = labels.index.tz_localize(None).to_period("M")
    shares = pd.crosstab(month, labels["y"], normalize="index").reindex(columns=list(_CLASS_COLOURS))
    shares = shares.fillna(0.0)
    whole = labels["y"].value_counts(normalize=True)

    def draw(axes: Axes) -> None:
        bottom = np.zeros(len(shares))
        for code, colour in _CLASS_COLOURS.items():
            height = 100 * shares[code].to_numpy()
            name = f"{code.name.lower()}, {percent(float(whole.get(code, 0.0)), 0)} of all"
            axes.bar(range(len(shares)), height, 0.82, bottom=bottom, color=colour, label=name)
            bottom += height
        axes.set_xticks(range(len(shares)), [f"{period:%b %Y}" for period in shares.index])
        axes.yaxis.set_major_formatter(percent_axis)
        axes.set_ylim(0, 100)
        axes.grid(visible=False)
        axes.set_title(f"What came next: classes of {number(len(labels))} labelled bars", pad=30)
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(-0.01, 0.99), handlelength=1, borderpad=0.2)

    text = ", ".join(f"{c.name.lower()} {percent(float(whole.get(c, 0.0)))}" for c in _CLASS_COLOURS)
    return picture(3.0, f"Class balance: {text}", draw)


def learning_curve(model: Mapping[str, Any]) -> Picture:
    """The encoder's loss by epoch, on its training rows and on the purged tail of A that picks the epoch.

    Parameters
    ----------
    model : mapping
        `Fitted.summary()`.
    """
    history = pd.DataFrame(model["encoder_epochs"])
    best = history.loc[history["held_out_loss"].idxmin()]

    def draw(axes: Axes) -> None:
        for column, name, colour in (
            ("train_loss", "training rows", RIVAL),
            ("held_out_loss", "held-out tail of A", OWN),
        ):
            axes.plot(history["epoch"], history[column], "o-", color=colour, markersize=4, label=name)
        axes.scatter([best["epoch"]], [best["held_out_loss"]], s=110, facecolors="none", edgecolors=OWN)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.06)
        axes.set_xlabel("epoch")
        axes.set_ylabel("weighted log-loss, nats")
        axes.set_title(f"Encoder: epoch {best['epoch']:.0f} is kept (ring)")
        axes.legend()

    alt = f"Encoder losses over {len(history)} epochs; the best held-out loss is {best['held_out_loss']:.4f}"
    return picture(3.2, alt, draw)


def calibration_curve(
    predictions: Mapping[str, pd.DataFrame], labels: pd.DataFrame, horizon_bars: int
) -> Picture:
    """Promised against kept, a panel a calibration, each with the calibration error and its chance level.

    Parameters
    ----------
    predictions : mapping of DataFrames (n, 3)
        "directional" and "temperature".
    labels : DataFrame
        y by open_time.
    horizon_bars : int
        Of the labels: every (h + 1)-th prediction counts.
    """
    found = {name: reliability(frame, labels, horizon_bars) for name, frame in predictions.items()}

    def panel(name: str) -> Callable[[Axes], None]:
        return lambda axes: _reliability(axes, NAMES.get(name, name), found[name])

    alt = "; ".join(f"{name}: calibration error {row['ece']:.4f}" for name, row in found.items())
    return picture(3.9, f"Reliability, {alt}", *map(panel, found), sharey=True)


def _reliability(axes: Axes, name: str, found: Mapping[str, Any]) -> None:
    rows = pd.DataFrame({key: found[key] for key in ("confidence", "accuracy", "count")})
    rows = rows[rows["count"] >= _ENOUGH_IN_A_BIN]
    promised, kept, count = (100 * rows["confidence"], 100 * rows["accuracy"], rows["count"])
    noise = 1.645 * np.sqrt(promised * (100 - promised) / count)
    axes.plot([30, 100], [30, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.vlines(promised, promised - noise, promised + noise, color=SOFT, linewidth=7, zorder=2)
    axes.plot(promised, kept, color=OWN, linewidth=1.2, zorder=3)
    axes.scatter(promised, kept, s=25 + 260 * count / found["n"], color=OWN, zorder=4, linewidth=0)
    axes.set_xlim(30, 100)
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_formatter(percent_axis)
    axes.yaxis.set_major_formatter(percent_axis)
    axes.set_xlabel("confidence in the likeliest class")
    axes.set_ylabel("how often it was right" if axes.get_subplotspec().is_first_col() else "")
    axes.set_title(name)
    note = (
        f"calibration error {found['ece']:.3f}\n"
        f"of a perfect model, at most {found['quantile']:.3f}\n{number(found['n'])} predictions"
    )
    axes.annotate(note, (0.97, 0.05), xycoords="axes fraction", ha="right", fontsize=9, color=MUTED)


def feature_gain(models: Sequence[Mapping[str, Any]]) -> Picture:
    """Which inputs the booster splits on: shares of the total gain, the hidden states taken together.

    Parameters
    ----------
    models : sequence of mappings
        `Fitted.summary()` of one or several fits; their mean is drawn.
    """
    shares = gain_shares(models)
    rows = shares[:COLUMNS_SHOWN]
    rest = sum(share for _, share in shares[COLUMNS_SHOWN:])

    def draw(axes: Axes) -> None:
        places, values = np.arange(len(rows))[::-1], [100 * share for _, share in rows]
        axes.barh(places, values, 0.66, color=[OTHER if name == ENCODER else OWN for name, _ in rows])
        for place, value in zip(places, values, strict=True):
            beside(axes, value, place, f"{value:.1f}{SPACE}%")
        axes.set_yticks(places, [name for name, _ in rows], color=INK)
        axes.set_xlim(0, max(values, default=1.0) * 1.1)
        bare(axes)
        more = f"; {len(shares) - len(rows)} more share {percent(rest)}" if rest else ""
        axes.set_title(f"Share of the booster's total gain{more}")

    alt = ", ".join(f"{name} {percent(share)}" for name, share in rows[:3])
    return picture(0.7 + 0.25 * max(len(rows), 4), f"Feature gain: {alt}", draw)


def losses(scores: pd.DataFrame, own: str) -> Styler:
    """Every prediction on the same bars, best first; the row of `own` is marked.

    Parameters
    ----------
    scores : DataFrame
        A row a prediction with the columns of `acmf_core.models.evaluate`.
    """
    columns = {
        "log_loss": "log-loss, nats",
        "brier": "Brier",
        "accuracy": "accuracy",
        "mcc": "MCC",
        "ece": "calibration error",
        "directional_log_loss": "log-loss of direction",
        "n": "bars",
    }
    table = scores.astype(float).sort_values("log_loss")[list(columns)].rename(columns=columns)
    mine = NAMES.get(own, own)
    table.index = pd.Index([NAMES.get(str(name), str(name)) for name in table.index])
    styler = table.style.format(lambda value: number(value, 4)).format(percent, subset=["accuracy"])
    styler = styler.format(number, subset=["bars"])
    note = "A coin has a log-loss of direction of 0.6931 (ln 2); lower is better."
    return quiet(styler, note).apply(
        lambda row: [f"font-weight:600;color:{OWN}" if row.name == mine else ""] * len(row), axis=1
    )


def thresholds(study: TuneResult) -> Styler:
    """Where the tuned parameters left the defaults, and what the tuning says about them."""
    changed = study.params.diff(TradeParams())
    rows = {
        name.replace("_", " "): {"tuned": _values(ours), "default": _values(default)}
        for name, (ours, default) in changed.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["tuned", "default"])
    table.index.name = (
        "three values: trending / ranging / high volatility" if rows else "all at their defaults"
    )
    return quiet(table.style, sentence(study.note))


def _values(value: Any) -> str:
    return " / ".join(f"{each:g}" for each in value) if isinstance(value, tuple) else str(value)


# --- a walk-forward record ------------------------------------------------------------------------


def fold_table(result: WalkForwardResult) -> Styler:
    """A row a fold: its windows, what was tuned, what it traded, and how the stack did against rivals."""
    chosen = result.config.train.calibration
    table = pd.DataFrame([_fold_row(fold, chosen) for fold in result.folds]).set_index("fold")
    first, last = result.folds[0], result.folds[-1]
    note = (
        f"{len(result.folds)} folds, {day(first.test_start)} {DASH} {day(last.test_end)}; each trained on "
        f"{number(result.config.train_days)} days that end where its test begins, and tuned in there."
    )
    return quiet(table.rename_axis(None).style, note, left=3)


def _fold_row(fold: FoldResult, chosen: str) -> dict[str, Any]:
    found, loss = fold.metrics, fold.losses["log_loss"]
    return {
        "fold": f"fold {fold.index + 1}",
        "trained on": f"{day(fold.train_start)} {DASH} {day(fold.train_end)}",
        "tested on": f"{day(fold.test_start)} {DASH} {day(fold.test_end)}",
        "thresholds": f"tuned, {fold.trials} trials" if fold.tuned else "defaults kept",
        "trades": number(found["trades"]),
        "return": percent(found["total_return"], sign=True) if found["trades"] else DASH,
        "deepest fall": percent(found["max_drawdown"]) if found["trades"] else DASH,
        "log-loss": number(loss[chosen], 4),
        "tabular only": number(loss["tabular_only"], 4),
        "class shares": number(loss["class_prior"], 4),
    }


def equity(result: WalkForwardResult) -> Picture:
    """Growth of the record against the coin and the rivals, and below it the depth under the peak."""
    lines = growth_lines(result)
    colours = {line.name: PALETTE[figures.variable(line.colour)] for line in lines}
    edges = pd.DatetimeIndex([fold.test_start for fold in result.folds][1:])

    def growth(axes: Axes) -> None:
        axes.set_yscale("log")
        for line in lines:
            label = f"{line.name}, {percent(float(line.values.iloc[-1]) - 1, sign=True)}"
            axes.plot(
                figures.days(line.values.index), line.values.clip(lower=1e-4), color=colours[line.name],
                linewidth=2.2 if line.front else 1.3, zorder=3 if line.front else 2, label=label,
            )  # fmt: skip
        low, high = (float(f(f(line.values) for line in lines)) for f in (min, max))
        ticks = figures.growth_ticks(max(low, 1e-4), high)
        axes.set_yticks(ticks, [figures.gain(tick) for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.axhline(1.0, color=MUTED, linewidth=0.8, zorder=1)
        axes.set_title("Equity since the start, logarithmic; dashed where a fold begins", pad=42)
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 0.99), handlelength=1.4, borderpad=0.2)

    def depth(axes: Axes) -> None:
        for line in lines[:2]:
            x, y = figures.days(line.values.index), 100 * drawdown(line.values, 1.0)
            axes.plot(x, y, color=colours[line.name], linewidth=1.8 if line.front else 1.2)
            axes.fill_between(
                x, y, 0, color=colours[line.name], alpha=0.15 if line.front else 0.0, linewidth=0
            )
        axes.yaxis.set_major_formatter(percent_axis)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylim(top=0)
        axes.set_title("Drawdown from the running peak")

    def dated(draw: Callable[[Axes], None]) -> Callable[[Axes], None]:
        def fill(axes: Axes) -> None:
            draw(axes)
            figures.time_axis(axes, True)
            for edge in figures.days(edges):
                axes.axvline(edge, color=RIVAL, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)

        return fill

    totals = ", ".join(f"{line.name} {percent(float(line.values.iloc[-1]) - 1, sign=True)}" for line in lines)
    return picture(
        5.6, f"Equity out of sample: {totals}", dated(growth), dated(depth),
        nrows=2, ncols=1, sharex=True, height_ratios=[2.4, 1],
    )  # fmt: skip


def gate_funnel(result: WalkForwardResult) -> Picture:
    """Bars left after each of the twelve gates, on a square-root scale so that the last ones are seen."""
    found = activity.gate_funnel(result.simulation)
    names = ["all bars", *(str(row["gate"]).replace("_", " ") for row in found["gates"])]
    left = np.array([found["bars"], *(row["left"] for row in found["gates"])], dtype=np.float64)

    def draw(axes: Axes) -> None:
        places = np.arange(len(names))[::-1]
        axes.barh(places, np.sqrt(left), 0.68, color=[SOFT] * (len(names) - 1) + [OWN])
        for place, count in zip(places, left, strict=True):
            beside(axes, float(np.sqrt(count)), place, number(count))
        axes.set_yticks(places, names, color=INK)
        axes.set_xlim(0, np.sqrt(max(found["bars"], 1)) * 1.1)
        bare(axes)
        axes.set_title("Bars that pass each gate and all before it (lengths are square roots)")

    alt = f"Gate funnel: {number(found['entries'])} of {number(found['bars'])} bars pass all twelve gates"
    return picture(4.0, alt, draw)


def portfolio_stats(result: WalkForwardResult) -> Styler:
    """vectorbt's own table of the record; it knows no funding, so the ledger stays the truth."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Pandas4Warning, module=r"vectorbt\.")
        found = result.portfolio().stats()
    rows = [(str(name), _stat(value)) for name, value in found.items()]
    half = -(-len(rows) // 2)
    table = pd.DataFrame([(*a, *b) for a, b in zip_longest(rows[:half], rows[half:], fillvalue=("", ""))])
    note = (
        "Portfolio.stats() of vectorbt on the kernel's fills, funding not in it. Its ratios annualise "
        "15-minute returns, which are autocorrelated (the gate judges daily ones), and it counts every "
        "closing fill as a trade."
    )
    styler = quiet(table.style, note).hide(axis="index").hide(axis="columns")
    return styler.set_table_styles(
        [{"selector": "td.col0, td.col2", "props": "text-align:left;font-weight:600"}], overwrite=False
    )


def _stat(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, pd.Timedelta):
        return str(value.round("min")).removesuffix(":00")
    if value is pd.NaT:
        return DASH
    return number(value, 0 if float(value).is_integer() else 2)


def check_table(checks: Sequence[Check]) -> Styler:
    """The gate's word, a row a check: verdict, figure, and the bound it was held against."""
    words = {True: "passed", False: "failed", None: "not computed"}
    colours = {"passed": GOOD, "failed": BAD, "not computed": MUTED}
    table = pd.DataFrame(
        [
            {
                "check": check.name,
                "verdict": words[check.verdict],
                "figure": typeset(check.figure) or DASH,
                "bound": typeset(check.bound) or DASH,
            }
            for check in story.asked(checks)
        ]
    ).set_index("check")
    styler = quiet(table.rename_axis(None).style, story.tally(checks), left=3)
    return styler.map(
        lambda word: f"color:{colours[word]};font-weight:600;white-space:nowrap", subset=["verdict"]
    )


# --- how it is set --------------------------------------------------------------------------------


def quiet(styler: Styler, note: str, *, left: int = 0) -> Styler:
    """The look of every table: quiet rules, the note above, figures to the right of `left` text columns."""
    tables = [
        {"selector": "", "props": "border-collapse:collapse;font-variant-numeric:tabular-nums"},
        {"selector": "caption", "props": f"text-align:left;color:{MUTED};padding-bottom:6px;max-width:60em"},
        {"selector": "th", "props": f"text-align:left;font-weight:600;border-bottom:1px solid {GRID}"},
        {"selector": "th.col_heading", "props": "text-align:right"},
        {"selector": "td", "props": f"text-align:right;border-bottom:1px solid {GRID}"},
        {"selector": "th, td", "props": "padding:4px 12px"},
        {"selector": "th.row_heading", "props": "white-space:nowrap"},
        *({"selector": f"th.col{i}, td.col{i}", "props": "text-align:left"} for i in range(left)),
    ]
    return styler.set_caption(note).set_table_styles(tables)  # type: ignore[arg-type]
