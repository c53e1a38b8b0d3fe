"""Every number of the trading rules that may be tuned, validated once and frozen.

`TradeParams` is what people, configs and bundles hold; `Rules` is the same in the form that the
compiled kernel reads: fractions instead of basis points, one `RegimeRules` per regime.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

from acmf_core.domain import Regime, SymbolRules
from acmf_core.errors import ConfigError
from acmf_core.fingerprint import fingerprint

MAX_POSITIONS: Final = 3  # the state has room for so many lots (and one leaving)
CONFIDENCE_RATIO: Final = 1.5  # of the confidence formula: a constant, never tuned
_BPS: Final = 1e-4


class RegimeRules(NamedTuple):
    """What differs by regime. Multiples of ATR 14; cooldown and time_exit in bars."""

    min_confidence: float
    cooldown: int
    max_positions: int
    stop_atr: float
    target_atr: float
    trail_atr: float
    time_exit: int


class Rules(NamedTuple):
    """`TradeParams` as the compiled kernel reads them; costs are fractions of the price."""

    regimes: tuple[RegimeRules, RegimeRules, RegimeRules]
    min_ratio: float
    min_spread: float
    opposite_min_confidence: float
    risk_per_trade: float
    max_leverage: float
    max_open_risk: float
    cost_in_risk: bool
    fee: float
    slippage: float
    max_losses: int
    max_daily_drawdown: float
    min_probability: float
    low_probability_bars: int
    resume_after: int  # 0: never by itself
    pause_on_losses: bool
    person_resumes: bool
    min_volume_ratio: float
    max_funding_bps: float
    max_adverse_funding_bps: float
    max_spread_bps: float
    max_adverse_imbalance: float
    reward_cost_multiple: float
    tick: float
    step: float
    min_quantity: float
    min_notional: float
    max_market_quantity: float


@dataclass(frozen=True)
class TradeParams:
    """The tunable numbers of `trading.md`; tuples are in the order of `Regime`.

    Units: *_bps are basis points, *_atr multiples of ATR 14, cooldown / time_exit / *_bars / resume_after
    are bars, the rest fractions; tick, step, min_* and max_market_quantity are the venue's filters.

    Raises
    ------
    ConfigError
        When a value is not of its kind or outside its bounds; the cause names it and the bound.
    """

    min_ratio: float = 1.5
    min_spread: float = 0.05
    min_confidence: tuple[float, float, float] = (0.45, 0.55, 0.60)
    cooldown: tuple[int, int, int] = (2, 4, 6)
    max_positions: tuple[int, int, int] = (3, 2, 1)
    stop_atr: tuple[float, float, float] = (2.0, 1.5, 2.5)
    target_atr: tuple[float, float, float] = (3.0, 2.0, 3.5)
    trail_atr: tuple[float, float, float] = (1.5, 1.0, 2.0)
    time_exit: tuple[int, int, int] = (16, 12, 8)
    opposite_min_confidence: float = 0.40
    risk_per_trade: float = 0.015
    max_leverage: float = 3.0
    max_open_risk: float = 0.045
    max_losses: int = 3
    max_daily_drawdown: float = 0.05
    fee_bps: float = 5.0
    slippage_bps: float = 2.0
    cost_in_risk: bool = False
    resume_after: int | None = 96
    streak_action: str = "kill"
    person_resumes: bool = False  # live: only a person lifts a kill; a pause still lifts itself
    min_volume_ratio: float = 0.5
    max_funding_bps: float = 10.0
    max_adverse_funding_bps: float = 3.0
    max_spread_bps: float = 5.0
    max_adverse_imbalance: float = 0.85
    min_probability: float = 0.35
    low_probability_bars: int = 5
    reward_cost_multiple: float = 3.0
    tick: float = 0.1
    step: float = 0.001
    min_quantity: float = 0.001
    min_notional: float = 100.0
    max_market_quantity: float = 120.0

    def __post_init__(self) -> None:
        for name, (kind, low, high, low_is_in) in _BOUNDS.items():
            value = getattr(self, name)
            if name in _PER_REGIME:
                values = _three(name, value)
                checked: Any = tuple(_number(name, v, kind, low, high, low_is_in) for v in values)
            else:
                checked = _number(name, value, kind, low, high, low_is_in)
            object.__setattr__(self, name, checked)
        for name in ("cost_in_risk", "person_resumes"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, not true or false", f"mend {name}")
        self._check_breaker()

    def _check_breaker(self) -> None:
        if self.streak_action not in ("kill", "pause"):
            raise ConfigError(
                f'streak_action is {self.streak_action!r}, known are "kill" and "pause"', "use one of the two"
            )
        if self.resume_after is not None:
            bars = _number("resume_after", self.resume_after, int, 1, math.inf, True)
            object.__setattr__(self, "resume_after", bars)
        elif self.streak_action == "pause":
            raise ConfigError(
                "streak_action is pause and resume_after is None: the pause would never end",
                "give resume_after in bars, or use streak_action kill",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (tuples as lists); `from_dict` takes them back exactly."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values; what is absent keeps its default, what is unknown is refused."""
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                fix = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(known))}"
                raise ConfigError(f'unknown trading parameter "{name}"', fix)
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the values."""
        return fingerprint(self.to_dict())

    def with_rules(self, rules: SymbolRules) -> "TradeParams":
        """The same rules with a venue's filters in place of the defaults."""
        return replace(
            self,
            tick=rules.tick,
            step=rules.step,
            min_quantity=rules.min_quantity,
            min_notional=rules.min_notional,
            max_market_quantity=rules.max_market_quantity,
        )

    def diff(self, other: "TradeParams") -> dict[str, tuple[Any, Any]]:
        """Where two sets differ: name -> (mine, the other's)."""
        return {
            field.name: (getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        }

    @cached_property
    def rules(self) -> Rules:
        """The form that the compiled kernel reads."""
        per_regime = [
            RegimeRules(*(getattr(self, name)[code] for name in RegimeRules._fields)) for code in Regime
        ]
        given = {name: getattr(self, name) for name in Rules._fields if hasattr(self, name)}
        return Rules(
            **given
            | {
                "regimes": tuple(per_regime),
                "fee": self.fee_bps * _BPS,
                "slippage": self.slippage_bps * _BPS,
                "resume_after": self.resume_after or 0,
                "pause_on_losses": self.streak_action == "pause",
            }
        )

    def __str__(self) -> str:
        return "\n".join(f"{name:<24} {_shown(value)}" for name, value in self.to_dict().items())

    def _repr_html_(self) -> str:
        default = TradeParams()
        changed = self.diff(default)
        rows = "".join(
            f"<tr><td>{name}</td><td>{'<b>' if name in changed else ''}{_shown(value)}"
            f"{'</b>' if name in changed else ''}</td><td>{_shown(default.to_dict()[name])}</td></tr>"
            for name, value in self.to_dict().items()
        )
        return f"<table><tr><th>parameter</th><th>value</th><th>default</th></tr>{rows}</table>"


_PER_REGIME: Final = frozenset(RegimeRules._fields)
# name: kind, low, high, whether low itself is allowed (high always is)
_BOUNDS: Final[dict[str, tuple[type, float, float, bool]]] = {
    "min_ratio": (float, 1, math.inf, True),
    "min_spread": (float, 0, 1, True),
    "min_confidence": (float, 0, 1, True),
    "cooldown": (int, 0, math.inf, True),
    "max_positions": (int, 1, MAX_POSITIONS, True),
    "stop_atr": (float, 0, math.inf, False),
    "target_atr": (float, 0, math.inf, False),
    "trail_atr": (float, 0, math.inf, False),
    "time_exit": (int, 1, math.inf, True),
    "opposite_min_confidence": (float, 0, 1, True),
    "risk_per_trade": (float, 0, 1, False),
    "max_leverage": (float, 0, 125, False),
    "max_open_risk": (float, 0, 1, False),
    "max_losses": (int, 1, math.inf, True),
    "max_daily_drawdown": (float, 0, 1, False),
    "fee_bps": (float, 0, 1000, True),
    "slippage_bps": (float, 0, 1000, True),
    "min_volume_ratio": (float, 0, math.inf, True),
    "max_funding_bps": (float, 0, math.inf, True),
    "max_adverse_funding_bps": (float, 0, math.inf, True),
    "max_spread_bps": (float, 0, math.inf, True),
    "max_adverse_imbalance": (float, 0, 1, True),
    "min_probability": (float, 0, 1, True),
    "low_probability_bars": (int, 1, math.inf, True),
    "reward_cost_multiple": (float, 0, math.inf, True),
    "tick": (float, 0, math.inf, False),
    "step": (float, 0, math.inf, False),
    "min_quantity": (float, 0, math.inf, True),
    "min_notional": (float, 0, math.inf, True),
    "max_market_quantity": (float, 0, math.inf, False),
}


def _three(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != len(Regime):
        raise ConfigError(
            f"{name} is {value!r}, not three values",
            "give one for trending, ranging, high_volatility, in that order",
        )
    return tuple(value)


def _number(name: str, value: Any, kind: type, low: float, high: float, low_is_in: bool) -> float | int:
    whole = kind is int
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}, not a finite number", f"mend {name}")
    if whole and value != int(value):
        raise ConfigError(f"{name} is {value!r}, not a whole number", f"mend {name}")
    if value < low or value > high or (value == low and not low_is_in):
        bound = f"{'>=' if low_is_in else '>'} {low:g}" + (f" and <= {high:g}" if high < math.inf else "")
        raise ConfigError(f"{name} is {value!r}, must be {bound}", f"mend {name}")
    return int(value) if whole else float(value)


def _shown(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)
