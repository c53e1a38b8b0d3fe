"""Fan-out of independent tasks over worker processes: one thread each, progress heard while they run.

Tasks leave their results in files of their own (written aside and renamed), so a run that is
interrupted, by Ctrl-C or by a dead worker, leaves finished tasks finished and nothing half-written.
"""

import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from acmf_core.errors import ConfigError

Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`: called often, from any thread, never with done > total."""

UNITS = 1000  # of progress per task
POLL_SECONDS = 0.5
IDLE_SECONDS = 5  # a worker without work gives its memory back after this


def check_engine(engine: str) -> None:
    """Refuse an engine that cannot run here, before anything has been computed.

    Raises
    ------
    ConfigError
        A Dask address (the cluster engine is not part of this version), or an unknown engine.
    """
    if engine == "local":
        return
    if engine.startswith("dask://"):
        raise ConfigError(
            f"engine {engine} asks for a Dask cluster, which this version cannot drive yet",
            'use engine = "local"; the results are the same',
        )
    raise ConfigError(f"unknown engine {engine!r}", 'use "local"')


def fan_out(
    work: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    stage: str = "tasks",
    engine: str = "local",
    workers: int = 2,
    progress: Progress | None = None,
) -> list[Any]:
    """Run `work(*task, report)` for every task and return the results in the order of the tasks.

    Parameters
    ----------
    work : callable
        Importable by name (it runs in another process). Its last argument `report(share)` takes the
        finished share of the task, 0 to 1.
    tasks : sequence of tuples
        Large arrays inside are shared with the workers through memory maps, not copied.
    workers : int
        Processes; with one worker, or one task, everything runs in this process.
    progress : callable, optional
        `progress(stage, done, total)` with total = tasks x 1000.

    Raises
    ------
    ConfigError
        See `check_engine`. Errors of the tasks pass through as they are.
    """
    check_engine(engine)
    if not tasks:
        return []
    from joblib import Parallel, delayed, parallel_config

    n_jobs = min(workers, len(tasks))
    with tempfile.TemporaryDirectory(prefix="acmf-progress-") as folder:
        boxes = [Path(folder) / f"{index:04d}" for index in range(len(tasks))]
        calls = [delayed(_run)(work, task, box) for task, box in zip(tasks, boxes, strict=True)]
        backend: dict[str, Any] = {"backend": "sequential"}
        if n_jobs > 1:
            backend = {"backend": "loky", "inner_max_num_threads": 1, "idle_worker_timeout": IDLE_SECONDS}
        # copy-on-write maps: a read-only array would be another type to numba and a warning to torch
        with _Listener(stage, boxes, progress), parallel_config(n_jobs=n_jobs, mmap_mode="c", **backend):
            results: list[Any] = Parallel()(calls)
    return results


def _run(work: Callable[..., Any], task: tuple[Any, ...], box: Path) -> Any:
    def report(share: float) -> None:
        # progress is a courtesy: a full disk or a folder that is gone never stops the work
        with suppress(OSError):
            aside = box.with_suffix(".part")
            aside.write_text(f"{min(1.0, max(0.0, share)):.4f}", encoding="ascii")
            aside.replace(box)

    result = work(*task, report)
    report(1.0)
    return result


class _Listener:
    """Reads the mailboxes while the workers run and tells `progress` the sum."""

    def __init__(self, stage: str, boxes: Sequence[Path], progress: Progress | None) -> None:
        self._stage = stage
        self._boxes = boxes
        self._progress = progress
        self._done = threading.Event()
        self._best = [0.0] * len(boxes)
        self._thread = threading.Thread(target=self._listen, name="acmf-progress", daemon=True)

    def __enter__(self) -> "_Listener":
        if self._progress is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        if self._progress is not None:
            self._thread.join()
            if kind is None:
                self._tell()

    def _listen(self) -> None:
        self._tell()
        while not self._done.wait(POLL_SECONDS):
            self._tell()

    def _tell(self) -> None:
        for index, box in enumerate(self._boxes):
            with suppress(OSError, ValueError):
                # a bar never runs backwards
                self._best[index] = max(self._best[index], float(box.read_text(encoding="ascii")))
        if self._progress is not None:
            self._progress(self._stage, int(UNITS * sum(self._best)), UNITS * len(self._boxes))
