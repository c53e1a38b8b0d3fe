"""Small made-up bars for the tests of the data room."""

import numpy as np
import pandas as pd

from acmf_core.lake.tables import candle_rows

FIRST = pd.Timestamp("2024-01-01", tz="UTC")


def bars(n: int, start: pd.Timestamp = FIRST, *, price: float = 100.0, freq: str = "15min") -> pd.DataFrame:
    """`n` plain bars: every one opens at price + its number."""
    opens = price + np.arange(n, dtype=float)
    return pd.DataFrame(
        {
            "open_time": pd.date_range(start, periods=n, freq=freq, unit="us"),
            "open": opens,
            "high": opens + 2,
            "low": opens - 1,
            "close": opens + 1,
            "volume": 10.0,
        }
    )


def rows(n: int, start: pd.Timestamp = FIRST, symbol: str = "BTCUSDT", price: float = 100.0) -> pd.DataFrame:
    """The same as rows of the candles table."""
    return candle_rows(bars(n, start, price=price), symbol)
