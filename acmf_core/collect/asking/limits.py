"""What the values of a collected row can be at all: a row outside is a broken answer, whoever gave it.

Wider than the ranges by which `acmf data check` warns: those are what markets have shown, these are what the
quantities mean.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from acmf_core.errors import DataError
from acmf_core.lake.tables import BOOK_LEVELS

Limits = tuple[float, float]  # both ends are allowed

_COUNT: Final[Limits] = (0.0, np.inf)
_POSITIVE: Final[Limits] = (float(np.nextafter(0.0, 1.0)), np.inf)
_RATIOS: Final = ("long_short_ratio", "top_account_ratio", "top_position_ratio", "taker_volume_ratio")
_LEVELS: Final = tuple(f"{side}_{{}}_{i}" for side in ("bid", "ask") for i in range(1, BOOK_LEVELS + 1))
_FLOWS: Final = ("whale_transfers", "exchange_inflow", "exchange_outflow", "whale_volume")

LIMITS: Final[Mapping[str, Mapping[str, Limits]]] = {
    "funding": {"funding_rate": (-0.05, 0.05), "interval_hours": (1.0, 24.0)},
    "long_short": dict.fromkeys(_RATIOS, _POSITIVE),
    "open_interest": dict.fromkeys(("open_interest", "open_interest_value"), _COUNT),
    "book": {"imbalance": (-1.0, 1.0), "spread_bps": _COUNT}
    | {level.format("px"): _POSITIVE for level in _LEVELS}
    | {level.format("qty"): _COUNT for level in _LEVELS},
    "fear_greed": {"value": (0.0, 100.0)},
    "macro": dict.fromkeys(("vix", "dxy", "sp500", "gold"), _POSITIVE),
    "onchain": dict.fromkeys(_FLOWS, _COUNT),
    "news": {"score": (-1.0, 1.0), "confidence": (0.0, 1.0)}
    | dict.fromkeys(("headlines", "input_tokens", "output_tokens"), _COUNT),
}


def refuse_impossible(name: str, rows: pd.DataFrame) -> None:
    """Nothing where every value of the table's rows can be; an empty one can.

    Raises
    ------
    DataError
        A value is infinite or outside its limits; the first is named.
    """
    limits = LIMITS.get(name, {})
    numbers = list(rows.select_dtypes("number").columns)
    values = rows[numbers].to_numpy(np.float64, na_value=np.nan)
    low, high = np.array([limits.get(column, (-np.inf, np.inf)) for column in numbers]).reshape(-1, 2).T
    infinite = np.isinf(values)
    impossible = infinite | (values < low) | (values > high)
    if not impossible.any():
        return
    row, column = np.argwhere(impossible)[0]
    if infinite[row, column]:
        raise DataError(f"{name} answered with an infinite {numbers[column]}")
    raise DataError(f"{name} answered with {numbers[column]} {values[row, column]:g}, which it cannot be")
