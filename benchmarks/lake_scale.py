"""How the lake carries 52 million one-minute bars: time and peak memory of every step.

python -m benchmarks.lake_scale --symbols 20 --years 5 --interval 1m --folder FOLDER --page docs/lake_scale.md

The bars are made up (`synthetic_archive`) and come the way real ones do: zips with checksums over HTTP,
pulled by `pull_candles`. Every step is a process of its own; peak memory is the kernel's word on it, with its
libraries. Smaller --symbols and --years take seconds.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import click
import pandas as pd

from benchmarks.scale_steps import SLOW, Plan

# Step, what it is, and whether files are counted after it.
ORDER: Final = (
    ("imports_only", "Python and its libraries alone"),
    ("pull", "pull every market from the archive"),
    ("store_slow", "store four slow tables"),
    ("read_year", "read one market's year"),
    ("read_day", "read one market's day"),
    ("join_kernel", "as-of join of four slow tables, one market: the features' kernel"),
    ("join_duckdb", "the same: DuckDB's ASOF JOIN (`Lake.as_of`)"),
    ("join_pandas", "the same: `pandas.merge_asof`"),
    ("join_kernel_all", "as-of join, every market, batch by batch: the kernel"),
    ("join_duckdb_all", "the same: DuckDB, market by market"),
    ("status", "status (`acmf data status`), from the log alone"),
    ("pull", "pull again: nothing new"),
    ("store_days", "store 28 more days of one market, one commit a day"),
    ("compact", "compact the bars"),
    ("read_year", "read one market's year, compacted"),
    ("read_day", "read one market's day, compacted"),
    ("compact", "compact again: nothing to do"),
)
_LIBRARIES: Final = ("deltalake", "duckdb", "pyarrow", "pandas", "numpy", "numba")


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    what: str
    rows: int
    seconds: float
    joining_s: float
    peak_mib: float
    files: int
    figures: dict[str, Any]


@contextmanager
def archive(plan: Plan) -> Iterator[Plan]:
    """The plan with the URL of an archive that runs in its own process."""
    last = f"{plan.end - pd.Timedelta(days=1):%Y-%m}"
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.synthetic_archive", plan.first, last],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield replace(plan, url=server.stdout.readline().strip())
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


def measured(step: str, what: str, plan: Plan) -> Measured:
    """Run one step in a process of its own; its outcome and the most memory it ever had."""
    command = [sys.executable, "-m", "benchmarks.scale_steps", step, json.dumps(asdict(plan))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{step} failed with exit code {done.returncode}")
    outcome = json.loads(done.stdout.splitlines()[-1])
    figures = outcome.pop("figures")
    return Measured(
        what=what,
        files=len(list((Path(plan.folder) / "lake" / "candles").rglob("*.parquet"))),
        figures=figures,
        **outcome,
    )


def measure(plan: Plan, steps: Sequence[tuple[str, str]] = ORDER) -> tuple[list[Measured], dict[str, float]]:
    """Every step in turn, and what making the bars cost the archive."""
    found = []
    with archive(plan) as served:
        for step, what in steps:
            line = measured(step, what, served)
            click.echo(
                f"{what}: {line.rows:,} rows, {line.seconds:.2f} s, {line.peak_mib:,.0f} MiB", err=True
            )
            found.append(line)
        with urlopen(f"{served.url}/cost") as answer:
            cost = json.loads(answer.read())
    _require_agreement(found)
    return found, cost


def _require_agreement(found: Sequence[Measured]) -> None:
    """All ways of joining gave the same values."""
    for kind in ("one market", "every market"):
        joins = [line for line in found if set(line.figures) == set(SLOW) and _kind(line, found) == kind]
        for line in joins[1:]:
            for name in SLOW:
                (count, total), (first, expected) = line.figures[name], joins[0].figures[name]
                if count != first or not math.isclose(total, expected, rel_tol=1e-9):
                    raise click.ClickException(f"{line.what} disagrees with {joins[0].what} on {name}")


def _kind(line: Measured, found: Sequence[Measured]) -> str:
    most = max(other.rows for other in found if set(other.figures) == set(SLOW))
    return "every market" if line.rows == most else "one market"


def page(plan: Plan, found: Sequence[Measured], cost: dict[str, float], command: str) -> str:
    """The measurement as Markdown."""
    pulled = next(line for line in found if line.what.startswith("pull every"))
    folder = Path(plan.folder) / "lake" / "candles"
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet")) / 1e9
    lines = [
        "# The lake at scale",
        "",
        f"{plan.symbols} synthetic markets, {plan.months} months of {plan.interval} bars: "
        f"{pulled.rows:,} rows.",
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by",
        "",
        f"```\n{command}\n```",
        "",
        f"on {_machine()}; Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in _LIBRARIES)}.",
        "",
        "| step | rows | seconds | rows/s | peak MiB | Parquet files on disk |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for line in found:
        join = f" ({line.joining_s:.2f} s without the reading)" if line.joining_s else ""
        rate = f"{line.rows / line.seconds:,.0f}" if line.rows and line.seconds else ""
        lines.append(
            f"| {line.what}{join} | {line.rows:,} | {line.seconds:,.2f} | {rate} | {line.peak_mib:,.0f} "
            f"| {line.files:,} |"
        )
    first, last = (pulled.figures[name] for name in (plan.names[0], plan.names[-1]))
    lines += [
        "",
        "- Every step is a process of its own. Seconds are those of the work, without the imports; the peak",
        "  is the whole process's, libraries included (first line). Rows are those read, joined, stored or",
        "  looked at.",
        f"- The archive made {cost['files']:,.0f} zips ({cost['bytes'] / 1e9:.2f} GB) in "
        f"{cost['cpu_s']:,.0f} s of CPU while the pull ran, on the same cores:",
        f"  the pull's seconds contain the waiting for them. The first market took {first:.0f} s, the last "
        f"{last:.0f} s.",
        f"- On disk afterwards: {size:.2f} GB, with the files from before the compaction: pinned versions",
        "  need them.",
        "- The joins (funding, Fear & Greed, macro, news) gave the same counts and sums in every way.",
        "",
    ]
    return "\n".join(lines)


def _machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} shared cores ({model}), {memory:.0f} GiB of memory"


@click.command()
@click.option("--symbols", type=click.IntRange(1, 99), default=20, show_default=True)
@click.option("--years", type=click.FloatRange(0.1, 20), default=5.0, show_default=True)
@click.option("--interval", type=click.Choice(["1m", "15m"]), default="1m", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the lake goes [a temporary folder].")
@click.option("--page", "to", type=click.Path(path_type=Path), help="Where the table goes [standard output].")
def main(symbols: int, years: float, interval: str, folder: Path | None, to: Path | None) -> None:
    """Fill a lake with synthetic bars and measure every step."""
    command = f"python -m benchmarks.lake_scale --symbols {symbols} --years {years:g} --interval {interval}"
    with tempfile.TemporaryDirectory() as temporary:
        home = folder or Path(temporary)
        if (home / "lake").exists():
            raise click.ClickException(f"{home} holds a lake already; name an empty folder")
        plan = Plan(symbols, round(years * 12), interval, str(home))
        found, cost = measure(plan)
        text = page(plan, found, cost, command)
    if to is None:
        click.echo(text)
    else:
        to.write_text(text)


if __name__ == "__main__":
    main()
