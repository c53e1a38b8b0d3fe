"""Bad input at the command line: one line with cause and mend, the right exit code, nothing half-written."""

import gzip
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_rows import bars

from acmf_cli.main import main
from acmf_core.collect.files.importer import read_candles
from acmf_core.errors import DataError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`acmf data ...` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("ACMF__") or n == "LAKE_URI"]:
        monkeypatch.delenv(name)

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, captured.out, captured.err

    return command


def csv(name: str, frame: pd.DataFrame) -> Path:
    frame.to_csv(name, index=False)
    return Path(name)


def raw(name: str, content: bytes) -> Path:
    Path(name).write_bytes(content)
    return Path(name)


def changed(row: int, column: str, value: object) -> pd.DataFrame:
    frame = bars(100)
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


def folder(name: str) -> Path:
    Path(name).mkdir()
    csv(f"{name}/inside.csv", bars(3))
    return Path(name)


def _doubled_column() -> Path:
    columns = pa.table({name: bars(100)[name].to_numpy() for name in bars(1)})
    pq.write_table(columns.append_column("close", columns["open"]), "doubled.parquet")
    return Path("doubled.parquet")


def _cut_parquet() -> Path:
    bars(100).to_parquet("whole.parquet")
    return raw("cut.parquet", Path("whole.parquet").read_bytes()[:-200])


BAD: dict[str, tuple[Callable[[], Path], str]] = {
    "a missing column": (
        lambda: csv("b.csv", bars(100).drop(columns="close")),
        "b.csv has no column for close",
    ),
    "times in a wrong unit": (
        lambda: csv("b.csv", bars(100).assign(open_time=range(100))),
        "b.csv: row 1: 0 is no epoch time in s, ms, us or ns",
    ),
    "unsorted rows": (lambda: csv("b.csv", bars(100).iloc[::-1]), "b.csv is not in time order: row 2"),
    "doubled rows": (
        lambda: csv("b.csv", pd.concat([bars(100), bars(1)]).sort_values("open_time")),
        "row(s) twice",
    ),
    "high below low": (
        lambda: csv("b.csv", changed(7, "high", 5)),
        "2024-01-01 01:45 UTC has high below low",
    ),
    "a gap": (lambda: csv("b.csv", bars(100).drop(index=50)), "1 bar(s) missing in 1 place(s)"),
    "few bars": (lambda: csv("b.csv", bars(50)), "holds 50 bars, one decision of a model needs 13,056"),
    "an empty file": (lambda: raw("b.csv", b""), "b.csv is empty"),
    "an empty Parquet file": (lambda: raw("b.parquet", b""), "b.parquet is empty"),
    "a header only": (lambda: csv("b.csv", bars(0)), "b.csv has columns but no rows"),
    "a directory": (lambda: folder("many"), "many is a directory; name a file in it: inside.csv"),
    "no file": (lambda: Path("nowhere.csv"), "there is no file nowhere.csv"),
    "Parquet by name only": (lambda: raw("b.parquet", b"hello"), "b.parquet is not a Parquet file"),
    "a cut Parquet file": (_cut_parquet, "cut.parquet is a damaged Parquet file"),
    "a column twice": (_doubled_column, "doubled.parquet has two columns named close; drop one of them"),
    "a cut gzip file": (lambda: raw("b.csv.gz", gzip.compress(b"open_time," * 900)[:-9]), "is not a table"),
    "a broken zip": (lambda: raw("b.zip", b"PK\x03\x04 and no more"), "is not a table"),
    "bytes": (lambda: raw("b.csv", bytes(range(256)) * 20), "b.csv is neither text nor Parquet"),
    "binary with NUL": (lambda: raw("b.csv", b"abc\0def\n" * 20), "b.csv is neither text nor Parquet"),
    "prose": (
        lambda: raw("b.csv", b"Dear Sir,\nplease find\nenclosed\n"),
        "b.csv has no column for open_time",
    ),
    "ragged lines": (lambda: raw("b.csv", b"open_time,open\n1,2\n1,2,3,4,5\n"), "b.csv"),
    "numbers without a header": (lambda: raw("b.csv", b"1,2,3\n4,5,6\n"), "no header row and 3 columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_exit_2_and_writes_nothing(run: Run, case: str) -> None:
    make, said = BAD[case]
    code, out, err = run("import", make())
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert out == ""
    assert not Path("data_lake").exists()


def test_the_real_file_with_outages_is_refused_until_a_person_decides(run: Run, real_data: Path) -> None:
    spot = real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet"
    code, _, err = run("import", spot, "--allow-short")
    assert code == 2
    assert (
        "23 bar(s) missing in 3 place(s), the first is 2020-11-30 06:00 UTC; acmf data import --bridge" in err
    )
    assert run("import", spot, "--allow-short", "--allow-gaps")[0] == 0
    code, out, _ = run("check")
    assert code == 1
    assert "missing bars" in out
    assert run("check", "--bridge")[0] == 0
    assert run("check")[0] == 0


@pytest.mark.parametrize("place", ["a_file/lake", "/proc/acmf/lake"])
def test_a_lake_that_cannot_be_written_is_exit_3_and_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    Path("a_file").write_text("not a folder")
    monkeypatch.setenv("LAKE_URI", place)
    code, _, err = run("import", csv("b.csv", bars(100)), "--allow-short")
    assert code == 3
    assert err.count("\n") == 1
    assert "check the path, its permissions and the free space" in err
    assert Path("a_file").read_text() == "not a folder"


def test_no_write_permission_at_the_lake_is_exit_3_even_for_root(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    if subprocess.run(["chattr", "+i", str(locked)], check=False, capture_output=True).returncode:
        locked.chmod(0o500)
        if os.access(locked, os.W_OK):
            pytest.skip("this user may write everywhere and the file system knows no immutable folders")
    try:
        monkeypatch.setenv("LAKE_URI", str(locked / "lake"))
        code, _, err = run("import", csv("b.csv", bars(100)), "--allow-short")
    finally:
        subprocess.run(["chattr", "-i", str(locked)], check=False, capture_output=True)
        locked.chmod(0o700)
    assert code == 3
    assert str(locked) in err
    assert err.count("\n") == 1
    assert list(locked.iterdir()) == []


def test_a_damaged_lake_is_exit_3_and_one_line(run: Run) -> None:
    run("import", csv("b.csv", bars(100)), "--allow-short")
    for part in Path("data_lake/store/candles").rglob("*.parquet"):
        part.write_bytes(b"PAR1 no more PAR1")
    code, _, err = run("check")
    assert code == 3
    assert err.count("\n") == 1


def test_conflicting_bars_are_kept_out_and_the_exit_code_says_so(run: Run) -> None:
    run("import", csv("b.csv", bars(100)), "--allow-short")
    other = changed(7, "volume", 11.0)
    code, out, err = run("import", csv("c.csv", other), "--allow-short")
    assert code == 2
    assert "nothing new, 99 rows were there already" in out
    assert "volume 10.0 is stored, 11.0 was offered; look at the source; --accept-corrections" in err
    code, out, _ = run("import", Path("c.csv"), "--allow-short", "--accept-corrections")
    assert code == 0
    assert "1 corrected, 99 unchanged" in out


def test_a_file_that_leaves_a_gap_to_the_stored_bars_is_refused(run: Run) -> None:
    run("import", csv("b.csv", bars(100)), "--allow-short")
    later = bars(50, bars(1)["open_time"].iloc[0] + pd.Timedelta(days=2))
    code, _, err = run("import", csv("later.csv", later), "--allow-short")
    assert code == 2
    assert "later.csv and the stored bars: 92 bar(s) missing in 1 place(s)" in err
    assert run("import", Path("later.csv"), "--allow-short", "--allow-gaps")[0] == 0


def test_wrong_usage_is_exit_2(run: Run) -> None:
    assert run("import")[0] == 2
    assert run("import", "x.csv", "--interval", "7m")[0] == 2
    assert run("check")[0] == 2
    assert "has no candles; acmf data import FILE" in run("check")[2]
    assert run("pull")[0] == 2
    code, _, err = run("pull", "--from", "2024-01-02", "--to", "2024-01-02")
    assert code == 2
    assert "--from 2024-01-02 is not before 2024-01-02" in err
    assert '"soon" is not a date' in run("pull", "--from", "soon")[2]


def test_no_network_is_exit_3_and_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACMF__SOURCES__ARCHIVE_BASE_URL", '"http://127.0.0.1:9"')
    monkeypatch.setattr("acmf_core.collect.archive.client.BACKOFF_S", 0.001)
    pull = ("pull", "--from", "2024-01-01", "--to", "2024-02-01", "--only", "candles", "--no-tail")
    code, out, err = run(*pull)
    assert code == 3
    assert "the archive at http://127.0.0.1:9 failed 4 times" in err
    assert err.count("\n") == 1
    assert out.count("FAILED") == 4  # every timeframe says so
    assert not Path("data_lake").exists()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<!DOCTYPE html>\n<p>open,close</p>\n", "a web page or XML"),
        ('{"open": 1}\n', "JSON"),
        ("[[1, 2]]\n", "JSON"),
    ],
)
def test_what_a_browser_or_an_api_saved_is_named(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "bars.csv").write_text(text)
    with pytest.raises(DataError, match=f"bars.csv is {kind}, not a table"):
        read_candles(tmp_path / "bars.csv")
