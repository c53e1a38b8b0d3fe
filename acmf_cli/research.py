"""`acmf train`, `acmf tune`, `acmf backtest`: research without a notebook, on the bars in the lake."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acmf_cli.research_report import backtest_figures, candidate_figures, show_backtest, show_candidate
from production.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from acmf_core.config import TrainConfig, WalkForwardConfig
    from acmf_core.features import Features, MarketData
    from acmf_core.trading import TradeParams
    from backtests.candidate import Candidate
    from backtests.walk_forward import WalkForwardResult

QUICK_TRAIN_DAYS = 182.0
QUICK_TEST_DAYS = 30.0
QUICK_TRIALS = 25

DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"])
quick_option = click.option("--quick", is_flag=True, help="The small profile: minutes instead of hours.")
from_option = click.option("--from", "start", type=DAY, help="First day (UTC).")
to_option = click.option("--to", "end", type=DAY, help="The day after the last one (UTC).")
trials_option = click.option("--trials", type=click.IntRange(min=1), help="Tuning trials [tune.trials].")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@dataclass(frozen=True)
class _Source:
    """Bars of the configured symbol, pinned to the lake's versions, with their features."""

    market: "MarketData"
    features: "Features"
    versions: dict[str, int]


@click.command()
@quick_option
@from_option
@to_option
@trials_option
@click.option("--evidence", is_flag=True, help="Put walk-forward and holdout into the bundle.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the bundle [paths.models]."
)
@json_option
@click.pass_obj
def train(
    settings: Settings,
    quick: bool,
    start: datetime | None,
    end: datetime | None,
    trials: int | None,
    evidence: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a model, tune its thresholds, write the bundle.

    By default on the newest walk_forward.train_days before the untouched last walk_forward.holdout_days.
    With --evidence the bundle can be judged by the promotion gate: the walk-forward runs first (finished
    folds are taken as they are) and the holdout is traded, once. Interrupted, the same command goes on.
    """
    if evidence and (start or end):
        raise click.UsageError("--evidence trains where the walk-forward ends: leave --from and --to away")
    if out is not None:
        _refuse_foreign_folder(out)
    source = _load(settings)
    found = _with_evidence(settings, source, quick, trials, as_json) if evidence else None
    candidate = _candidate(settings, source, quick, start, end, trials, quiet=as_json)
    folder = candidate.save(
        out or Path(settings.config.paths.models) / _bundle_name(candidate),
        evidence=found(candidate) if found is not None else {},
        lake_versions=source.versions,
    )
    if as_json:
        click.echo(json.dumps({"bundle": str(folder), **candidate_figures(candidate)}))
        return
    show_candidate(candidate)
    click.echo(f"bundle: {folder}")


@click.command()
@quick_option
@from_option
@to_option
@trials_option
@json_option
@click.pass_obj
def tune(
    settings: Settings,
    quick: bool,
    start: datetime | None,
    end: datetime | None,
    trials: int | None,
    as_json: bool,
) -> None:
    """Tune the trading thresholds on a window's out-of-fold predictions.

    Trains the model of that window first; a later `acmf train` over the same window takes it from there.
    """
    source = _load(settings)
    candidate = _candidate(settings, source, quick, start, end, trials, quiet=as_json)
    if as_json:
        click.echo(json.dumps(candidate_figures(candidate)))
        return
    show_candidate(candidate)
    click.echo(candidate.study.trials.round(3).to_string())


@click.command()
@quick_option
@from_option
@to_option
@click.option("--folds", type=click.IntRange(min=1), help="Test blocks [walk_forward.folds].")
@trials_option
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="HTML file to write.")
@json_option
@click.pass_obj
def backtest(
    settings: Settings,
    quick: bool,
    start: datetime | None,
    end: datetime | None,
    folds: int | None,
    trials: int | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Walk-forward: train, tune and trade fold after fold; one out-of-sample record.

    The last walk_forward.holdout_days are never read. Finished folds are kept: interrupted, the same
    command goes on; other settings, data or code start their own.
    """
    config = _walk_forward_config(settings, quick, folds, trials)
    source = _load(settings, start, end)
    result = _walked(settings, source, config, quiet=as_json)
    page = _report(result, report, settings.config.market.symbol) if report is not None else None
    if as_json:
        click.echo(json.dumps(backtest_figures(result) | {"report": str(page) if page else None}))
        return
    show_backtest(result)
    if page is not None:
        click.echo(f"report: {page}")


def _load(settings: Settings, start: datetime | None = None, end: datetime | None = None) -> _Source:
    from acmf_core.collect.history import load_market
    from acmf_core.features import build_features
    from acmf_core.lake import Lake

    lake = Lake(settings.config.paths.lake)
    versions = lake.versions()
    market = load_market(lake, settings.config.market.symbol, _utc(start), _utc(end), versions=versions)
    return _Source(market, build_features(market, settings.config.train.features), versions)


def _utc(day: datetime | None) -> "pd.Timestamp | None":
    import pandas as pd

    return None if day is None else pd.Timestamp(day, tz="UTC")


def _base(settings: Settings) -> "TradeParams":
    """The default parameters with the configured venue filters."""
    from acmf_core.trading import TradeParams

    return TradeParams().with_rules(settings.config.market.rules)


def _train_config(settings: Settings, quick: bool) -> "TrainConfig":
    """The configured training, or the quick profile with its seed, threads and calibration."""
    from acmf_core.config import TrainConfig

    own = settings.config.train
    if not quick:
        return own
    return TrainConfig.quick(
        seed=own.seed,
        threads=own.threads,
        calibration=own.calibration,
        labels=own.labels,
        features=own.features,
    )


def _candidate(
    settings: Settings,
    source: _Source,
    quick: bool,
    start: datetime | None,
    end: datetime | None,
    trials: int | None,
    *,
    quiet: bool,
) -> "Candidate":
    import pandas as pd

    from acmf_cli.progress import ProgressBars
    from acmf_core.domain import BAR_MINUTES
    from acmf_core.errors import DataError
    from backtests.candidate import train_candidate

    config = settings.config
    index = source.market.candles.index
    bars_end = index[-1] + pd.Timedelta(minutes=BAR_MINUTES)
    stop = _utc(end) or (bars_end - pd.Timedelta(days=config.walk_forward.holdout_days)).floor("D")
    days = QUICK_TRAIN_DAYS if quick else config.walk_forward.train_days
    begin = _utc(start) or stop - pd.Timedelta(days=days)
    if begin < index[0]:
        raise DataError(
            f"training would begin on {begin:%Y-%m-%d}, the lake's first bar is {index[0]:%Y-%m-%d %H:%M}",
            "bring more history (acmf data pull), or name a shorter window with --from and --to",
        )
    tuning = config.tune
    if quick or trials:
        tuning = tuning.model_copy(update={"trials": trials or min(QUICK_TRIALS, tuning.trials)})
    with ProgressBars(quiet=quiet) as bars:
        return train_candidate(
            source.market,
            source.features,
            begin,
            stop,
            _train_config(settings, quick),
            tuning,
            base=_base(settings),
            equity=config.walk_forward.equity,
            workdir=Path(config.paths.state) / "training",
            progress=bars.report,
        )


def _walk_forward_config(
    settings: Settings, quick: bool, folds: int | None, trials: int | None
) -> "WalkForwardConfig":
    from acmf_core.config import WalkForwardConfig

    config = settings.config
    tuning = config.tune
    changes: dict[str, Any] = {"train": _train_config(settings, quick)}
    if quick:
        changes |= {"folds": 3, "train_days": QUICK_TRAIN_DAYS, "test_days": QUICK_TEST_DAYS}
        tuning = tuning.model_copy(update={"trials": min(QUICK_TRIALS, tuning.trials)})
    if folds:
        changes["folds"] = folds
    if trials:
        tuning = tuning.model_copy(update={"trials": trials})
    return WalkForwardConfig(**(config.walk_forward.model_dump() | changes), tune=tuning)


def _walked(
    settings: Settings, source: _Source, config: "WalkForwardConfig", *, quiet: bool
) -> "WalkForwardResult":
    from acmf_cli.progress import ProgressBars
    from backtests.walk_forward import walk_forward

    with ProgressBars(quiet=quiet) as bars:
        return walk_forward(
            source.market,
            config,
            features=source.features,
            base=_base(settings),
            workdir=Path(settings.config.paths.state) / "walk_forward",
            symbol=settings.config.market.symbol,
            lake_versions=source.versions,
            progress=bars.report,
        )


def _with_evidence(
    settings: Settings, source: _Source, quick: bool, trials: int | None, quiet: bool
) -> "Callable[[Candidate], dict[str, Any]]":
    """Walk forward now; later, say of the candidate what it earned where nothing was fitted."""
    from backtests.evidence import gather

    result = _walked(settings, source, _walk_forward_config(settings, quick, None, trials), quiet=quiet)

    def evidence(candidate: "Candidate") -> dict[str, Any]:
        held = candidate.trade(
            source.market, source.features, result.folds[-1].test_end, equity=result.config.equity
        )
        return gather(result, holdout=held, symbol=settings.config.market.symbol)

    return evidence


def _refuse_foreign_folder(folder: Path) -> None:
    """Before an hour of training, not after it."""
    from acmf_core.errors import ConfigError

    if folder.exists() and not (folder / "manifest.json").is_file():
        raise ConfigError(f"{folder} exists and is not a bundle", "choose another path for --out")


def _report(result: "WalkForwardResult", path: Path, symbol: str) -> Path:
    from backtests import report
    from backtests.evidence import gather
    from production.gate import judge

    evidence = gather(result, symbol=symbol)
    return Path(report.write(result, evidence, judge(evidence), path))


def _bundle_name(candidate: "Candidate") -> str:
    """One name for one window, training configuration and set of thresholds."""
    import pandas as pd

    fitted = candidate.fitted
    day = pd.Timestamp(fitted.window.end, unit="us")
    return f"bundle-{day:%Y%m%d}-{fitted.config.fingerprint[:6]}-{candidate.params.fingerprint[:6]}"
