"""Slow sources: when a row is known, when it is too old, and what is made of it."""

import numpy as np
import pandas as pd
import pytest

from acmf_core.features import SCHEMA, MarketData, build_features

DAY, BAR, TICK = pd.Timedelta(days=1), pd.Timedelta(minutes=15), pd.Timedelta(microseconds=1)
FIRST_CLOSE = pd.Timestamp("2024-03-01", tz="UTC")
MAX_AGE = {
    "book": pd.Timedelta(seconds=60),
    "fear_greed": pd.Timedelta(hours=36),
    "funding": pd.Timedelta(hours=9),
    "long_short": pd.Timedelta(hours=1),
    "macro": pd.Timedelta(days=4),
    "news": pd.Timedelta(hours=8),
}
PLAIN = {  # source: column, what goes in, what comes out, feature
    "fear_greed": ("value", 25.0, 25.0, "fear_greed"),
    "funding": ("funding_rate", 0.0003, 3.0, "funding_rate"),
    "long_short": ("long_short_ratio", 2.0, np.log(2.0), "long_short_ratio"),
    "macro": ("vix", 17.5, 17.5, "vix"),
    "news": ("score", -0.25, -0.25, "news_sentiment"),
}


def answers(closes=1, **slow):
    """The tabular features of some bars, of which the first closes at FIRST_CLOSE."""
    index = pd.date_range(FIRST_CLOSE - BAR, periods=closes, freq=BAR, name="open_time")
    candles = pd.DataFrame(100.0, index=index, columns=["open", "high", "low", "close", "volume"])
    return build_features(MarketData(candles, **slow)).tabular


def frame(source, rows, event_times=None):
    """Rows of a source given as (available_at, {column: value}); other columns are NaN."""
    columns = {"macro": ("vix", "dxy", "sp500", "gold"), "onchain": ("whale_transfers", "exchange_netflow")}
    names = columns.get(source) or (PLAIN[source][0],)
    table = pd.DataFrame([{name: values.get(name, np.nan) for name in names} for _, values in rows])
    table.insert(0, "available_at", pd.DatetimeIndex([at for at, _ in rows]).as_unit("us"))
    if event_times is not None:
        table.insert(1, "event_time", pd.DatetimeIndex(event_times).as_unit("us"))
    return table


@pytest.mark.parametrize("source", PLAIN)
def test_a_row_is_known_at_the_exact_close_and_not_a_microsecond_before(source):
    column, given, expected, feature = PLAIN[source]
    known = answers(**{source: frame(source, [(FIRST_CLOSE, {column: given})])})
    assert known[feature].iloc[0] == pytest.approx(expected, rel=1e-15)
    late = answers(**{source: frame(source, [(FIRST_CLOSE + TICK, {column: given})])})
    if source == "funding":  # its stamps are floored to the second
        assert late[feature].iloc[0] == pytest.approx(expected, rel=1e-15)
    else:
        assert np.isnan(late[feature].iloc[0])


@pytest.mark.parametrize("source", PLAIN)
def test_a_row_of_exactly_the_maximum_age_is_valid_and_one_any_older_is_not(source):
    column, given, expected, feature = PLAIN[source]
    oldest = FIRST_CLOSE - MAX_AGE[source]
    step = pd.Timedelta(seconds=1) if source == "funding" else TICK
    assert answers(**{source: frame(source, [(oldest, {column: given})])})[feature].iloc[0] == pytest.approx(
        expected
    )
    older = answers(**{source: frame(source, [(oldest - step, {column: given})])})
    assert np.isnan(older[feature].iloc[0])


def test_the_maximum_ages_are_those_of_the_data_page():
    ages = {
        f.source: pd.Timedelta(seconds=f.parameters["max_age_s"])
        for f in SCHEMA.features
        if f.timeframe == "slow"
    }
    assert ages == MAX_AGE | {"onchain": pd.Timedelta(hours=6)}


def test_of_rows_known_at_one_moment_the_one_with_the_latest_event_counts():
    rows = [(FIRST_CLOSE, {"score": 0.3}), (FIRST_CLOSE, {"score": 0.1}), (FIRST_CLOSE, {"score": 0.2})]
    events = [FIRST_CLOSE - DAY, FIRST_CLOSE - 3 * DAY, FIRST_CLOSE - 2 * DAY]
    assert answers(news=frame("news", rows, events))["news_sentiment"].iloc[0] == 0.3
    assert answers(news=frame("news", rows))["news_sentiment"].iloc[0] == 0.2


def test_what_was_published_last_counts_even_if_it_is_about_an_earlier_event():
    rows = [(FIRST_CLOSE - 2 * TICK, {"score": 0.3}), (FIRST_CLOSE - TICK, {"score": 0.1})]
    events = [FIRST_CLOSE - DAY, FIRST_CLOSE - 2 * DAY]
    assert answers(news=frame("news", rows, events))["news_sentiment"].iloc[0] == 0.1


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("source", PLAIN)
def test_a_row_where_the_column_is_missing_does_not_exist(source, missing):
    column, given, expected, feature = PLAIN[source]
    earlier = FIRST_CLOSE - min(MAX_AGE[source], BAR)
    rows = frame(source, [(earlier, {column: given}), (FIRST_CLOSE, {column: missing})])
    assert answers(**{source: rows})[feature].iloc[0] == pytest.approx(expected)


def test_a_ratio_that_is_no_ratio_does_not_exist():
    rows = [(FIRST_CLOSE - BAR, {"long_short_ratio": 2.0}), (FIRST_CLOSE, {"long_short_ratio": 0.0})]
    assert answers(long_short=frame("long_short", rows))["long_short_ratio"].iloc[0] == np.log(2.0)


@pytest.mark.parametrize(
    "source", ["book", "fear_greed", "funding", "long_short", "macro", "onchain", "news"]
)
def test_an_empty_or_absent_source_is_nan(source):
    columns = book([]) if source == "book" else frame(source, [(FIRST_CLOSE, {})]).iloc[:0]
    for given in (columns, None):
        assert answers(**{source: given})[list(SCHEMA.sources[source])].isna().all().all()


def macro(*rows):
    return frame("macro", [(FIRST_CLOSE - DAY * (len(rows) - 1 - i), row) for i, row in enumerate(rows)])


def test_returns_are_made_on_the_rows_that_have_a_close():
    rows = macro({"dxy": 100.0}, {"dxy": np.nan, "vix": 15.0}, {"dxy": 101.0})
    last = answers(macro=rows).iloc[0]
    assert last["dxy_return_1d"] == pytest.approx(100 * np.log(1.01))
    assert last["vix"] == 15.0
    assert np.isnan(answers(macro=rows.iloc[1:])["dxy_return_1d"].iloc[0])


def test_risk_appetite_needs_both_closes_on_both_days():
    rows = macro(
        {"sp500": 4_000.0, "gold": 2_000.0},
        {"sp500": 4_400.0},
        {"gold": 1_000.0},
        {"sp500": 4_040.0, "gold": 1_980.0},
    )
    expected = 100 * np.log(4_040 / 4_000) - 100 * np.log(1_980 / 2_000)
    assert answers(macro=rows)["risk_appetite"].iloc[0] == pytest.approx(expected)
    assert np.isnan(answers(macro=rows.iloc[1:])["risk_appetite"].iloc[0])


def test_a_return_is_forgotten_with_the_row_it_was_made_on():
    rows = macro({"dxy": 100.0}, {"dxy": 101.0})
    known = answers(closes=4 * 96 + 3, macro=rows)["dxy_return_1d"]
    assert known.notna().sum() == 4 * 96 + 1
    assert known.iloc[4 * 96 + 1 :].isna().all()


def onchain(count, spacing=DAY, newest=FIRST_CLOSE, values=None):
    values = np.arange(count, dtype=float) if values is None else values
    stamps = [newest - spacing * (count - 1 - i) for i in range(count)]
    return frame("onchain", [(at, {"whale_transfers": v}) for at, v in zip(stamps, values, strict=True)])


def test_an_on_chain_z_score_is_over_the_rows_of_thirty_days_itself_included():
    answer = answers(onchain=onchain(40))["whale_transfers_zscore"].iloc[0]
    recent = np.arange(10, 40)  # (a - 30 d, a]: the row exactly 30 days old is out
    assert answer == pytest.approx((39 - recent.mean()) / recent.std(), rel=1e-12)


def test_without_a_row_thirty_days_back_there_is_no_z_score():
    assert np.isfinite(answers(onchain=onchain(31))["whale_transfers_zscore"].iloc[0])
    assert np.isnan(answers(onchain=onchain(30))["whale_transfers_zscore"].iloc[0])
    later = onchain(31)
    later.loc[0, "available_at"] += TICK  # known a little less than 30 days ago
    assert np.isnan(answers(onchain=later)["whale_transfers_zscore"].iloc[0])


@pytest.mark.parametrize(("count", "known"), [(20, True), (19, False)])
def test_fewer_than_twenty_rows_give_no_z_score(count, known):
    rows = pd.concat([onchain(1, newest=FIRST_CLOSE - 40 * DAY), onchain(count)], ignore_index=True)
    assert np.isfinite(answers(onchain=rows)["whale_transfers_zscore"].iloc[0]) == known


def test_an_on_chain_series_that_does_not_move_has_z_score_zero():
    rows = onchain(40, values=np.full(40, 0.1))
    assert answers(onchain=rows)["whale_transfers_zscore"].iloc[0] == 0.0


def test_the_two_on_chain_columns_live_on_rows_of_their_own():
    rows = onchain(40)
    rows["exchange_netflow"] = rows["whale_transfers"].where(rows.index % 2 == 1)
    last = answers(onchain=rows).iloc[0]
    assert np.isfinite(last["whale_transfers_zscore"])
    assert np.isnan(last["exchange_netflow_zscore"])  # 15 rows in 30 days


def book(rows, **changes):
    """Order books of 20 levels around 100: bids of 2 at 99, 98, ..., asks of 1 at 101, 102, ..."""
    table = {"available_at": pd.DatetimeIndex(rows, tz="UTC").as_unit("us")}
    for level in range(1, 21):
        table |= {f"bid_px_{level}": 100.0 - level, f"bid_qty_{level}": 2.0}
        table |= {f"ask_px_{level}": 100.0 + level, f"ask_qty_{level}": 1.0}
    return pd.DataFrame(table | changes, index=range(len(rows)))


BOOK = ["book_imbalance", "book_spread_bps", "book_microprice_bps"]


def test_the_order_book_speaks_of_its_levels():
    last = answers(book=book([FIRST_CLOSE - pd.Timedelta(seconds=60)])).iloc[0]
    assert last["book_imbalance"] == pytest.approx((40 - 20) / 60)
    assert last["book_spread_bps"] == pytest.approx(200.0)
    assert last["book_microprice_bps"] == pytest.approx(((99 * 1 + 101 * 2) / 3 - 100) / 100 * 1e4)


def test_an_order_book_older_than_a_minute_is_forgotten():
    old = FIRST_CLOSE - pd.Timedelta(seconds=60) - TICK
    assert answers(book=book([old]))[BOOK].isna().all().all()


@pytest.mark.parametrize(
    "changes",
    [
        {"bid_px_1": 102.0},  # crossed
        {"bid_px_1": np.nan, "bid_qty_1": np.nan},  # no bids
        {"ask_qty_1": 0.0},
        {"bid_px_1": 0.0},
        {"ask_px_1": np.inf},
    ],
)
def test_an_empty_or_crossed_book_is_nan_and_hides_the_one_before(changes):
    whole, broken = book([FIRST_CLOSE - 2 * TICK]), book([FIRST_CLOSE - TICK], **changes)
    assert answers(book=whole)[BOOK].notna().all().all()
    assert answers(book=pd.concat([whole, broken]))[BOOK].isna().all().all()


def test_a_row_without_any_book_does_not_exist():
    nothing = dict.fromkeys(book([FIRST_CLOSE]).columns[1:], np.nan)
    both = pd.concat([book([FIRST_CLOSE - 2 * TICK]), book([FIRST_CLOSE - TICK], **nothing)])
    assert answers(book=both)[BOOK].notna().all().all()


def test_a_thin_book_counts_the_levels_it_has():
    thin = {
        f"{side}_{what}_{i}": np.nan
        for side in ("bid", "ask")
        for what in ("px", "qty")
        for i in range(3, 21)
    }
    last = answers(book=book([FIRST_CLOSE], **thin)).iloc[0]
    assert last["book_imbalance"] == pytest.approx((4 - 2) / 6)


def test_a_locked_book_has_no_spread():
    last = answers(book=book([FIRST_CLOSE], bid_px_1=101.0)).iloc[0]
    assert last["book_spread_bps"] == last["book_microprice_bps"] == 0.0
