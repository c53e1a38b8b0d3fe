"""The archive's metrics files are rough: what can be used is used, what cannot is counted or refused."""

import zipfile
from pathlib import Path

import pandas as pd
import pytest
from archive_server import METRICS_HEADER, metrics_lines

from acmf_core.collect.archive.files import ArchiveFile
from acmf_core.collect.archive.metrics import MetricsDay, metrics_of
from acmf_core.errors import DataError

FILE = ArchiveFile("metrics", "BTCUSDT", "2024-01-02")
VALUES = "80000.5,3400000000.25,1.4,1.2,1.3,0.9"


def read(tmp_path: Path, *lines: str, header: bool = True) -> MetricsDay:
    path = tmp_path / FILE.name
    with zipfile.ZipFile(path, "w") as archive:
        text = "\n".join([METRICS_HEADER, *lines] if header else lines)
        archive.writestr("BTCUSDT-metrics-2024-01-02.csv", text + "\n")
    return metrics_of(path, FILE)


def line(clock: str, values: str = VALUES, day: str = "2024-01-02") -> str:
    return f"{day} {clock},BTCUSDT,{values}" if clock else f",BTCUSDT,{values}"


def clocks(frame: pd.DataFrame) -> list[str]:
    return [f"{stamp:%d %H:%M:%S}" for stamp in frame["event_time"]]


def test_a_faultless_day_gives_every_value_to_the_last_bit(tmp_path: Path) -> None:
    lines = metrics_lines("2024-01-02")
    day = read(tmp_path, *lines)
    assert day.notes == ()
    assert len(day.long_short) == len(day.open_interest) == 288
    cells = [text.split(",") for text in lines]
    for column, values in enumerate(
        [
            day.open_interest["open_interest"],
            day.open_interest["open_interest_value"],
            day.long_short["top_account_ratio"],
            day.long_short["top_position_ratio"],
            day.long_short["long_short_ratio"],
            day.long_short["taker_volume_ratio"],
        ],
        start=2,
    ):
        assert values.tolist() == [float(row[column]) for row in cells]
    assert clocks(day.long_short)[0] == "02 00:05:00"
    assert clocks(day.long_short)[-1] == "03 00:00:00"


def test_times_unordered_seconds_off_and_twice_become_one_row_each(tmp_path: Path) -> None:
    day = read(tmp_path, line("00:10:02"), line("00:05:01"), line("00:05:00"), line("00:10:00"))
    assert clocks(day.open_interest) == ["02 00:05:00", "02 00:10:00"]
    assert day.notes == ()


def test_of_two_different_rows_of_one_time_the_first_is_kept_and_it_is_said(tmp_path: Path) -> None:
    other = VALUES.replace("80000.5", "80001.5")
    day = read(tmp_path, line("00:05:00"), line("00:05:01", other))
    assert day.open_interest["open_interest"].tolist() == [80_000.5]
    assert len(day.long_short) == 1
    assert day.notes == (f"{FILE.name}: 1 time(s) twice with other values, the first kept",)


def test_a_header_is_seen_not_assumed(tmp_path: Path) -> None:
    assert len(read(tmp_path, line("00:05:00"), line("00:10:00"), header=False).long_short) == 2


def test_blank_values_leave_the_rest_of_the_row_alone(tmp_path: Path) -> None:
    day = read(
        tmp_path,
        line("00:05:00", "80000.5,,1.4,,,0.9"),  # no ratio of accounts
        line("00:10:00", ",3.4e9,1.4,1.2,1.3,"),  # no open interest
        line("00:15:00", "0,0,0,0,0,0"),  # zeros stand for nothing
        line("00:20:00", "nan,1,1,1,inf,1"),
        line("", VALUES),  # no time
    )
    assert clocks(day.open_interest) == ["02 00:05:00"]
    assert day.open_interest["open_interest_value"].isna().all()
    assert clocks(day.long_short) == ["02 00:10:00"]
    assert day.long_short["taker_volume_ratio"].isna().all()


def test_times_far_off_the_grid_or_of_another_day_are_left_out_and_counted(tmp_path: Path) -> None:
    day = read(
        tmp_path, line("00:05:00"), line("00:07:30"), line("00:05:00", day="2024-01-05"), line("00:14:59")
    )
    assert clocks(day.long_short) == ["02 00:05:00"]
    assert day.notes == (
        f"{FILE.name}: 1 row(s) of another day, left out",
        f"{FILE.name}: 2 row(s) off the 5-minute grid, left out",
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line("00:05:00", day="2024-02-02")], "holds rows of 2024-02-02"),
        ([line("00:05:00").replace("BTCUSDT", "ETHUSDT")], "holds rows of ETHUSDT"),
        ([line("00:05:00").replace("2024-01-02", "yesterday")], "is no date"),
        ([line("00:05:00", VALUES.replace("80000.5", "many"))], "cannot be read"),
        ([line("00:05:00", f"{VALUES},9")], "cannot be read"),
    ],
)
def test_what_is_no_metrics_file_of_that_day_is_refused_whole(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, *lines)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 7 columns instead of 8"):
        read(tmp_path, line("00:05:00", VALUES.rsplit(",", 1)[0]), header=False)
    with pytest.raises(DataError, match="has other columns: create_time"):
        read(tmp_path, METRICS_HEADER.replace("symbol", "market"), line("00:05:00"), header=False)


def test_a_file_without_rows_is_no_error(tmp_path: Path) -> None:
    day = read(tmp_path)
    assert (len(day.long_short), len(day.open_interest), day.notes) == (0, 0, ())
