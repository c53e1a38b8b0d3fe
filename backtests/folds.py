"""One fold of a walk-forward: its place in time, its work, and the files that hold its result.

Inside a fold nothing of the test block is in memory while the model is fitted and the thresholds are
tuned: features and candles are cut at the end of the training window first.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acmf_core.config import WalkForwardConfig
from acmf_core.domain import BAR_MINUTES, BARS_PER_DAY, PROBABILITIES
from acmf_core.errors import DataError
from acmf_core.features import Features, MarketData
from acmf_core.fingerprint import file_hash, fingerprint
from acmf_core.models import Fitted, evaluate, fit, label
from acmf_core.trading import TradeParams, trading_bars
from backtests.tune import tune

CALIBRATIONS = ("directional", "temperature")
LABEL_HISTORY = BARS_PER_DAY  # bars before the test block: volatility and the last known labels need a past
FIT_SHARE = 0.9  # of a fold's time, for the progress bar
_FORMAT = 1  # of the files below
Report = Callable[[float], None]


@dataclass(frozen=True)
class FoldSpan:
    """Where a fold lies in time: train on [train_start, train_end), test on [test_start, test_end), UTC."""

    index: int
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp


@dataclass(frozen=True)
class FoldOutcome:
    """What the work of one fold leaves behind.

    Attributes
    ----------
    params : TradeParams
        Tuned inside the training window.
    predictions : dict of DataFrames (n, 3)
        Of the test block: "directional", "temperature" and every baseline.
    losses : DataFrame
        A row a prediction: log_loss, brier, ... against the labels of the test block.
    labels : DataFrame
        y, t0, t1, ret of the test block, by open_time; `k` of the training window.
    trials : DataFrame, trial_returns : DataFrame
        The inner study (`TuneResult`), note its one-sentence result.
    model : dict
        `Fitted.summary()`.
    """

    params: TradeParams
    tuned: bool
    note: str
    predictions: dict[str, pd.DataFrame]
    losses: pd.DataFrame
    labels: pd.DataFrame
    trials: pd.DataFrame
    trial_returns: pd.DataFrame
    model: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


def fold_spans(candles: pd.DataFrame, config: WalkForwardConfig) -> list[FoldSpan]:
    """Adjacent test blocks, the last of which ends where the untouched holdout begins.

    Blocks end at midnight UTC, so that a day belongs to one block. "rolling" trains on the `train_days`
    before each block; "expanding" starts where the first fold starts and lets the window grow.

    Raises
    ------
    DataError
        The bars are too few; the cause says how many days are needed.
    """
    index = pd.DatetimeIndex(candles.index)
    wanted = config.train_days + config.folds * config.test_days + config.holdout_days
    have = len(index) / BARS_PER_DAY
    too_short = DataError(
        f"{have:.1f} days of bars are too few: {config.folds} folds of {config.test_days:g} days after "
        f"{config.train_days:g} days of training and before {config.holdout_days:g} untouched days need "
        f"{wanted + 1:g} days",
        "load more history, or ask for fewer folds, shorter windows or a shorter holdout",
    )
    if not len(index):
        raise too_short
    first = index[0]
    stop = (index[-1] + pd.Timedelta(minutes=BAR_MINUTES) - pd.Timedelta(days=config.holdout_days)).floor("D")
    test, train = pd.Timedelta(days=config.test_days), pd.Timedelta(days=config.train_days)
    starts = [stop - (config.folds - number) * test for number in range(config.folds)]
    begins = [starts[0] - train if config.scheme == "expanding" else start - train for start in starts]
    if begins[0] < first:
        raise too_short
    return [
        FoldSpan(number, begin, start, start, start + test)
        for number, (begin, start) in enumerate(zip(begins, starts, strict=True))
    ]


def fold_key(market: MarketData, span: FoldSpan, config: WalkForwardConfig) -> str:
    """Names everything the result of a fold depends on: data up to its end, settings, and our own code."""
    settings = config.model_dump(mode="json", include={"train", "tune", "equity"})
    settings["tune"].pop("storage", None)
    return fingerprint(
        {
            "format": _FORMAT,
            "span": [str(moment) for moment in (span.train_start, span.train_end, span.test_end)],
            "settings": settings,
            "data": market_fingerprint(market.between(None, span.test_end)),
            "code": _code_fingerprint(),
        }
    )


def market_fingerprint(market: MarketData) -> str:
    """SHA-256 of every value of the market's frames."""
    digest = hashlib.sha256()
    for name, frame in {"candles": market.candles, **market.slow}.items():
        digest.update(f"{name}:{','.join(map(str, frame.columns))};".encode())
        digest.update(pd.util.hash_pandas_object(frame, index=True).to_numpy().tobytes())
    return digest.hexdigest()


def _code_fingerprint() -> str:
    """SHA-256 over the sources a fold runs through: a result of older code is not taken for a new one."""
    here = Path(__file__).resolve().parent
    core = here.parent / "acmf_core"
    files = [here / "folds.py", here / "tune.py", core / "config.py", core / "domain.py"]
    for package in ("features", "models", "trading"):
        files += sorted((core / package).glob("*.py"))
    return fingerprint({str(file.relative_to(here.parent)): file_hash(file) for file in files})


def run_fold(
    market: MarketData,
    features: Features,
    span: FoldSpan,
    config: WalkForwardConfig,
    folder: Path,
    report: Report,
) -> str:
    """Fit, tune and predict one fold, and leave the outcome in `folder` (written aside and renamed).

    Returns the folder's path. `market` ends where the holdout begins.
    """
    checkpoints = folder.with_name(folder.name + ".fit")
    seconds: dict[str, float] = {}
    with _timed(seconds, "fit"):
        known, known_features = _cut(market, features, None, span.train_end)
        fitted = fit(
            known_features,
            known.candles,
            span.train_start,
            span.train_end,
            config.train,
            workdir=checkpoints,
            progress=_FitProgress(report),
        )
    with _timed(seconds, "tune"):
        signals = fitted.tuning_predictions
        seen, seen_features = _cut(known, known_features, signals.index[0], span.train_end)
        study = tune(
            trading_bars(seen, seen_features),
            signals.reindex(seen.candles.index),
            config.tune,
            TradeParams(),
            equity=config.equity,
            journal=checkpoints / "tune.journal",
            progress=lambda _, done, total: report(FIT_SHARE + 0.05 * done / total),
        )
    with _timed(seconds, "predict"):
        predictions = _predict(fitted, market, features, span)
        labels = _labels(market, span, config, fitted)
        losses = _losses(predictions, labels)
    outcome = FoldOutcome(
        params=study.params,
        tuned=study.tuned,
        note=study.note,
        predictions=predictions,
        losses=losses,
        labels=labels,
        trials=study.trials,
        trial_returns=study.trial_returns,
        model=fitted.summary(),
        seconds=seconds,
    )
    write_outcome(outcome, folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return str(folder)


def _cut(
    market: MarketData, features: Features, start: pd.Timestamp | None, stop: pd.Timestamp
) -> tuple[MarketData, Features]:
    """What was known by `stop`, of bars from `start` on; `features` are row for row those of `market`."""
    seen = market.between(start, stop)
    first = market.candles.index.searchsorted(seen.candles.index[0])
    rows = slice(int(first), int(first) + len(seen))
    return seen, Features(features.sequence.iloc[rows], features.tabular.iloc[rows], features.schema)


def _predict(
    fitted: Fitted, market: MarketData, features: Features, span: FoldSpan
) -> dict[str, pd.DataFrame]:
    """Both calibrations and every baseline on the test block; no bar after it is in reach."""
    bars = fitted.config.encoder.window + LABEL_HISTORY
    past = span.test_start - pd.Timedelta(minutes=BAR_MINUTES * bars)
    seen, seen_features = _cut(market, features, past, span.test_end)
    answers = {name: fitted.predict(seen_features, calibration=name) for name in CALIBRATIONS}
    answers |= fitted.baseline_predictions(seen_features, seen.candles)
    test = seen.candles.index[seen.candles.index >= span.test_start]
    return {name: frame.reindex(test)[list(PROBABILITIES)] for name, frame in answers.items()}


def _labels(market: MarketData, span: FoldSpan, config: WalkForwardConfig, fitted: Fitted) -> pd.DataFrame:
    """Labels of the test block, by the multiple of the training window; they may read bars after it."""
    past = span.test_start - pd.Timedelta(minutes=BAR_MINUTES * LABEL_HISTORY)
    after = span.test_end + pd.Timedelta(minutes=BAR_MINUTES * (config.train.labels.horizon_bars + 1))
    labels = label(market.between(past, after).candles, config.train.labels, k=fitted.k)
    inside = (labels.index >= span.test_start) & (labels.index < span.test_end)
    return labels[inside].assign(k=fitted.k)


def _losses(predictions: dict[str, pd.DataFrame], labels: pd.DataFrame) -> pd.DataFrame:
    """Scores of every prediction on the bars that all of them answer, so that they compare."""
    answered = np.logical_and.reduce([frame.notna().all(axis=1) for frame in predictions.values()])
    return pd.DataFrame(
        {name: evaluate(frame[answered], labels) for name, frame in predictions.items()}
    ).T.rename_axis("prediction")


def write_outcome(outcome: FoldOutcome, folder: Path) -> None:
    """Put the outcome on disk: plain JSON and Parquet, written aside and renamed as one folder."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, frame in outcome.predictions.items():
        frame.to_parquet(aside / f"prediction-{name}.parquet")
    for name in _TABLES:
        frame = getattr(outcome, name)
        frame.set_axis([str(column) for column in frame.columns], axis=1).to_parquet(
            aside / f"{name}.parquet"
        )
    words = {
        "predictions": list(outcome.predictions),
        "params": outcome.params.to_dict(),
        "tuned": outcome.tuned,
        "note": outcome.note,
        "model": outcome.model,
        "seconds": outcome.seconds,
    }
    (aside / "fold.json").write_text(json.dumps(words, indent=1), encoding="utf-8")
    _sync(aside)
    aside.replace(folder)


def read_outcome(folder: Path) -> FoldOutcome:
    """The outcome that `write_outcome` left.

    Raises
    ------
    DataError
        A file is missing or damaged.
    """
    try:
        words = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
        predictions = {
            name: pd.read_parquet(folder / f"prediction-{name}.parquet") for name in words["predictions"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the stored fold {folder.name} cannot be read ({type(error).__name__})",
            f"delete {folder} and run again: it will be computed anew",
        ) from error
    returns = tables["trial_returns"]
    tables["trial_returns"] = returns.set_axis([int(column) for column in returns.columns], axis=1)
    return FoldOutcome(
        params=TradeParams.from_dict(words["params"]),
        predictions=predictions,
        **tables,
        **{name: words[name] for name in ("tuned", "note", "model", "seconds")},
    )


_TABLES = ("losses", "labels", "trials", "trial_returns")


def _sync(folder: Path) -> None:
    """Force the files to the disk before the folder gets its final name."""
    for file in folder.iterdir():
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Put the wall time of a block into a table."""
    begun = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - begun, 2)


class _FitProgress:
    """Turns the stages of `fit` into one share that only grows."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._share = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        begin, width = _STAGES.get(stage, (self._share, 0.0))
        self._share = max(self._share, begin + width * (done / total if total else 1.0))
        self._report(FIT_SHARE * self._share)


# where the stages of a fit lie in its time: (begin, width)
_STAGES = {"encoder": (0.0, 0.6), "hidden": (0.6, 0.2), "stack": (0.8, 0.2)}
