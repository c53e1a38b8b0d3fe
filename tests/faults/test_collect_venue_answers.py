"""Answers with anything anywhere: rows that fit their table, or VenueUnavailable; never another error."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from market_server import MarketServer, made_bars

from acmf_core.collect.venue import answers
from acmf_core.errors import VenueUnavailable
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import OHLCV, table

AT = 1_718_668_800_000_000  # 2024-06-18 00:00 UTC
JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**70, -0.0, 1.5, float("nan"), float("inf")),
    *("", "0", "-0", "1", "1e5", "NaN", "Infinity", "1_000", " 1", "1 ", "٣", "0x10", "9" * 400, "\x00"),
    *([], {}, [[]], [None] * 12, {"code": -1}, "<html>", 1_718_668_800_000, "1718668800000", "2024-06-18"),
]


def _klines(answer: object) -> pd.DataFrame:
    bars = answers.klines(answer, "bars", interval="15m", now=AT + 5, limit=20)
    rows = answers.kline_rows(bars, "BTCUSDT", "15m")
    values = rows[list(OHLCV)].to_numpy()
    assert np.isfinite(values).all()
    assert (values[:, :4] > 0).all()
    assert (rows["low"] <= rows[["open", "close"]].min(axis=1)).all()
    assert (rows["high"] >= rows[["open", "close"]].max(axis=1)).all()
    return rows


def _funding(answer: object) -> pd.DataFrame:
    rates = answers.funding(answer, "funding", symbol="BTCUSDT", limit=20, now=AT + 5)
    return answers.funding_frame(rates, "BTCUSDT")


def _ratios(answer: object) -> pd.DataFrame:
    names = {"longShortRatio": "long_short_ratio"}
    return answers.series(answer, "ratio", symbol="BTCUSDT", period="15m", names=names, now=AT + 5, limit=20)


def _book(answer: object) -> pd.DataFrame:
    stamp = answers.depth_stamp(answer, "book", now=AT + 5)
    sides = [answers.depth_side(answer, "book", side=side, limit=20) for side in ("bids", "asks")]
    assert all(price > 0 and quantity > 0 for side in sides for price, quantity in side)
    assert [p for p, _ in sides[0]] == sorted({p for p, _ in sides[0]}, reverse=True)
    when = answers.moment(1_000 * stamp)
    return pd.DataFrame([{"symbol": "BTCUSDT", "event_time": when, "available_at": answers.moment(AT)}])


CASES: dict[str, tuple[str, dict[str, str], Callable[[object], pd.DataFrame], str, str]] = {
    "klines": ("/fapi/v1/klines", {"interval": "15m"}, _klines, "candles", "open_time"),
    "funding": ("/fapi/v1/fundingRate", {}, _funding, "funding", "event_time"),
    "ratios": (
        "/futures/data/globalLongShortAccountRatio",
        {"period": "15m"},
        _ratios,
        "long_short",
        "event_time",
    ),
    "book": ("/fapi/v1/depth", {}, _book, "book", "event_time"),
}


def _places(node: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        found += _places(child, (*path, key))
    return found


def _spoiled(answer: Any, chance: random.Random) -> Any:
    spoiled = copy.deepcopy(answer)
    for _ in range(chance.choice((1, 1, 2, 4))):
        path = chance.choice(_places(spoiled))
        if not path:
            return chance.choice(JUNK)
        parent = spoiled
        for key in path[:-1]:
            parent = parent[key]
        how = chance.random()
        if how < 0.7:
            parent[path[-1]] = chance.choice(JUNK)
        elif how < 0.85 or not isinstance(parent, list):
            del parent[path[-1]]
        else:
            parent.insert(chance.randrange(len(parent) + 1), copy.deepcopy(parent[path[-1]]))
    return spoiled


@pytest.mark.parametrize("name", CASES)
def test_anything_anywhere_is_rows_of_the_table_or_unavailable(name: str) -> None:
    path, asked, read, table_name, time = CASES[name]
    payments = pd.DataFrame(
        {"event_time": pd.date_range(end="2024-06-18", periods=6, freq="8h", tz="UTC"), "funding_rate": 1e-4}
    )
    market = MarketServer(made_bars(AT, 12), funding=payments, now=AT)
    status, answer = market.answer(path, {"symbol": "BTCUSDT", "limit": "6"} | asked, "")
    market.close()
    assert status == 200
    assert len(read(answer)) > 0
    chance, refusals = random.Random(11), []
    for _ in range(400):
        spoiled = _spoiled(answer, chance)
        try:
            rows = conform(table(table_name), read(spoiled))
        except VenueUnavailable as error:
            refusals.append(str(error))
        else:
            assert rows[time].is_monotonic_increasing
            assert rows[time].is_unique
    assert len(refusals) > 200, json.dumps(answer)[:200]
    assert all("\n" not in text and len(text) < 300 for text in refusals)
