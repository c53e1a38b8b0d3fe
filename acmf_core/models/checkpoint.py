"""Finished stages of a training, kept so that an interrupted one goes on where it stopped."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

Arrays = dict[str, NDArray[np.generic]]


class Stages:
    """Arrays by stage in a folder named after everything they depend on, so nothing stale is ever read.

    Parameters
    ----------
    workdir : Path, optional
        None keeps nothing.
    fingerprint : str
        Of the data, the configuration and the code version.
    """

    def __init__(self, workdir: Path | None, fingerprint: str) -> None:
        self.folder = workdir / f"fit-{fingerprint[:16]}" if workdir is not None else None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def arrays(self, name: str, make: Callable[[], Mapping[str, NDArray[np.generic]]]) -> Arrays:
        """What `make` gives, from the folder where an earlier run left it there."""
        path = self.path(f"{name}.safetensors")
        if path is None:
            return dict(make())
        if path.exists():
            try:
                return load_file(path)
            except (SafetensorError, OSError):
                path.unlink()  # damaged on disk: make it again
        made = {key: np.ascontiguousarray(value) for key, value in make().items()}
        aside = path.with_suffix(".partial")
        save_file(made, aside)
        aside.replace(path)
        return made

    def path(self, name: str) -> Path | None:
        """A file of this training, or None where nothing is kept."""
        return self.folder / name if self.folder is not None else None
