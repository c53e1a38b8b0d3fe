"""What `acmf train`, `tune` and `backtest` say, for people and for programs."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from backtests.candidate import Candidate
    from backtests.walk_forward import WalkForwardResult


def candidate_figures(candidate: "Candidate") -> dict[str, Any]:
    """Of one training, as plain values."""
    study, model = candidate.study, candidate.fitted.summary()
    return {
        "params": study.params.to_dict(),
        "tuned": study.tuned,
        "tuning": study.note,
        "trials": len(study.trials),
        "score": study.best_value,
        "losses_on_calibration_block": model["losses_on_c"],
        "seconds": model["seconds"],
    }


def show_candidate(candidate: "Candidate") -> None:
    """Losses, what tuning found, and where it left the defaults."""
    from acmf_core.trading import TradeParams

    model = candidate.fitted.summary()
    click.echo(f"trained {model['profile']} on {model['days']:.0f} days in {model['seconds']['total']:.0f} s")
    click.echo("log-loss on the calibration block:")
    for name, loss in model["losses_on_c"].items():
        click.echo(f"  {name:18} {loss:.4f}")
    click.echo(f"tuning: {candidate.study.note}")
    for name, (ours, default) in candidate.params.diff(TradeParams()).items():
        click.echo(f"  {name:18} {ours}  (default {default})")


def backtest_figures(result: "WalkForwardResult") -> dict[str, Any]:
    """Of one walk-forward, as plain values."""
    traded = {**result.simulations_by_calibration, "tabular_only": result.tabular_simulation}
    return {
        "calibration": result.config.train.calibration,
        "synthetic": result.synthetic,
        "bars": result.bars.n,
        "metrics": {name: simulation.metrics() for name, simulation in traded.items()},
        "trials": result.trials_total,
        "evaluations": result.ledger_out_of_sample,
        "folds": [
            {
                "test_start": fold.test_start.isoformat(),
                "test_end": fold.test_end.isoformat(),
                "tuned": fold.tuned,
                "note": fold.note,
                "metrics": fold.metrics,
                "log_loss": fold.losses["log_loss"].to_dict(),
                "seconds": fold.seconds,
            }
            for fold in result.folds
        ],
    }


def show_backtest(result: "WalkForwardResult") -> None:
    """A line a fold, a line a way of trading, and how much was tried."""
    figures = backtest_figures(result)
    click.echo(f"{'fold':4}  {'test block':24}  {'trades':>6}  {'net':>10}  {'log-loss':>8}  {'prior':>8}")
    for fold in result.folds:
        loss = fold.losses["log_loss"]
        block = f"{fold.test_start:%Y-%m-%d} {fold.test_end:%Y-%m-%d}"
        click.echo(
            f"{fold.index + 1:4}  {block:24}  {fold.metrics['trades']:6.0f}  {fold.metrics['net']:10.2f}  "
            f"{loss[result.config.train.calibration]:8.4f}  {loss['class_prior']:8.4f}"
        )
        click.echo(f"      {fold.note}")
    for name, metrics in figures["metrics"].items():
        click.echo(
            f"{name:12}  {metrics['trades']:5.0f} trades  net {metrics['net']:10.2f}  "
            f"Sharpe {metrics['sharpe_daily_annualised']:6.2f}  drawdown {metrics['max_drawdown']:6.1%}"
        )
    click.echo(
        f"{figures['trials']} tuning trials, {figures['evaluations']} evaluations of this test window "
        "so far (both deflate)"
    )
