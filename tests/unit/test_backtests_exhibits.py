"""What notebooks show, on results made by hand."""

import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from made_records import made_holdout, made_result

from acmf_core.domain import Check
from backtests import canvas, evidence, exhibits, findings
from production import gate

ROOT = Path(__file__).resolve().parents[2]


@cache
def traded():
    """A record with trades."""
    return made_result(days=60, skill=0.4)


@cache
def still():
    """A record whose fully calibrated predictions never trade."""
    return made_result(days=60, calibration="directional")


@cache
def gathered(name):
    found = evidence.gather({"traded": traded, "still": still}[name](), symbol="BTCUSDT")
    return found, gate.judge(found)


def size(picture):
    data, metadata = picture._repr_png_()
    assert data.startswith(b"\x89PNG")
    return metadata


@pytest.mark.parametrize("result", [traded, still])
def test_every_picture_and_table_of_a_record_draws_with_and_without_trades(result):
    for picture in (exhibits.equity(result()), exhibits.gate_funnel(result())):
        assert size(picture)["width"] == 920
    assert exhibits.fold_table(result()).data.shape == (3, 9)
    assert "nan" not in exhibits.portfolio_stats(result()).to_html().lower()


def test_the_funnel_says_how_many_bars_pass_all_gates():
    assert re.search(r"[\d,]+ of 5,760 bars pass all twelve gates", repr(exhibits.gate_funnel(traded())))


def test_pictures_of_a_training_draw():
    labels = traded().labels
    assert "neutral" in repr(exhibits.label_balance(labels))
    epochs = [{"epoch": i, "train_loss": 1 - i / 10, "held_out_loss": 1 + abs(i - 2)} for i in (1, 2, 3)]
    curve = exhibits.learning_curve({"encoder_epochs": epochs})
    assert curve.figure.axes[0].get_title(loc="left") == "Encoder: epoch 2 is kept (ring)"
    assert size(exhibits.calibration_curve(traded().by_calibration, labels, 8))["height"] == 390
    gain = exhibits.feature_gain([fold.model for fold in traded().folds])
    assert "atr_14 55.4" in repr(gain)


def test_the_check_table_shows_figure_and_bound_and_counts_what_was_not_computed():
    checks = [
        Check("one", True, "3 >= 2", ">= 2"),
        Check("two", None, "", "<= 1"),
        Check("three", False, "-1", "0"),
    ]
    table = exhibits.check_table(checks)
    assert list(table.data["verdict"]) == ["passed", "not computed", "failed"]
    assert table.caption == "1 passed, 1 failed, 1 not computed"


def test_losses_put_the_best_first_and_mark_our_own():
    scores = pd.DataFrame(gathered("traded")[0]["losses"]).T
    table = exhibits.losses(scores, "temperature")
    assert table.data["log-loss, nats"].is_monotonic_increasing
    assert table.to_html().count("font-weight: 600") >= 1


def test_the_conclusions_of_a_record_say_what_was_computed():
    found, checks = gathered("traded")
    text = repr(findings.record_conclusions(found, checks))
    losses = found["losses"]
    assert f"{losses['temperature']['log_loss']:.4f} against {losses['tabular_only']['log_loss']:.4f}" in text
    assert f"{found['trades']:,} trades" in text
    figures = findings.record_figures(found, checks)
    assert figures["trades"] == found["trades"] == len(traded().simulation.trades)
    assert figures["checks_passed"] < figures["checks"] == 11


def test_a_record_without_trades_says_so_and_is_refused():
    found, checks = gathered("still")
    assert found["trades"] == 0
    text = repr(findings.record_conclusions(found, checks))
    assert "no trade in 60 days" in text
    assert "The gate refuses it" in text
    assert findings.record_figures(found, checks)["total_return"] == 0.0


class Trained:
    """The part of a Candidate that the conclusions read."""

    class fitted:
        config = still().config.train

        @staticmethod
        def summary():
            return {"direction": 0.04}


def test_a_training_that_never_trades_says_so():
    held = made_holdout(still(), days=20)
    text = repr(findings.training_conclusions(Trained, held_with_baselines(held)))
    assert "this model, fully calibrated: no trade in 20 days" in text.replace("This", "this")
    assert "Calibration kept 4\N{NO-BREAK SPACE}% of its opinion" in text
    assert findings.training_figures(Trained, held_with_baselines(held))["trades_out_of_sample"] == 0


def held_with_baselines(held):
    """The same with two rivals' losses."""
    rivals = held.losses.loc[["temperature", "temperature"]].set_axis(["tabular_only", "class_prior"])
    object.__setattr__(held, "losses", pd.concat([held.losses.loc[["directional", "temperature"]], rivals]))
    return held


def test_the_portfolio_of_a_record_that_grew_a_hundredfold_is_still_executed_in_full():
    result = made_result(days=90, skill=1.0)
    end = result.portfolio().value().iloc[-1]
    assert end > 100 * result.config.equity


def test_notebook_and_report_share_their_colours():
    page = (ROOT / "backtests" / "templates" / "page.html").read_text()
    light = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", page[: page.index("prefers-color-scheme")]))
    assert {name: light[name] for name in canvas.PALETTE} == canvas.PALETTE
