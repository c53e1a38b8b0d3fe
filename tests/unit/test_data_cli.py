"""`acmf data`: what a person reads and what a script reads."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from lake_rows import bars

from acmf_cli.main import main

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`acmf data ...` in an empty folder must succeed; its standard output."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("ACMF__") or n == "LAKE_URI"]:
        monkeypatch.delenv(name)
    bars(100).to_csv("bars.csv", index=False)
    paid = pd.DataFrame({"fundingTime": bars(100)["open_time"].iloc[::32], "fundingRate": 0.0001})
    paid.to_csv("funding.csv", index=False)

    def command(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["data", *arguments])
        captured = capsys.readouterr()
        assert left.value.code == 0, captured.err
        return captured.out

    return command


def test_an_import_shows_what_it_guessed_and_what_it_changed(run: Run) -> None:
    Path("odd.csv").write_text(
        Path("bars.csv").read_text().replace("open_time", "Timestamp").replace("volume", "Vol")
    )
    out = run("import", "odd.csv", "--allow-short", "--symbol", "eth/usdt")
    assert "odd.csv: 100 rows of candles for ETHUSDT, 2024-01-01 00:00 to 2024-01-02 00:45 UTC" in out
    assert "columns: Timestamp -> open_time, Vol -> volume" in out
    assert "data_lake/store: 100 new, 0 unchanged (version 1)" in out
    assert "nothing new, 100 rows were there already (version 1)" in run(
        "import", "odd.csv", "--allow-short", "--symbol", "ETHUSDT"
    )


def test_json_is_one_object_and_nothing_else(run: Run) -> None:
    imported = json.loads(run("import", "bars.csv", "--allow-short", "--json"))
    assert (imported["inserted"], imported["version"], imported["mapping"]["close"]) == (100, 1, "close")
    paid = json.loads(run("import", "funding.csv", "--json"))
    assert (paid["table"], paid["inserted"]) == ("funding", 4)
    status = json.loads(run("status", "--json"))
    assert status["versions"] == {"candles": 1, "funding": 1}
    assert status["tables"][0]["first"] == "2024-01-01T00:00:00Z"
    checked = json.loads(run("check", "--json"))
    assert checked["ok"] is True
    assert [check["interval"] for check in checked["checks"]] == ["15m", "funding"]


def test_status_of_an_empty_lake_says_how_to_fill_it(run: Run) -> None:
    assert "is empty; acmf data import FILE or acmf data pull fills it" in run("status")
    assert json.loads(run("status", "--json")) == {"lake": "data_lake/store", "versions": {}, "tables": []}


def test_status_and_check_are_readable(run: Run) -> None:
    run("import", "bars.csv", "--allow-short")
    assert "candles  BTCUSDT  15m    100  2024-01-01 00:00  2024-01-02 00:45" in run("status")
    assert "BTCUSDT 15m: 100 rows, 2024-01-01 00:00 to 2024-01-02 00:45 UTC: ok" in run("check")
    assert "BTCUSDT 15m: 48 rows" in run("check", "--from", "2024-01-01 12:00", "--to", "2024-01-02")


def test_an_import_bridges_outages_when_told(run: Run) -> None:
    bars(100).drop(index=[40, 41, 42]).to_csv("outage.csv", index=False)
    out = run("import", "outage.csv", "--allow-short", "--bridge")
    assert "bridged: 3 flat bars stand in for outages" in out
    assert "bridged (no venue's bars)" in run("check")
    assert "3 filled in, 97 unchanged" in run(
        "import", "bars.csv", "--allow-short"
    )  # the real bars came after all
    assert "bridged" not in run("check")


def test_bars_of_the_future_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    start = pd.Timestamp.now(tz="UTC").floor("D") - pd.Timedelta(days=1)
    bars(300, start).to_csv("bars.csv", index=False)
    with pytest.raises(SystemExit) as left:
        main(["data", "import", "bars.csv", "--allow-short"])
    assert left.value.code == 2
    assert "lie in the future, the first at" in capsys.readouterr().err
    assert not Path("data_lake").exists()
