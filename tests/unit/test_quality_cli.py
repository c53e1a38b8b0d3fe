"""`acmf data check`: exit code 1 for errors only, one page a symbol, one JSON object."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_quality_findings import clean

from acmf_cli.main import main
from acmf_core.lake import Lake
from acmf_core.lake.resample import resample
from acmf_core.lake.tables import candle_rows

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """`acmf data check ...` over a lake of two symbols, of which ETHUSDT has a hole: code, output, errors."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("ACMF__") or n == "LAKE_URI"]:
        monkeypatch.delenv(name)
    lake, bars = Lake("data_lake/store"), clean(600)
    hours = candle_rows(resample(bars, "1h"), "BTCUSDT", "1h")
    lake.merge("candles", bars)
    lake.merge("candles", hours.drop(index=[7]))
    lake.merge("candles", bars.drop(index=[50, 51]).assign(symbol="ETHUSDT"))

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["data", "check", *arguments])
        captured = capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err

    return command


def test_a_missing_15m_bar_is_exit_code_1_and_a_missing_hour_is_not(check: Check) -> None:
    code, out, _ = check("--symbol", "BTCUSDT")
    assert code == 0
    assert "BTCUSDT 15m: 600 rows, 2024-01-01 00:00 to 2024-01-07 05:45 UTC: ok" in out
    assert "BTCUSDT 1h made of 15m: 149 compared, all agree" in out
    assert "warning       1  missing bars" in out
    code, out, _ = check("--symbol", "ethusdt")
    assert code == 1
    assert "ETHUSDT 15m: 598 rows" in out
    assert "NOT OK" in out
    assert "acmf data check --bridge" in out


def test_json_names_findings_and_agreement(check: Check) -> None:
    code, out, _ = check("--json")
    told = json.loads(out)
    assert (code, told["ok"], told["reports"], told["bridged"]) == (1, False, [], 0)
    assert [(c["symbol"], c["interval"], c["ok"]) for c in told["checks"]] == [
        ("BTCUSDT", "15m", True),
        ("BTCUSDT", "1h", True),
        ("ETHUSDT", "15m", False),
    ]
    assert told["checks"][2]["findings"][0] == {
        "finding": "missing bars",
        "severity": "error",
        "count": 2,
        "first": "2024-01-01T12:30:00Z",
        "detail": "in 1 place(s), the longest 2",
    }
    assert told["agreement"] == [
        {"symbol": "BTCUSDT", "interval": "1h", "source": "15m", "compared": 149, "differ": 0}
    ]


def test_a_bridge_mends_what_was_an_error(check: Check) -> None:
    code, out, _ = check("--symbol", "ETHUSDT", "--bridge", "--json")
    told = json.loads(out)
    assert (code, told["bridged"]) == (0, 2)
    assert [f["finding"] for f in told["checks"][0]["findings"]] == ["bridged (no venue's bars)"]


def test_a_page_is_written_for_each_symbol_even_where_the_answer_is_no(check: Check) -> None:
    code, out, _ = check("--report")
    assert code == 1
    written = sorted(path.name for path in Path("reports/data").iterdir())
    assert written == ["BTCUSDT.html", "ETHUSDT.html"]
    assert "report: reports/data/ETHUSDT.html" in out
    assert "must not be read" in Path("reports/data/ETHUSDT.html").read_text()


def test_a_page_goes_where_it_is_told_for_one_symbol_only(check: Check) -> None:
    code, out, _ = check("--symbol", "BTCUSDT", "--report", "mine/page.html", "--json")
    assert (code, json.loads(out)["reports"]) == (0, ["mine/page.html"])
    assert "BTCUSDT is whole" in Path("mine/page.html").read_text()
    code, out, err = check("--report", "mine/both.html")
    assert (code, out) == (2, "")
    assert "one file cannot hold 2 symbols; name one with --symbol" in err
    assert not Path("mine/both.html").exists()


def test_a_symbol_cannot_choose_the_folder_of_its_page(check: Check) -> None:
    """Rows may come from anywhere, their names too."""
    Lake("data_lake/store").merge("candles", clean(100).assign(symbol="../../<b>X"))
    check("--report")
    assert "_______b_X.html" in [path.name for path in Path("reports/data").iterdir()]
    assert "<b>X" not in Path("reports/data/_______b_X.html").read_text()


@pytest.mark.parametrize("bars", [1, 2, 30])
def test_a_handful_of_bars_has_a_page_too(check: Check, bars: int) -> None:
    Lake("data_lake/store").merge("candles", clean(bars).assign(symbol="NEWUSDT"))
    code, _, _ = check("--symbol", "NEWUSDT", "--report", "new.html")
    assert code == 0
    assert "NEWUSDT is whole" in Path("new.html").read_text()


def test_a_window_without_bars_is_refused(check: Check) -> None:
    code, out, err = check("--symbol", "BTCUSDT", "--from", "2025-01-01")
    assert (code, out) == (2, "")
    assert "has no bars of BTCUSDT in that window" in err
    code, _, err = check("--symbol", "XRPUSDT")
    assert code == 2
    assert "has no XRPUSDT" in err


def test_bars_are_checked_day_by_day_as_the_window_says(check: Check) -> None:
    code, out, _ = check("--symbol", "ETHUSDT", "--from", "2024-01-02", "--to", "2024-01-03")
    assert code == 0
    assert "ETHUSDT 15m: 96 rows, 2024-01-02 00:00 to 2024-01-02 23:45 UTC: ok" in out


def test_years_of_minutes_are_read_in_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a day say the same as the whole, and no read is larger than a window."""
    from acmf_core.lake import audit as module

    lake, bars = Lake(tmp_path / "lake"), clean(2_880).drop(index=[95, 96, 1_000])
    lake.merge("candles", bars)
    lake.merge("candles", candle_rows(resample(bars, "4h"), "BTCUSDT", "4h"))
    whole = module.audit(lake, "BTCUSDT")
    sizes: list[int] = []
    read = Lake.read

    def watched(self: Lake, *arguments: object, **options: object) -> pd.DataFrame:
        rows: pd.DataFrame = read(self, *arguments, **options)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(Lake, "read", watched)
    monkeypatch.setattr(module, "WINDOW_BARS", 96)
    parts = module.audit(lake, "BTCUSDT")
    assert max(sizes) <= 96
    assert len(sizes) > 60
    for one, other in zip(whole.qualities, parts.qualities, strict=True):
        pd.testing.assert_frame_equal(one.findings, other.findings)
    assert whole.agreements[0].compared == parts.agreements[0].compared == 177
    pd.testing.assert_frame_equal(whole.agreements[0].days, parts.agreements[0].days)
