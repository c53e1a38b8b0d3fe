"""Small made-up bars for the tests of the data room."""

import numpy as np
import pandas as pd
import pyarrow as pa

from acmf_core.lake.tables import TABLES, candle_rows

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


def every_table(n: int = 7) -> dict[str, pd.DataFrame]:
    """Rows for each table: numbers in the numbers, words in the words, some optional values empty."""
    return {
        name: candle_rows(bars(n), "BTCUSDT") if name == "candles" else _rows_of(name, n) for name in TABLES
    }


def _rows_of(name: str, n: int) -> pd.DataFrame:
    spec = TABLES[name]
    times = pd.date_range(FIRST, periods=n, freq="15min", unit="us") + pd.Timedelta(123_456, "us")
    columns: dict[str, object] = {spec.time: times, "available_at": times + pd.Timedelta(minutes=7)}
    fixed = {"symbol": "BTCUSDT", "interval": "15m", "mode": "paper"}
    for place, field in enumerate(spec.schema):
        if field.name in columns or field.name in spec.partitions:
            continue
        numbers = np.arange(n) + place
        values = (
            numbers.tolist()
            if pa.types.is_integer(field.type)
            else [f"{field.name} \u00fc {i}" for i in numbers]
            if pa.types.is_string(field.type)
            else (numbers / 7).tolist()
        )
        holes = field.name in spec.optional and place % 2
        columns[field.name] = pd.array(
            [None if holes and i % 3 == 0 else value for i, value in enumerate(values)],
            dtype={"int64": "Int64", "string": "str"}.get(str(field.type), "float64"),
        )
    return pd.DataFrame(columns | {key: fixed[key] for key in spec.partitions})[spec.schema.names]
