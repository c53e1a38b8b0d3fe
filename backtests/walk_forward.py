"""Walk-forward: train, tune and trade fold after fold, and one out-of-sample record of it all.

Folds are computed in parallel and kept on disk; the record is then traded once, in order, by the kernel
with its state carried across the folds. Nothing after the last test block is ever in a worker's memory:
the market is cut where the holdout begins.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from acmf_core.config import WalkForwardConfig
from acmf_core.domain import Span
from acmf_core.features import Features, MarketData, build_features
from acmf_core.fingerprint import fingerprint
from acmf_core.trading import Bars, SimulationResult, TradeParams, trading_bars
from backtests.candidate import CALIBRATIONS, known_by
from backtests.engine import Progress, check_engine, fan_out
from backtests.folds import (
    FoldOutcome,
    FoldSpan,
    finished,
    fold_key,
    fold_spans,
    market_fingerprint,
    read_outcome,
    run_fold,
)
from backtests.ledger import Entry, TrialLedger
from backtests.portfolio import portfolio
from backtests.record import Record, Stretch, simulate_record
from backtests.tune import daily_returns

if TYPE_CHECKING:
    from vectorbt import Portfolio

TABULAR = "tabular_only"


@dataclass(frozen=True)
class FoldResult:
    """One fold as reports show it.

    Attributes
    ----------
    train_start, train_end, test_start, test_end : Timestamp (UTC)
        The end is not part of either block.
    params : TradeParams
        Tuned inside the training window; `tuned` False and a `note` where the defaults were kept.
    trials : int
        Of the inner study.
    metrics : dict
        Of the test block, from the equity it was handed.
    losses : DataFrame
        A row a prediction (directional, temperature, baselines): log_loss, brier, ...
    model : dict
        `Fitted.summary()`.
    seconds : dict
        train_and_tune, predict: wall time in the worker (the parts of a fit are in `model`).
    """

    index: int
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp
    params: TradeParams
    tuned: bool
    note: str
    trials: int
    metrics: dict[str, float]
    losses: pd.DataFrame
    model: dict[str, Any]
    seconds: dict[str, float]


@dataclass(frozen=True)
class WalkForwardResult:
    """The out-of-sample record of a walk-forward.

    Attributes
    ----------
    probabilities : DataFrame (n, 3)
        p_long, p_short, p_neutral of the configured calibration, by open_time; NaN rows where the bar has
        no complete window.
    by_calibration, baselines : dict of DataFrames (n, 3)
        Both calibrations of the same fits; class_prior, persistence, tabular_only, logistic, last_bar.
    labels : DataFrame
        y, t0, t1, ret, k of the bars whose outcome is known before the holdout begins.
    bars : Bars
        The kernel's bars of the record.
    simulation : SimulationResult
        Of `probabilities`, each fold with its own params, state carried across; `params` are the last fold's.
    simulations_by_calibration : dict
        The same for both calibrations, with the same params.
    tabular_simulation : SimulationResult
        The same for the tabular-only booster.
    trial_returns : DataFrame
        Daily returns (day x trial) of the last fold's tuning trials; `trial_scores` their table.
    stretches : tuple of Stretch
        Which bars of the record were traded with which parameters.
    trials_total : int
        Inner tuning trials of all folds.
    ledger_tuning, ledger_out_of_sample, ledger_sharpes
        What the trial ledger holds for this data window, this run included: distinct inner trials,
        distinct evaluations whose test series was read, and the daily Sharpes of the latter.
    market : MarketData
        Cut where the holdout begins.
    lake_versions : dict, synthetic : bool
        Where the data come from; synthetic markets must be named as such in every report.
    """

    config: WalkForwardConfig
    folds: tuple[FoldResult, ...]
    probabilities: pd.DataFrame
    by_calibration: dict[str, pd.DataFrame]
    baselines: dict[str, pd.DataFrame]
    labels: pd.DataFrame
    bars: Bars
    simulation: SimulationResult
    simulations_by_calibration: dict[str, SimulationResult]
    tabular_simulation: SimulationResult
    trial_returns: pd.DataFrame
    trial_scores: pd.DataFrame
    trials_total: int
    market: MarketData
    stretches: tuple[Stretch, ...]
    ledger_tuning: int = 0
    ledger_out_of_sample: int = 0
    ledger_sharpes: tuple[float, ...] = ()
    lake_versions: dict[str, int] = field(default_factory=dict)
    synthetic: bool = False

    def portfolio(self) -> "Portfolio":
        """The record as a vectorbt portfolio (`portfolio.py`): its tables and plots; funding is not in it."""
        return portfolio(self.bars, self.simulation.fills, self.config.equity)

    @property
    def losses(self) -> pd.DataFrame:
        """Scores by fold and prediction."""
        return pd.concat({fold.index: fold.losses for fold in self.folds}, names=["fold"])


def walk_forward(
    market: MarketData,
    config: WalkForwardConfig,
    *,
    features: Features | None = None,
    base: TradeParams | None = None,
    workdir: Path | None = None,
    ledger: TrialLedger | None = None,
    symbol: str = "BTCUSDT",
    lake_versions: dict[str, int] | None = None,
    synthetic: bool = False,
    progress: Progress | None = None,
) -> WalkForwardResult:
    """Run the folds that are not yet on disk, then trade the whole record.

    Parameters
    ----------
    market : MarketData
        All bars; the last `config.holdout_days` are cut off before anything else and never read.
    features : Features, optional
        Of `market`, where they are at hand; else they are built.
    base : TradeParams, optional
        What tuning starts from (the venue's filters, operator's limits).
    workdir : Path, optional
        Where finished folds and checkpoints live. A run with the same settings, data and code takes
        finished folds from there and goes on with interrupted ones; anything else starts its own.
    ledger : TrialLedger, optional
        Gets the inner trials and the out-of-sample evaluations; by default `trials.jsonl` in the workdir.
    progress : callable, optional
        `progress("folds", done, total)`.

    Raises
    ------
    DataError
        Too few bars for the folds asked, or for the training blocks inside a fold.
    MissingBars
        A gap in the test blocks.
    ConfigError
        An engine that cannot run here.
    """
    check_engine(config.engine)
    spans = fold_spans(market.candles, config)
    market, features = _without_holdout(market, features, spans[-1].test_end, config)
    base = base or TradeParams()
    synthetic = synthetic or bool(market.candles.attrs.get("synthetic", False))
    source = f"synthetic:{market_fingerprint(market)[:16]}" if synthetic else symbol
    with _workplace(workdir) as place:
        folders = [place / f"fold-{fold_key(market, span, config, base)[:24]}" for span in spans]
        tasks = [
            (market, features, span, config, base, folder)
            for span, folder in zip(spans, folders, strict=True)
            if not finished(folder)
        ]
        fan_out(
            run_fold, tasks, stage="folds", engine=config.engine, workers=config.workers, progress=progress
        )
        outcomes = [read_outcome(folder) for folder in folders]
        keys = [folder.name for folder in folders]
        result = _assembled(market, features, config, spans, outcomes)
        counted = _counted(result, keys, source, ledger or TrialLedger(place / "trials.jsonl"))
    return replace(result, **counted, lake_versions=lake_versions or {}, synthetic=synthetic)


@contextmanager
def _workplace(workdir: Path | None) -> Iterator[Path]:
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="acmf-walk-forward-") as folder:
            yield Path(folder)
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        yield workdir


def _without_holdout(
    market: MarketData, features: Features | None, stop: pd.Timestamp, config: WalkForwardConfig
) -> tuple[MarketData, Features]:
    if features is not None:
        return known_by(market, features, None, stop)
    seen = market.between(None, stop)
    return seen, build_features(seen, config.train.features)


def _assembled(
    market: MarketData,
    features: Features,
    config: WalkForwardConfig,
    spans: Sequence[FoldSpan],
    outcomes: Sequence[FoldOutcome],
) -> WalkForwardResult:
    """One record of all test blocks, traded in order."""
    bars = trading_bars(market, features)
    first, last = np.searchsorted(bars.open_time, [_us(spans[0].test_start), _us(spans[-1].test_end)])
    bars = bars.slice(int(first), int(last))
    edges = [0, *np.searchsorted(bars.open_time, [_us(span.test_end) for span in spans])]
    stretches = [
        Stretch(int(edges[i]), int(edges[i + 1]), outcome.params) for i, outcome in enumerate(outcomes)
    ]
    predictions = {
        name: pd.concat([outcome.predictions[name] for outcome in outcomes]).reindex(bars.times)
        for name in outcomes[0].predictions
    }
    traded = {
        name: simulate_record(bars, predictions[name], stretches, equity=config.equity)
        for name in (*CALIBRATIONS, TABULAR)
    }
    chosen = config.train.calibration
    return WalkForwardResult(
        config=config,
        folds=_folds(spans, outcomes, traded[chosen]),
        probabilities=predictions[chosen],
        by_calibration={name: predictions[name] for name in CALIBRATIONS},
        baselines={name: frame for name, frame in predictions.items() if name not in CALIBRATIONS},
        labels=pd.concat([outcome.labels for outcome in outcomes]),
        bars=bars,
        simulation=traded[chosen].whole,
        simulations_by_calibration={name: traded[name].whole for name in CALIBRATIONS},
        tabular_simulation=traded[TABULAR].whole,
        stretches=tuple(stretches),
        trial_returns=outcomes[-1].trial_returns,
        trial_scores=outcomes[-1].trials,
        trials_total=sum(len(outcome.trials) for outcome in outcomes),
        market=market,
    )


def _folds(
    spans: Sequence[FoldSpan], outcomes: Sequence[FoldOutcome], record: Record
) -> tuple[FoldResult, ...]:
    return tuple(
        FoldResult(
            index=span.index,
            train_start=span.train_start,
            train_end=span.train_end,
            test_start=span.test_start,
            test_end=span.test_end,
            params=outcome.params,
            tuned=outcome.tuned,
            note=outcome.note,
            trials=len(outcome.trials),
            metrics=part.metrics(),
            losses=outcome.losses,
            model=outcome.model,
            seconds=outcome.seconds,
        )
        for span, outcome, part in zip(spans, outcomes, record.parts, strict=True)
    )


def _counted(
    result: WalkForwardResult, keys: Sequence[str], source: str, ledger: TrialLedger
) -> dict[str, Any]:
    """Write this run's trials down and read back what was ever tried on this data window.

    Every series of the test blocks that somebody can now look at is an evaluation: both calibrations and
    the tabular-only model. The same series again, from an identical run, is the same evaluation.
    """
    tested = Span(_us(result.folds[0].test_start), _us(result.folds[-1].test_end) - 1)
    entries = [
        Entry(
            "tuning", source, Span(_us(fold.train_start), _us(fold.train_end) - 1), key, count=fold.trials,
            detail={"fold": fold.index},
        )
        for fold, key in zip(result.folds, keys, strict=True)
    ]  # fmt: skip
    traded = {**result.simulations_by_calibration, TABULAR: result.tabular_simulation}
    for name, simulation in traded.items():
        days = daily_returns(simulation.bars.open_time, simulation.equity[None, :], result.config.equity)[0]
        spread = float(days.std(ddof=1))
        series = hashlib.sha256(days.to_numpy().tobytes()).hexdigest()
        entries.append(
            Entry(
                "out_of_sample",
                source,
                tested,
                fingerprint({"folds": list(keys), "model": name, "series": series}),
                sharpe=float(days.mean() / spread) if spread > 0 else None,
                detail={"model": name, "settings": result.config.fingerprint[:16], "days": len(days)},
            )
        )
    ledger.append(*entries)
    whole = Span(_us(result.folds[0].train_start), tested.end)
    read = ledger.counts(source, tested)
    return {
        "ledger_tuning": ledger.counts(source, whole).tuning,
        "ledger_out_of_sample": read.out_of_sample,
        "ledger_sharpes": read.sharpes,
    }


def _us(moment: pd.Timestamp) -> int:
    """Microseconds since the epoch, whatever the stamp's own unit."""
    return (moment - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(microseconds=1)
