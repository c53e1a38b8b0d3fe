"""Market data out of the lake and out of files: whole or refused."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lake_rows import FIRST, bars, rows

from acmf_core.collect.files.intake import import_funding
from acmf_core.collect.history import load_file, load_market, warmup_bars
from acmf_core.errors import DataError, MissingBars
from acmf_core.features import MarketData, build_features
from acmf_core.features.market import COLUMNS
from acmf_core.lake import Lake
from acmf_core.lake.tables import OHLCV, funding_rows
from acmf_core.trading import trading_bars

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


@pytest.mark.parametrize(("kept", "said"), [((), r"no table"), (("funding",), r"funding")])
def test_a_pinned_state_without_candles_is_no_market(lake: Lake, kept: tuple[str, ...], said: str) -> None:
    """The candles of today came later: a state that does not name them had none."""
    versions = {name: version for name, version in lake.versions().items() if name in kept}
    with pytest.raises(MissingBars, match=rf"no 15m bars of BTCUSDT in the pinned state \({said}\)"):
        load_market(lake, "BTCUSDT", versions=versions)


def test_a_file_gives_the_same_market_as_the_lake(lake: Lake, tmp_path: Path) -> None:
    bars(200).to_csv(tmp_path / "bars.csv", index=False)
    market = load_file(tmp_path / "bars.csv", min_bars=1)
    assert market.candles.equals(load_market(lake, "BTCUSDT").candles)
    assert market.funding is None


def test_a_file_of_funding_may_say_when_its_rows_were_known(lake: Lake, tmp_path: Path) -> None:
    bars(90).to_csv(tmp_path / "bars.csv", index=False)
    late = four_hourly(known_at=[FIRST + pd.Timedelta(hours=4 * i + 1) for i in range(6)])
    late.to_csv(tmp_path / "paid.csv", index=False)
    market = load_file(tmp_path / "bars.csv", tmp_path / "paid.csv", min_bars=1)
    import_funding(lake, tmp_path / "paid.csv", "ETHUSDT")
    for paid in (market.funding, lake.read("funding", symbol="ETHUSDT")):
        assert paid is not None
        assert (paid["available_at"] - paid["event_time"]).tolist() == [pd.Timedelta(hours=1)] * 6
    late.assign(known_at=FIRST).to_csv(tmp_path / "paid.csv", index=False)
    with pytest.raises(DataError, match=r"row 2 is known at 2024-01-01 00:00 UTC, before it happened"):
        load_file(tmp_path / "bars.csv", tmp_path / "paid.csv", min_bars=1)


@pytest.mark.parametrize("funding", ["ETHUSDT", "BTC/USDT", "btc", ""])
def test_candles_and_funding_of_two_markets_are_no_market(tmp_path: Path, funding: str) -> None:
    bars(90).assign(symbol="BTCUSDT").to_csv(tmp_path / "bars.csv", index=False)
    named = {"symbol": funding} if funding else {}
    four_hourly(**named).to_csv(tmp_path / "paid.csv", index=False)
    if funding == "ETHUSDT":
        with pytest.raises(DataError, match="candles are of BTCUSDT, the funding rates of ETHUSDT; give two"):
            load_file(tmp_path / "bars.csv", tmp_path / "paid.csv", min_bars=1)
    else:
        assert load_file(tmp_path / "bars.csv", tmp_path / "paid.csv", min_bars=1).funding is not None


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


# -- slow tables -------------------------------------------------------------------------------------------


def known_at(*stamps: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(list(stamps), tz="UTC").as_unit("us")


def test_a_lake_of_candles_alone_gives_a_market_of_candles_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "bare")
    lake.merge("candles", rows(20))
    assert load_market(lake, "BTCUSDT").slow == {}


def test_a_source_without_rows_for_the_window_or_the_symbol_is_not_there(lake: Lake) -> None:
    score = {"score": 0.5, "confidence": 1.0, "headlines": 3, "model": "m", "prompt_version": "1"}
    when = {"event_time": known_at("2024-01-01"), "available_at": known_at("2024-01-01")}
    lake.merge("news", pd.DataFrame(when | {"symbol": "ETHUSDT"} | score))
    lake.merge("fear_greed", pd.DataFrame({k: v - STEP * 300 for k, v in when.items()} | {"value": 7.0}))
    assert list(load_market(lake, "BTCUSDT").slow) == ["funding"]


def test_rows_of_a_daemon_come_back_with_the_moment_it_received_them(lake: Lake) -> None:
    received = known_at("2024-01-01 09:59:41.123456", "2024-01-01 10:14:40")
    book = {name: 1.0 for name in COLUMNS["book"]}
    lake.merge(
        "book",
        pd.DataFrame(
            {"symbol": "BTCUSDT", "event_time": received - STEP / 900, "available_at": received} | book
        ),
    )
    market = load_market(lake, "BTCUSDT")
    assert market.book is not None
    assert market.book["available_at"].tolist() == received.tolist()
    assert list(COLUMNS["book"]) == [c for c in market.book.columns if c in COLUMNS["book"]]


def test_a_row_known_after_the_last_close_stays_in_the_lake(lake: Lake) -> None:
    day = known_at("2024-01-01")
    lake.merge(
        "fear_greed",
        pd.DataFrame({"event_time": day, "available_at": day + pd.Timedelta(hours=1), "value": 50.0}),
    )
    hour = load_market(lake, "BTCUSDT", None, FIRST + 4 * STEP)
    assert hour.fear_greed is not None  # known at the exact close
    assert load_market(lake, "BTCUSDT", None, FIRST + 3 * STEP).fear_greed is None


def test_a_macro_return_reaches_back_over_any_holiday_for_each_column(lake: Lake) -> None:
    days = known_at("2023-11-01", "2023-11-02", "2023-11-03", "2023-12-31")
    table = {
        "vix": [11.0, 12.0, 13.0, 14.0],
        "dxy": [100.0, None, None, 101.0],
        "sp500": [4000.0, 4100.0, 4200.0, 4300.0],
        "gold": [2000.0, 2010.0, None, 2020.0],
    }
    known = {"event_time": days, "available_at": days + pd.Timedelta(hours=23)}
    lake.merge("macro", pd.DataFrame(known | table))
    market = load_market(lake, "BTCUSDT")
    assert market.macro is not None
    assert market.macro["event_time"].tolist() == [days[0], days[1], days[3]]  # each return's row before
    newest = build_features(market).tabular.iloc[-1]
    assert newest["dxy_return_1d"] == pytest.approx(100 * math.log(101 / 100))
    expected = 100 * (math.log(4300 / 4100) - math.log(2020 / 2010))
    assert newest["risk_appetite"] == pytest.approx(expected)


def test_on_chain_rows_reach_back_thirty_days_and_one_row_more(lake: Lake) -> None:
    days = pd.date_range(FIRST - pd.Timedelta(days=40), FIRST, freq="D", unit="us")
    table = {"symbol": "BTCUSDT", "event_time": days, "available_at": days, "whale_transfers": range(41)}
    lake.merge("onchain", pd.DataFrame(table | {"exchange_netflow": 0.0}))
    market = load_market(lake, "BTCUSDT")
    assert market.onchain is not None
    first = FIRST + STEP - pd.Timedelta(hours=6) - pd.Timedelta(days=30)
    assert market.onchain["available_at"].iloc[0] <= first < market.onchain["available_at"].iloc[1]
    assert build_features(market).tabular["whale_transfers_zscore"].notna().any()


# -- long/short ratios: what was collected goes before what the archive says -------------------------------


def ratios(interval: str, *known: tuple[str, float]) -> pd.DataFrame:
    stamps = known_at(*(at for at, _ in known))
    times = {"event_time": stamps - pd.Timedelta(seconds=30), "available_at": stamps}
    return pd.DataFrame(
        {"symbol": "BTCUSDT", "interval": interval} | times | {"long_short_ratio": [r for _, r in known]}
    )


def test_archive_ratios_give_way_for_an_hour_to_what_the_daemon_collected(lake: Lake) -> None:
    lake.merge("long_short", ratios("15m", ("2024-01-01 10:00", 2.0)))
    archived = [("09:55", 0.1), ("10:00", 0.2), ("10:05", 0.3), ("11:00", 0.4), ("11:05", 0.5)]
    lake.merge("long_short", ratios("5m", *((f"2024-01-01 {at}", ratio) for at, ratio in archived)))
    frame = load_market(lake, "BTCUSDT").long_short
    assert frame is not None
    assert frame["long_short_ratio"].tolist() == [0.1, 2.0, 0.5]


def test_a_ratio_collected_before_the_window_still_takes_the_archives_place(lake: Lake) -> None:
    lake.merge("long_short", ratios("15m", ("2024-01-01 10:20", 2.0)))
    lake.merge("long_short", ratios("5m", ("2024-01-01 11:10", 0.1)))
    market = load_market(lake, "BTCUSDT", FIRST + 46 * STEP, FIRST + 60 * STEP)  # 10:20 is over an hour old
    assert market.long_short is None or market.long_short["long_short_ratio"].tolist() == [2.0]


# -- funding that is not paid every eight hours ------------------------------------------------------------


def four_hourly(rate: float = 0.0002, **columns: object) -> pd.DataFrame:
    times = pd.date_range(FIRST, periods=6, freq="4h", unit="us")
    return pd.DataFrame({"event_time": times, "funding_rate": rate} | columns)


def test_funding_paid_every_four_hours_is_twice_its_rate_in_eight_and_paid_as_it_was(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.merge("candles", rows(90))
    lake.merge("funding", funding_rows(four_hourly(interval_hours=4), "BTCUSDT"))
    market = load_market(lake, "BTCUSDT")
    features = build_features(market)
    assert features.tabular["funding_rate"].iloc[-1] == 0.0002 * 1e4 * 2
    bars = trading_bars(market, features)
    assert bars.funding_bps[-1] == 0.0002 * 1e4 * 2
    assert bars.funding_event[16] == 0.0002
    assert bars.funding_event.sum() == pytest.approx(6 * 0.0002)


def test_a_payment_that_does_not_say_its_interval_has_the_one_last_said(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.merge("candles", rows(90))
    said = four_hourly(interval_hours=pd.array([4, None, None, None, None, None], dtype="Int64"))
    lake.merge("funding", funding_rows(said, "BTCUSDT"))
    whole, late = load_market(lake, "BTCUSDT"), load_market(lake, "BTCUSDT", FIRST + 70 * STEP)
    for market in (whole, late):  # the row that said so lies before the second window
        assert build_features(market).tabular["funding_rate"].iloc[-1] == 0.0002 * 1e4 * 2
    assert late.funding is not None
    assert late.funding["event_time"].iloc[0] > FIRST


@pytest.mark.parametrize("hours", [None, 8])
def test_eight_hourly_funding_keeps_its_bits_whether_it_says_so_or_not(hours: int | None) -> None:
    rates = np.random.default_rng(3).normal(0, 1e-4, 60)
    paid = pd.DataFrame({"available_at": pd.date_range(FIRST, periods=60, freq="8h"), "funding_rate": rates})
    paid["event_time"] = paid["available_at"]
    if hours is not None:
        paid["interval_hours"] = hours
    market = MarketData(bars(60 * 32).set_index("open_time"), funding=paid)
    joined = build_features(market).tabular["funding_rate"].to_numpy()
    assert set(joined[31::32]) == set((rates * 1e4)[1:])


def test_a_funding_interval_of_no_hours_is_refused() -> None:
    paid = four_hourly(interval_hours=0).assign(available_at=FIRST)
    with pytest.raises(DataError, match="paid every 0 hours; leave interval_hours empty"):
        MarketData(bars(9), funding=paid)
