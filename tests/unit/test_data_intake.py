"""Files beside what the lake holds: nothing stored gives way to what nobody measured."""

from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST, bars, rows

from acmf_core.collect.files.intake import import_candles, import_funding
from acmf_core.errors import DataError
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


def flat_bars() -> pd.DataFrame:
    """As another lake would export them: bars 3 and 4 stand in for an outage."""
    frame = bars(20).assign(bridged=False)
    frame.loc[[3, 4], ["open", "high", "low", "close"]] = 103.0
    frame.loc[[3, 4], "volume"] = 0.0
    frame.loc[[3, 4], "bridged"] = True
    return frame


def test_a_bar_that_the_file_calls_a_stand_in_stays_one(lake: Lake, tmp_path: Path) -> None:
    path = csv(tmp_path, flat_bars().drop(index=[11]))
    import_candles(lake, path, "BTCUSDT", bridge_outages=True, allow_short=True)
    assert lake.read("candles")["bridged"].to_numpy().nonzero()[0].tolist() == [3, 4, 11]
    later = import_candles(lake, csv(tmp_path, bars(20)), "BTCUSDT", allow_short=True)
    assert (later.merged.filled, later.merged.conflicting_rows) == (3, 0)


@pytest.mark.parametrize("count", [20, 5])
def test_a_stand_in_of_the_file_is_left_out_where_the_lake_has_a_bar(
    lake: Lake, tmp_path: Path, count: int
) -> None:
    lake.merge("candles", rows(20))
    path = csv(tmp_path, flat_bars().iloc[3:count])
    done = import_candles(lake, path, "BTCUSDT", allow_short=True, accept_corrections=True)
    assert not done.merged.changed
    assert "2 stand-in(s) left out: the lake has those bars" in done.notes
    assert not lake.read("candles")["bridged"].any()


def test_a_mark_that_is_neither_true_nor_false_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = csv(tmp_path, flat_bars().assign(bridged=0.5))
    with pytest.raises(DataError, match="bridged of 2024-01-01 00:00 UTC is neither true nor false"):
        import_candles(lake, path, "BTCUSDT", allow_short=True)


# -- payments ----------------------------------------------------------------------------------------------


def test_payments_of_another_market_are_said(lake: Lake, tmp_path: Path) -> None:
    times = pd.date_range(FIRST, periods=4, freq="8h")
    path = csv(tmp_path, pd.DataFrame({"symbol": "BTCUSDT", "fundingTime": times, "fundingRate": 0.0001}))
    said = 'the file names its market "BTCUSDT", it is stored as XRPUSDT (--symbol)'
    assert said in import_funding(lake, path, "XRPUSDT").notes
    assert said not in import_funding(lake, path, "BTCUSDT").notes
