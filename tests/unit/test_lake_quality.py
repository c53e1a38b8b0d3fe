"""What the checks find, and what a bridge adds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lake_rows import FIRST, bars, rows

from acmf_core.collect.files.importer import read_candles
from acmf_core.lake.quality import bridge, check_candles, check_funding, gaps

STEP = pd.Timedelta(minutes=15)


def smooth(n: int) -> pd.DataFrame:
    """Rows without any finding: a gentle wave, every bar opening at the last close."""
    frame = rows(n)
    close = 100 + 0.2 * np.sin(np.arange(n))
    opens = np.concatenate([[close[0]], close[:-1]])
    return frame.assign(
        open=opens, close=close, high=np.maximum(opens, close) + 0.1, low=np.minimum(opens, close) - 0.1
    )


def findings(frame: pd.DataFrame) -> dict[str, tuple[str, int, pd.Timestamp]]:
    table = check_candles(frame, "BTCUSDT").findings
    return {row["finding"]: (row["severity"], row["count"], row["first"]) for row in table.to_dict("records")}


def test_gaps_are_stretches_with_both_ends() -> None:
    frame = bars(20).drop(index=[3, 10, 11, 12])
    found = gaps(frame["open_time"])
    assert found["first"].tolist() == [FIRST + 3 * STEP, FIRST + 10 * STEP]
    assert found["last"].tolist() == [FIRST + 3 * STEP, FIRST + 12 * STEP]
    assert found["bars"].tolist() == [1, 3]


@pytest.mark.parametrize("n", [0, 1, 2, 20])
def test_whole_bars_have_no_gaps(n: int) -> None:
    assert gaps(bars(n)["open_time"]).empty


def test_a_smooth_market_has_no_findings() -> None:
    quality = check_candles(smooth(800), "BTCUSDT")
    assert quality.ok
    assert quality.findings.empty
    assert (quality.rows, quality.first, quality.last) == (800, FIRST, FIRST + 799 * STEP)


def test_missing_bars_are_an_error_that_names_the_first_and_the_count() -> None:
    found = findings(smooth(100).drop(index=[7, 8, 50]))
    assert found["missing bars"] == ("error", 3, FIRST + 7 * STEP)


def test_doubles_and_off_grid_stamps_are_errors() -> None:
    frame = smooth(50)
    frame.loc[9, "open_time"] = frame.loc[8, "open_time"]
    frame.loc[20, "open_time"] += pd.Timedelta(seconds=1)
    found = findings(frame)
    assert found["double stamps"] == ("error", 1, FIRST + 8 * STEP)
    assert found["off the grid"][:2] == ("error", 1)


@pytest.mark.parametrize(
    ("column", "value", "finding"),
    [
        ("close", np.nan, "no number, price <= 0 or volume < 0"),
        ("low", -1.0, "no number, price <= 0 or volume < 0"),
        ("volume", -1.0, "no number, price <= 0 or volume < 0"),
        ("high", 1.0, "open or close outside low..high"),
        ("open", 200.0, "open or close outside low..high"),
    ],
)
def test_impossible_bars_are_errors(column: str, value: float, finding: str) -> None:
    frame = smooth(50)
    frame.loc[30, column] = value
    assert findings(frame)[finding] == ("error", 1, FIRST + 30 * STEP)


def test_zero_volume_is_a_warning_and_a_bridged_bar_is_its_own_finding() -> None:
    frame = smooth(50)
    frame.loc[[10, 11], "volume"] = 0.0
    frame.loc[11, "bridged"] = True
    found = findings(frame)
    assert found["zero volume"] == ("warning", 1, FIRST + 10 * STEP)
    assert found["bridged (no venue's bars)"] == ("warning", 1, FIRST + 11 * STEP)
    assert check_candles(frame, "BTCUSDT").ok


def test_a_spike_and_a_seam_are_warnings_with_their_size() -> None:
    frame = smooth(900)
    frame.loc[800:, ["open", "high", "low", "close"]] *= 1.2
    table = check_candles(frame, "BTCUSDT").findings.set_index("finding")
    assert table.loc["close moved > 25 usual moves", "first"] == FIRST + 800 * STEP
    assert table.loc["close moved > 25 usual moves", "detail"].startswith("the largest +20.")
    assert table.loc["open > 10 usual moves from last close", "count"] == 1


def test_a_bridge_is_flat_at_the_last_close_and_leaves_long_holes_open() -> None:
    frame = bars(300).drop(index=[3, 4, *range(100, 250)])
    added = bridge(frame)
    assert added["open_time"].tolist() == [FIRST + 3 * STEP, FIRST + 4 * STEP]
    assert added[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [[103.0] * 4 + [0.0]] * 2
    assert added["bridged"].all()
    assert len(bridge(frame, limit=150)) == 152
    assert bridge(bars(5)).empty


def test_funding_that_stops_or_skips_is_a_warning() -> None:
    times = pd.date_range(FIRST, periods=10, freq="8h", unit="us").delete(4)
    frame = pd.DataFrame({"event_time": times, "funding_rate": 0.0001})
    frame.loc[2, "funding_rate"] = 0.02
    quality = check_funding(frame, "BTCUSDT", until=times[-1] + pd.Timedelta(hours=10))
    assert quality.ok
    assert quality.findings["finding"].tolist() == [
        "funding_rate outside -0.003..0.003",
        "payments missing before",
        "stale: candles go on after the last row",
    ]
    assert quality.findings["count"].tolist() == [1, 1, 4]
    assert quality.findings["first"].tolist() == [times[2], times[4], times[-1] + pd.Timedelta(hours=9.25)]
    assert check_funding(frame.drop(index=2).head(2), "BTCUSDT", until=times[2]).findings.empty


def test_the_real_outages_of_2020_are_found_and_bridged(real_data: Path) -> None:
    spot = read_candles(
        real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet", allow_gaps=True
    ).frame.reset_index()
    quality = check_candles(spot.assign(bridged=False), "BTCUSDT")
    assert not quality.ok
    assert quality.findings.iloc[0][["finding", "count"]].tolist() == ["missing bars", 23]
    added = bridge(spot)
    assert len(added) == 23
    assert gaps(pd.DatetimeIndex(spot["open_time"]).union(pd.DatetimeIndex(added["open_time"]))).empty


def test_the_known_hole_and_crash_of_the_real_file_are_found(real_data: Path) -> None:
    perp = read_candles(real_data / "BTCUSDT_perp_15m_2023_2024.parquet").frame.reset_index()
    table = check_candles(perp.assign(bridged=False), "BTCUSDT").findings.set_index("finding")
    assert table.loc["zero volume", ["count", "severity"]].tolist() == [4, "warning"]
    assert table.loc["zero volume", "first"] == pd.Timestamp("2024-10-28 20:00", tz="UTC")
    assert "-10." in table.loc["close moved > 25 usual moves", "detail"]
