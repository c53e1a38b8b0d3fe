"""Files as people have them: columns guessed, units told apart, and one line where it cannot be right."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lake_rows import FIRST, bars

from acmf_core.collect.files.importer import check_bars, read_candles, read_funding, table_of
from acmf_core.errors import AcmfError, BadCandle, DataError, MissingBars

STEP = pd.Timedelta(minutes=15)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(frame: pd.DataFrame, name: str = "bars.csv", **options: object) -> Path:
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path, **options)
        else:
            frame.to_csv(path, index=False, **options)
        return path

    return to_file


def stamped(values: object) -> pd.DataFrame:
    return bars(8).assign(open_time=values)


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)]
)
def test_integer_stamps_are_told_apart_by_their_size(write: Write, unit: str, factor: int) -> None:
    epoch = (bars(8)["open_time"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "s") * factor
    read = read_candles(write(stamped(epoch)))
    assert read.frame.index.tolist() == bars(8)["open_time"].tolist()
    assert str(read.frame.index.dtype) == "datetime64[us, UTC]"
    assert read.notes == (f"times: epoch in {unit}",)


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("%Y-%m-%d %H:%M:%S", True),
        ("%Y-%m-%dT%H:%M:%SZ", False),
        ("%Y-%m-%d %H:%M", True),
        ("%Y-%m-%d %H:%M:%S+00:00", False),
    ],
)
def test_text_times_are_read_as_utc(write: Write, text: str, noted: bool) -> None:
    read = read_candles(write(stamped(bars(8)["open_time"].dt.strftime(text))))
    assert read.frame.index[0] == FIRST
    assert bool(read.notes) == noted


def test_times_of_another_zone_are_brought_to_utc(write: Write) -> None:
    tokyo = bars(8).assign(open_time=bars(8)["open_time"].dt.tz_convert("Asia/Tokyo"))
    read = read_candles(write(tokyo, "tokyo.parquet"))
    assert read.frame.index[0] == FIRST
    assert read.notes == ("times were brought from Asia/Tokyo to UTC",)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_unit_of_a_parquet_stamp_is_taken(write: Write, unit: str) -> None:
    frame = bars(8).assign(open_time=bars(8)["open_time"].dt.as_unit(unit))
    assert read_candles(write(frame, "unit.parquet")).frame.index.tolist() == bars(8)["open_time"].tolist()


def test_a_time_index_of_pandas_is_found(write: Write) -> None:
    assert len(read_candles(write(bars(8).set_index("open_time"), "named.parquet")).frame) == 8
    assert (
        len(read_candles(write(bars(8).set_index("open_time").rename_axis(None), "none.parquet")).frame) == 8
    )


@pytest.mark.parametrize(
    "names",
    [
        ["timestamp", "Open", "High", "Low", "Close", "Volume"],
        ["Date", "OPEN", "HIGH", "LOW", "CLOSE", "Volume BTC"],
        ["t_ime", "o", "h", "l", "c", "v"],
    ],
)
def test_usual_column_names_are_mapped_and_shown(write: Write, names: list[str]) -> None:
    read = read_candles(write(bars(8).set_axis(names, axis=1)))
    assert list(read.frame.columns) == ["open", "high", "low", "close", "volume"]
    assert read.mapping == dict(
        zip(["open_time", "open", "high", "low", "close", "volume"], names, strict=True)
    )


def kline_file(frame: pd.DataFrame) -> pd.DataFrame:
    open_ms = (frame["open_time"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(1, "ms")
    out = frame.assign(open_time=open_ms, close_time=open_ms + 899_999)
    return out.assign(quote_volume=5.5, count=7, taker_buy_volume=2.5, taker_buy_quote_volume=1.5, ignore=0)


@pytest.mark.parametrize("header", [True, False])
def test_the_venues_kline_files_keep_their_columns_with_or_without_a_header(
    write: Write, header: bool
) -> None:
    read = read_candles(write(kline_file(bars(8)), header=header))
    assert read.frame["trades"].tolist() == [7.0] * 8
    assert read.frame["quote_volume"].tolist() == [5.5] * 8
    assert read.frame.index[0] == FIRST


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("packed", ["plain", "gz", "zip"])
def test_separators_and_packed_files_are_recognised(tmp_path: Path, separator: str, packed: str) -> None:
    text = bars(8).to_csv(index=False, sep=separator).encode()
    path = tmp_path / f"bars.{packed}"
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("bars.csv", text)
    else:
        path.write_bytes(gzip.compress(text) if packed == "gz" else b"\xef\xbb\xbf" + text)
    assert len(read_candles(path).frame) == 8


def test_prices_survive_a_csv_bit_for_bit(write: Write) -> None:
    noise = np.random.default_rng(1).random(200)
    frame = bars(200)
    frame[["open", "high", "low", "close"]] += noise[:, None] * 0.123456789
    read = read_candles(write(frame)).frame
    assert (read["close"].to_numpy() == frame["close"].to_numpy()).all()


def refusals() -> dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], type[AcmfError], str]]:
    def put(row: int, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
        def change(frame: pd.DataFrame) -> pd.DataFrame:
            frame[column] = frame[column].astype(object)
            frame.loc[row, column] = value
            return frame

        return change

    seconds = bars(20)["open_time"].astype("int64") // 1_000_000
    return {
        "no close": (lambda f: f.drop(columns="close"), DataError, "no column for close .* name it close"),
        "no columns known": (
            lambda f: f[["volume"]],
            DataError,
            "no column for open_time, open, high, low, close",
        ),
        "mixed units": (
            lambda f: f.assign(open_time=[*seconds[:10], *(seconds[10:] * 1_000)]),
            DataError,
            "mixes time units: row 1 is in s, row 11 in ms",
        ),
        "no epoch": (lambda f: f.assign(open_time=range(20)), DataError, "row 1: 0 is no epoch time"),
        "no date": (put(4, "open_time", "31/12/2024"), DataError, 'row 5: "31/12/2024" is no date'),
        "no time": (put(4, "open_time", None), DataError, "row 5 has no time"),
        "old": (
            lambda f: f.assign(open_time=pd.date_range("1970-01-20", periods=20, freq="15min")),
            DataError,
            "row 1 is of the year 1970; the stamps were read in the wrong unit",
        ),
        "unsorted": (
            lambda f: f.iloc[[1, 0, *range(2, 20)]],
            DataError,
            "not in time order: row 2 .* --sort",
        ),
        "doubled": (
            lambda f: f.iloc[[0, 1, 1, *range(2, 20)]],
            DataError,
            r"has 1 row\(s\) twice, the first is 2024-01-01 00:15 UTC",
        ),
        "high below low": (put(3, "high", 1.0), BadCandle, "bar 2024-01-01 00:45 UTC has high below low"),
        "open outside": (put(3, "open", 1.0), BadCandle, "has its open outside low..high"),
        "close outside": (put(3, "close", 1e6), BadCandle, "has its close outside low..high"),
        "empty price": (put(3, "low", None), BadCandle, "has an empty or infinite price"),
        "infinite": (put(3, "high", float("inf")), BadCandle, "has an empty or infinite price"),
        "free": (put(3, "low", 0.0), BadCandle, "has a price that is not positive"),
        "negative volume": (put(3, "volume", -1.0), BadCandle, "has a negative volume"),
        "empty volume": (put(3, "volume", None), BadCandle, "has an empty or infinite volume"),
        "words": (put(3, "close", "about 100"), DataError, 'row 4: close is "about 100", which is no number'),
        "gap": (
            lambda f: f.drop(index=[4, 5]),
            MissingBars,
            r"2 bar\(s\) missing in 1 place\(s\), the first is 2024-01-01 01:00 UTC; .*--bridge",
        ),
        "off grid": (
            lambda f: f.assign(open_time=f["open_time"] + pd.Timedelta(seconds=3)),
            DataError,
            "20 stamp.s. are off the 15m grid, the first is 2024-01-01 00:00:03",
        ),
        "close times": (
            lambda f: f.assign(open_time=f["open_time"] + pd.Timedelta("14min59.999s")),
            DataError,
            "these look like close times",
        ),
        "hourly": (
            lambda f: f.assign(open_time=bars(20, freq="1h")["open_time"]),
            DataError,
            "bars are 3600 s apart, 15m bars are 900 s apart",
        ),
        "two symbols": (lambda f: f.assign(symbol=["A", "B"] * 10), DataError, "holds 2 symbols"),
    }


@pytest.mark.parametrize("case", refusals())
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_that_cannot_be_right_is_refused_in_one_line(write: Write, case: str, suffix: str) -> None:
    spoil, kind, said = refusals()[case]
    frame = spoil(bars(20))
    if suffix == "parquet" and any(
        frame[c].map(type).nunique() > 1 for c in frame if frame[c].dtype == object
    ):
        frame = frame.astype(dict.fromkeys([c for c in frame if frame[c].dtype == object], "string"))
    with pytest.raises(kind, match=said) as refusal:
        read_candles(write(frame, f"bars.{suffix}"))
    assert refusal.value.exit_code == 2
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("column", ["asset", "Coin", "pair", "market", "instrument"])
def test_several_markets_are_seen_by_whatever_name_the_column_has(write: Write, column: str) -> None:
    both = bars(20).assign(symbol="BTC")
    with pytest.raises(DataError, match="holds 2 symbols"):
        read_candles(write(both.assign(**{column: ["BTCUSDT", "BTCUSDC"] * 10})))


def test_the_most_telling_name_of_the_market_is_taken(write: Write) -> None:
    assert read_candles(write(bars(8).assign(asset="BTC", pair="BTCUSDT"))).market == "BTCUSDT"


def test_columns_of_bars_that_nothing_is_taken_from_are_said(write: Write) -> None:
    read = read_candles(write(bars(8).assign(symbol="BTCUSDT", Close=1.0, vwap=2.0)))
    assert read.notes[-1] == "left out: symbol, Close, vwap"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("trades", 7.5, "trades 7.5 of bar 2024-01-01 00:45 UTC is no count"),
        ("trades", -1, "trades -1 of bar 2024-01-01 00:45 UTC is no count"),
        ("trades", 1e30, r"trades 1e\+30 of bar 2024-01-01 00:45 UTC is no count"),
        ("quote_volume", -1, "quote_volume -1 of bar 2024-01-01 00:45 UTC is no amount"),
        ("quote_volume", float("inf"), "quote_volume inf of bar .* is no amount; 1 such bar"),
        ("taker_buy_volume", 10.1, "taker_buy_volume 10.1 of bar .* is more than its volume"),
        ("taker_buy_quote_volume", 6.0, "taker_buy_quote_volume 6 of bar .* is more than its quote_volume"),
    ],
)
def test_counts_and_turnover_that_cannot_be_are_refused(
    write: Write, column: str, value: float, said: str
) -> None:
    frame = kline_file(bars(20)).rename(columns={"count": "trades"}).astype({"trades": float})
    assert len(read_candles(write(frame)).frame) == 20
    frame.loc[3, column] = value
    with pytest.raises(BadCandle, match=said):
        read_candles(write(frame))


def test_stamps_that_were_read_in_too_small_a_unit_name_their_year(write: Write) -> None:
    micro_as_milli = (bars(8)["open_time"].astype("int64") * 1_000).to_numpy().astype("datetime64[us]")
    with pytest.raises(
        DataError, match=r"row 1 is of the year 55\d{3}; the stamps were read in the wrong unit"
    ):
        read_candles(write(stamped(micro_as_milli.astype("datetime64[ms]")), "far.parquet"))


def spoiled(content: bytes, rng: np.random.Generator) -> bytes:
    """The content cut, with bytes changed, taken out, or put in."""
    data = bytearray(content)
    at = int(rng.integers(0, len(data)))
    kind = rng.integers(0, 4)
    if kind == 0:
        del data[max(at, 1) :]
    elif kind == 1:
        for place in rng.integers(0, len(data), 4):
            data[place] = int(rng.integers(0, 256))
    elif kind == 2:
        del data[at : at + int(rng.integers(1, 60))]
    else:
        data[at:at] = rng.bytes(int(rng.integers(1, 40)))
    return bytes(data)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_no_spoiled_file_gets_past_as_anything_but_good_bars_or_one_line(write: Write, suffix: str) -> None:
    path = write(bars(60), f"bars.{suffix}")
    whole, rng = path.read_bytes(), np.random.default_rng(7)
    refused: list[str] = []
    for _ in range(200):
        path.write_bytes(spoiled(whole, rng))
        try:
            read = read_candles(path)
        except AcmfError as refusal:
            refused.append(str(refusal))
        else:
            check_bars(read.frame, "spoiled")
            assert read.frame.index.is_monotonic_increasing
    assert len(refused) > 100
    assert not any("\n" in text for text in refused)


def test_sorting_is_done_only_when_asked_and_only_drops_identical_doubles(write: Write) -> None:
    shuffled = bars(20).iloc[[1, 0, 5, 5, *range(2, 20)]]
    read = read_candles(write(shuffled), sort=True)
    assert read.frame.index.tolist() == bars(20)["open_time"].tolist()
    assert read.notes[-2:] == ("rows were put in time order", "2 identical double(s) were dropped")
    shuffled.iloc[2, 4] += 0.5
    with pytest.raises(BadCandle, match=r"two different rows for 2024-01-01 01:15 UTC"):
        read_candles(write(shuffled), sort=True)


def test_gaps_and_short_files_pass_only_when_allowed(write: Write) -> None:
    path = write(bars(20).drop(index=[4]))
    assert read_candles(path, allow_gaps=True).notes[-1] == "1 bar(s) are missing in 1 place(s)"
    with pytest.raises(DataError, match="holds 19 bars, one decision of a model needs 13,056"):
        read_candles(path, allow_gaps=True, min_bars=13_056)


def test_other_intervals_are_read_when_said(write: Write) -> None:
    assert len(read_candles(write(bars(20, freq="1h")), "1h").frame) == 20


def test_funding_files_are_recognised_and_future_columns_left_out(write: Write) -> None:
    paid = pd.DataFrame(
        {
            "funding_time": pd.date_range(FIRST, periods=4, freq="8h") + pd.Timedelta(milliseconds=3),
            "funding_rate": [0.0001, -0.0002, 0.0, 0.0003],
            "mark_high": 1e9,
        }
    )
    path = write(paid, "funding.parquet")
    assert table_of(path) == "funding"
    read = read_funding(path)
    assert list(read.frame.columns) == ["event_time", "funding_rate"]
    assert read.frame["event_time"].tolist() == list(pd.date_range(FIRST, periods=4, freq="8h"))
    assert read.notes == ("left out: mark_high",)
    assert table_of(write(bars(4))) == "candles"


def test_funding_in_percent_is_refused(write: Write) -> None:
    paid = pd.DataFrame(
        {"funding_time": pd.date_range(FIRST, periods=2, freq="8h"), "funding_rate": [0.1, 0.2]}
    )
    with pytest.raises(DataError, match=r"funding rate 0.1 of .* is no fraction; write 0.01 % as 0.0001"):
        read_funding(write(paid))


def payments(**columns: object) -> pd.DataFrame:
    times = pd.date_range(FIRST, periods=4, freq="8h")
    return pd.DataFrame({"fundingTime": times, "fundingRate": 0.0001} | columns)


@pytest.mark.parametrize("hours", [0, -8, 7.5, 25, 480, float("inf")])
def test_payments_every_so_many_hours_as_cannot_be_are_refused(write: Write, hours: float) -> None:
    path = write(payments(fundingIntervalHours=[8, hours, 8, 8]))
    said = rf"funding of 2024-01-01 08:00 UTC is paid every {hours:g} hours; give whole hours from 1 to 24"
    with pytest.raises(DataError, match=said):
        read_funding(path)


def test_hours_between_payments_may_be_missing(write: Write) -> None:
    read = read_funding(write(payments(fundingIntervalHours=[None, 4, 8, None])))
    assert read.frame["interval_hours"].dropna().tolist() == [4.0, 8.0]


def test_payments_of_two_markets_are_refused_and_those_of_one_name_it(write: Write) -> None:
    with pytest.raises(DataError, match=r"holds 2 symbols .BTCUSDT, ETHUSDT.; import one file a symbol"):
        read_funding(write(payments(symbol=["BTCUSDT", "ETHUSDT"] * 2)))
    assert read_funding(write(payments(symbol="BTCUSDT"))).market == "BTCUSDT"


def test_the_real_files_are_taken_as_they_are(real_data: Path) -> None:
    perp = read_candles(real_data / "BTCUSDT_perp_15m_2023_2024.parquet")
    assert (len(perp.frame), perp.notes) == (70_176, ())
    paid = read_funding(real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet")
    assert len(paid.frame) == 2_193
    assert paid.notes == ("left out: mark_open, mark_high, mark_low, mark_close",)


def test_the_real_file_with_outages_is_refused_naming_the_first(real_data: Path) -> None:
    with pytest.raises(
        MissingBars, match=r"23 bar\(s\) missing in 3 place\(s\), the first is 2020-11-30 06:00"
    ):
        read_candles(real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet")


def test_funding_in_percent_is_refused_though_no_single_rate_is_absurd(tmp_path: Path) -> None:
    times = pd.date_range("2024-01-01", periods=60, freq="8h", tz="UTC")
    frame = pd.DataFrame({"event_time": times, "funding_rate": [0.0074, 0.01, -0.004] * 20})
    frame.to_csv(tmp_path / "percent.csv", index=False)
    with pytest.raises(DataError, match=r"beyond 0\.74%, which looks like percent; write 0\.01 % as"):
        read_funding(tmp_path / "percent.csv")
    frame.assign(funding_rate=frame["funding_rate"] / 100).to_csv(tmp_path / "fraction.csv", index=False)
    assert len(read_funding(tmp_path / "fraction.csv").frame) == 60
