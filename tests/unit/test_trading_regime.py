"""Every line of the regime table, its boundaries, missing inputs and ties."""

import pytest
from trading_market import NAN, market

from acmf_core.trading import classify_regime

SILENT = {"adx": NAN, "ema_distance": 0.7, "atr_ratio": 1.1, "vol_regime": 0.5, "funding_bps": NAN}


def scores(**inputs):
    bar = market([10_000.0], **(SILENT | inputs)).bar(0)
    return tuple(classify_regime(bar)[1])


def test_silent_inputs_score_nothing():
    assert scores() == (0, 0, 0)


@pytest.mark.parametrize(
    ("adx", "trending", "ranging"),
    [(25.0, 2, 0), (24.999, 1, 0), (20.0, 1, 0), (19.999, 0, 2), (40.0, 2, 0), (NAN, 0, 0)],
)
def test_adx(adx, trending, ranging):
    assert scores(adx=adx) == (trending, ranging, 0)


@pytest.mark.parametrize(
    ("distance", "trending", "ranging"),
    [
        (1.0, 1, 0),
        (-1.0, 1, 0),
        (0.999, 0, 0),
        (0.5, 0, 0),
        (0.499, 0, 1),
        (-0.499, 0, 1),
        (0.0, 0, 1),
        (NAN, 0, 0),
    ],
)
def test_distance_from_the_average(distance, trending, ranging):
    assert scores(ema_distance=distance) == (trending, ranging, 0)


@pytest.mark.parametrize(
    ("ratio", "ranging", "high"),
    [(0.999, 1, 0), (1.0, 0, 0), (1.249, 0, 0), (1.25, 0, 1), (1.499, 0, 1), (1.5, 0, 2)],
)
def test_atr_ratio(ratio, ranging, high):
    assert scores(atr_ratio=ratio) == (0, ranging, high)


@pytest.mark.parametrize(("rank", "high"), [(0.749, 0), (0.75, 1), (0.899, 1), (0.9, 2), (1.0, 2), (NAN, 0)])
def test_volatility_rank(rank, high):
    assert scores(vol_regime=rank) == (0, 0, high)


@pytest.mark.parametrize(
    ("distance", "funding", "book", "trending"),
    [
        (0.7, 2.0, NAN, 0.5),  # 1 bp above the usual 1 bp, price above its average
        (0.7, 1.999, NAN, 0.0),
        (0.7, 0.0, NAN, 0.0),  # against the move
        (-0.7, 0.0, NAN, 0.5),
        (-0.7, 0.001, NAN, 0.0),
        (-0.7, 2.0, NAN, 0.0),
        (0.7, NAN, 0.2, 0.5),
        (0.7, NAN, 0.199, 0.0),
        (-0.7, NAN, -0.2, 0.5),
        (-0.7, NAN, 0.9, 0.0),
        (0.7, 2.0, 0.3, 1.0),  # each alone counts, together they are 1
        (0.7, 2.0, -0.3, 0.5),
        (NAN, 2.0, 0.3, 0.0),
    ],
)
def test_funding_and_book_on_the_side_of_the_move(distance, funding, book, trending):
    assert scores(ema_distance=distance, funding_bps=funding, book_imbalance=book)[0] == trending


def test_exactly_on_the_average_there_is_no_side_of_the_move():
    assert scores(ema_distance=0.0, funding_bps=3.0, book_imbalance=0.9) == (0, 1, 0)


@pytest.mark.parametrize(("funding", "high"), [(5.0, 1), (-5.0, 1), (4.999, 0), (NAN, 0)])
def test_extreme_funding(funding, high):
    assert scores(ema_distance=0.7, funding_bps=funding)[2] == high


@pytest.mark.parametrize(
    ("inputs", "regime"),
    [
        ({"adx": 30.0}, 0),  # 2 0 0
        ({"adx": 15.0}, 1),  # 0 2 0
        ({"atr_ratio": 1.5}, 2),  # 0 0 2
        ({"adx": 30.0, "atr_ratio": 1.5}, 2),  # 2 0 2: a tie
        ({"adx": 15.0, "vol_regime": 0.9}, 2),  # 0 2 2
        ({"adx": 21.0, "ema_distance": 0.1}, 1),  # 1 1 0
        ({}, 2),  # nothing known: the strictest
        ({"adx": 25.0, "atr_ratio": 1.3, "vol_regime": 0.8}, 2),  # 2 0 2
    ],
)
def test_the_highest_score_wins_and_ties_go_to_the_stricter(inputs, regime):
    bar = market([10_000.0], **(SILENT | inputs)).bar(0)
    assert classify_regime(bar)[0] == regime
