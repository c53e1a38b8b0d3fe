"""What one collection brought: the market as known at a close, and how each source did."""

from dataclasses import dataclass

from acmf_core.domain import SourceHealth
from acmf_core.features import MarketData


@dataclass(frozen=True)
class MarketSnapshot:
    """The market as known at the close `at`.

    Attributes
    ----------
    at : int
        The close, in microseconds; the newest bar of `market` closed then.
    market : MarketData
        Everything that a decision reads; slow rows with available_at <= `at` only.
    health : tuple of SourceHealth
        One for each of the eight sources; empty in a replay.
    clock_offset_s : float
        The venue's clock minus ours; NaN where it could not be measured, 0 in a replay.
    """

    at: int
    market: MarketData
    health: tuple[SourceHealth, ...] = ()
    clock_offset_s: float = 0.0
