"""The Fear & Greed index, live and in full, from a service on loopback."""

import json
from pathlib import Path

import pandas as pd
import pytest
from answer_server import Reply
from fakes import FakeClock
from fear_greed_server import FearGreedServer, fear_greed_body

from acmf_core.collect.sentiment import FearGreedSource, fear_greed_history
from acmf_core.config import SourceConfig
from acmf_core.errors import VenueUnavailable
from acmf_core.lake.merging import conform
from acmf_core.lake.tables import TABLES
from acmf_core.ports import Source

DAY = 86_400
TODAY = 1_706_745_600  # 2024-02-01
VALUES = {TODAY - i * DAY: 40 + i for i in range(30)}


def config(server: FearGreedServer, **more: object) -> SourceConfig:
    return SourceConfig(base_url=server.url, timeout_s=10.0, attempts=2).model_copy(update=more)


def clock(seconds: int) -> FakeClock:
    return FakeClock(seconds * 1_000_000)


def stamp(seconds: int) -> pd.Timestamp:
    return pd.Timestamp(seconds, unit="s", tz="UTC")


async def test_the_running_days_value_is_known_from_its_receipt_on() -> None:
    with FearGreedServer(values=VALUES) as server:
        source = FearGreedSource(config(server), clock(TODAY + 300))
        assert isinstance(source, Source)
        rows = await source.collect(0)
    assert len(rows) == 10
    newest = rows.iloc[-1]
    assert (newest["event_time"], newest["available_at"]) == (stamp(TODAY), stamp(TODAY + 300))
    assert (newest["value"], newest["classification"]) == (40.0, "Fear")
    assert rows["event_time"].is_monotonic_increasing
    conform(TABLES["fear_greed"], rows)
    assert server.requests == ["/fng/?limit=10"]


async def test_values_of_days_gone_by_have_been_known_since_they_were_published() -> None:
    with FearGreedServer(values=VALUES) as server:
        rows = await FearGreedSource(config(server), clock(TODAY + 300)).collect(0)
        again = await FearGreedSource(config(server), clock(TODAY + 7_200)).collect(0)
    before = rows.iloc[:-1]
    assert (before["available_at"] - before["event_time"] == pd.Timedelta(hours=1)).all()
    pd.testing.assert_frame_equal(before, again.iloc[:-1])


async def test_a_value_stamped_later_in_its_day_is_known_an_hour_after_its_stamp() -> None:
    stamped = 1_551_157_200  # 2019-02-26 05:00, the example in the service's documentation
    with FearGreedServer(values={stamped: 40, stamped - DAY: 39}) as server:
        rows = fear_greed_history(config(server))
    day = stamp(stamped).floor("D")
    assert rows["event_time"].tolist() == [day - pd.Timedelta(days=1), day]
    assert rows["available_at"].iloc[1] == stamp(stamped + 3_600)


async def test_an_index_that_stands_still_does_not_look_young() -> None:
    with FearGreedServer(values=VALUES) as server:
        rows = await FearGreedSource(config(server), clock(TODAY + 5 * DAY)).collect(0)
    assert rows["available_at"].max() == stamp(TODAY + 3_600)


async def test_a_value_that_comes_early_is_known_no_earlier_than_its_day() -> None:
    with FearGreedServer(values=VALUES) as server:
        rows = await FearGreedSource(config(server), clock(TODAY - 30)).collect(0)
    assert rows["available_at"].iloc[-1] == stamp(TODAY)


async def test_a_value_of_the_future_is_refused() -> None:
    with (
        FearGreedServer(values=VALUES) as server,
        pytest.raises(VenueUnavailable, match="a value of the future: 2024-02-01"),
    ):
        await FearGreedSource(config(server), clock(TODAY - 2 * DAY)).collect(0)


def entry(**changes: object) -> bytes:
    one = {"value": "40", "value_classification": "Fear", "timestamp": str(TODAY)} | changes
    return json.dumps({"data": [one], "metadata": {"error": None}}).encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (entry(value="101"), "a value outside 0 to 100"),
        (entry(value="-1"), "a value outside 0 to 100"),
        (entry(value="40.5"), "a value outside 0 to 100"),
        (entry(value=None), "a value outside 0 to 100"),
        (entry(value=True), "a value outside 0 to 100"),
        (entry(value="٤٠"), "a value outside 0 to 100"),
        (entry(value=10**400), "a value outside 0 to 100"),
        (entry(timestamp="02-01-2024"), "no number"),
        (entry(timestamp=str(TODAY * 1_000)), "no number"),
        (entry(timestamp=TODAY * 1_000), "a time of no day"),
        (entry(timestamp=str(1_517_443_200 - DAY)), "a time of no day"),
        (fear_greed_body([]), "no list of values"),
        (fear_greed_body([(TODAY, 40)], error="Too many requests"), "an error: 'Too many requests'"),
        (fear_greed_body([(TODAY, 40), (TODAY, 41)]), "two values of 2024-02-01: 40 and 41"),
        (json.dumps({"data": "all"}).encode(), "no list of values"),
        (json.dumps({"data": [["40"]]}).encode(), "an entry that is no object"),
        (json.dumps({"data": [{}] * 20_001}).encode(), "20,001 values"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(body: bytes, reason: str) -> None:
    with (
        FearGreedServer(always=Reply(body)) as server,
        pytest.raises(VenueUnavailable, match=reason) as error,
    ):
        await FearGreedSource(config(server), clock(TODAY + 300)).collect(0)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


async def test_the_same_value_twice_and_an_unknown_class_do_no_harm() -> None:
    odd = json.loads(fear_greed_body([(TODAY, 40), (TODAY, 40), (TODAY - DAY, 41)]))
    odd["data"][2]["value_classification"] = "Mild Panic <script>"
    with FearGreedServer(always=Reply(json.dumps(odd).encode())) as server:
        rows = await FearGreedSource(config(server), clock(TODAY + 300)).collect(0)
    assert rows["value"].tolist() == [41.0, 40.0]
    assert rows["classification"].isna().tolist() == [True, False]


def test_history_of_the_recorded_index_comes_back_exactly(real_data: Path) -> None:
    recorded = pd.read_parquet(real_data / "fear_greed_daily_2018_2024.parquet")
    seconds = recorded["open_time"].astype("int64") // 1_000
    with FearGreedServer(values=dict(zip(seconds, recorded["fng"].astype(int), strict=True))) as server:
        rows = fear_greed_history(config(server))
        assert server.requests == ["/fng/?limit=0"]
    assert rows["value"].tolist() == recorded["fng"].astype("float64").tolist()
    assert (rows["event_time"] == recorded["open_time"].dt.as_unit("us")).all()
    assert (rows["available_at"] - rows["event_time"] == pd.Timedelta(hours=1)).all()


async def test_history_tries_again_and_works_inside_a_running_loop() -> None:
    with FearGreedServer(values=VALUES, faults=[Reply(b"busy", 503)]) as server:
        assert len(fear_greed_history(config(server))) == 30
        assert len(server.requests) == 2


def test_history_gives_up_after_its_attempts() -> None:
    with FearGreedServer(always=Reply(b"busy", 503)) as server:
        with pytest.raises(VenueUnavailable, match="HTTP 503"):
            fear_greed_history(config(server))
        assert len(server.requests) == 2
