"""The scale benchmark in small: bars whole and repeatable, joins that agree, memory that does not grow."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from acmf_core.collect.synthetic import is_synthetic
from acmf_core.lake import Lake
from benchmarks.lake_scale import ORDER, main, measure
from benchmarks.scale_steps import Plan
from benchmarks.synthetic_archive import SyntheticArchive, month_of_bars, month_zip

FEW, MANY = 2, 6  # markets; from the second on the downloads of the next one overlap
BOUNDED = ("store_slow", "pull", "join_kernel_all", "join_duckdb_all")


def test_a_month_of_made_up_bars_is_whole_consistent_and_the_same_again() -> None:
    march, april = (month_of_bars("SYNTHETIC-03", month).to_pandas() for month in ("2024-03", "2024-04"))
    assert len(march) == 31 * 1_440
    assert set(np.diff(march["open_time"])) == {60_000}
    assert april["open_time"][0] - march["open_time"].iloc[-1] == 60_000
    assert april["open"][0] == march["close"].iloc[-1]
    assert (march["high"] >= march[["open", "close"]].max(axis=1)).all()
    assert (march["low"] <= march[["open", "close"]].min(axis=1)).all()
    assert (march["low"] > 0).all()
    assert not march["close"].equals(month_of_bars("SYNTHETIC-04", "2024-03").to_pandas()["close"])
    assert month_zip("SYNTHETIC-03", "2024-03", "1m") == month_zip("SYNTHETIC-03", "2024-03", "1m")
    assert is_synthetic("SYNTHETIC-03")


def test_the_archive_has_its_months_and_keeps_few() -> None:
    archive = SyntheticArchive("2024-01", "2024-02")
    path = "/data/futures/um/monthly/klines/SYNTHETIC-00/15m/SYNTHETIC-00-15m-2024-0{}.zip"
    body = archive.answer(path.format(1))
    assert body is not None
    assert zipfile.ZipFile(io.BytesIO(body)).namelist() == ["SYNTHETIC-00-15m-2024-01.csv"]
    checksum = archive.answer(f"{path.format(1)}.CHECKSUM")
    assert checksum is not None
    assert checksum.endswith(b"SYNTHETIC-00-15m-2024-01.zip\n")
    assert archive.files == 1  # made once for both
    assert archive.answer(path.format(3)) is None
    assert archive.answer("/data/futures/um/daily/klines/SYNTHETIC-00/15m/x.zip") is None


@pytest.mark.slow
def test_the_command_fills_a_lake_and_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    arguments = ["--symbols", "2", "--years", "0.25", "--interval", "15m", "--folder", str(tmp_path)]
    done = CliRunner().invoke(main, [*arguments, "--page", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.count("\n| ") == len(ORDER) + 1
    assert "2 synthetic markets, 3 months of 15m bars: 17,472 rows" in text
    bars = Lake(tmp_path / "lake").read("candles", symbol="SYNTHETIC-01", columns=["open_time", "close"])
    made = pd.concat([month_of_bars("SYNTHETIC-01", f"2020-0{m}", "15m").to_pandas() for m in (1, 2, 3)])
    assert bars["close"].tolist() == made["close"].tolist()
    again = CliRunner().invoke(main, arguments)
    assert "holds a lake already" in again.output


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_markets(tmp_path: Path) -> None:
    steps = [(step, what) for step, what in ORDER if step in BOUNDED and not what.startswith("pull again")]
    peaks = {}
    for symbols in (FEW, MANY):
        folder = tmp_path / str(symbols)
        folder.mkdir()
        found, _ = measure(Plan(symbols, 3, "1m", str(folder)), steps)
        peaks[symbols] = [line.peak_mib for line in found]
        assert found[0].rows == symbols * 91 * 1_440
    market = 91 * 1_440 * 14 * 8 / 2**20  # MiB of one market's bars in memory, at least
    for (step, _), few, many in zip(steps, peaks[FEW], peaks[MANY], strict=True):
        assert many - few < (MANY - FEW) * market, step
