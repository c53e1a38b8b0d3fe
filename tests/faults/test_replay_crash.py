"""The daemon dies at any moment and goes on from the store as if nothing had happened."""

import dataclasses
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from replaying import PARAMS, WARM, close_of, market, window
from standin import Standin

from acmf_core.domain import BAR_US
from acmf_core.store.sql import SqlStore
from production.bootstrap import replay_world
from production.daemon import Daemon, replay

BARS = 80
TESTS = Path(__file__).resolve().parent.parent


class Killed(BaseException):
    """kill -9, as far as a process can do it to itself: no handler of the code may stop it."""


class Mortal:
    """A plug that dies around its n-th call of one method: before it, or after it took effect."""

    def __init__(self, plug, method, calls, after):
        self._plug, self._method, self._left, self._after = plug, method, calls, after

    def __getattr__(self, name):
        wrapped = getattr(self._plug, name)
        if name != self._method:
            return wrapped
        return self._async(wrapped) if name in ("collect", "submit", "fills") else self._sync(wrapped)

    def _due(self):
        self._left -= 1
        return self._left == 0

    def _async(self, wrapped):
        async def call(*arguments):
            due = self._due()
            if due and not self._after:
                raise Killed
            result = await wrapped(*arguments)
            if due:
                raise Killed
            return result

        return call

    def _sync(self, wrapped):
        def call(*arguments):
            due = self._due()
            if due and not self._after:
                raise Killed
            result = wrapped(*arguments)
            if due:
                raise Killed
            return result

        return call


BOUNDARIES = [
    ("feed", "collect", True),
    ("model", "predict", True),
    ("exchange", "fills", True),
    ("exchange", "submit", False),
    ("exchange", "submit", True),
    ("store", "record_cycle", False),
    ("store", "record_cycle", True),
    ("notifier", "send", False),
]


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The journal's last hash of a replay that nobody killed."""
    with SqlStore.open(tmp_path_factory.mktemp("unharmed") / "replay.db") as store:
        result = replay(market(), Standin(), store=store, params=PARAMS, **window(WARM, WARM + BARS))
        assert result.trades > 5
        return store.rows("system_events")[-1]["hash"]


def live(file, mortal=None):
    """One life of the daemon, from where the store ends to the end of the window or its death."""
    import asyncio

    with SqlStore.open(file) as store:
        last = store.last_cycle("BTCUSDT")
        first = last["at"] + BAR_US if last else close_of(WARM)
        world = replay_world(market(), Standin(), PARAMS, store, start=first)
        if mortal is not None:
            plug, method, after, calls = mortal
            world = dataclasses.replace(world, **{plug: Mortal(getattr(world, plug), method, calls, after)})
        own = Daemon(world)

        async def run():
            for at in range(first, close_of(WARM + BARS), BAR_US):
                world.clock.advance_to(at)
                await own.meet(at)
                if own.failure is not None:
                    raise own.failure

        asyncio.run(run())


@pytest.mark.parametrize(("plug", "method", "after"), BOUNDARIES)
def test_killed_at_a_boundary_of_a_cycle_again_and_again_it_ends_the_same(
    tmp_path, unharmed, plug, method, after
):
    """Three deaths at random calls of one boundary; then the store is that of a life without any."""
    file = tmp_path / "replay.db"
    dice = random.Random(f"{plug}{method}{after}")
    most = 4 if method in ("submit", "send") else 20
    for _ in range(3):
        with pytest.raises(Killed):
            live(file, (plug, method, after, dice.randint(1, most)))
    live(file)
    with SqlStore.open(file) as store:
        result = replay(market(), Standin(), store=store, params=PARAMS, **window(WARM, WARM + BARS))
        assert (result.ran, result.cycles, result.differences) == (0, BARS, 0), result.first_difference
        assert store.rows("system_events")[-1]["hash"] == unharmed
        names = [row["client_id"] for row in store.rows("orders")]
        assert len(set(names)) == len(names)


def test_a_death_inside_the_transaction_leaves_no_half_cycle(tmp_path, monkeypatch):
    """Between the first row of a cycle and its commit."""
    file = tmp_path / "replay.db"
    original = SqlStore._append
    calls = []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(SqlStore, "_append", dying)
    with pytest.raises(Killed):
        live(file)
    monkeypatch.undo()
    with SqlStore.open(file) as store:
        assert len(store.rows("cycles")) == len(store.rows("predictions")) == len(store.rows("ohlcv")) == 4
        assert store.verify_journal().verdict is True
        result = replay(market(), Standin(), store=store, params=PARAMS, **window(WARM, WARM + 20))
        assert (result.ran, result.differences) == (16, 0)


def test_a_process_killed_with_sigkill_goes_on_in_a_new_one(tmp_path, unharmed):
    file = tmp_path / "replay.db"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from replaying import PARAMS, WARM, market, window\n"
        "from standin import Standin\n"
        "from acmf_core.store.sql import SqlStore\n"
        "from production.daemon import replay\n"
        "with SqlStore.open(Path(sys.argv[2])) as store:\n"
        "    replay(market(), Standin(), store=store, params=PARAMS,\n"
        f"           progress=lambda done, total: print(done, flush=True), **window(WARM, WARM + {BARS}))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(TESTS), str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if int(line) >= 41:
                process.kill()
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    with SqlStore.open(file) as store:
        before = len(store.rows("cycles"))
        assert 41 <= before < BARS
        assert store.verify_journal().verdict is True
        result = replay(market(), Standin(), store=store, params=PARAMS, **window(WARM, WARM + BARS))
        assert (result.ran, result.cycles, result.differences) == (BARS - before, BARS, 0)
        assert store.rows("system_events")[-1]["hash"] == unharmed


def test_ctrl_c_stops_between_two_cycles_and_the_same_call_goes_on(tmp_path, unharmed):
    def interrupt(done, _):
        if done == 10:
            signal.raise_signal(signal.SIGINT)

    run = {"market": market(), "bundle": Standin(), "params": PARAMS} | window(WARM, WARM + BARS)
    with SqlStore.open(tmp_path / "replay.db") as store:
        with pytest.raises(KeyboardInterrupt):
            replay(store=store, progress=interrupt, **run)
        assert len(store.rows("cycles")) == 10
        assert replay(store=store, **run).ran == BARS - 10
        assert store.rows("system_events")[-1]["hash"] == unharmed
