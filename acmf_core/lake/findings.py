"""What a check says: findings with a severity, counted over windows, and the verdict on one series."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

ERROR: Final = "error"
WARNING: Final = "warning"
COLUMNS: Final = ("finding", "severity", "count", "first", "detail")

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """What a check of one series found.

    Attributes
    ----------
    symbol : str
        Empty for a table that belongs to the whole market.
    interval : str
        Of candles; else the table's name.
    findings : DataFrame
        finding, severity ("error" or "warning"), count, first (when), detail; empty where all is well.
    """

    symbol: str
    interval: str
    rows: int
    first: pd.Timestamp
    last: pd.Timestamp
    findings: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether the rows may be read: no error among the findings."""
        return bool((self.findings["severity"] != ERROR).all())


@dataclass
class _Tally:
    severity: str
    count: int
    first: pd.Timestamp
    detail: str
    size: float


@dataclass
class Findings:
    """Findings in the making: the same one in two windows is one line with both counts.

    They are listed in the order in which they were first asked about, whatever was found when.
    """

    _order: list[str] = field(default_factory=list)
    _found: dict[str, _Tally] = field(default_factory=dict)

    def note(
        self,
        finding: str,
        severity: str,
        where: Booleans,
        times: pd.DatetimeIndex,
        detail: str = "",
        *,
        size: float = 0.0,
    ) -> None:
        """Count the rows that `where` marks; of several details the one with the largest size is told."""
        hits = np.flatnonzero(where)
        first = times[hits[0]] if len(hits) else None
        self.count(finding, severity, len(hits), first, detail, size=size)

    def count(
        self,
        finding: str,
        severity: str,
        count: int,
        first: pd.Timestamp | None,
        detail: str = "",
        *,
        size: float = 0.0,
    ) -> None:
        """As `note`, of what was counted elsewhere."""
        if finding not in self._order:
            self._order.append(finding)
        if not count or first is None:
            return
        known = self._found.get(finding)
        if known is None:
            self._found[finding] = _Tally(severity, count, first, detail, size)
            return
        known.count += count
        known.first = min(known.first, first)
        if size > known.size:
            known.detail, known.size = detail, size

    def table(self) -> pd.DataFrame:
        """One line per finding, as `Quality` holds them."""
        rows = [
            (name, f.severity, f.count, f.first, f.detail)
            for name, f in ((name, self._found[name]) for name in self._order if name in self._found)
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))
