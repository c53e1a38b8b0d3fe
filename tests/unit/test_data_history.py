"""Market data out of the lake and out of files: whole or refused."""

from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST, bars, rows

from acmf_core.collect.history import load_file, load_market, warmup_bars
from acmf_core.errors import DataError, MissingBars
from acmf_core.lake import Lake
from acmf_core.lake.tables import OHLCV, funding_rows

STEP = pd.Timedelta(minutes=15)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.merge("candles", rows(200))
    paid = pd.DataFrame(
        {
            "event_time": pd.date_range(FIRST - pd.Timedelta(days=2), periods=20, freq="8h"),
            "funding_rate": 0.0001,
        }
    )
    lake.merge("funding", funding_rows(paid, "BTCUSDT"))
    return lake


def test_the_warm_up_of_one_decision_is_136_days() -> None:
    assert warmup_bars() == 136 * 96 == 13_056


def test_a_market_holds_the_window_and_what_its_first_bar_leans_on(lake: Lake) -> None:
    market = load_market(lake, "BTCUSDT", FIRST + 40 * STEP, FIRST + 100 * STEP)
    assert market.candles.index[0] == FIRST + 40 * STEP
    assert market.candles.index[-1] == FIRST + 99 * STEP
    assert market.funding is not None
    first, last = market.funding["event_time"].iloc[[0, -1]]
    assert market.candles.index[0] - first <= pd.Timedelta(hours=9)
    assert last == FIRST + pd.Timedelta(hours=24)  # 25:00 is the close of the last bar


def test_without_bounds_everything_is_read(lake: Lake) -> None:
    assert len(load_market(lake, "BTCUSDT").candles) == 200


def test_a_market_without_funding_has_none(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "bare")
    lake.merge("candles", rows(20))
    assert load_market(lake, "BTCUSDT").funding is None


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (
            FIRST - STEP,
            None,
            r"BTCUSDT 15m: 1 bar\(s\) missing in 1 place\(s\), the first is 2023-12-31 23:45 UTC",
        ),
        (None, FIRST + 203 * STEP, r"3 bar\(s\) missing in 1 place\(s\), the first is 2024-01-03 02:00 UTC"),
        ("2025-01-01", "2025-02-01", "has no 15m bars of BTCUSDT from 2025-01-01 to 2025-02-01"),
    ],
)
def test_a_window_that_is_not_covered_is_refused(lake: Lake, start: object, end: object, said: str) -> None:
    with pytest.raises(MissingBars, match=said):
        load_market(lake, "BTCUSDT", start, end)  # type: ignore[arg-type]


def test_a_gap_is_refused_with_the_command_that_fills_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "holed")
    lake.merge("candles", rows(200).drop(index=[100, 101, 150]))
    with pytest.raises(MissingBars) as refusal:
        load_market(lake, "BTCUSDT")
    assert "3 bar(s) missing in 2 place(s), the first is 2024-01-02 01:00 UTC" in refusal.value.cause
    assert "acmf data pull --symbol BTCUSDT --from 2024-01-02 --to 2024-01-03" in refusal.value.fix
    assert (
        len(load_market(lake, "BTCUSDT", None, FIRST + 100 * STEP).candles) == 100
    )  # the part before it stands


def test_a_symbol_that_was_never_stored_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(MissingBars, match="no 15m bars of ETHUSDT; acmf data import FILE --symbol ETHUSDT"):
        load_market(lake, "ETHUSDT")
    with pytest.raises(MissingBars, match="no 15m bars of BTCUSDT"):
        load_market(Lake(tmp_path / "nothing"), "BTCUSDT")


def test_pinned_versions_give_the_old_market_again(lake: Lake) -> None:
    versions = lake.versions()
    lake.merge("candles", rows(300))
    later = pd.DataFrame({"event_time": [FIRST + pd.Timedelta(hours=20)], "funding_rate": [0.002]})
    lake.merge("funding", funding_rows(later, "BTCUSDT"))
    old = load_market(lake, "BTCUSDT", versions=versions)
    assert len(old.candles) == 200
    assert old.funding is not None
    assert (old.funding["funding_rate"] == 0.0001).all()


def test_a_file_gives_the_same_market_as_the_lake(lake: Lake, tmp_path: Path) -> None:
    bars(200).to_csv(tmp_path / "bars.csv", index=False)
    market = load_file(tmp_path / "bars.csv", min_bars=1)
    assert market.candles.equals(load_market(lake, "BTCUSDT").candles)
    assert market.funding is None


def test_a_short_file_or_one_with_a_gap_is_no_market(tmp_path: Path) -> None:
    bars(50).to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DataError, match="holds 50 bars, one decision of a model needs 13,056"):
        load_file(tmp_path / "short.csv")
    bars(50).drop(index=7).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(MissingBars, match="the first is 2024-01-01 01:45 UTC"):
        load_file(tmp_path / "gap.csv", min_bars=1)


def test_the_real_files_become_one_market(real_data: Path) -> None:
    market = load_file(
        real_data / "BTCUSDT_perp_15m_2023_2024.parquet",
        real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet",
    )
    assert list(market.candles.columns) == list(OHLCV)
    assert len(market.candles) == 70_176
    assert market.funding is not None
    assert len(market.funding) == 2_193
    assert "mark_high" not in market.funding.columns  # it describes the eight hours after
