"""The same promises wherever the tables lie: a folder, or a URI that delta-rs resolves."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST, rows

from acmf_core.collect.history import load_market
from acmf_core.lake import Lake

PLACES: dict[str, Callable[[Path], str]] = {"folder": str, "uri": lambda path: path.as_uri()}


@pytest.fixture(params=PLACES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    folder = tmp_path / "lake"
    folder.mkdir()
    return Lake(PLACES[request.param](folder))


def test_the_promises_of_the_lake_hold(lake: Lake) -> None:
    assert lake.versions() == {}
    assert lake.merge("candles", rows(30)).version == 1
    assert lake.merge("candles", rows(30)).version == 1
    assert lake.merge("candles", rows(40)).version == 2
    wrong = rows(40)
    wrong.loc[0, "volume"] = 11.0
    assert lake.merge("candles", wrong).conflicting_rows == 1
    assert lake.merge("candles", wrong, accept_corrections=True).corrected == 1
    assert lake.versions() == {"candles": 3}
    assert len(lake.read("candles", version=1)) == 30
    assert lake.read("candles", start=FIRST, end=FIRST + pd.Timedelta(minutes=15))["volume"].tolist() == [
        11.0
    ]
    assert lake.status()["rows"].tolist() == [40]
    assert lake.sql("SELECT sum(volume) AS volume FROM candles")["volume"].iloc[0] == 401.0
    assert len(load_market(lake, "BTCUSDT").candles) == 40


def test_another_process_opening_the_same_place_sees_the_same_tables(lake: Lake) -> None:
    lake.merge("candles", rows(30))
    assert len(Lake(lake.uri + "/").read("candles")) == 30
