"""Each fault planted alone is found alone; clean bars and clean slow tables have no finding."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from lake_rows import FIRST

from acmf_core.collect.inspection import max_ages
from acmf_core.errors import DataError
from acmf_core.lake.audit import Audit, inspect
from acmf_core.lake.quality import CandleCheck, check_candles
from acmf_core.lake.resample import resample
from acmf_core.lake.slow_quality import CHECKED, SlowCheck, check_slow
from acmf_core.lake.tables import TABLES, candle_rows

STEP = pd.Timedelta(minutes=15)
DAY = pd.Timedelta(days=1)
BAR = 1_500  # where faults are planted
Plant = Callable[[pd.DataFrame], pd.DataFrame]


def clean(n: int = 2_880) -> pd.DataFrame:
    """Rows of a market that breathes: random moves and volumes, every bar opening at the last close."""
    random = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, n)))
    opens = np.concatenate([[100.0], close[:-1]])
    volume = 50 * np.exp(random.normal(0, 0.4, n))
    frame = pd.DataFrame(
        {
            "open_time": pd.date_range(FIRST, periods=n, freq=STEP, unit="us"),
            "open": opens,
            "high": np.maximum(opens, close) * 1.0005,
            "low": np.minimum(opens, close) * 0.9995,
            "close": close,
            "volume": volume,
            "quote_volume": volume * (opens + close) / 2,
            "trades": random.integers(100, 900, n),
            "taker_buy_volume": volume * 0.5,
        }
    )
    return candle_rows(frame, "BTCUSDT")


def set_at(column: str, value: object, bar: int = BAR) -> Plant:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[bar, column] = value
        return frame

    return plant


def scaled(column: str, factor: float, bar: int = BAR) -> Plant:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[bar, column] *= factor
        return frame

    return plant


def without(*bars: int) -> Plant:
    return lambda frame: frame.drop(index=list(bars))


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[[*range(BAR + 1), *range(BAR, len(frame))]]


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[[*range(BAR), BAR + 1, BAR, *range(BAR + 2, len(frame))]]


def extra_between(frame: pd.DataFrame) -> pd.DataFrame:
    odd = frame.loc[[BAR]].assign(open_time=frame.loc[BAR, "open_time"] + pd.Timedelta(seconds=7))
    odd["available_at"] = odd["open_time"] + STEP
    odd["open"] = frame.loc[BAR, "close"]
    return pd.concat([frame.loc[:BAR], odd, frame.loc[BAR + 1 :]])


def untraded(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[BAR, ["volume", "quote_volume", "taker_buy_volume"]] = 0.0
    return frame


def bridged(frame: pd.DataFrame) -> pd.DataFrame:
    frame = untraded(frame)
    frame.loc[BAR, "bridged"] = True
    return frame


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[BAR, ["open", "high", "low", "close"]] = frame.loc[BAR, "open"]
    frame.loc[BAR, "quote_volume"] = frame.loc[BAR, "volume"] * frame.loc[BAR, "open"]
    frame.loc[BAR + 1, ["open", "low"]] = frame.loc[BAR, "open"]
    frame.loc[BAR + 1, "high"] = frame.loc[BAR, "open"] * 1.01
    frame.loc[BAR + 1, "low"] = frame.loc[BAR, "open"] * 0.99
    return frame


def crash(frame: pd.DataFrame) -> pd.DataFrame:
    """A bar that falls by a tenth and a market that stays there."""
    prices = ["open", "high", "low", "close"]
    frame.loc[BAR, ["low", "close"]] *= 0.9
    frame.loc[BAR + 1 :, prices] *= 0.9
    frame.loc[BAR + 1 :, "quote_volume"] *= 0.9
    return frame


def seam(frame: pd.DataFrame) -> pd.DataFrame:
    """A bar that opens elsewhere and comes back."""
    frame.loc[BAR, "open"] *= 1.02
    frame.loc[BAR, "high"] *= 1.03
    return frame


def flooded(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[BAR, ["volume", "quote_volume", "taker_buy_volume"]] *= 500.0
    return frame


def trickling(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[BAR, ["volume", "quote_volume", "taker_buy_volume"]] /= 500.0
    return frame


FAULTS: dict[str, tuple[Plant, str, int]] = {
    "missing bars": (without(BAR, BAR + 1, 2_000), "error", 3),
    "double stamps": (doubled, "error", 1),
    "out of time order": (swapped, "error", 1),
    "off the grid": (extra_between, "error", 1),
    "no number, price <= 0 or volume < 0": (set_at("close", np.nan), "error", 1),
    "open or close outside low..high": (scaled("high", 0.9), "error", 1),
    "known before its close (a leak)": (set_at("available_at", FIRST), "error", 1),
    "zero volume": (untraded, "warning", 1),
    "flat with volume": (flat, "warning", 1),
    "bridged (no venue's bars)": (bridged, "warning", 1),
    "taker volume outside 0..volume": (scaled("taker_buy_volume", 2.1), "warning", 1),
    "mean price outside low..high": (scaled("quote_volume", 1.05), "warning", 1),
    "close moved > 25 usual moves": (crash, "warning", 1),
    "open > 10 usual moves from last close": (seam, "warning", 1),
    "volume > 6 deviations above its week": (flooded, "warning", 1),
    "volume > 4 deviations below its week": (trickling, "warning", 1),
}


def test_clean_bars_have_no_finding() -> None:
    quality = check_candles(clean(), "BTCUSDT")
    assert quality.findings.empty
    assert quality.ok


@pytest.mark.parametrize("finding", FAULTS)
def test_a_fault_in_the_bars_is_found_and_nothing_else(finding: str) -> None:
    plant, severity, count = FAULTS[finding]
    table = check_candles(plant(clean()), "BTCUSDT").findings
    assert table[["finding", "severity", "count"]].to_numpy().tolist() == [[finding, severity, count]]
    assert table.loc[0, "first"] in (FIRST + BAR * STEP, FIRST + BAR * STEP + pd.Timedelta(seconds=7))


@pytest.mark.parametrize("finding", FAULTS)
def test_a_series_in_windows_has_the_findings_of_the_whole(finding: str) -> None:
    frame = FAULTS[finding][0](clean())
    whole, parts = CandleCheck("BTCUSDT"), CandleCheck("BTCUSDT")
    whole.see(frame)
    for begin in (0, 1_400, BAR, BAR + 1, 2_100):
        end = {0: 1_400, 1_400: BAR, BAR: BAR + 1, BAR + 1: 2_100}.get(begin, len(frame))
        if finding != "out of time order":  # a window is put in order, two windows must come in order
            parts.see(frame.iloc[begin:end])
    if finding == "out of time order":
        parts.see(frame)
    one, other = whole.survey(), parts.survey()
    pd.testing.assert_frame_equal(one.quality.findings, other.quality.findings)
    pd.testing.assert_frame_equal(one.days, other.days)
    pd.testing.assert_frame_equal(one.marked, other.marked)
    np.testing.assert_array_equal(one.moves, other.moves)
    assert (one.quality.rows, one.quality.last) == (other.quality.rows, other.quality.last)


def test_faults_of_longer_candles_are_warnings_but_a_leak_is_an_error_everywhere() -> None:
    hours = candle_rows(resample(clean(), "1h"), "BTCUSDT", "1h")
    assert check_candles(hours.drop(index=50), "BTCUSDT", "1h").ok
    assert not check_candles(hours.assign(available_at=hours["open_time"]), "BTCUSDT", "1h").ok


def test_days_count_what_each_should_have_had() -> None:
    check = CandleCheck("BTCUSDT")
    frame = clean().drop(index=[*range(50, 60), *range(96 * 3, 96 * 5)])
    check.see(frame.iloc[5:])
    days = check.survey().days
    assert days["slots"].tolist() == [91, *[96] * 29]
    assert days["missing"].tolist()[:6] == [10, 0, 0, 96, 96, 0]
    assert days["close"].isna().sum() == 2


# --- slow tables ------------------------------------------------------------------------------------


def slow_rows(name: str, n: int = 60) -> pd.DataFrame:
    """Clean rows of a slow table, as often as features need them."""
    every = {"funding": 8 * pd.Timedelta(hours=1), "fear_greed": DAY, "macro": DAY}.get(name, STEP)
    times = pd.date_range(FIRST, periods=n, freq=every, unit="us")
    frame = pd.DataFrame({"event_time": times, "available_at": times})
    for column in TABLES[name].values:
        frame[column] = {
            "funding_rate": 1e-4, "interval_hours": 8, "value": 50.0, "vix": 15.0, "dxy": 103.0,
            "sp500": 4_800.0, "gold": 2_000.0, "long_short_ratio": 1.4, "open_interest": 8e4,
            "whale_transfers": 12.0,
            "exchange_inflow": 9e8, "exchange_outflow": 7e8, "exchange_netflow": 2e8, "score": 0.1,
            "confidence": 0.6, "headlines": 9,
        }.get(column, np.nan)  # fmt: skip
    if name == "book":
        for side, sign in (("bid", -1), ("ask", 1)):
            for level in range(1, 21):
                frame[f"{side}_px_{level}"] = 100.0 + sign * 0.1 * level
                frame[f"{side}_qty_{level}"] = 3.0
    if "interval" in TABLES[name].partitions:
        frame["interval"] = "15m"
    return frame


def found(name: str, frame: pd.DataFrame) -> list[list[object]]:
    until = slow_rows(name)["available_at"].iloc[-1]
    table = check_slow(frame, name, "BTCUSDT", max_age=max_ages()[name], since=FIRST, until=until)
    return table.quality.findings[["finding", "severity", "count"]].to_numpy().tolist()


@pytest.mark.parametrize("name", CHECKED)
def test_clean_slow_tables_have_no_finding_and_are_known_at_every_close(name: str) -> None:
    frame = slow_rows(name)
    assert found(name, frame) == []
    survey = check_slow(frame, name, "BTCUSDT", max_age=max_ages()[name])
    # the book is asked for at every close and good for a minute: rows come at the closes here
    assert survey.covered.min() == 1.0


@pytest.mark.parametrize("name", CHECKED)
def test_a_row_known_before_it_happened_is_an_error(name: str) -> None:
    frame = slow_rows(name)
    frame["available_at"] = frame["event_time"] + pd.Timedelta(seconds=1)
    frame.loc[30, "available_at"] = frame.loc[30, "event_time"] - pd.Timedelta(seconds=1)
    quality = check_slow(frame, name, max_age=max_ages()[name]).quality
    assert not quality.ok
    assert quality.findings["finding"].tolist()[0] == "known before it happened (a leak)"
    assert quality.findings["count"].tolist()[0] == 1


@pytest.mark.parametrize("name", CHECKED)
def test_a_source_that_ends_early_or_begins_late_is_a_warning(name: str) -> None:
    frame = slow_rows(name)
    early = dict((row[0], row[1:]) for row in found(name, frame.iloc[:20]))
    assert list(early) == ["stale: candles go on after the last row"]
    assert early["stale: candles go on after the last row"][0] == "warning"
    assert [row[0] for row in found(name, frame.iloc[20:])] == ["nothing known yet"]


@pytest.mark.parametrize("name", [name for name in CHECKED if name != "funding"])
def test_a_hole_longer_than_the_maximum_age_is_a_warning(name: str) -> None:
    frame = slow_rows(name)
    gone = max_ages()[name] // (frame["event_time"][1] - frame["event_time"][0]) + 3
    rows = found(name, frame.drop(index=range(10, 10 + gone)))
    assert [row[:2] for row in rows] == [["no value young enough", "warning"]]


@pytest.mark.parametrize("name", CHECKED)
def test_a_double_and_a_row_out_of_order_are_warnings(name: str) -> None:
    frame = slow_rows(name)
    twice = frame.loc[[*range(31), *range(30, len(frame))]]
    assert found(name, twice) == [["double stamps", "warning", 1]]
    moved = frame.loc[[*range(30), 31, 30, *range(32, len(frame))]]
    assert ["out of time order", "warning", 1] in found(name, moved)


def test_a_row_known_before_an_older_one_is_a_warning() -> None:
    frame = slow_rows("long_short")
    frame.loc[20, "available_at"] = frame.loc[21, "available_at"] + pd.Timedelta(minutes=1)
    assert found("long_short", frame) == [["known before the row that it follows", "warning", 1]]


@pytest.mark.parametrize(
    ("name", "column", "value", "finding"),
    [
        ("funding", "funding_rate", 0.01, "funding_rate outside -0.003..0.003"),
        ("long_short", "long_short_ratio", 0.0, "long_short_ratio outside 0.01..100"),
        ("open_interest", "open_interest", -1.0, "open_interest outside 0..inf"),
        ("fear_greed", "value", 101.0, "value outside 0..100"),
        ("macro", "vix", 0.15, "vix outside 5..200"),
        ("onchain", "whale_transfers", -1.0, "whale_transfers outside 0..1e+06"),
        ("news", "score", 1.5, "score outside -1..1"),
        ("news", "score", np.nan, "score is no number"),
        ("macro", "gold", np.inf, "gold is no number"),
        ("book", "imbalance", 1.5, "imbalance outside -1..1"),
        ("book", "bid_px_1", 100.5, "best bid not under best ask"),
        ("book", "ask_px_5", 100.41, None),
        ("book", "ask_px_5", 100.05, "levels out of order"),
        ("onchain", "exchange_inflow", 1e9, "netflow is not inflow - outflow"),
        ("macro", "vix", np.nan, None),
    ],
)
def test_a_value_that_cannot_be_is_a_warning(
    name: str, column: str, value: float, finding: str | None
) -> None:
    frame = slow_rows(name)
    frame.loc[30, column] = value
    assert found(name, frame) == ([[finding, "warning", 1]] if finding else [])


@pytest.mark.parametrize(("stated", "hours"), [(True, 8), (True, 4), (False, 8), (False, 1)])
def test_missing_payments_are_counted_by_the_interval_of_their_time(stated: bool, hours: int) -> None:
    """A venue shortens the interval of a contract; eight hours are then a hole, or were the rule."""
    long = pd.date_range(FIRST, periods=60, freq="8h", unit="us")
    short = pd.date_range(long[-1] + pd.Timedelta(hours=hours), periods=60, freq=f"{hours}h", unit="us")
    frame = pd.DataFrame({"event_time": [*long, *short], "funding_rate": 1e-4})
    if stated:
        frame["interval_hours"] = [8] * 60 + [hours] * 60
    assert check_slow(frame, "funding").quality.findings.empty
    holed = check_slow(frame.drop(index=[90, 91, 95]), "funding").quality.findings
    assert holed[["finding", "count"]].to_numpy().tolist() == [["payments missing before", 3]]
    parts = SlowCheck("funding")
    for k in range(0, 120, 7):
        parts.see(frame.drop(index=[90, 91, 95]).loc[k : k + 6])
    assert parts.survey().quality.findings["count"].tolist() == [3]


def test_a_table_in_windows_has_the_findings_of_the_whole() -> None:
    frame = slow_rows("long_short", 400)
    frame.loc[37, "long_short_ratio"] = 900.0
    frame.loc[80, "available_at"] -= DAY
    frame = frame.loc[[*range(121), *range(120, 250), *range(300, 400)]]
    whole = check_slow(frame, "long_short", max_age=max_ages()["long_short"])
    parts = SlowCheck("long_short", max_age=max_ages()["long_short"])
    for k in range(0, len(frame), 121):
        parts.see(frame.iloc[k : k + 121])
    other = parts.survey()
    pd.testing.assert_frame_equal(whole.quality.findings, other.quality.findings)
    pd.testing.assert_series_equal(whole.covered, other.covered)
    assert len(whole.quality.findings) == 5


def test_rows_of_two_intervals_do_not_disturb_each_other() -> None:
    archive = slow_rows("long_short").assign(interval="5m")
    live = slow_rows("long_short").assign(interval="15m")
    both = pd.concat([archive, live], ignore_index=True)
    assert check_slow(both, "long_short", max_age=max_ages()["long_short"]).quality.findings.empty


def test_a_table_without_a_check_is_refused() -> None:
    with pytest.raises(DataError, match='no check of the table "cycles"'):
        SlowCheck("cycles")


# --- together ---------------------------------------------------------------------------------------


def audited(coarse: pd.DataFrame, fine: pd.DataFrame | None = None) -> Audit:
    bars = clean() if fine is None else fine
    return inspect("BTCUSDT", {"4h": lambda: iter([coarse]), "15m": lambda: iter([bars[:960], bars[960:]])})


def test_a_second_timeframe_that_agrees_is_no_finding() -> None:
    audit = audited(candle_rows(resample(clean(), "4h"), "BTCUSDT", "4h"))
    assert audit.ok
    assert all(quality.findings.empty for quality in audit.qualities)
    assert [(a.source, a.interval, a.compared, a.differ) for a in audit.agreements] == [("15m", "4h", 180, 0)]
    assert list(audit.candles) == ["15m", "4h"]
    assert audit.main is audit.candles["15m"]


@pytest.mark.parametrize(
    ("column", "factor", "finding"),
    [
        ("high", 1.001, "prices differ from the 15m bars"),
        ("close", 1 + 1e-9, "prices differ from the 15m bars"),
        ("volume", 1.001, "volumes differ from the 15m bars"),
    ],
)
def test_a_jump_against_the_second_timeframe_is_found_and_nothing_else(
    column: str, factor: float, finding: str
) -> None:
    coarse = candle_rows(resample(clean(), "4h"), "BTCUSDT", "4h").drop(
        columns=["quote_volume", "taker_buy_volume"]
    )
    coarse["high"] *= 1.0
    coarse.loc[70, column] *= factor
    audit = audited(coarse)
    table = audit.candles["4h"].quality.findings
    assert table[["finding", "severity", "count"]].to_numpy().tolist() == [[finding, "warning", 1]]
    assert table.loc[0, "first"] == coarse.loc[70, "open_time"]
    assert audit.candles["15m"].quality.findings.empty
    assert audit.agreements[0].days["differ"].sum() == 1
    assert column in table.loc[0, "detail"]
