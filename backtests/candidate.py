"""A model with its thresholds, trained on one window: what a fold tests, and what a bundle is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from acmf_core.config import TrainConfig, TuneConfig
from acmf_core.domain import BAR_MINUTES, BARS_PER_DAY, PROBABILITIES
from acmf_core.errors import DataError
from acmf_core.features import Features, MarketData
from acmf_core.models import Fitted, evaluate, fit, label
from acmf_core.models.calibration import Kind
from acmf_core.trading import Bars, SimulationResult, TradeParams, simulate, trading_bars
from backtests.engine import Progress
from backtests.provenance import code_commit
from backtests.tune import TuneResult, tune

CALIBRATIONS: Final[tuple[Kind, ...]] = ("directional", "temperature")
LABEL_HISTORY: Final = BARS_PER_DAY  # bars before a test: volatility and the last known labels need a past


@dataclass(frozen=True, eq=False)
class Answers:
    """What a candidate says about bars it has not seen.

    Attributes
    ----------
    bars : Bars
        n bars of the test.
    predictions : dict of DataFrames (n, 3)
        "directional", "temperature" and every baseline.
    labels : DataFrame
        y, t0, t1, ret, touched of the bars whose outcome is known, k of the training window.
    losses : DataFrame
        A row a prediction, scored on the bars that all of them answer.
    """

    bars: Bars
    predictions: dict[str, pd.DataFrame]
    labels: pd.DataFrame
    losses: pd.DataFrame


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A stretch that nothing was fitted, tuned or chosen on, traded once from the starting equity.

    Attributes
    ----------
    start, end : Timestamp
        The end is not part of it.
    probabilities : DataFrame (n, 3)
        Of the configured calibration; `simulation` trades it.
    """

    start: pd.Timestamp
    end: pd.Timestamp
    bars: Bars
    probabilities: pd.DataFrame
    by_calibration: dict[str, pd.DataFrame]
    baselines: dict[str, pd.DataFrame]
    labels: pd.DataFrame
    losses: pd.DataFrame
    simulation: SimulationResult
    simulations_by_calibration: dict[str, SimulationResult]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A fitted stack and the trading parameters tuned on its own out-of-fold predictions."""

    fitted: Fitted
    study: TuneResult

    @property
    def params(self) -> TradeParams:
        """The tuned parameters."""
        return self.study.params

    def answers(
        self, market: MarketData, features: Features, start: pd.Timestamp, end: pd.Timestamp
    ) -> Answers:
        """Both calibrations and every baseline on [start, end), and how good they were.

        Predictions read no bar that opens at or after `end`; labels may (where `market` has them).
        """
        config = self.fitted.config
        past = start - bar_span(config.encoder.window + LABEL_HISTORY)
        seen, seen_features = known_by(market, features, past, end)
        found: dict[str, pd.DataFrame] = {
            **self.fitted.stack.predictions(seen_features, CALIBRATIONS),
            **self.fitted.baseline_predictions(seen_features, seen.candles),
        }
        bars = trading_bars(seen, seen_features)
        bars = bars.slice(int(bars.times.searchsorted(start)), bars.n)
        if not bars.n:
            raise DataError(f"no bar between {start} and {end}", "load the bars, or move the window")
        predictions = {name: frame.loc[bars.times, list(PROBABILITIES)] for name, frame in found.items()}
        after = end + bar_span(config.labels.horizon_bars + 1)
        labels = label(market.between(past, after).candles, config.labels, k=self.fitted.k)
        labels = labels[(labels.index >= start) & (labels.index < end)].assign(k=self.fitted.k)
        return Answers(bars, predictions, labels, _losses(predictions, labels))

    def trade(
        self,
        market: MarketData,
        features: Features,
        start: pd.Timestamp,
        end: pd.Timestamp | None = None,
        *,
        equity: float = 10_000.0,
    ) -> HeldOut:
        """Predict and trade a stretch after the training window, by default all that follows `start`.

        Raises
        ------
        DataError
            The stretch begins before the training window ends, or holds no bar.
        """
        index = pd.DatetimeIndex(market.candles.index)
        end = index[-1] + bar_span(1) if end is None else end
        trained = pd.Timestamp(self.fitted.window.end, unit="us", tz="UTC")
        if start < trained:
            raise DataError(
                f"the stretch begins at {start:%Y-%m-%d %H:%M}, training ended at {trained:%Y-%m-%d %H:%M}",
                "hold out bars that come after the training window",
            )
        found = self.answers(market, features, start, end)
        runs = {
            name: simulate(found.bars, found.predictions[name], self.params, equity=equity)
            for name in CALIBRATIONS
        }
        chosen = self.fitted.config.calibration
        return HeldOut(
            start=start,
            end=end,
            bars=found.bars,
            probabilities=found.predictions[chosen],
            by_calibration={name: found.predictions[name] for name in CALIBRATIONS},
            baselines={name: p for name, p in found.predictions.items() if name not in CALIBRATIONS},
            labels=found.labels,
            losses=found.losses,
            simulation=runs[chosen],
            simulations_by_calibration={**runs},
        )

    def save(self, path: Path, *, evidence: dict[str, Any], lake_versions: dict[str, int]) -> Path:
        """Write the bundle with these parameters and the commit of the code that made it."""
        return self.fitted.save(
            path,
            params=self.params.to_dict(),
            evidence=evidence,
            lake_versions=lake_versions,
            commit=code_commit(),
        )


def train_candidate(
    market: MarketData,
    features: Features,
    start: pd.Timestamp,
    end: pd.Timestamp,
    train: TrainConfig,
    tuning: TuneConfig,
    *,
    base: TradeParams | None = None,
    equity: float = 10_000.0,
    workdir: Path | None = None,
    progress: Progress | None = None,
) -> Candidate:
    """Fit on [start, end) and tune the thresholds on the fit's out-of-fold predictions.

    Market and features are cut at `end` before anything else, so nothing later can be read.

    Parameters
    ----------
    features : Features
        Row for row those of `market`.
    base : TradeParams, optional
        The defaults that tuning starts from (with the venue's filters).
    workdir : Path, optional
        Checkpoints of the training and the study's journal; an interrupted run goes on there.
    progress : callable, optional
        `progress(stage, done, total)`: the stages of `fit`, then "tune".
    """
    known, known_features = known_by(market, features, None, end)
    fitted = fit(known_features, known.candles, start, end, train, workdir=workdir, progress=progress)
    signals = fitted.tuning_predictions
    seen, seen_features = known_by(known, known_features, signals.index[0], end)
    study = tune(
        trading_bars(seen, seen_features),
        signals.reindex(seen.candles.index),
        tuning,
        base or TradeParams(),
        equity=equity,
        journal=workdir / "tune.journal" if workdir is not None else None,
        progress=progress,
    )
    return Candidate(fitted, study)


def known_by(
    market: MarketData, features: Features, start: pd.Timestamp | None, end: pd.Timestamp
) -> tuple[MarketData, Features]:
    """What was known by `end`, of bars from `start` on; `features` are row for row those of `market`.

    Raises
    ------
    DataError
        Features of other bars.
    """
    if not features.tabular.index.equals(market.candles.index):
        raise DataError(
            f"{len(features)} rows of features do not belong to {len(market)} bars",
            "build the features from the same market",
        )
    seen = market.between(start, end)
    first = int(market.candles.index.searchsorted(seen.candles.index[0])) if len(seen) else 0
    rows = slice(first, first + len(seen))
    return seen, Features(features.sequence.iloc[rows], features.tabular.iloc[rows], features.schema)


def _losses(predictions: dict[str, pd.DataFrame], labels: pd.DataFrame) -> pd.DataFrame:
    """Scores of every prediction on the bars that all of them answer, so that they compare."""
    answered = np.logical_and.reduce([frame.notna().all(axis=1) for frame in predictions.values()])
    scores = {name: evaluate(frame[answered], labels) for name, frame in predictions.items()}
    return pd.DataFrame(scores).T.rename_axis("prediction")


def bar_span(count: int) -> pd.Timedelta:
    """The time that so many bars take."""
    return pd.Timedelta(minutes=BAR_MINUTES * count)
