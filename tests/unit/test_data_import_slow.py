"""Slow tables out of people's files: columns guessed, each row with its moment, or one line why not."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from acmf_cli.main import main
from acmf_core.collect.files.importer import table_of
from acmf_core.collect.files.intake import import_slow
from acmf_core.collect.files.slow import LAYOUTS, read_slow
from acmf_core.errors import AcmfError, BadCandle, DataError
from acmf_core.lake import Lake
from acmf_core.lake.tables import TABLES

DAY = pd.Timedelta(days=1)
FIRST = pd.Timestamp("2024-03-08", tz="UTC")  # a Friday; on Sunday New York's clocks go forward
Write = Callable[..., Path]
Run = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(frame: pd.DataFrame, name: str = "slow.csv") -> Path:
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        return path

    return to_file


def days(n: int = 4, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"date": [f"{FIRST + i * DAY:%Y-%m-%d}" for i in range(n)], **columns})


def fear_greed() -> pd.DataFrame:
    return days(fng=[10, 20, 30, 40], value_classification=["Fear", None, "Fear", "Neutral"])


def macro() -> pd.DataFrame:
    return days(**{"^VIX": [14.0, 15.0, None, 16.0], "DX-Y.NYB": 104.5, "^GSPC": 5_000.0, "GC=F": 2_100.0})


def metrics() -> pd.DataFrame:
    """A file of the archive, header and all."""
    times = pd.date_range(FIRST, periods=3, freq="5min").strftime("%Y-%m-%d %H:%M:%S")
    return pd.DataFrame(
        {
            "create_time": times,
            "symbol": "BTCUSDT",
            "sum_open_interest": [80_000.5, 80_001.0, 80_002.0],
            "sum_open_interest_value": [5e9, 5.1e9, 5.2e9],
            "count_toptrader_long_short_ratio": 1.2,
            "sum_toptrader_long_short_ratio": 1.3,
            "count_long_short_ratio": [1.5, 1.6, 1.7],
            "sum_taker_long_short_vol_ratio": 0.9,
        }
    )


def known(frame: pd.DataFrame, delay: str = "1D") -> pd.DataFrame:
    stamps = pd.to_datetime(frame["date"], utc=True) + pd.Timedelta(delay)
    return frame.assign(available_at=stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def onchain() -> pd.DataFrame:
    return known(days(whale_transfers=[1, 2, 3, 4], exchange_netflow=[-5.0, 6.0, 0.0, 1.0]))


def news() -> pd.DataFrame:
    said = {"confidence": 0.5, "headlines": 12, "model": "m", "prompt_version": "p1"}
    return known(days(score=[-1.0, 0.0, 0.5, 1.0], **said), "90s")


FILES: dict[str, Callable[[], pd.DataFrame]] = {
    "fear_greed": fear_greed,
    "macro": macro,
    "long_short": metrics,
    "open_interest": metrics,
    "onchain": onchain,
    "news": news,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_slow_table_can_be_imported_and_imported_again(
    write: Write, tmp_path: Path, name: str, suffix: str
) -> None:
    lake, path = Lake(tmp_path / "lake"), write(FILES[name](), f"slow.{suffix}")
    done = import_slow(lake, path, name, "BTCUSDT")
    stored = lake.read(name)
    assert len(stored) == done.rows == done.merged.inserted
    assert list(stored.columns) == TABLES[name].schema.names
    assert (stored["available_at"] > stored["event_time"]).all()
    if "symbol" in TABLES[name].partitions:
        assert set(stored["symbol"]) == {"BTCUSDT"}
    again = import_slow(lake, path, name, "BTCUSDT")
    assert (again.merged.changed, again.merged.unchanged) == (False, done.rows)


@pytest.mark.parametrize("name", [name for name in FILES if name not in {"long_short", "open_interest"}])
def test_the_table_is_recognised_by_its_columns(write: Write, name: str) -> None:
    assert table_of(write(FILES[name]())) == name


def test_a_file_that_holds_two_tables_asks_which(write: Write) -> None:
    with pytest.raises(DataError, match="holds long_short and open_interest; say which: --table long_short"):
        table_of(write(metrics()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fear_greed", ["2024-03-08 01:00", "2024-03-09 01:00", "2024-03-10 01:00", "2024-03-11 01:00"]),
        ("macro", ["2024-03-08 23:00", "2024-03-09 23:00", "2024-03-11 22:00", "2024-03-11 22:00"]),
        ("long_short", ["2024-03-08 00:05", "2024-03-08 00:10", "2024-03-08 00:15"]),
        ("open_interest", ["2024-03-08 00:05", "2024-03-08 00:10", "2024-03-08 00:15"]),
    ],
)
def test_without_a_word_in_the_file_a_row_is_known_by_the_tables_convention(
    write: Write, name: str, expected: list[str]
) -> None:
    read = read_slow(write(FILES[name]()), name)
    assert read.frame["available_at"].dt.strftime("%Y-%m-%d %H:%M").tolist() == expected
    assert any(note.startswith("known: ") for note in read.notes)


@pytest.mark.parametrize(
    ("freq", "rows", "delay"), [("1min", 9, "5min"), ("1h", 9, "1h"), ("1D", 9, "1D"), ("5min", 1, "1D")]
)
@pytest.mark.parametrize("name", ["long_short", "open_interest"])
def test_a_ratio_of_an_hour_or_a_day_is_not_known_before_that_is_over(
    write: Write, name: str, freq: str, rows: int, delay: str
) -> None:
    times = pd.date_range(FIRST, periods=rows, freq=freq).delete(4 if rows > 5 else [])
    column = {"long_short": "long_short_ratio", "open_interest": "open_interest"}[name]
    frame = pd.DataFrame({"timestamp": times.astype(str), column: 1.2})
    read = read_slow(write(frame.iloc[::-1]), name, sort=True).frame
    assert set(read["available_at"] - read["event_time"]) == {pd.Timedelta(delay)}


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_what_the_file_says_of_when_a_row_was_known_is_taken_in_any_unit(
    write: Write, unit: str, factor: int
) -> None:
    epoch = int(FIRST.timestamp())
    frame = fear_greed().assign(known_at=[(epoch + 86_400 * i + 7_200) * factor for i in range(4)])
    read = read_slow(write(frame), "fear_greed")
    assert read.frame["available_at"].iloc[0] == FIRST + pd.Timedelta(hours=2)
    assert read.mapping["available_at"] == "known_at"
    assert f"known_at: times: epoch in {unit}" in read.notes
    assert not any(note.startswith("known: ") for note in read.notes)


@pytest.mark.parametrize("name", ["onchain", "news"])
def test_what_nobody_else_can_date_is_refused_without_its_moment(write: Write, name: str) -> None:
    with pytest.raises(DataError, match=f"for {name} nobody else can; add a column available_at"):
        read_slow(write(FILES[name]().drop(columns="available_at")), name)


def test_one_row_a_series_and_day_becomes_one_row_a_day(write: Write) -> None:
    names = {"^VIX": "vix", "DX-Y.NYB": "dxy", "^GSPC": "sp500", "GC=F": "gold"}
    long = long_macro()
    other = days(Ticker="BZ=F", Close=80.0)
    path = write(pd.concat([long, other]), "long.csv")
    assert table_of(path) == "macro"
    read, wide = read_slow(path, "macro"), read_slow(write(macro()), "macro")
    pd.testing.assert_frame_equal(read.frame[list(wide.frame.columns)], wide.frame)
    assert set(names.values()) <= set(read.frame.columns)
    assert "series left out: BZ=F" in read.notes


def long_macro() -> pd.DataFrame:
    return macro().melt("date", var_name="Ticker", value_name="Close")


def test_one_row_a_series_and_day_keeps_the_moment_that_the_file_gives(write: Write) -> None:
    """A day's row is known when the last of its closes is."""
    hours = {"^VIX": "40h", "DX-Y.NYB": "60h", "^GSPC": "50h", "GC=F": "45h"}
    long = pd.concat([known(part, hours[ticker]) for ticker, part in long_macro().groupby("Ticker")])
    read = read_slow(write(long, "long.csv"), "macro")
    delay = read.frame["available_at"] - read.frame["event_time"]
    assert delay.tolist() == [pd.Timedelta("60h")] * 4
    assert read.mapping["available_at"] == "available_at"
    assert not any(note.startswith("known: ") for note in read.notes)


def test_a_series_without_one_close_makes_its_days_known_later_as_in_a_wide_file(write: Write) -> None:
    empty = macro().assign(**{"^VIX": None})
    long = empty.melt("date", var_name="Ticker", value_name="Close")
    read, wide = read_slow(write(long, "long.csv"), "macro"), read_slow(write(empty), "macro")
    assert read.frame["available_at"].tolist() == wide.frame["available_at"].tolist()
    assert read.frame["vix"].isna().all()


@pytest.mark.parametrize("column", ["date", "available_at"])
def test_one_row_a_series_and_day_without_a_time_is_refused(write: Write, column: str) -> None:
    spoiled = put(2, column, None)(known(long_macro(), "60h"))
    with pytest.raises(DataError, match="row 3 has no time"):
        read_slow(write(spoiled, "long.csv"), "macro")


def put(row: int, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change


REFUSED: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], type[AcmfError], str]] = {
    "an index over 100": (
        "fear_greed",
        put(1, "fng", 101),
        DataError,
        "value of 2024-03-09 00:00 UTC is 10",
    ),
    "an infinite close": ("macro", put(0, "^VIX", "inf"), DataError, "vix of 2024-03-08 00:00 UTC is inf"),
    "a negative ratio": ("long_short", put(0, "count_long_short_ratio", -1), DataError, "is -1.0; give a"),
    "a ratio of zero": ("long_short", put(0, "count_long_short_ratio", 0), DataError, "from 1e-06 to 1e"),
    "no ratio": (
        "long_short",
        put(2, "count_long_short_ratio", None),
        DataError,
        "is nothing; give a",
    ),
    "a score of 2": ("news", put(3, "score", 2), DataError, "give a number from -1 to 1"),
    "half a headline": ("news", put(3, "headlines", 1.5), DataError, "give a whole number from 0 up"),
    "no model": ("news", put(0, "model", None), DataError, "model of 2024-03-08 00:00 UTC is nothing"),
    "a novel": ("news", put(0, "prompt_version", "x" * 10_001), DataError, "at most 10,000 characters"),
    "words for numbers": ("onchain", put(2, "whale_transfers", "many"), DataError, 'row 3: .* is "many"'),
    "known before it happened": (
        "onchain",
        put(1, "available_at", "2024-03-08T23:59:59Z"),
        DataError,
        "row 2 is known at 2024-03-08 23:59 UTC, before it happened at 2024-03-09 00:00 UTC",
    ),
    "no moment in one row": ("onchain", put(1, "available_at", None), DataError, "row 2 has no time"),
    "a moment that is none": ("onchain", put(1, "available_at", "soon"), DataError, '"soon" is no date'),
    "two zones of units": ("fear_greed", put(1, "date", 1_709_856_000), DataError, "is no date"),
    "a day with an hour": (
        "macro",
        put(1, "date", "2024-03-09T05:00:00"),
        DataError,
        "macro has whole days; write the day alone",
    ),
    "a day of nothing": (
        "macro",
        lambda frame: frame[["date", "^VIX"]],
        DataError,
        "has nothing for 2024-03-10 00:00 UTC; drop that row",
    ),
    "no order": ("fear_greed", lambda frame: frame.iloc[::-1], DataError, "is not in time order: row 2"),
    "a day twice": (
        "fear_greed",
        lambda frame: pd.concat([frame, frame.tail(1)]),
        DataError,
        r"has 1 row\(s\) twice",
    ),
    "another table's columns": ("news", lambda _: fear_greed(), DataError, "has no column for score"),
    "no column of its own": (
        "macro",
        lambda _: fear_greed(),
        DataError,
        "no column of macro; name it vix",
    ),
    "two intervals": (
        "long_short",
        lambda frame: frame.assign(interval=["5m", "5m", "15m"]),
        DataError,
        "holds 2 intervals .*; import one file an interval",
    ),
    "two markets": ("open_interest", put(0, "symbol", "ETHUSDT"), DataError, "holds 2 symbols"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_right_is_refused_in_one_line(write: Write, case: str) -> None:
    name, spoil, kind, said = REFUSED[case]
    with pytest.raises(kind, match=said) as refusal:
        read_slow(write(spoil(FILES[name]())), name)
    assert "\n" not in str(refusal.value)


def test_disorder_and_identical_doubles_are_mended_when_told(write: Write) -> None:
    mixed = pd.concat([fear_greed(), fear_greed().head(1)])
    read = read_slow(write(mixed), "fear_greed", sort=True)
    assert read.frame["value"].tolist() == [10.0, 20.0, 30.0, 40.0]
    with pytest.raises(BadCandle, match="two different rows"):
        read_slow(write(pd.concat([mixed, days(1, fng=[11])])), "fear_greed", sort=True)


def test_another_value_for_a_stored_day_stays_out_and_its_first_moment_stays(
    write: Write, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "lake")
    import_slow(lake, write(fear_greed()), "fear_greed", "BTCUSDT")
    changed = fear_greed().assign(fng=[10, 20, 30, 99])
    done = import_slow(lake, write(known(changed, "5h")), "fear_greed", "BTCUSDT")
    assert done.merged.conflicting_rows == 1
    stored = lake.read("fear_greed")
    assert stored["value"].tolist() == [10.0, 20.0, 30.0, 40.0]
    assert (stored["available_at"] - stored["event_time"] == pd.Timedelta(hours=1)).all()


def test_a_file_of_another_market_is_said(write: Write, tmp_path: Path) -> None:
    lake, path = Lake(tmp_path / "lake"), write(metrics())
    assert not any(
        "names its market" in note for note in import_slow(lake, path, "open_interest", "BTCUSDT").notes
    )
    notes = import_slow(lake, path, "open_interest", "ETHUSDT").notes
    assert 'the file names its market "BTCUSDT", it is stored as ETHUSDT (--symbol)' in notes


def test_every_layout_names_every_value_of_its_table() -> None:
    for name, layout in LAYOUTS.items():
        assert set(layout.columns) == set(TABLES[name].values), name
        optional = {ours for ours, column in layout.columns.items() if column.optional}
        assert optional == set(TABLES[name].optional), name


# -- the recorded files, through the command ---------------------------------------------------------------


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)
    for name in ("ACMF__PATHS__LAKE", "LAKE_URI"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            main(["data", *map(str, arguments)])
        said = capsys.readouterr()
        return said.out if left.value.code == 0 else f"{left.value.code}: {said.err}"

    return command


def test_the_recorded_index_and_closes_are_recognised_and_stored(run: Run, real_data: Path) -> None:
    said = json.loads(run("import", real_data / "fear_greed_daily_2018_2024.parquet", "--json"))
    assert (said["table"], said["inserted"], said["mapping"]["value"]) == ("fear_greed", 2_522, "fng")
    shown = run("import", real_data / "macro_daily_2014_2024.parquet")
    assert "2,769 rows of macro for every symbol, 2014-01-02 00:00 to 2024-12-31 00:00 UTC" in shown
    assert "note: close of each series taken, one row a day" in shown
    assert "note: known: 18:00 New York of its day, a day later where a close is missing (the" in shown


@pytest.mark.parametrize(
    ("file", "table", "said"),
    [
        ("BTC_derivatives_daily_2020_2024.parquet", "long_short", "has no column for long_short_ratio"),
        ("BTC_derivatives_daily_2020_2024.parquet", "open_interest", "has no column for open_interest"),
        ("onchain_glassnode_daily_20140101_20201117.parquet", "onchain", "has no column for whale_transfers"),
        ("crypto_news_headlines_sentiment.parquet", "news", "has no column for event_time, score"),
    ],
)
def test_recorded_files_that_are_something_else_are_one_line(
    run: Run, real_data: Path, file: str, table: str, said: str
) -> None:
    answer = run("import", real_data / file, "--table", table)
    assert answer.startswith("2: ")
    assert said in answer
    assert answer.count("\n") == 1
    assert not Path("data_lake").exists()
