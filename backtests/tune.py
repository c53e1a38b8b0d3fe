"""Thresholds of the trading rules, tuned with Optuna inside one training window.

The score of a trial is the mean annualised daily Sharpe of its *neighbourhood*: the trial itself and
every setting one grid step away in one threshold. A lonely peak scores low, a plateau scores high.
Trial 0 is always the base parameters; a trial that trades too little or falls too deep is infeasible;
when none is feasible the base parameters are kept, and the result says so.

With one worker the same seed gives the same trials, also when the study was interrupted: the sampler
is seeded anew for every trial from (seed, trials finished so far).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from acmf_core.config import TuneConfig
from acmf_core.domain import DAY_US, Regime
from acmf_core.errors import ConfigError
from acmf_core.fingerprint import fingerprint
from acmf_core.trading import Bars, TradeParams, simulate_many
from backtests.engine import Progress

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 10  # drawn at random before the sampler begins to model
Point = tuple[int, ...]
"""Steps away from the base parameters, one number a threshold."""


@dataclass(frozen=True)
class Threshold:
    """One tuned dimension: a field of TradeParams, its grid and, for per-regime fields, the regime.

    scaled: the values are factors on the whole base field (1 leaves it) instead of values of it.
    """

    name: str
    field: str
    low: float
    high: float
    step: float
    regime: Regime | None = None
    scaled: bool = False

    def centre(self, base: TradeParams) -> float:
        """The base parameters' value of this dimension."""
        if self.scaled:
            return 1.0
        value = getattr(base, self.field)
        return float(value if self.regime is None else value[self.regime])

    def reach(self, base: TradeParams) -> tuple[int, int]:
        """Lowest and highest whole number of steps from the base that stay inside the grid."""
        centre = self.centre(base)
        return (
            min(0, math.ceil((self.low - centre) / self.step - 1e-9)),
            max(0, math.floor((self.high - centre) / self.step + 1e-9)),
        )

    def value(self, base: TradeParams, steps: int) -> float:
        """The value that many steps away from the base, free of the grid's rounding dust."""
        return round(self.centre(base) + steps * self.step, 10)


SPACE: tuple[Threshold, ...] = (
    Threshold("min_ratio", "min_ratio", 1.1, 3.0, 0.1),
    Threshold("min_spread", "min_spread", 0.0, 0.3, 0.01),
    *(
        Threshold(f"min_confidence_{regime.name.lower()}", "min_confidence", 0.40, 0.75, 0.05, regime)
        for regime in Regime
    ),
    Threshold("stop_scale", "stop_atr", 0.6, 1.6, 0.1, scaled=True),
    Threshold("target_scale", "target_atr", 0.6, 1.6, 0.1, scaled=True),
)


@dataclass(frozen=True)
class TuneResult:
    """What a study found.

    Attributes
    ----------
    params : TradeParams
        Of the best feasible trial, or the base parameters.
    best_value : float
        Its score: annualised daily Sharpe, mean over the neighbourhood.
    tuned : bool
        False when no trial was feasible and the base parameters were kept.
    note : str
        One sentence for a report.
    trials : DataFrame
        A row a trial, indexed by number: score, sharpe (of the trial alone), trades, max_drawdown,
        feasible, and one column a threshold.
    trial_returns : DataFrame
        Daily returns, a row a UTC day, a column a trial.
    """

    params: TradeParams
    best_value: float
    tuned: bool
    note: str
    trials: pd.DataFrame
    trial_returns: pd.DataFrame


def tune(
    bars: Bars,
    signals: pd.DataFrame,
    config: TuneConfig,
    base: TradeParams,
    *,
    equity: float = 10_000.0,
    progress: Progress | None = None,
    journal: Path | None = None,
) -> TuneResult:
    """Search `SPACE` around `base` for the best plateau of the daily Sharpe.

    Parameters
    ----------
    bars : Bars
        Contiguous bars of the training window.
    signals : DataFrame, (n, 3)
        p_long, p_short, p_neutral on those bars; NaN rows where there is no prediction. They must be
        out-of-fold: of a model that has not seen the bar.
    journal : Path, optional
        Optuna's journal file; the study in it is continued. Without it, and without
        `config.storage`, the study lives in memory.
    progress : callable, optional
        `progress("tune", done, total)` in trials.

    Raises
    ------
    ConfigError
        `config.storage` cannot be opened.
    """
    landscape = _Landscape(bars, signals, base, equity)
    study = _study(config, landscape.identity(config), journal)
    if not config.storage.get_secret_value():  # in a shared storage an open trial may be another worker's
        _drop_unfinished(study)
    finished = _finished(study)
    for number in range(len(finished), config.trials):
        _run_trial(study, number, landscape, config)
        if progress is not None:
            progress("tune", number + 1, config.trials)
    return _result(_finished(study)[: config.trials], landscape, config)


class _Landscape:
    """Kernel runs by point, each computed once."""

    def __init__(self, bars: Bars, signals: pd.DataFrame, base: TradeParams, equity: float) -> None:
        self.base = base
        self._bars = bars
        self._signals = signals
        self._equity = equity
        self._reach = [threshold.reach(base) for threshold in SPACE]
        self._metrics: dict[Point, Mapping[str, float]] = {}

    def identity(self, config: TuneConfig) -> str:
        """Names everything the trials depend on, except how many are wanted."""
        digest = hashlib.sha256()
        for values in (*self._bars, self._signals.to_numpy(dtype=np.float64)):
            digest.update(np.ascontiguousarray(values).tobytes())
        return fingerprint(
            {
                "data": digest.hexdigest(),
                "base": self.base.to_dict(),
                "space": [str(threshold) for threshold in SPACE],
                "equity": self._equity,
                "config": config.model_dump(mode="json", exclude={"trials", "storage"}),
            }
        )

    def params(self, point: Point) -> TradeParams:
        """The base parameters moved by that many steps."""
        values = self.base.to_dict()
        for threshold, steps in zip(SPACE, point, strict=True):
            if steps:
                values[threshold.field] = _moved(values[threshold.field], threshold, self.base, steps)
        return TradeParams.from_dict(values)

    def neighbourhood(self, point: Point) -> list[Point]:
        """The point and all points one step away in one threshold, inside the grid."""
        points = [point]
        for axis, (low, high) in enumerate(self._reach):
            for step in (-1, 1):
                moved = point[axis] + step
                if low <= moved <= high:
                    points.append((*point[:axis], moved, *point[axis + 1 :]))
        return points

    def metrics(self, points: Sequence[Point]) -> list[Mapping[str, float]]:
        """The kernel's metrics at each point."""
        new = list(dict.fromkeys(point for point in points if point not in self._metrics))
        if new:
            table = simulate_many(
                self._bars, self._signals, [self.params(point) for point in new], equity=self._equity
            )
            self._metrics |= dict(zip(new, table.to_dict("records"), strict=True))
        return [self._metrics[point] for point in points]

    def daily_returns(self, points: Sequence[Point]) -> pd.DataFrame:
        """Daily returns, day x point (in the order given)."""
        _, paths = simulate_many(
            self._bars,
            self._signals,
            [self.params(point) for point in points],
            equity=self._equity,
            with_equity=True,
        )
        return daily_returns(self._bars.open_time, paths, self._equity)

    def suggest(self, trial: "optuna.Trial") -> Point:
        """Let the sampler choose a point; Optuna sees the thresholds' real values."""
        point = []
        for threshold, (low, high) in zip(SPACE, self._reach, strict=True):
            bottom, top = threshold.value(self.base, low), threshold.value(self.base, high)
            value = trial.suggest_float(threshold.name, bottom, top, step=threshold.step)
            point.append(self._steps(threshold, value))
        return tuple(point)

    def point_of(self, values: Mapping[str, float]) -> Point:
        """The point of a finished trial."""
        return tuple(self._steps(threshold, values[threshold.name]) for threshold in SPACE)

    def values(self, point: Point) -> dict[str, float]:
        """The thresholds' values at a point, by name."""
        return {t.name: t.value(self.base, n) for t, n in zip(SPACE, point, strict=True)}

    def _steps(self, threshold: Threshold, value: float) -> int:
        return round((value - threshold.centre(self.base)) / threshold.step)


def _moved(value: Any, threshold: Threshold, base: TradeParams, steps: int) -> Any:
    target = threshold.value(base, steps)
    if threshold.scaled:
        return [round(float(each) * target, 10) for each in value]
    if threshold.regime is None:
        return target
    return [target if code == threshold.regime else each for code, each in enumerate(value)]


def daily_returns(open_time: np.ndarray, equity: np.ndarray, initial: float) -> pd.DataFrame:
    """Returns per UTC day of equity paths marked at the closes of 15-minute bars.

    Parameters
    ----------
    open_time : (n,) int64, microseconds
    equity : (k, n)
        A path a row.
    initial : float
        Equity before the first bar.

    Returns
    -------
    DataFrame
        A row a day that has bars (the first and last may be partial), a column a path.
    """
    days = open_time // DAY_US
    last = np.append(np.flatnonzero(np.diff(days)), len(days) - 1)
    marks = np.column_stack([np.full(len(equity), initial), equity[:, last]])
    index = pd.to_datetime(days[last] * DAY_US, unit="us", utc=True).as_unit("us")
    return pd.DataFrame((marks[:, 1:] / marks[:, :-1] - 1.0).T, index=pd.DatetimeIndex(index, name="day"))


def _study(config: TuneConfig, identity: str, journal: Path | None) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = config.storage.get_secret_value()
    storage: optuna.storages.BaseStorage | None = None
    if url:
        try:
            storage = RDBStorage(url)
        except (SQLAlchemyError, ValueError, ImportError, OSError) as error:
            raise ConfigError(
                f"tune.storage cannot be opened ({type(error).__name__})",
                "give a database URL that this machine can reach, or leave it empty for a journal file",
            ) from None
    elif journal is not None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(
        study_name=f"thresholds-{identity[:16]}", direction="maximize", storage=storage, load_if_exists=True
    )


def _finished(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    from optuna.trial import TrialState

    return sorted(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), key=lambda t: t.number)


def _drop_unfinished(study: "optuna.Study") -> None:
    """Close what a killed run left open; its number is not used again and it counts as nothing."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        study.tell(trial.number, state=TrialState.FAIL)


def _run_trial(study: "optuna.Study", number: int, landscape: _Landscape, config: TuneConfig) -> None:
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=(config.seed * 1_000_003 + number) % 2**32, n_startup_trials=STARTUP_TRIALS
    )
    if number == 0:
        study.enqueue_trial(landscape.values((0,) * len(SPACE)))
    trial = study.ask()
    runs = landscape.metrics(landscape.neighbourhood(landscape.suggest(trial)))
    own = runs[0]
    trial.set_constraint("min_trades", float(config.min_trades - own["trades"]))
    trial.set_constraint("max_drawdown", float(own["max_drawdown"] - config.max_drawdown))
    study.tell(trial, _plateau(runs))


def _plateau(runs: Sequence[Mapping[str, float]]) -> float:
    return float(np.mean([_sharpe(run) for run in runs]))


def _sharpe(run: Mapping[str, float]) -> float:
    """Annualised; a path that never moved has none, which scores as 0."""
    value = run["sharpe_daily_annualised"]
    return float(value) if math.isfinite(value) else 0.0


def _result(
    finished: Sequence["optuna.trial.FrozenTrial"], landscape: _Landscape, config: TuneConfig
) -> TuneResult:
    points = [landscape.point_of(trial.params) for trial in finished]
    rows = []
    for trial, point, own in zip(finished, points, landscape.metrics(points), strict=True):
        feasible = own["trades"] >= config.min_trades and own["max_drawdown"] <= config.max_drawdown
        rows.append(
            {
                "score": trial.value,
                "sharpe": _sharpe(own),
                "trades": int(own["trades"]),
                "max_drawdown": own["max_drawdown"],
                "feasible": bool(feasible),
                **landscape.values(point),
            }
        )
    trials = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="trial"))
    candidates = trials[trials["feasible"]]
    tuned = not candidates.empty
    best = int(candidates["score"].idxmax()) if tuned else 0  # idxmax: the first of equals
    return TuneResult(
        params=landscape.params(points[best]),
        best_value=float(trials.loc[best, "score"]),
        tuned=tuned,
        note=_note(trials, best, tuned, config),
        trials=trials,
        trial_returns=landscape.daily_returns(points),
    )


def _note(trials: pd.DataFrame, best: int, tuned: bool, config: TuneConfig) -> str:
    if not tuned:
        return (
            f"none of {len(trials)} trials made {config.min_trades} trades within a drawdown of "
            f"{config.max_drawdown:.0%} (most: {int(trials['trades'].max())} trades); the defaults are kept"
        )
    row = trials.loc[best]
    return (
        f"trial {best} of {len(trials)}: score {row['score']:.2f} (defaults {trials.loc[0, 'score']:.2f}), "
        f"{int(row['trades'])} trades, drawdown {row['max_drawdown']:.1%}"
    )
