"""What the loopback market serves: made-up bars, the venue's rows, and faults in them."""

import math
from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

STEPS_MS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}


def made_bars(at: int, count: int, *, seed: int = 5) -> pd.DataFrame:
    """Bars of a made-up market with all kline columns; the last one opens at `at` (microseconds)."""
    random = np.random.default_rng(seed)
    close = (60_000 * np.exp(np.cumsum(random.normal(0.0, 0.002, count)))).round(1)
    opened = np.concatenate([[60_000.0], close[:-1]])
    reach = (np.abs(random.normal(0.0, 40.0, (2, count))) + 0.1).round(1)
    volume = random.lognormal(6.0, 0.6, count).round(3)
    stamps = at + (np.arange(count) - count + 1) * 900_000_000
    return pd.DataFrame(
        {
            "open_time": pd.to_datetime(stamps, unit="us", utc=True).as_unit("us"),
            "open": opened,
            "high": (np.maximum(opened, close) + reach[0]).round(1),
            "low": (np.minimum(opened, close) - reach[1]).round(1),
            "close": close,
            "volume": volume,
            "quote_volume": (volume * close).round(4),
            "trades": random.integers(900, 90_000, count),
            "taker_buy_volume": (volume * 0.49).round(3),
            "taker_buy_quote_volume": (volume * 0.49 * close).round(4),
        }
    )


def kline_texts(bars: pd.DataFrame) -> list[list[Any]]:
    """15m bars as the venue's rows of twelve: shortest decimals that give the same doubles."""
    rows = []
    for bar in bars.to_dict("records"):
        open_ms = (
            bar["open_time"].value // 1_000_000
            if bar["open_time"].unit == "ns"
            else int(bar["open_time"].timestamp() * 1_000)
        )
        volume = float(bar["volume"])
        quote = bar.get("quote_volume", volume * bar["close"])
        rows.append(
            [
                open_ms,
                *(_text(bar[name]) for name in ("open", "high", "low", "close", "volume")),
                open_ms + STEPS_MS["15m"] - 1,
                _text(quote),
                int(bar.get("trades", 100)),
                _text(bar.get("taker_buy_volume", volume / 2)),
                _text(bar.get("taker_buy_quote_volume", quote / 2)),
                "0",
            ]
        )
    return rows


def _text(value: float) -> str:
    text = repr(float(value))
    return f"{value:.10f}" if "e" in text else text


def payments(funding: pd.DataFrame, symbol: str) -> list[dict[str, Any]]:
    return [
        {
            "symbol": symbol,
            "fundingTime": int(stamp.timestamp() * 1_000) + number % 3,  # the venue's jitter
            "fundingRate": f"{rate:.8f}",
            "markPrice": "",
        }
        for number, (stamp, rate) in enumerate(
            zip(funding["event_time"], funding["funding_rate"], strict=True)
        )
    ]


def longer(rows: list[list[Any]], step_ms: int) -> list[list[Any]]:
    """Longer bars, as far as there are shorter ones: the last one is unfinished."""
    longer: dict[int, list[Any]] = {}
    for row in rows:
        first = row[0] // step_ms * step_ms
        bar = longer.setdefault(
            first, [first, row[1], row[2], row[3], row[4], 0.0, first + step_ms - 1, 0.0, 0, 0.0, 0.0, "0"]
        )
        bar[2], bar[3], bar[4] = max(bar[2], row[2], key=float), min(bar[3], row[3], key=float), row[4]
        bar[8] += row[8]
        for column in (5, 7, 9, 10):
            bar[column] += float(row[column])
    for bar in longer.values():
        for column in (5, 7, 9, 10):
            bar[column] = f"{bar[column]:.8f}"
    return list(longer.values())


def window(rows: list[Any], asked: dict[str, str], limit: int, now_ms: int, key: Any) -> list[Any]:
    first, last = asked.get("startTime"), min(int(asked.get("endTime", now_ms)), now_ms)
    stop = bisect_right(rows, last, key=itemgetter(key))
    if first is None:
        return rows[max(0, stop - limit) : stop]
    start = bisect_left(rows, int(first), key=itemgetter(key))
    return rows[start : min(stop, start + limit)]


def ratio(stamp: int, symbol: str) -> dict[str, Any]:
    long = round(0.55 + 0.1 * math.sin(stamp / 7.2e6), 4)
    return {
        "symbol": symbol,
        "longAccount": f"{long:.4f}",
        "longShortRatio": f"{long / (1 - long):.4f}",
        "shortAccount": f"{1 - long:.4f}",
        "timestamp": stamp,
    }


def interest(stamp: int, symbol: str) -> dict[str, Any]:
    amount = 80_000 + 500 * math.sin(stamp / 3.6e7)
    return {
        "symbol": symbol,
        "sumOpenInterest": f"{amount:.8f}",
        "sumOpenInterestValue": f"{amount * 60_000:.8f}",
        "CMCCirculatingSupply": "19770000.00000000",
        "timestamp": stamp,
    }


def spoil(rows: Any, fault: str, limit: int) -> Any:
    """The rows with a fault in them."""
    name, _, argument = fault.partition(":")
    if not isinstance(rows, list) or not rows:
        return rows
    rows = [list(row) if isinstance(row, list) else dict(row) for row in rows]
    newest = next((row for row in reversed(rows[:-1])), rows[-1])  # the newest closed bar
    if name == "hole":
        del rows[-int(argument)]
    elif name in ("double", "contradiction"):
        again = list(newest)
        if name == "contradiction":
            again[4] = again[3]
            newest[4] = newest[2]
        rows.insert(len(rows) - 1, again)
        rows = rows[-limit:]
    elif name == "changed":
        newest[4], newest[5] = newest[3], "1.5"
    elif name == "disorder":
        rows.reverse()
    elif name == "future":
        rows[-1] = [rows[-1][0] + 86_400_000, *rows[-1][1:6], rows[-1][6] + 86_400_000, *rows[-1][7:]]
    elif name in ("nan", "inf", "text", "negative", "zero", "high"):
        newest[4] = {"nan": "NaN", "inf": "1e999", "text": "12,5", "negative": "-1.0", "zero": "0"}.get(
            name, repr(2.0 * float(newest[2]))
        )
    elif name == "nulls":
        rows = [[None] * 12]
    elif name == "short":
        rows = [row[:-1] for row in rows]
    elif name == "many":
        rows = (rows * (limit + 1))[: limit + 1]
    elif name == "off grid":
        rows = [[row[0] + 1_000, *row[1:6], row[6] + 1_000, *row[7:]] for row in rows]
    return rows
