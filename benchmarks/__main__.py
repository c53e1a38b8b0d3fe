"""Time the hot paths once each, medians of several runs, cold (compilation included) and warm.

Benchmarks are not tests: nothing fails on a time. Absolute figures mean little on a shared machine;
the peers and the goals beside them come with the benchmark suite.
"""

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from acmf_core.collect.synthetic import store_synthetic, synthetic_market
from acmf_core.config import EncoderConfig
from acmf_core.features import SCHEMA, build_features
from acmf_core.lake import Lake
from acmf_core.models.encoder import Encoder, one_thread
from acmf_core.models.stack import hidden_states
from acmf_core.trading import TradeParams, simulate, simulate_many, trading_bars

BARS = 70_080  # two years
RUNS = 5


def timed(work: Callable[[], object], runs: int = RUNS) -> tuple[float, float]:
    """Seconds of the first run, and the median of the others."""
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds[0], statistics.median(seconds[1:])


def signals(n: int) -> np.ndarray:
    """Probabilities that open a position now and then."""
    return np.random.default_rng(7).dirichlet((2.0, 2.0, 5.0), n)


def rows() -> list[tuple[str, float, float, str]]:
    """(what, cold seconds, warm seconds, rate) of every hot path."""
    market = synthetic_market(BARS, seed=7)
    features = build_features(market)
    bars, said, params = trading_bars(market, features), signals(BARS), TradeParams()
    encoder = Encoder(EncoderConfig(), len(SCHEMA.sequence))
    window = np.arange(BARS - 256, BARS)
    found = []

    def add(what: str, work: Callable[[], object], units: float, unit: str, runs: int = RUNS) -> None:
        cold, warm = timed(work, runs)
        found.append((what, cold, warm, f"{units / warm:,.0f} {unit}/s"))

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        store_synthetic(lake, market)
        symbol = "SYNTHETIC-BTCUSDT"
        add("read two years from the lake", lambda: lake.read("candles", symbol=symbol), BARS, "bars")
    add("22 + 66 features, two years", lambda: build_features(market), BARS, "bars")
    add("features of one decision", lambda: build_features(market, last=192), 1, "decisions")
    add("simulate, two years", lambda: simulate(bars, said, params), BARS, "bars")
    many = [params] * 64
    add("simulate_many, 64 sets", lambda: simulate_many(bars, said, many), 64 * BARS, "bars")
    with one_thread():
        one = window[-1:]
        add("hidden state of one bar", lambda: hidden_states(encoder, features.matrix, one), 1, "windows")
        add(
            "hidden states of 256 bars",
            lambda: hidden_states(encoder, features.matrix, window),
            256,
            "windows",
            2,
        )
    return found


def main() -> None:
    """Print the table as Markdown."""
    write = sys.stdout.write
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "torch", "pandas"))
    write(f"Python {platform.python_version()}, {libraries}, {platform.machine()}\n\n")
    write("| what | first run, s | then, ms | rate |\n|---|---|---|---|\n")
    for what, cold, warm, rate in rows():
        write(f"| {what} | {cold:.2f} | {1e3 * warm:.2f} | {rate} |\n")


if __name__ == "__main__":
    main()
