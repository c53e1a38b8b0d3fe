"""Every setting, once: frozen models that refuse what they do not know.

Values come from `acmf.toml`, the environment and flags; `production/settings.py` gathers them,
this file only says what exists, what is allowed and what the default is. It reads nothing.
"""

import difflib
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from acmf_core.domain import SymbolRules
from acmf_core.errors import ConfigError
from acmf_core.fingerprint import fingerprint


class Section(BaseModel):
    """A frozen group of settings with a fingerprint; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the values; secrets do not take part."""
        return fingerprint(self.model_dump(mode="json", exclude=_secret_fields(type(self))))


def _secret_fields(model: type[BaseModel]) -> set[str]:
    return {name for name, info in model.model_fields.items() if "Secret" in str(info.annotation)}


class MarketConfig(Section):
    """What is traded. `symbol` is the venue's name (BTCUSDT)."""

    symbol: str = Field("BTCUSDT", pattern=r"^[A-Z0-9]{5,20}$")
    interval: Literal["15m"] = "15m"
    tick: float = Field(0.1, gt=0)
    step: float = Field(0.001, gt=0)
    min_quantity: float = Field(0.001, gt=0)
    min_notional: float = Field(100.0, ge=0)
    max_market_quantity: float = Field(120.0, gt=0)

    @property
    def rules(self) -> SymbolRules:
        """The venue's filters of the symbol."""
        return SymbolRules(
            self.symbol, self.tick, self.step, self.min_quantity, self.min_notional, self.max_market_quantity
        )


class PathsConfig(Section):
    """Where things are written; relative paths start at the working directory.

    Empty `database_url` and `tracking_uri` mean SQLite files under `state`, an empty `redis_url` a file cache
    there.
    """

    lake: str = "data_lake/store"
    state: str = "state"
    reports: str = "reports"
    models: str = "state/models"
    database_url: SecretStr = SecretStr("")
    tracking_uri: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("")


class ExchangeConfig(Section):
    """The venue. An empty `base_url` means its own hosts; else scheme and host of every URL are replaced."""

    base_url: str = ""
    max_clock_offset_s: float = Field(5.0, gt=0, description="beyond it nothing is entered (gate 10)")
    warn_clock_offset_s: float = Field(1.0, gt=0)


class SourceConfig(Section):
    """How one source is asked.

    timeout_s: for one try. attempts: tries in one collection. cache_s: how long an answer is good for (0: ask
    every time). base_url: empty means the service's own.
    """

    enabled: bool = True
    base_url: str = ""
    timeout_s: float = Field(5.0, gt=0)
    attempts: int = Field(3, ge=1, le=10)
    cache_s: float = Field(0.0, ge=0)


class OnchainConfig(SourceConfig):
    """Whale Alert; off without a key. Transfers of at least `min_usd` are whales'."""

    timeout_s: float = Field(8.0, gt=0)
    cache_s: float = Field(900.0, ge=0)
    api_key: SecretStr = SecretStr("")
    min_usd: float = Field(500_000.0, ge=0)


class NewsConfig(SourceConfig):
    """Headlines from RSS feeds, scored by a language model; off without `anthropic.api_key`."""

    timeout_s: float = Field(15.0, gt=0)
    attempts: int = Field(2, ge=1, le=10)
    cache_s: float = Field(14_400.0, ge=0)
    feeds: tuple[str, ...] = (
        "https://www.coindesk.com/arc/outboundfeeds/rss/",
        "https://cointelegraph.com/rss",
        "https://decrypt.co/feed",
        "https://bitcoinmagazine.com/feed",
    )
    max_headlines: int = Field(40, ge=1, le=200)
    max_chars: int = Field(200, ge=20, le=1000, description="of one headline; the rest is cut off")
    max_age_hours: float = Field(24.0, gt=0, description="older headlines are left out")


class AnthropicConfig(Section):
    """The language model behind the news score."""

    base_url: str = "https://api.anthropic.com"
    api_key: SecretStr = SecretStr("")
    model: str = "claude-haiku-4-5"
    max_tokens_per_day: int = Field(
        100_000, ge=0, description="input and output together; then no more today"
    )


class SourcesConfig(Section):
    """Everything outside: base URLs (tests, proxies and mirrors can stand in), and how each source is asked.

    deadline_s: of a whole collection, counted from the close. early_s: a collection that begins so long
    before the close waits for optional sources until the close only: what comes later could not count for
    it. circuit_failures: after so many failed collections in a row an optional source is left alone for
    `circuit_rest_s`.
    """

    archive_base_url: str = "https://data.binance.vision"
    archive_connections: int = Field(4, ge=1, le=16)
    archive_timeout_s: float = Field(30.0, gt=0)
    deadline_s: float = Field(20.0, gt=0, le=60)
    early_s: float = Field(5.0, ge=0)
    circuit_failures: int = Field(4, ge=1)
    circuit_rest_s: float = Field(3_600.0, ge=0)
    candles: SourceConfig = SourceConfig(attempts=10)
    book: SourceConfig = SourceConfig(timeout_s=3.0)
    fear_greed: SourceConfig = SourceConfig(base_url="https://api.alternative.me", cache_s=3_600.0)
    funding: SourceConfig = SourceConfig()
    long_short: SourceConfig = SourceConfig()
    macro: SourceConfig = SourceConfig(timeout_s=12.0, attempts=2, cache_s=3_600.0)
    onchain: OnchainConfig = OnchainConfig(base_url="https://api.whale-alert.io")
    news: NewsConfig = NewsConfig()

    @field_validator("candles", "book", "funding", "long_short")
    @classmethod
    def _ask_at_each_close(cls, source: SourceConfig) -> SourceConfig:
        if source.cache_s:
            raise ValueError(f"cache_s = {source.cache_s:g}, but what is asked at each close is not cached")
        return source

    @model_validator(mode="before")
    @classmethod
    def _keep_what_is_not_given(cls, values: Any) -> Any:
        """A source of which one key is given keeps its own defaults for the others, not its class's."""
        if not isinstance(values, dict):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**dict(defaults[name]), **value}
            if isinstance(value, dict) and isinstance(defaults.get(name), SourceConfig)
            else value
            for name, value in values.items()
        }


class FeatureConfig(Section):
    """Choices inside the features; each has its own fingerprint and so its own models."""

    macd: Literal["percent", "price"] = "percent"


class LabelConfig(Section):
    """What the model is asked to predict (`models/labels.py`)."""

    kind: Literal["volatility", "triple_barrier", "fixed"] = "volatility"
    horizon_bars: int = Field(8, ge=1, le=96)
    neutral_share: float = Field(0.55, gt=0, lt=1)
    cost: float = Field(0.0014, ge=0, description="round trip, fraction of the price")
    cost_multiple: float = Field(1.0, ge=0)
    sigma_bars: int = Field(20, ge=2)
    stop_atr: float = Field(2.0, gt=0, description="triple barrier only")
    target_atr: float = Field(3.0, gt=0, description="triple barrier only")
    fixed_return: float = Field(0.003, gt=0, description="fixed only")


class EncoderConfig(Section):
    """The Mamba encoder. The hidden state is always d_model wide; the stack expects 128."""

    d_model: int = Field(128, ge=4)
    n_layers: int = Field(2, ge=1)
    d_state: int = Field(16, ge=1)
    expand: int = Field(2, ge=1)
    d_conv: int = Field(4, ge=2)
    window: int = Field(192, ge=8)
    target_share: float = Field(0.5, ge=0, le=1, description="last part of a training window that is targets")
    epochs: int = Field(8, ge=1)
    stride: int = Field(64, ge=1, description="bars between training windows")
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    patience: int = Field(3, ge=1)


class StackConfig(Section):
    """The booster on 128 hidden values and the selected tabular features."""

    n_selected: int = Field(40, ge=1, le=66)
    rounds: int = Field(600, ge=1)
    early_stopping: int = Field(40, ge=1)
    learning_rate: float = Field(0.03, gt=0)
    max_depth: int = Field(4, ge=1)
    min_child_weight: float = Field(20.0, ge=0)
    subsample: float = Field(0.7, gt=0, le=1)
    colsample: float = Field(0.4, gt=0, le=1)
    reg_lambda: float = Field(5.0, ge=0)
    max_bin: int = Field(64, ge=8)
    bootstraps: int = Field(5, ge=1)
    source_dropout: float = Field(0.15, ge=0, lt=1)


class TrainConfig(Section):
    """One training: windows A|B|C, encoder, stack, calibration."""

    seed: int = 7
    threads: int = Field(1, ge=1)
    profile: Literal["default", "quick"] = "default"
    share_a: float = Field(0.40, gt=0, lt=1)
    share_b: float = Field(0.45, gt=0, lt=1)
    min_days_c: float = Field(60.0, gt=0)
    embargo_bars: int = Field(960, ge=0)
    calibration: Literal["directional", "temperature"] = "directional"
    labels: LabelConfig = LabelConfig()
    features: FeatureConfig = FeatureConfig()
    encoder: EncoderConfig = EncoderConfig()
    stack: StackConfig = StackConfig()

    @model_validator(mode="after")
    def _room_for_c(self) -> "TrainConfig":
        if self.share_a + self.share_b >= 1:
            raise ValueError("share_a + share_b leave nothing for calibration (block C)")
        return self

    @classmethod
    def quick(cls, **changes: Any) -> "TrainConfig":
        """About two minutes on two cores for six months of bars; smaller, never fake."""
        values: dict[str, Any] = {
            "profile": "quick",
            "min_days_c": 20.0,
            "encoder": EncoderConfig(n_layers=1, epochs=3, stride=32, learning_rate=1e-3),
            "stack": StackConfig(rounds=250, early_stopping=25, learning_rate=0.06, bootstraps=3),
        }
        return cls(**(values | changes))


class TuneConfig(Section):
    """Optuna inside one training window. `storage` empty: a journal file under state."""

    trials: int = Field(60, ge=1)
    seed: int = 7
    storage: SecretStr = SecretStr("")
    min_trades: int = Field(10, ge=0)
    max_drawdown: float = Field(0.25, gt=0, le=1)


class WalkForwardSection(Section):
    """Folds in time. The last `holdout_days` are touched once, by the promotion report."""

    folds: int = Field(6, ge=1)
    train_days: float = Field(365.0, gt=0)
    test_days: float = Field(60.0, gt=0)
    holdout_days: float = Field(60.0, ge=0)
    scheme: Literal["rolling", "expanding"] = "rolling"
    engine: str = Field("local", pattern=r"^(local|dask://.+)$")
    workers: int = Field(2, ge=1)
    equity: float = Field(10_000.0, gt=0)


class WalkForwardConfig(WalkForwardSection):
    """One walk-forward: its folds, and what is trained and tuned in each."""

    train: TrainConfig = TrainConfig()
    tune: TuneConfig = TuneConfig()


class Config(Section):
    """The effective configuration of one process."""

    mode: Literal["replay", "paper", "live"] = "paper"
    market: MarketConfig = MarketConfig()
    paths: PathsConfig = PathsConfig()
    exchange: ExchangeConfig = ExchangeConfig()
    sources: SourcesConfig = SourcesConfig()
    anthropic: AnthropicConfig = AnthropicConfig()
    train: TrainConfig = TrainConfig()
    tune: TuneConfig = TuneConfig()
    walk_forward: WalkForwardSection = WalkForwardSection()

    @classmethod
    def from_values(cls, values: dict[str, Any], *, source: str = "acmf.toml") -> "Config":
        """Validate nested plain values.

        Raises
        ------
        ConfigError
            Naming the first bad key with its path, and the nearest known one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(*_explain(cls, error, source)) from None


def _explain(root: type[BaseModel], error: ValidationError, source: str) -> tuple[str, str]:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = list(_fields_at(root, path[:-1]))
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        fix = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(known))}"
        return f'{source}: unknown key "{name}"', fix
    return f"{source}: {name or 'configuration'}: {first['msg']}", f"mend {name or 'it'} and run again"


def _fields_at(model: type[BaseModel], path: list[str]) -> dict[str, Any]:
    for part in path:
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return {}
        model = inner
    return dict(model.model_fields)
