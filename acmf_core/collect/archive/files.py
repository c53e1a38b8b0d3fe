"""Where the exchange's public archive keeps what.

Layout under data/futures/um, each file with a .CHECKSUM beside it:

* {monthly|daily}/klines/SYMBOL/15m/SYMBOL-15m-2024-01[-02].zip
* monthly/fundingRate/SYMBOL/SYMBOL-fundingRate-2024-01.zip
* daily/metrics/SYMBOL/SYMBOL-metrics-2024-01-02.zip
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = "data/futures/um"


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One zip of the archive: a month ("2024-01") or a day ("2024-01-02") of one series."""

    kind: str
    symbol: str
    period: str
    interval: str = ""

    @property
    def series(self) -> str:
        """BTCUSDT-15m: how every file of the series begins."""
        return f"{self.symbol}-{self.interval or self.kind}"

    @property
    def name(self) -> str:
        """BTCUSDT-15m-2024-01.zip"""
        return f"{self.series}-{self.period}.zip"

    @property
    def path(self) -> str:
        """Under the archive's base URL."""
        span = "monthly" if len(self.period) == len("2024-01") else "daily"
        folder = f"{_ROOT}/{span}/{self.kind}/{self.symbol}"
        return f"{folder}/{self.interval}/{self.name}" if self.interval else f"{folder}/{self.name}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one file: its place in the cache, or None and why ("absent", "bad checksum")."""

    file: ArchiveFile
    path: Path | None
    reason: str = ""
