"""The demo: how it divides days, what it refuses, when it goes on and when it starts anew."""

import json

import pytest
from archive_server import ArchiveServer

from acmf_cli import demo_bars
from acmf_cli.demo_bars import BarSource
from acmf_cli.demo_table import show
from acmf_cli.journey import MARK, WARMUP_DAYS, Journey, Plan
from acmf_core.collect.history import load_market
from acmf_core.collect.synthetic import synthetic_market
from acmf_core.config import Config
from acmf_core.errors import DataError, VenueUnavailable
from acmf_core.execution.clock import SystemClock
from acmf_core.lake import Lake


def journey(folder, **changes):
    return Journey(Config(**changes), folder / "home", folder / "reports", quiet=True)


@pytest.mark.parametrize("days", [348, 400, 500, 600, 731, 3000])
def test_a_plan_fits_into_the_days_there_are_and_has_at_least_three_folds(days):
    plan = Plan.of(days)
    assert plan.folds >= 3
    assert WARMUP_DAYS + plan.days < days


def test_more_days_never_give_less_out_of_sample():
    tested = [plan.folds * plan.test_days for plan in map(Plan.of, range(348, 900, 7))]
    assert tested == sorted(tested)


def test_too_few_days_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match=r"347 days of bars are too few.* needs 348"):
        Plan.of(347)


def test_an_interrupted_demo_goes_on_and_a_finished_one_starts_afresh(tmp_path):
    first = journey(tmp_path)
    first._begin(None, None, True)
    half_done = first.home / "walk_forward"
    half_done.mkdir()
    journey(tmp_path)._begin(None, None, True)
    assert half_done.exists()
    mark = first.home / MARK
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"finished": True}))
    journey(tmp_path)._begin(None, None, True)
    assert not half_done.exists()


def test_other_bars_start_afresh(tmp_path):
    bars = tmp_path / "bars.csv"
    bars.write_text("one")
    journey(tmp_path)._begin(bars, None, False)
    (tmp_path / "home" / "walk_forward").mkdir()
    bars.write_text("two")
    journey(tmp_path)._begin(bars, None, False)
    assert not (tmp_path / "home" / "walk_forward").exists()


def test_a_folder_of_somebody_else_is_never_wiped(tmp_path):
    theirs = tmp_path / "home" / "precious.txt"
    theirs.parent.mkdir()
    theirs.write_text("keep me")
    with pytest.raises(DataError, match="not a demo's"):
        journey(tmp_path)._begin(None, None, True)
    assert theirs.read_text() == "keep me"


def test_without_a_network_the_demo_says_so_and_offers_what_works_without(tmp_path, monkeypatch):
    monkeypatch.setattr("acmf_core.collect.archive.client.BACKOFF_S", 0.0)
    unreachable = {"archive_base_url": "http://127.0.0.1:9", "archive_timeout_s": 1.0}
    with pytest.raises(VenueUnavailable, match=r"CANDLES=.*SYNTHETIC=1"):
        journey(tmp_path, sources=unreachable).run(candles=None, funding=None, synthetic=False)


def test_without_a_file_the_bars_come_from_the_archive_up_to_yesterday(tmp_path, monkeypatch):
    made = synthetic_market(40 * 96, seed=5, start="2024-01-10")
    bars = made.candles.reset_index()
    now = int(bars["open_time"].iloc[-1].timestamp() * 1e6) + 3_600_000_000
    monkeypatch.setattr(SystemClock, "now", lambda _self: now)
    monkeypatch.setattr(demo_bars, "ARCHIVE_DAYS", 40)
    said = []
    with ArchiveServer(bars, made.funding) as server:
        config = Config(sources={"archive_base_url": server.url})
        source = BarSource(config, Lake(tmp_path / "lake"), tmp_path, quiet=True)
        symbol = source.fill(candles=None, funding=None, synthetic=False, say=said.append)
    market = load_market(Lake(tmp_path / "lake"), symbol)
    assert symbol == "BTCUSDT"
    assert market.candles["close"].tolist() == made.candles["close"].tolist()
    assert len(market.funding) > 100


def test_the_final_table_says_no_trades_refused_and_synthetic(capsys):
    show(
        {
            "symbol": "SYNTHETIC-BTCUSDT",
            "synthetic": True,
            "bars": 48_000,
            "first_bar": "2020-01-01 00:00",
            "last_bar": "2021-05-14 23:45",
            "calibrations": {
                "directional": {"trades": 0},
                "temperature": {
                    "trades": 3,
                    "total_return": -0.0025,
                    "max_drawdown": 0.01,
                    "sharpe_daily_annualised": None,
                },
            },
            "log_loss": {"temperature": 1.0121, "tabular_only": 1.0107},
            "gate": {"promoted": False, "summary": "8 of 11 checks failed: costs and delay"},
            "replay": {"cycles": 2880, "trades": 7, "differences": 0},
            "seconds": {"history": 1.9, "total": 288.0},
            "report": "reports/demo/report.html",
        }
    )
    text = capsys.readouterr().out
    for words in ("SYNTHETIC MARKET", "no trades", "REFUSED", "costs and delay", "0 differences", "Sharpe -"):
        assert words in text
