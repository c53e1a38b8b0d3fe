"""The demo's road through the six layers: each stage timed, each figure from this run.

Everything is written under one home folder. A finished journey starts from nothing the next time; an
interrupted one over the same input goes on: the lake merges, folds and trainings keep their results.
"""

import json
import shutil
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acmf_cli.demo_bars import BarSource, Say
from acmf_cli.demo_table import show
from acmf_cli.progress import ProgressBars
from acmf_core.config import Config, TrainConfig, TuneConfig, WalkForwardConfig
from acmf_core.domain import BAR_US, BARS_PER_DAY, DAY_US
from acmf_core.errors import DataError
from acmf_core.fingerprint import file_hash, fingerprint

if TYPE_CHECKING:
    from acmf_core.features import Features, MarketData
    from acmf_core.trading import TradeParams
    from backtests.candidate import Candidate, HeldOut
    from backtests.walk_forward import WalkForwardResult
    from production.daemon import ReplayResult
    from production.promote import Assessment

MARK = "journey.json"
LEDGER = "trials.jsonl"
WARMUP_DAYS = 136  # the longest window that a feature looks back
REPLAY_DAYS = 30
STAGES = 8
OVERRIDE = "the demo runs its quick model in paper so that there is something to see"


@dataclass(frozen=True)
class Plan:
    """How the days at hand are divided; whole days."""

    train_days: int
    test_days: int
    folds: int
    holdout_days: int

    @classmethod
    def of(cls, days: float) -> "Plan":
        """The largest plan that `days` of bars allow.

        Raises
        ------
        DataError
            When not even the smallest one fits.
        """
        usable = days - WARMUP_DAYS - 2
        plans = [cls(182, 45, 6, 60), cls(182, 30, 6, 60), cls(182, 30, 3, 60), cls(120, 30, 3, 30)]
        smallest = cls(120, 20, 3, 30)
        for plan in (*plans, smallest):
            if plan.days <= usable:
                return plan
        raise DataError(
            f"{days:.0f} days of bars are too few: the demo's smallest walk-forward needs "
            f"{smallest.days + WARMUP_DAYS + 2}",
            "bring more bars, or make demo SYNTHETIC=1",
        )

    @property
    def days(self) -> int:
        """From the first training window to the end of the holdout."""
        return self.train_days + self.folds * self.test_days + self.holdout_days


@dataclass
class Journey:
    """Runs the stages in order and says what each took.

    Parameters
    ----------
    config : Config
        For the symbol and the sources; the demo's own sizes come from `Plan`.
    home, reports : Path
        Folders that this journey alone writes.
    quiet : bool
        Nothing on the terminal (for --json).
    """

    config: Config
    home: Path
    reports: Path
    quiet: bool = False
    symbol: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, *, candles: Path | None, funding: Path | None, synthetic: bool) -> dict[str, Any]:
        """The whole job; returns the figures of the final table."""
        begun = time.perf_counter()
        self._begin(candles, funding, synthetic)
        market, versions = self._history(candles, funding, synthetic)
        plan = Plan.of(len(market) / BARS_PER_DAY)
        features = self._features(market)
        result = self._walk_forward(market, features, plan, versions)
        candidate, holdout = self._candidate(market, features, plan, result)
        bundle, evidence = self._evidence(candidate, holdout, result, versions)
        replayed = self._replay(market, bundle)
        assessment = self._gate(bundle, replayed)
        page = self._report(result, evidence, assessment, replayed)
        self.seconds["total"] = round(time.perf_counter() - begun, 1)
        summary = self._summary(market, evidence, assessment, replayed, page)
        self._finish(summary)
        return summary

    # --- the eight stages -----------------------------------------------------------------------

    def _history(
        self, candles: Path | None, funding: Path | None, synthetic: bool
    ) -> tuple["MarketData", dict[str, int]]:
        with self._stage(1, "history") as say:
            from acmf_core.collect.history import load_market
            from acmf_core.lake import Lake

            lake = Lake(self.home / "lake")
            source = BarSource(self.config, lake, self.home, quiet=self.quiet)
            self.symbol = source.fill(candles=candles, funding=funding, synthetic=synthetic, say=say)
            market = load_market(lake, self.symbol)
            first, last = market.candles.index[0], market.candles.index[-1]
            known = "with funding" if market.funding is not None else "no funding rates"
            say(f"{self.symbol}: {len(market):,} bars, {first:%Y-%m-%d} to {last:%Y-%m-%d}, {known}")
        return market, lake.versions()

    def _features(self, market: "MarketData") -> "Features":
        with self._stage(2, "features") as say:
            from acmf_core.features import build_features

            features = build_features(market)
            say(f"22 channels, 66 features; {len(features.window_ends()):,} complete windows of 192 bars")
        return features

    def _walk_forward(
        self, market: "MarketData", features: "Features", plan: Plan, versions: dict[str, int]
    ) -> "WalkForwardResult":
        sizes = WalkForwardConfig(
            folds=plan.folds,
            train_days=plan.train_days,
            test_days=plan.test_days,
            holdout_days=plan.holdout_days,
            workers=2,
            train=_TRAIN,
            tune=_TUNE,
        )
        with self._stage(3, "walk-forward") as say, self._bars() as bars:
            from backtests.ledger import TrialLedger
            from backtests.walk_forward import walk_forward

            result = walk_forward(
                market,
                sizes,
                features=features,
                base=self._base(),
                workdir=self.home / "walk_forward",
                ledger=TrialLedger(self.home / LEDGER),
                symbol=self.symbol,
                lake_versions=versions,
                synthetic=self._synthetic,
                progress=bars.report,
            )
            tested = plan.folds * plan.test_days
            say(
                f"{plan.folds} folds, each: train on {plan.train_days} days, {_TUNE.trials} trials inside "
                f"them, trade the next {plan.test_days}; {tested} days out of sample"
            )
        return result

    def _candidate(
        self, market: "MarketData", features: "Features", plan: Plan, result: "WalkForwardResult"
    ) -> tuple["Candidate", "HeldOut"]:
        with self._stage(4, "training") as say, self._bars() as bars:
            import pandas as pd

            from backtests.candidate import train_candidate

            end = result.folds[-1].test_end
            start = end - pd.Timedelta(days=plan.train_days)
            candidate = train_candidate(
                market,
                features,
                start,
                end,
                _TRAIN,
                _TUNE,
                base=self._base(),
                workdir=self.home / "training",
                progress=bars.report,
            )
            holdout = candidate.trade(market, features, end)
            say(f"the candidate, on {start:%Y-%m-%d} to {end:%Y-%m-%d}; {candidate.study.note}")
        return candidate, holdout

    def _evidence(
        self,
        candidate: "Candidate",
        holdout: "HeldOut",
        result: "WalkForwardResult",
        versions: dict[str, int],
    ) -> tuple[Path, dict[str, Any]]:
        with self._stage(5, "evidence") as say:
            from backtests.evidence import gather

            evidence = gather(result, holdout=holdout, symbol=self.symbol)
            bundle = candidate.save(self.home / "bundle", evidence=evidence, lake_versions=versions)
            say(f"deflated Sharpe, bootstraps, stress grid; bundle in {bundle}")
        return bundle, evidence

    def _replay(self, market: "MarketData", bundle: Path) -> "ReplayResult":
        with self._stage(6, "paper replay") as say, self._bars() as bars:
            from acmf_core.models import Bundle
            from acmf_core.store.sql import SqlStore
            from acmf_core.trading.bars import microseconds
            from production import daemon

            end = int(microseconds(market.candles.index[-1:])[0]) + BAR_US
            model = Bundle.load(bundle)
            with SqlStore.open(self.home / f"replay-{model.hash[:12]}.db") as store:
                replayed = daemon.replay(
                    market,
                    model,
                    start=end - REPLAY_DAYS * DAY_US,
                    end=end,
                    store=store,
                    symbol=self.symbol,
                    progress=lambda done, total: bars.report("cycles", done, total),
                )
            say(
                f"{replayed.cycles:,} cycles through the daemon, {replayed.trades} trades, "
                f"{replayed.differences} differences from the backtest"
            )
        return replayed

    def _gate(self, bundle: Path, replayed: "ReplayResult") -> "Assessment":
        with self._stage(7, "promotion gate") as say:
            from acmf_core.config import PathsConfig
            from acmf_core.store.mlflow_registry import MlflowRegistry
            from acmf_core.store.registry import DirectoryRegistry
            from production import promote

            paths = PathsConfig(state=str(self.home))
            registry = MlflowRegistry.open(paths)
            assessment = promote.assess(bundle, registry, replay=replayed)
            promotion = promote.promote(
                bundle,
                registry,
                override_reason=None if assessment.passed else OVERRIDE,
                assessment=assessment,
                export=DirectoryRegistry(self.home / "models"),
            )
            verdict = "promoted" if assessment.passed else "refused; runs in paper by override"
            say(f"version {promotion.version}: {verdict}")
        return assessment

    def _report(
        self,
        result: "WalkForwardResult",
        evidence: dict[str, Any],
        assessment: "Assessment",
        replayed: "ReplayResult",
    ) -> Path:
        with self._stage(8, "report") as say:
            from backtests import report

            page = report.write(
                result,
                evidence,
                list(assessment.checks),
                self.reports / "report.html",
                replay=replayed,
                timings=dict(self.seconds),
                alternatives=assessment.alternatives,
                override_reason="" if assessment.passed else OVERRIDE,
                bundle=assessment.hash,
            )
            run = self._log_run(evidence, assessment, replayed, Path(page))
            say(f"{page}; MLflow run {run[:8]} in {self.home}/mlflow.db")
        return Path(page)

    def _log_run(
        self, evidence: dict[str, Any], assessment: "Assessment", replayed: "ReplayResult", page: Path
    ) -> str:
        """The run's settings, figures and page, in the demo's own MLflow."""
        from acmf_core.config import PathsConfig
        from acmf_core.store.mlflow_registry import MlflowRegistry

        own = evidence["by_calibration"][evidence["calibration"]]
        figures = {f"record_{name}": value for name, value in own["performance"].items()}
        figures |= {f"log_loss_{name}": scores["log_loss"] for name, scores in evidence["losses"].items()}
        figures |= {f"seconds_{name.replace(' ', '_')}": value for name, value in self.seconds.items()}
        figures |= {"replay_differences": replayed.differences, "promoted": float(assessment.passed)}
        return MlflowRegistry.open(PathsConfig(state=str(self.home))).log_run(
            "demo",
            params={"symbol": self.symbol, "train": _TRAIN.fingerprint, "bundle": assessment.hash},
            metrics=figures,
            artifacts={"report": page},
            tags={"synthetic": str(self._synthetic).lower()},
        )

    # --- small things ------------------------------------------------------------------------------

    @property
    def _synthetic(self) -> bool:
        from acmf_core.collect.synthetic import is_synthetic

        return is_synthetic(self.symbol)

    def _base(self) -> "TradeParams":
        from acmf_core.trading import TradeParams

        return TradeParams().with_rules(self.config.market.rules)

    # --- starting, going on, ending ---------------------------------------------------------------

    def _begin(self, candles: Path | None, funding: Path | None, synthetic: bool) -> None:
        """Go on with an interrupted journey over the same input; otherwise start from nothing."""
        names = {"candles": candles, "funding": funding}
        asked: dict[str, Any] = {
            name: file_hash(file) if file is not None and file.is_file() else str(file)
            for name, file in names.items()
        }
        asked |= {"synthetic": synthetic, "symbol": self.config.market.symbol, "train": _TRAIN.fingerprint}
        mark = {"input": fingerprint(asked), "finished": False}
        known = _read_mark(self.home / MARK)
        if known != mark:
            if self.home.exists() and known is None and any(self.home.iterdir()):
                raise DataError(f"{self.home} holds files that are not a demo's", "move them away")
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.mkdir(parents=True)
            (self.home / MARK).write_text(json.dumps(mark))
        elif not self.quiet:
            click.echo("going on where the last run was interrupted")
        self.reports.mkdir(parents=True, exist_ok=True)

    def _finish(self, summary: dict[str, Any]) -> None:
        mark = _read_mark(self.home / MARK) or {}
        (self.home / MARK).write_text(json.dumps(mark | {"finished": True}))
        if not self.quiet:
            show(summary)

    def _bars(self) -> ProgressBars:
        return ProgressBars(quiet=self.quiet)

    @contextmanager
    def _stage(self, number: int, name: str) -> Iterator[Say]:
        """Announce a stage, collect what it has to say, and print that with the time it took."""
        said: list[str] = []
        if not self.quiet:
            click.echo(f"{number}/{STAGES} {name} ...")
        begun = time.perf_counter()
        yield said.append
        self.seconds[name] = round(time.perf_counter() - begun, 1)
        if not self.quiet:
            for line in said:
                click.echo(textwrap.indent(textwrap.fill(line, 100), "      "))
            click.echo(f"      {self.seconds[name]:.1f} s")

    def _summary(
        self,
        market: "MarketData",
        evidence: dict[str, Any],
        assessment: "Assessment",
        replayed: "ReplayResult",
        page: Path,
    ) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "synthetic": self._synthetic,
            "bars": len(market),
            "first_bar": f"{market.candles.index[0]:%Y-%m-%d %H:%M}",
            "last_bar": f"{market.candles.index[-1]:%Y-%m-%d %H:%M}",
            "calibrations": {
                name: {
                    key: found["performance"][key]
                    for key in ("trades", "total_return", "max_drawdown", "sharpe_daily_annualised")
                }
                for name, found in evidence["by_calibration"].items()
            },
            "log_loss": {name: scores["log_loss"] for name, scores in evidence["losses"].items()},
            "gate": {
                "promoted": assessment.passed,
                "summary": assessment.summary,
                "checks": [
                    {"name": c.name, "verdict": c.verdict, "figure": c.figure, "bound": c.bound}
                    for c in assessment.checks
                ],
            },
            "replay": {
                "cycles": replayed.cycles,
                "trades": replayed.trades,
                "differences": replayed.differences,
            },
            "bundle": assessment.hash,
            "seconds": self.seconds,
            "report": str(page),
        }


_TRAIN = TrainConfig.quick(calibration="temperature")
_TUNE = TuneConfig(trials=25)


def _read_mark(file: Path) -> dict[str, Any] | None:
    try:
        mark: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return mark
