"""What a daemon knows in memory is what research reads back from its lake: at every moment, to the bit."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acmf_core.collect.asking.known import KnownRows
from acmf_core.collect.receipt import Receipt
from acmf_core.lake import Lake

FIRST = pd.Timestamp("2024-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)
COLUMNS = ["vix", "dxy", "sp500", "gold"]
VALUES = (math.nan, 20.0, 21.0)


def delivery(random: np.random.Generator, hour: int) -> pd.DataFrame:
    """A few days, received at an hour, some with holes, some revised, some stamped as known before."""
    days = random.choice(6, size=random.integers(1, 5), replace=False)
    known = [FIRST + HOUR * int(random.integers(max(0, hour - 3), hour + 1)) for _ in days]
    times = {"event_time": [FIRST - 24 * HOUR * int(day) for day in days], "available_at": known}
    values = {column: random.choice(VALUES, size=len(days)) for column in COLUMNS}
    frame = pd.DataFrame(times | values)
    return frame.astype({"event_time": "datetime64[us, UTC]", "available_at": "datetime64[us, UTC]"})


@pytest.mark.parametrize("seed", range(4))
def test_deliveries_in_any_shape_leave_memory_and_lake_with_the_same_rows(tmp_path: Path, seed: int) -> None:
    random, lake, memory = np.random.default_rng(seed), Lake(tmp_path / "lake"), KnownRows("macro")
    for hour in range(12):
        rows = delivery(random, hour)
        memory.take(rows)
        lake.merge("macro", rows)
    for hour in range(12):
        at = FIRST + hour * HOUR
        stored = lake.read("macro", known_by=at).sort_values(
            ["available_at", "event_time"], ignore_index=True
        )
        known = memory.until(at.value // 1_000)
        if known is None:
            assert stored.empty
            continue
        columns = ["event_time", "available_at", *COLUMNS]
        pd.testing.assert_frame_equal(known[columns], stored[columns])


def test_a_row_told_again_keeps_its_moment_and_a_changed_one_is_new() -> None:
    receipt = Receipt()
    receipt.ask(100)
    assert receipt.moments([("a", 50), ("b", 100), ("c", 101)], 110) == [50, 100, 110]
    receipt.ask(200)
    assert receipt.moments([("a", 50), ("c", 101), ("b2", 100), ("d", 60)], 210) == [50, 110, 210, 210]


def test_what_came_after_a_failed_first_question_is_known_since_it_came() -> None:
    receipt = Receipt()
    receipt.ask(100)
    receipt.ask(500)
    assert receipt.moments([("a", 50), ("b", 300)], 510) == [50, 510]
