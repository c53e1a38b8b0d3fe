"""The steps of the lake's scale measurement; each runs in a process of its own (`lake_scale`).

`python -m benchmarks.scale_steps STEP PLAN` does one and writes what it found as one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from acmf_core.collect.archive.client import Archive
from acmf_core.collect.pull.series import pull_candles
from acmf_core.features.asof import last_known, take
from acmf_core.lake import Lake
from acmf_core.lake.queries import SlowColumn
from acmf_core.lake.tables import candle_rows
from benchmarks.synthetic_archive import month_of_bars, symbol

# Slow table: its value, how long one counts (features.md), rows a day.
SLOW: Final = {
    "funding": ("funding_rate", pd.Timedelta(hours=9), 3),
    "fear_greed": ("value", pd.Timedelta(hours=36), 1),
    "macro": ("vix", pd.Timedelta(days=4), 1),
    "news": ("score", pd.Timedelta(hours=8), 6),
}


@dataclass(frozen=True)
class Plan:
    """What is measured: how many markets, how long, where."""

    symbols: int
    months: int
    interval: str
    folder: str
    url: str = ""
    first: str = "2020-01"

    @property
    def lake(self) -> Lake:
        """The lake that is filled and read."""
        return Lake(Path(self.folder) / "lake")

    @property
    def start(self) -> pd.Timestamp:
        """The first bar."""
        return pd.Timestamp(self.first, tz="UTC")

    @property
    def end(self) -> pd.Timestamp:
        """After the last bar."""
        return self.start + pd.DateOffset(months=self.months)

    @property
    def names(self) -> list[str]:
        """Every market."""
        return [symbol(number) for number in range(self.symbols)]


@dataclass
class Outcome:
    """What a step did: rows, seconds of the work, those of the join alone, and figures to compare."""

    rows: int = 0
    seconds: float = 0.0
    joining_s: float = 0.0
    peak_mib: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


def imports_only(plan: Plan) -> Outcome:
    """Nothing: the memory of Python and its libraries."""
    return Outcome()


def pull(plan: Plan) -> Outcome:
    """Every market from the archive into the lake, one after the other."""
    outcome = Outcome()
    with Archive(plan.url, Path(plan.folder) / "cache") as archive:
        for name in plan.names:
            began = time.perf_counter()
            report = pull_candles(plan.lake, archive, name, plan.start, plan.end, plan.interval)
            seconds = time.perf_counter() - began
            rows = report.merged.inserted + report.merged.unchanged
            sys.stderr.write(f"{name}: {rows:,} rows in {seconds:.1f} s\n")
            sys.stderr.flush()
            outcome.rows += rows
            outcome.seconds += seconds
            outcome.figures[name] = seconds
    return outcome


def store_slow(plan: Plan) -> Outcome:
    """Made-up slow rows for every market: funding, Fear & Greed, macro, news."""
    rng, lake, outcome = np.random.default_rng(11), plan.lake, Outcome()
    began = time.perf_counter()
    for name, (value, _, a_day) in SLOW.items():
        times = pd.date_range(plan.start, plan.end, freq=f"{24 // a_day}h", unit="us")
        owned = name in {"funding", "news"}
        for market in plan.names if owned else [""]:
            rows = pd.DataFrame({"event_time": times, "available_at": times, value: rng.random(len(times))})
            rows = rows.assign(symbol=market) if owned else rows
            if name == "news":
                rows = rows.assign(confidence=1.0, headlines=1, model="none", prompt_version="none")
            outcome.rows += lake.merge(name, rows, source="made up").inserted
    outcome.seconds = time.perf_counter() - began
    return outcome


def store_days(plan: Plan) -> Outcome:
    """The days after the pull, one commit each, as a daemon leaves them: small files."""
    lake, market, outcome = plan.lake, plan.names[0], Outcome()
    bars = month_of_bars(market, f"{plan.end:%Y-%m}", plan.interval).to_pandas()
    bars["open_time"] = pd.to_datetime(bars["open_time"], unit="ms", utc=True)
    bars = bars.rename(columns={"count": "trades"})
    began = time.perf_counter()
    for day in range(28):
        first = plan.end + pd.Timedelta(days=day)
        part = bars[(bars["open_time"] >= first) & (bars["open_time"] < first + pd.Timedelta(days=1))]
        outcome.rows += lake.merge("candles", candle_rows(part, market, plan.interval)).inserted
    outcome.seconds = time.perf_counter() - began
    return outcome


def join_kernel(plan: Plan) -> Outcome:
    """The features' as-of join of four slow tables onto one market's bars."""
    return _joined(plan, plan.names[:1])


def join_kernel_all(plan: Plan) -> Outcome:
    """The same for every market, batch by batch."""
    return _joined(plan, plan.names)


def _joined(plan: Plan, names: list[str]) -> Outcome:
    lake, outcome = plan.lake, Outcome(figures=_nothing_seen())
    last_known(np.zeros(1, np.int64), np.zeros(1, np.int64), 1)  # compile before the clock runs
    take(np.zeros(1), np.zeros(1, np.int64), np.zeros(1))
    began = time.perf_counter()
    for market in names:
        slow = {name: _slow_rows(lake, name, market) for name in SLOW}
        scan = lake.scan("candles", symbol=market, interval=plan.interval, columns=["available_at"])
        for closes in (pd.DatetimeIndex(batch["available_at"]).asi8 for batch in scan):
            outcome.rows += len(closes)
            for name, rows in slow.items():
                stamps = pd.DatetimeIndex(rows["available_at"]).asi8
                value, max_age, _ = SLOW[name]
                joining = time.perf_counter()
                known = last_known(stamps, closes, max_age // pd.Timedelta(1, "us"))
                out = np.empty(len(closes))
                take(rows[value].to_numpy(), known, out)
                outcome.joining_s += time.perf_counter() - joining
                _see(outcome.figures, name, out)
    outcome.seconds = time.perf_counter() - began
    return outcome


def join_pandas(plan: Plan) -> Outcome:
    """pandas.merge_asof for one market: the peer."""
    lake, outcome = plan.lake, Outcome(figures=_nothing_seen())
    market = plan.names[0]
    began = time.perf_counter()
    bars = lake.read("candles", symbol=market, interval=plan.interval, columns=["available_at"])
    outcome.rows = len(bars)
    for name, (value, max_age, _) in SLOW.items():
        rows = _slow_rows(lake, name, market)
        joining = time.perf_counter()
        found = pd.merge_asof(bars, rows, on="available_at", tolerance=max_age)
        outcome.joining_s += time.perf_counter() - joining
        _see(outcome.figures, name, found[value].to_numpy())
    outcome.seconds = time.perf_counter() - began
    return outcome


def join_duckdb(plan: Plan) -> Outcome:
    """DuckDB's ASOF JOIN for one market (`Lake.as_of`): the slow twin."""
    return _joined_by_duckdb(plan, plan.names[:1])


def join_duckdb_all(plan: Plan) -> Outcome:
    """The same for every market, one after the other."""
    return _joined_by_duckdb(plan, plan.names)


def _joined_by_duckdb(plan: Plan, names: list[str]) -> Outcome:
    lake, outcome = plan.lake, Outcome(figures=_nothing_seen())
    columns = [SlowColumn(name, value, max_age) for name, (value, max_age, _) in SLOW.items()]
    began = time.perf_counter()
    for market in names:
        for year in lake.as_of(market, plan.interval, columns):
            outcome.rows += len(year)
            for column in columns:
                _see(outcome.figures, column.table, year[column.name].to_numpy())
    outcome.seconds = time.perf_counter() - began
    return outcome


def read_year(plan: Plan) -> Outcome:
    """One market's year with all its columns."""
    end = min(plan.start + pd.DateOffset(years=1), plan.end)
    return _read(plan, plan.start, end)


def read_day(plan: Plan) -> Outcome:
    """One market's day with all its columns."""
    middle = (plan.start + (plan.end - plan.start) / 2).floor("D")
    return _read(plan, middle, middle + pd.Timedelta(days=1))


def _read(plan: Plan, start: pd.Timestamp, end: pd.Timestamp) -> Outcome:
    lake, market = plan.lake, plan.names[-1]
    began = time.perf_counter()
    rows = lake.read("candles", symbol=market, interval=plan.interval, start=start, end=end)
    return Outcome(len(rows), time.perf_counter() - began, figures={"close": float(rows["close"].sum())})


def status(plan: Plan) -> Outcome:
    """What `acmf data status` says."""
    began = time.perf_counter()
    held = plan.lake.status()
    seconds = time.perf_counter() - began
    bars = held[held["table"] == "candles"]
    return Outcome(int(bars["rows"].sum()), seconds, figures={"missing": int(bars["missing"].sum())})


def compact(plan: Plan) -> Outcome:
    """Small files into large ones."""
    began = time.perf_counter()
    done = plan.lake.compact("candles").iloc[0]
    seconds = time.perf_counter() - began
    held = plan.lake.status().query("table == 'candles'")["rows"].sum()
    figures = {"before": int(done["files_before"]), "after": int(done["files_after"])}
    return Outcome(int(held), seconds, figures=figures)


def _slow_rows(lake: Lake, name: str, market: str) -> pd.DataFrame:
    owner = market if name in {"funding", "news"} else None
    return lake.read(name, symbol=owner, columns=["available_at", SLOW[name][0]])


def _nothing_seen() -> dict[str, Any]:
    return {name: [0, 0.0] for name in SLOW}


def _see(figures: dict[str, Any], name: str, values: np.ndarray) -> None:
    """Count and sum of what was joined: what every way of joining must agree on."""
    figures[name][0] += int(np.isfinite(values).sum())
    figures[name][1] += float(np.nansum(values))


STEPS: Final[dict[str, Callable[[Plan], Outcome]]] = {
    step.__name__: step
    for step in (
        imports_only,
        pull,
        store_slow,
        join_kernel,
        join_kernel_all,
        join_duckdb,
        join_duckdb_all,
        join_pandas,
        read_year,
        read_day,
        status,
        store_days,
        compact,
    )
}


def peak_mib() -> float:
    """The most memory that this process ever had.

    Not `ru_maxrss` where it can be helped: Linux passes the parent's on to a child it starts.
    """
    status_file = Path("/proc/self/status")
    if status_file.exists():
        line = next(line for line in status_file.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1_024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main() -> None:
    """Do one step of a plan."""
    outcome = STEPS[sys.argv[1]](Plan(**json.loads(sys.argv[2])))
    outcome.peak_mib = peak_mib()
    sys.stdout.write(f"{json.dumps(asdict(outcome))}\n")


if __name__ == "__main__":
    main()
