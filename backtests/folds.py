"""One fold of a walk-forward: its place in time, its work, and the files that hold its result.

A fold is a candidate, trained and tuned on data cut at the end of its training window, and its answers
on the test block.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from acmf_core.config import WalkForwardConfig
from acmf_core.domain import BARS_PER_DAY
from acmf_core.errors import DataError
from acmf_core.features import Features, MarketData, schema_for
from acmf_core.fingerprint import file_hash, fingerprint
from acmf_core.trading import TradeParams
from backtests.candidate import bar_span, train_candidate

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
    warmup = schema_for(config.train.features).warmup["15m"]
    wanted = config.train_days + config.folds * config.test_days + config.holdout_days
    too_short = DataError(
        f"{len(index) / BARS_PER_DAY:.1f} days of bars are too few: {warmup / BARS_PER_DAY:.0f} days of "
        f"warm-up, {config.train_days:g} of training, {config.folds} folds of {config.test_days:g} and "
        f"{config.holdout_days:g} untouched need {math.ceil(wanted + warmup / BARS_PER_DAY + 1)} days",
        "load more history, or ask for fewer folds, shorter windows or a shorter holdout",
    )
    if not len(index):
        raise too_short
    stop = (index[-1] + bar_span(1) - pd.Timedelta(days=config.holdout_days)).floor("D")
    test, train = pd.Timedelta(days=config.test_days), pd.Timedelta(days=config.train_days)
    starts = [stop - (config.folds - number) * test for number in range(config.folds)]
    begins = [(starts[0] if config.scheme == "expanding" else start) - train for start in starts]
    if begins[0] < index[0] + bar_span(warmup):
        raise too_short
    return [
        FoldSpan(number, begin, start, start, start + test)
        for number, (begin, start) in enumerate(zip(begins, starts, strict=True))
    ]


def fold_key(market: MarketData, span: FoldSpan, config: WalkForwardConfig, base: TradeParams) -> str:
    """Names everything the result of a fold depends on: data up to its end, settings, and our own code."""
    settings = config.model_dump(mode="json", include={"train", "tune", "equity"})
    settings["tune"].pop("storage", None)
    return fingerprint(
        {
            "format": _FORMAT,
            "span": [str(moment) for moment in (span.train_start, span.train_end, span.test_end)],
            "settings": settings,
            "base": base.to_dict(),
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
    files = [
        here / "folds.py",
        here / "candidate.py",
        here / "tune.py",
        core / "config.py",
        core / "domain.py",
    ]
    for package in ("features", "models", "trading"):
        files += sorted((core / package).glob("*.py"))
    return fingerprint({str(file.relative_to(here.parent)): file_hash(file) for file in files})


def finished(folder: Path) -> bool:
    """Whether the outcome of a fold is there; folders get their name only when they are whole."""
    return (folder / "fold.json").exists()


def run_fold(
    market: MarketData,
    features: Features,
    span: FoldSpan,
    config: WalkForwardConfig,
    base: TradeParams,
    folder: Path,
    report: Report,
) -> str:
    """Fit, tune and predict one fold, and leave the outcome in `folder` (written aside and renamed).

    Returns the folder's path. `market` ends where the holdout begins.
    """
    checkpoints = folder.with_name(folder.name + ".fit")
    begun = time.perf_counter()
    candidate = train_candidate(
        market,
        features,
        span.train_start,
        span.train_end,
        config.train,
        config.tune,
        base=base,
        equity=config.equity,
        workdir=checkpoints,
        progress=_Share(report),
    )
    trained = time.perf_counter()
    answers = candidate.answers(market, features, span.test_start, span.test_end)
    predicted = time.perf_counter()
    fitted, study = candidate.fitted, candidate.study
    outcome = FoldOutcome(
        params=study.params,
        tuned=study.tuned,
        note=study.note,
        predictions=answers.predictions,
        losses=answers.losses,
        labels=answers.labels,
        trials=study.trials,
        trial_returns=study.trial_returns,
        model=fitted.summary(),
        seconds={"train_and_tune": round(trained - begun, 2), "predict": round(predicted - trained, 2)},
    )
    write_outcome(outcome, folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return str(folder)


def write_outcome(outcome: FoldOutcome, folder: Path) -> None:
    """Put the outcome on disk: plain JSON and Parquet, written aside and renamed as one folder."""
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
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
    try:
        aside.replace(folder)
    except OSError:
        if not finished(folder):
            raise
        shutil.rmtree(aside)  # another process finished the same fold first


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


# where the stages lie in a fold's time: (begin, width); what is left is the prediction of the test block
_STAGES = {"encoder": (0.0, 0.5), "hidden": (0.5, 0.2), "stack": (0.7, 0.1), "tune": (0.8, 0.05)}


class _Share:
    """Turns the stages of a training into one share that only grows."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._share = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        begin, width = _STAGES.get(stage, (self._share, 0.0))
        self._share = max(self._share, begin + width * (done / total if total else 1.0))
        self._report(self._share)
