"""Files beside what the lake holds: nothing stored gives way to what nobody measured."""

from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST, bars, rows

from acmf_core.collect.files.intake import import_candles, import_funding
from acmf_core.lake import Lake

STEP = pd.Timedelta(minutes=15)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def csv(tmp_path: Path, frame: pd.DataFrame) -> Path:
    path = tmp_path / "file.csv"
    frame.to_csv(path, index=False)
    return path


# -- outages within a file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [False, True])
def test_no_flat_bar_is_offered_where_the_lake_has_a_real_one(
    lake: Lake, tmp_path: Path, accept: bool
) -> None:
    lake.merge("candles", rows(20))
    before = lake.read("candles")
    done = import_candles(
        lake,
        csv(tmp_path, bars(20).drop(index=[3, 4, 11])),
        "BTCUSDT",
        bridge_outages=True,
        allow_short=True,
        accept_corrections=accept,
    )
    assert (done.bridged, done.merged.changed, done.merged.conflicting_rows) == (0, False, 0)
    pd.testing.assert_frame_equal(lake.read("candles"), before)


def test_what_neither_has_is_bridged_at_the_last_close_that_either_knows(lake: Lake, tmp_path: Path) -> None:
    lake.merge("candles", rows(20).iloc[[5, 6]])
    path = csv(tmp_path, bars(20).drop(index=range(3, 10)))
    done = import_candles(lake, path, "BTCUSDT", bridge_outages=True, allow_short=True)
    stored = lake.read("candles")
    assert done.bridged == 5
    assert stored.loc[stored["bridged"], "open_time"].tolist() == [FIRST + i * STEP for i in (3, 4, 7, 8, 9)]
    assert stored.loc[stored["bridged"], "close"].tolist() == [103.0, 103.0, 107.0, 107.0, 107.0]
    assert len(stored) == 20


# -- payments ----------------------------------------------------------------------------------------------


def test_payments_of_another_market_are_said(lake: Lake, tmp_path: Path) -> None:
    times = pd.date_range(FIRST, periods=4, freq="8h")
    path = csv(tmp_path, pd.DataFrame({"symbol": "BTCUSDT", "fundingTime": times, "fundingRate": 0.0001}))
    said = 'the file names its market "BTCUSDT", it is stored as XRPUSDT (--symbol)'
    assert said in import_funding(lake, path, "XRPUSDT").notes
    assert said not in import_funding(lake, path, "BTCUSDT").notes
