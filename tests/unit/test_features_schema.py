"""The names, their order and their fingerprint: the contract between features and models."""

import dataclasses

import pytest

from acmf_core.config import FeatureConfig
from acmf_core.errors import SchemaMismatch
from acmf_core.features import SCHEMA, Schema, schema_for

CHANNELS = """
rsi_7 rsi_14 ema_9 ema_21 atr_7 atr_14 bb_upper_10 bb_lower_10 bb_mid_10 macd_line macd_hist macd_signal
vwap volume_sma_ratio close_vs_vwap adx_14 obv obv_slope
realized_vol_15m garman_klass_vol atr_ratio vol_regime
"""
THE_REST = """
log_return_1 log_return_4 log_return_16 log_return_96
log_return_1_lag_1 log_return_1_lag_2 log_return_1_lag_3 log_return_1_lag_4
rsi_14_lag_1 rsi_14_lag_4 adx_14_lag_4 volume_sma_ratio_lag_1
return_autocorr_96 range_position_96 return_std_16 return_std_96 return_skew_96 return_kurt_96
close_zscore_96 volume_zscore_96
rsi_14_1h ema_21_1h atr_14_1h macd_hist_1h log_return_1h
rsi_14_4h ema_21_4h atr_14_4h adx_14_4h macd_hist_4h log_return_4h
book_imbalance book_spread_bps book_microprice_bps fear_greed funding_rate long_short_ratio
vix dxy_return_1d risk_appetite whale_transfers_zscore exchange_netflow_zscore news_sentiment ema_20_1d
"""


def altered(what, i, **changes):
    """The schema with one column declared otherwise."""
    columns = list(getattr(SCHEMA, what))
    columns[i] = dataclasses.replace(columns[i], **changes)
    return dataclasses.replace(SCHEMA, **{what: tuple(columns)})


def test_the_channels_stand_in_the_articles_order():
    assert list(SCHEMA.sequence) == CHANNELS.split()
    assert len(SCHEMA.sequence) == 22


def test_the_tabular_features_stand_in_the_design_pages_order():
    assert list(SCHEMA.tabular) == (CHANNELS + THE_REST).split()
    assert len(SCHEMA.tabular) == len(set(SCHEMA.tabular)) == 66


def test_the_groups_have_the_sizes_of_the_design_page():
    sizes = {}
    for feature in SCHEMA.features:
        sizes[feature.group] = sizes.get(feature.group, 0) + 1
    assert sizes == {
        "technical": 16,
        "volatility": 6,
        "returns": 4,
        "lagged returns": 4,
        "lagged indicators": 4,
        "rolling statistics": 8,
        "1 hour": 5,
        "4 hours": 6,
        "order book": 3,
        "sentiment": 3,
        "macro": 3,
        "on-chain": 2,
        "news": 1,
        "daily": 1,
    }


def test_the_fingerprints_are_pinned():
    """A change here means: no bundle trained before it may be used after it."""
    assert SCHEMA.fingerprint == "b992fcf1cdf77131b7a0194562e2b643c8a92bf972d93b37c85a205e29d514dd"
    assert schema_for(FeatureConfig(macd="price")).fingerprint == (
        "c4568521cac14c80849f505950bb2b86b76245dd8c677ba2827441f9ffe5dd39"
    )


def test_warm_up_is_what_one_live_decision_needs():
    assert SCHEMA.warmup == {"15m": 1727, "1h": 576, "4h": 336, "1d": 136}
    assert SCHEMA.history == 13_056


def test_every_source_names_its_columns():
    assert SCHEMA.sources["macro"] == ("vix", "dxy_return_1d", "risk_appetite")
    assert sum(len(columns) for columns in SCHEMA.sources.values()) == 66


@pytest.mark.parametrize(
    "other",
    [
        altered("channels", 7, name="bb_low_10"),
        altered("channels", 0, parameters={"period": 8}),
        altered("features", 40, definition="rank"),
        altered("features", 50, timeframe="1h"),
        altered("features", 60, source="book"),
        dataclasses.replace(SCHEMA, channels=SCHEMA.channels[::-1]),
        dataclasses.replace(SCHEMA, features=SCHEMA.features[:-1]),
        dataclasses.replace(SCHEMA, feature_version=2),
        dataclasses.replace(SCHEMA, label_version=2),
        schema_for(FeatureConfig(macd="price")),
    ],
)
def test_no_change_keeps_the_fingerprint_or_passes_the_comparison(other):
    assert other.fingerprint != SCHEMA.fingerprint
    with pytest.raises(SchemaMismatch):
        SCHEMA.compare(other)
    with pytest.raises(SchemaMismatch):
        other.compare(SCHEMA.to_dict())


def test_a_group_is_for_readers_and_changes_no_fingerprint():
    assert altered("channels", 0, group="momentum").fingerprint == SCHEMA.fingerprint


def test_an_equal_schema_passes_in_either_form():
    SCHEMA.compare(schema_for(FeatureConfig()))
    SCHEMA.compare(SCHEMA.to_dict())


def test_the_first_difference_is_said_in_words():
    swapped = list(SCHEMA.channels)
    swapped[7], swapped[8] = swapped[8], swapped[7]
    trained = dataclasses.replace(SCHEMA, channels=tuple(swapped))
    with pytest.raises(
        SchemaMismatch, match="channel 7 is bb_lower_10, the bundle was trained with bb_mid_10"
    ):
        SCHEMA.compare(trained)
    running = dataclasses.replace(SCHEMA, channels=tuple(swapped))
    with pytest.raises(
        SchemaMismatch, match="channel 7 is bb_mid_10, the bundle was trained with bb_lower_10"
    ):
        running.compare(SCHEMA)


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (
            altered("features", 34, name="return_autocorr_48"),
            "tabular feature 34 is return_autocorr_96, the bundle was trained with return_autocorr_48",
        ),
        (
            altered("channels", 1, parameters={"period": 21}),
            r"channel 1 \(rsi_14\) has parameters {'period': 14}, the bundle was trained with {'period': 21}",
        ),
        (
            dataclasses.replace(SCHEMA, features=SCHEMA.features[:60]),
            "tabular feature 60 is dxy_return_1d, the bundle was trained with 60 only",
        ),
        (
            dataclasses.replace(SCHEMA, label_version=3),
            "label_version is 1, the bundle was trained with 3",
        ),
    ],
)
def test_other_differences_are_named_too(trained, words):
    with pytest.raises(SchemaMismatch, match=words):
        SCHEMA.compare(trained)


def test_a_bundles_file_that_says_less_or_more_is_refused():
    with pytest.raises(SchemaMismatch, match="channel 0 is rsi_7, the bundle was trained with 0 only"):
        SCHEMA.compare({})
    with pytest.raises(SchemaMismatch, match="block_days is 8, the bundle was trained with 16"):
        SCHEMA.compare(SCHEMA.to_dict() | {"block_days": 16})
    with pytest.raises(SchemaMismatch, match="extra is None"):
        SCHEMA.compare(SCHEMA.to_dict() | {"extra": 1})
    longer = Schema(SCHEMA.channels, (*SCHEMA.features, dataclasses.replace(SCHEMA.features[0], name="new")))
    with pytest.raises(
        SchemaMismatch, match="there is no tabular feature 66, the bundle was trained with new"
    ):
        SCHEMA.compare(longer)


def test_the_schema_shows_itself_in_a_notebook():
    page = SCHEMA._repr_html_()
    assert SCHEMA.fingerprint[:12] in page
    assert all(name in page for name in SCHEMA.tabular)
