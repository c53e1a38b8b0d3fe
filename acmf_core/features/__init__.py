"""Features (layer 2): 22 channels and 66 tabular features, the same in research and production."""

from acmf_core.features.build import Features, build_features
from acmf_core.features.market import MarketData
from acmf_core.features.schema import LABEL_VERSION, SCHEMA, Feature, Schema, schema_for

__all__ = [
    "LABEL_VERSION",
    "SCHEMA",
    "Feature",
    "Features",
    "MarketData",
    "Schema",
    "build_features",
    "schema_for",
]
