"""The 22 channels and the 66 tabular features: names, order, definitions. Declared here and nowhere else.

The order is load-bearing: models, bundles, daemon, documents and notebooks read it from `SCHEMA`. What is
declared is also what is computed: `sequence.py`, `tabular.py` and `sources.py` are driven by the definitions
and parameters below, so that a changed period changes the numbers and the fingerprint together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from acmf_core.config import FeatureConfig
from acmf_core.domain import BARS_PER_DAY, INTERVAL_SECONDS
from acmf_core.errors import SchemaMismatch
from acmf_core.fingerprint import fingerprint

FEATURE_VERSION: Final = 1  # raise it when a kernel's meaning changes and no parameter below does
LABEL_VERSION: Final = 1  # raise it when the meaning of a label (models/labels.py) changes

BLOCK_DAYS: Final = 8
WARMUP_DAYS: Final[Mapping[str, int]] = {"15m": 8, "1h": 16, "4h": 48, "1d": 128}
DECISION_ROWS: Final = 192  # rows of the sequence that one live decision reads

Parameter = int | float | str


@dataclass(frozen=True, slots=True)
class Feature:
    """One column: its name, the definition that computes it, and that definition's parameters.

    timeframe is "15m", "1h", "4h" or "1d" for what is made of candles, "slow" for what is joined as-of.
    source is the field of `MarketData` that it is made of. group is for readers: it is not fingerprinted.
    """

    name: str
    definition: str
    group: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    timeframe: str = "15m"
    source: str = "candles"

    def to_dict(self) -> dict[str, Any]:
        """Everything that takes part in the fingerprint, as plain JSON values."""
        return {
            "name": self.name,
            "definition": self.definition,
            "timeframe": self.timeframe,
            "source": self.source,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class Schema:
    """The ordered columns that features have and a model expects.

    Attributes
    ----------
    channels : tuple of Feature
        The 22 sequence channels.
    features : tuple of Feature
        The 66 tabular features; the first 22 are the channels.
    """

    channels: tuple[Feature, ...]
    features: tuple[Feature, ...]
    feature_version: int = FEATURE_VERSION
    label_version: int = LABEL_VERSION

    @cached_property
    def sequence(self) -> tuple[str, ...]:
        """Names of the sequence channels, in order."""
        return tuple(feature.name for feature in self.channels)

    @cached_property
    def tabular(self) -> tuple[str, ...]:
        """Names of the tabular features, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, order, definitions, parameters, block geometry and versions."""
        return fingerprint(self.to_dict())

    @cached_property
    def warmup(self) -> dict[str, int]:
        """Bars, per timeframe, that one live decision needs up to and including the newest.

        The sequence reads 192 rows, which may lie in two blocks; the higher timeframes read one row.
        """
        per_day = {name: 86_400 // INTERVAL_SECONDS[name] for name in WARMUP_DAYS}
        bars = {name: (days + BLOCK_DAYS) * per_day[name] for name, days in WARMUP_DAYS.items()}
        return bars | {"15m": bars["15m"] + DECISION_ROWS - 1}

    @property
    def history(self) -> int:
        """15m bars from which every feature of the newest row can be computed (13,056)."""
        return max(self.warmup["15m"], self.warmup["1d"] * BARS_PER_DAY)

    @cached_property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Names of the tabular features made of each source: {"candles": (...), "book": (...), ...}."""
        names: dict[str, list[str]] = {}
        for feature in self.features:
            names.setdefault(feature.source, []).append(feature.name)
        return {source: tuple(columns) for source, columns in names.items()}

    @cached_property
    def max_ages(self) -> dict[str, int]:
        """Seconds up to which a value of each slow source is used: {"book": 60, "funding": 32400, ...}."""
        ages: dict[str, int] = {}
        for feature in self.features:
            if "max_age_s" in feature.parameters:
                age = int(feature.parameters["max_age_s"])
                ages[feature.source] = min(age, ages.get(feature.source, age))
        return ages

    def to_dict(self) -> dict[str, Any]:
        """What the fingerprint covers, as plain JSON values; a bundle stores it beside the model."""
        return {
            "feature_version": self.feature_version,
            "label_version": self.label_version,
            "block_days": BLOCK_DAYS,
            "warmup_days": dict(WARMUP_DAYS),
            "sequence": [feature.to_dict() for feature in self.channels],
            "tabular": [feature.to_dict() for feature in self.features],
        }

    def compare(self, trained: "Schema | Mapping[str, Any]") -> None:
        """Refuse a bundle whose columns are not these columns.

        Parameters
        ----------
        trained : Schema or mapping
            The schema a model was trained with, or its `to_dict()` as read from a bundle.

        Raises
        ------
        SchemaMismatch
            Naming the first difference in words.
        """
        other = trained.to_dict() if isinstance(trained, Schema) else dict(trained)
        difference = first_difference(self.to_dict(), other)
        if difference:
            raise SchemaMismatch(
                difference, "train a new bundle with this code, or run the code it came with"
            )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{i}</td><td>{f.name}</td><td>{f.group}</td><td>{f.timeframe}</td><td>{f.source}</td></tr>"
            for i, f in enumerate(self.features)
        )
        head = "<tr><th>#</th><th>name</th><th>group</th><th>timeframe</th><th>source</th></tr>"
        return (
            f"<p>{len(self.channels)} channels, {len(self.features)} tabular features, "
            f"fingerprint <code>{self.fingerprint[:12]}</code></p>"
            f"<details><summary>columns</summary><table>{head}{rows}</table></details>"
        )


def first_difference(running: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """The first difference between two `Schema.to_dict()`, in words; empty when there is none."""
    for key, what in (("sequence", "channel"), ("tabular", "tabular feature")):
        difference = _first_column_difference(what, running[key], trained.get(key, ()))
        if difference:
            return difference
    for key in sorted(set(running) | set(trained)):
        if running.get(key) != trained.get(key):
            return f"{key} is {running.get(key)}, the bundle was trained with {trained.get(key)}"
    return ""


def _first_column_difference(what: str, running: Any, trained: Any) -> str:
    for i in range(max(len(running), len(trained))):
        if i >= len(trained):
            return f"{what} {i} is {running[i]['name']}, the bundle was trained with {i} only"
        if i >= len(running):
            return f"there is no {what} {i}, the bundle was trained with {trained[i]['name']}"
        ours, theirs = running[i], trained[i]
        if ours["name"] != theirs.get("name"):
            return f"{what} {i} is {ours['name']}, the bundle was trained with {theirs.get('name')}"
        for key in ("definition", "timeframe", "source", "parameters"):
            if ours[key] != theirs.get(key):
                return (
                    f"{what} {i} ({ours['name']}) has {key} {ours[key]}, "
                    f"the bundle was trained with {theirs.get(key)}"
                )
    return ""


def _technical(name: str, definition: str, **parameters: Parameter) -> Feature:
    return Feature(name, definition, "technical", parameters)


def _volatility(name: str, definition: str, **parameters: Parameter) -> Feature:
    return Feature(name, definition, "volatility", parameters)


def _macd(name: str, output: str, scale: str, *, group: str = "technical", timeframe: str = "15m") -> Feature:
    parameters: dict[str, Parameter] = {"fast": 12, "slow": 26, "signal": 9, "output": output, "scale": scale}
    return Feature(name, "macd", group, parameters, timeframe)


def _channels(scale: str) -> tuple[Feature, ...]:
    return (
        _technical("rsi_7", "rsi", period=7),
        _technical("rsi_14", "rsi", period=14),
        _technical("ema_9", "ema", period=9),
        _technical("ema_21", "ema", period=21),
        _volatility("atr_7", "atr", period=7),
        _volatility("atr_14", "atr", period=14),
        _technical("bb_upper_10", "bollinger", period=10, sigmas=2.0),
        _technical("bb_lower_10", "bollinger", period=10, sigmas=-2.0),
        _technical("bb_mid_10", "bollinger", period=10, sigmas=0.0),
        _macd("macd_line", "line", scale),
        _macd("macd_hist", "hist", scale),
        _macd("macd_signal", "signal", scale),
        _technical("vwap", "anchored_vwap", anchor_bars=BARS_PER_DAY),
        _technical("volume_sma_ratio", "volume_ratio", period=20),
        _technical("close_vs_vwap", "vwap_distance", period=96),
        _technical("adx_14", "adx", period=14),
        _technical("obv", "obv_change", volume_period=20),
        _technical("obv_slope", "obv_slope", period=10, volume_period=20),
        _volatility("realized_vol_15m", "return_std", period=20),
        _volatility("garman_klass_vol", "garman_klass", period=20),
        _volatility("atr_ratio", "atr_ratio", period=14, mean_period=96),
        _volatility("vol_regime", "volatility_rank", period=672, volatility_period=20),
    )


def _stacked() -> tuple[Feature, ...]:
    def make(group: str, name: str, definition: str, **parameters: Parameter) -> Feature:
        return Feature(name, definition, group, parameters)

    returns = tuple(make("returns", f"log_return_{n}", "log_return", bars=n) for n in (1, 4, 16, 96))
    lagged = tuple(
        make("lagged returns", f"log_return_1_lag_{lag}", "log_return", bars=1, lag=lag)
        for lag in (1, 2, 3, 4)
    )
    return (
        *returns,
        *lagged,
        make("lagged indicators", "rsi_14_lag_1", "rsi", period=14, lag=1),
        make("lagged indicators", "rsi_14_lag_4", "rsi", period=14, lag=4),
        make("lagged indicators", "adx_14_lag_4", "adx", period=14, lag=4),
        make("lagged indicators", "volume_sma_ratio_lag_1", "volume_ratio", period=20, lag=1),
        make("rolling statistics", "return_autocorr_96", "return_autocorrelation", period=96),
        make("rolling statistics", "range_position_96", "range_position", period=96),
        make("rolling statistics", "return_std_16", "return_std", period=16),
        make("rolling statistics", "return_std_96", "return_std", period=96),
        make("rolling statistics", "return_skew_96", "return_skew", period=96),
        make("rolling statistics", "return_kurt_96", "return_kurtosis", period=96),
        make("rolling statistics", "close_zscore_96", "zscore", of="close", period=96),
        make("rolling statistics", "volume_zscore_96", "zscore", of="volume", period=96),
    )


def _higher(scale: str) -> tuple[Feature, ...]:
    def make(timeframe: str, name: str, definition: str, **parameters: Parameter) -> Feature:
        return Feature(f"{name}_{timeframe}", definition, _GROUP_OF[timeframe], parameters, timeframe)

    def macd_hist(timeframe: str) -> Feature:
        return _macd(f"macd_hist_{timeframe}", "hist", scale, group=_GROUP_OF[timeframe], timeframe=timeframe)

    return (
        make("1h", "rsi_14", "rsi", period=14),
        make("1h", "ema_21", "ema", period=21),
        make("1h", "atr_14", "atr", period=14),
        macd_hist("1h"),
        make("1h", "log_return", "log_return", bars=1),
        make("4h", "rsi_14", "rsi", period=14),
        make("4h", "ema_21", "ema", period=21),
        make("4h", "atr_14", "atr", period=14),
        make("4h", "adx_14", "adx", period=14),
        macd_hist("4h"),
        make("4h", "log_return", "log_return", bars=1),
    )


_GROUP_OF: Final = {"1h": "1 hour", "4h": "4 hours", "1d": "daily"}


def _slow() -> tuple[Feature, ...]:
    def make(group: str, source: str, max_age_s: int, name: str, **parameters: Parameter) -> Feature:
        return Feature(name, name, group, parameters | {"max_age_s": max_age_s}, "slow", source)

    hour, day = 3_600, 86_400
    return (
        make("order book", "book", 60, "book_imbalance", levels=20),
        make("order book", "book", 60, "book_spread_bps"),
        make("order book", "book", 60, "book_microprice_bps"),
        make("sentiment", "fear_greed", 36 * hour, "fear_greed"),
        make("sentiment", "funding", 9 * hour, "funding_rate"),
        make("sentiment", "long_short", hour, "long_short_ratio"),
        make("macro", "macro", 4 * day, "vix"),
        make("macro", "macro", 4 * day, "dxy_return_1d"),
        make("macro", "macro", 4 * day, "risk_appetite"),
        make("on-chain", "onchain", 6 * hour, "whale_transfers_zscore", days=30, min_rows=20),
        make("on-chain", "onchain", 6 * hour, "exchange_netflow_zscore", days=30, min_rows=20),
        make("news", "news", 8 * hour, "news_sentiment"),
    )


def schema_for(config: FeatureConfig) -> Schema:
    """The schema of one feature configuration; each has its own fingerprint."""
    channels = _channels(config.macd)
    daily = Feature("ema_20_1d", "ema", _GROUP_OF["1d"], {"period": 20}, "1d")
    return Schema(channels, (*channels, *_stacked(), *_higher(config.macd), *_slow(), daily))


SCHEMA: Final = schema_for(FeatureConfig())
