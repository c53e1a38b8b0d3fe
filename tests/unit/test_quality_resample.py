"""Longer candles out of shorter bars, held to the candles that features make, and to the venue's own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lake_rows import FIRST, bars

from acmf_core.collect.files.importer import read_candles
from acmf_core.errors import ConfigError
from acmf_core.features.blocks import complete_candles, run_lengths
from acmf_core.lake.resample import cascade, compared, disagreements, resample
from acmf_core.lake.tables import KLINE_EXTRAS, OHLCV

STEP = pd.Timedelta(minutes=15)
HIGHER = {"1h": 4, "4h": 16, "1d": 96}


def with_extras(n: int) -> pd.DataFrame:
    frame = bars(n)
    frame["quote_volume"] = 0.1 * np.arange(n) + 0.3
    frame["trades"] = np.arange(n) + 1
    return frame


def slow(frame: pd.DataFrame, interval: str) -> pd.DataFrame:
    """The twin: pandas, group by group."""
    length = HIGHER[interval] * STEP
    groups = frame.groupby(frame["open_time"].dt.floor(length))
    made = groups.agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    return made[groups.size() == HIGHER[interval]].reset_index()


def test_a_candle_takes_the_first_open_the_last_close_the_extremes_and_the_sums() -> None:
    made = resample(with_extras(8), "1h")
    assert made["open_time"].tolist() == [FIRST, FIRST + 4 * STEP]
    assert made.loc[0, ["open", "high", "low", "close", "volume"]].tolist() == [100, 105, 99, 104, 40]
    assert made["trades"].tolist() == [10, 26]
    assert made["quote_volume"].tolist() == pytest.approx([1.8, 3.4])


@pytest.mark.parametrize(("column", "value"), [("high", np.nan), ("low", 0.0), ("volume", -1.0)])
def test_a_candle_with_an_impossible_bar_does_not_exist(column: str, value: float) -> None:
    frame = bars(12)
    frame.loc[5, column] = value
    assert resample(frame, "1h")["open_time"].tolist() == [FIRST, FIRST + 8 * STEP]


def test_a_candle_with_a_missing_or_doubled_or_shifted_bar_does_not_exist() -> None:
    whole = bars(20)
    assert len(resample(whole.drop(index=6), "1h")) == 4
    for twice in (4, 5, 7):
        doubled = pd.concat([whole, whole.iloc[[twice]]]).sort_values("open_time", kind="stable")
        assert resample(doubled, "1h")["open_time"].tolist() == [FIRST + k * STEP for k in (0, 8, 12, 16)]
    shifted = whole.copy()
    shifted.loc[9, "open_time"] += pd.Timedelta(seconds=1)
    assert len(resample(shifted, "1h")) == 4
    assert len(resample(whole.iloc[1:19], "1h")) == 3
    assert resample(whole.iloc[:3], "1h").empty


def test_a_trade_count_that_one_bar_lacks_is_unknown_in_its_candle() -> None:
    frame = with_extras(8).astype({"trades": "Int64"})
    frame.loc[2, "trades"] = pd.NA
    assert resample(frame, "1h")["trades"].tolist() == [pd.NA, 26]


def test_days_begin_at_midnight_utc_and_intervals_must_fit() -> None:
    late = bars(96 * 2, FIRST + 5 * STEP)
    assert resample(late, "1d")["open_time"].tolist() == [FIRST + pd.Timedelta(days=1)]
    with pytest.raises(ConfigError, match="15m candles cannot be made of 1h bars"):
        resample(late, "15m", source="1h")


def test_candles_of_real_bars_with_holes_are_the_ones_that_features_make(real_data: Path) -> None:
    bars_of = read_candles(
        real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet", allow_gaps=True
    )
    same_as_the_features(bars_of.frame)


def test_candles_of_real_bars_are_the_ones_that_features_make(real_data: Path) -> None:
    frame = read_candles(real_data / "BTCUSDT_perp_15m_2023_2024.parquet").frame.copy()
    frame.iloc[1234, frame.columns.get_loc("high")] = np.nan
    same_as_the_features(frame)


def same_as_the_features(frame: pd.DataFrame) -> None:
    """Bit by bit, through the cascade: complete_candles decides from runs of present bars."""
    times = pd.DatetimeIndex(frame.index).as_unit("us")
    ohlcv = np.ascontiguousarray(frame[list(OHLCV)].to_numpy(np.float64).T)
    runs = np.empty(len(times), dtype=np.int64)
    run_lengths(times.asi8, ohlcv, 900_000_000, runs)
    made = cascade(frame, HIGHER)
    for interval, count in HIGHER.items():
        theirs = complete_candles(times.asi8, runs, ohlcv[1], ohlcv[2], ohlcv[3], count)
        ours = made[interval]
        assert len(ours) == len(theirs.last_bar) > 0
        np.testing.assert_array_equal(ours["open_time"] + (count - 1) * STEP, times[theirs.last_bar])
        for name in ("high", "low", "close"):
            np.testing.assert_array_equal(ours[name], getattr(theirs, name))


def test_the_cascade_and_the_slow_twin_agree_on_real_bars(real_data: Path) -> None:
    frame = read_candles(
        real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet", allow_gaps=True
    ).frame.reset_index()
    made = cascade(frame, ["1d", "1h", "4h"])
    assert list(made) == ["1h", "4h", "1d"]
    for interval, ours in made.items():
        twin = slow(frame, interval)
        assert ours["open_time"].tolist() == twin["open_time"].tolist()
        for name in ("open", "high", "low", "close"):
            np.testing.assert_array_equal(ours[name], twin[name])
        np.testing.assert_allclose(ours["volume"], twin["volume"], rtol=1e-12)
        assert ours["trades"].tolist() == resample(frame, interval)["trades"].tolist()
        assert disagreements(frame, ours, interval).empty


def test_a_disagreement_names_the_candle_the_column_and_both_values() -> None:
    fine = with_extras(96)
    coarse = resample(fine, "4h")
    coarse.loc[1, "high"] = np.nextafter(coarse.loc[1, "high"], np.inf)
    coarse.loc[3, "volume"] *= 1.5
    coarse.loc[3, "trades"] += 1
    found = disagreements(fine, coarse, "4h")
    assert found["column"].tolist() == ["high", "volume", "trades"]
    assert found["open_time"].tolist() == [FIRST + 16 * STEP, FIRST + 48 * STEP, FIRST + 48 * STEP]
    assert found.loc[1, ["resampled", "stored"]].tolist() == [160.0, 240.0]
    assert found.loc[1, "difference"] == pytest.approx(0.5)


def test_volumes_may_differ_by_the_rounding_of_a_sum() -> None:
    fine = with_extras(96)
    coarse = resample(fine, "1d")
    coarse["volume"] *= 1 + 1e-12
    assert disagreements(fine, coarse, "1d").empty


def test_only_whole_candles_of_both_sides_without_stand_ins_are_compared() -> None:
    fine = bars(64).assign(bridged=False)
    coarse = resample(fine, "4h").assign(close=1.0)
    fine.loc[20, "bridged"] = True
    fine = fine.drop(index=40)
    assert compared(fine, coarse, "4h")["open_time"].tolist() == [FIRST, FIRST + 48 * STEP]
    assert disagreements(fine, coarse, "4h")["open_time"].tolist() == [FIRST, FIRST + 48 * STEP]
    assert disagreements(fine, coarse.iloc[:0], "4h").empty


def test_an_extra_that_one_side_lacks_contradicts_nothing_but_a_price_must_be_there() -> None:
    fine = with_extras(8)
    coarse = resample(fine, "1h")
    for name in KLINE_EXTRAS:
        coarse[name] = np.nan
    assert disagreements(fine, coarse, "1h").empty
    coarse.loc[0, "close"] = np.nan
    assert disagreements(fine, coarse, "1h")["column"].tolist() == ["close"]
