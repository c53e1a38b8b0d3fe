"""The quick profile on six months of recorded bars: what the demo trains."""

import numpy as np
import pandas as pd
import pytest

from acmf_core.config import TrainConfig
from acmf_core.features import Features, MarketData, build_features
from acmf_core.models import Bundle, evaluate, fit, label


@pytest.mark.slow
def test_six_months_of_real_bars_train_to_a_bundle_that_serves_the_same_bits(real_data, tmp_path):
    market = MarketData.from_candles(pd.read_parquet(real_data / "BTCUSDT_perp_15m_2023_2024.parquet"))
    features = build_features(market)
    start, end = pd.Timestamp("2023-07-01", tz="UTC"), pd.Timestamp("2024-01-01", tz="UTC")
    fitted = fit(features, market.candles, start, end, TrainConfig.quick(), workdir=tmp_path / "work")

    first = int(features.tabular.index.searchsorted(end))
    later = Features(
        features.sequence.iloc[first - 191 : first + 960],
        features.tabular.iloc[first - 191 : first + 960],
        features.schema,
    )
    bundle = Bundle.load(fitted.save(tmp_path / "bundle", params={}, evidence={}, lake_versions={}))
    p = bundle.predict(later)
    pd.testing.assert_frame_equal(p, fitted.predict(later), check_exact=True)
    for i in (191, 192, 500, 1_150):
        live = Features(
            later.sequence.iloc[i - 191 : i + 1], later.tabular.iloc[i - 191 : i + 1], features.schema
        )
        np.testing.assert_array_equal(bundle.predict(live).iloc[-1], p.iloc[i])

    labels = label(market.candles, fitted.config.labels, fitted.k)
    scores = evaluate(p, labels)
    baselines = fitted.baseline_predictions(later, market.candles)
    assert scores["n"] == 960
    assert {"class_prior", "tabular_only"} <= set(baselines)
    assert all(np.isfinite(evaluate(frame, labels)["log_loss"]) for frame in baselines.values())
