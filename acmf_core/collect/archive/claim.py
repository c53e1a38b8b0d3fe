"""One process at a time may use a folder: a lock on the folder itself, gone with the process that held it."""

import fcntl
import os
from pathlib import Path

from acmf_core.errors import ConfigError


class Claim:
    """A folder that is ours alone while we hold it. No file is left behind, also after kill -9.

    Parameters
    ----------
    folder : Path
        Made when it is taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None

    def take(self) -> bool:
        """Make the folder ours; False where it was already.

        Raises
        ------
        ConfigError
            Another process holds it.
        OSError
            The folder cannot be made.
        """
        while self._handle is None or not self._is_folder(self._handle):
            self.release()
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise ConfigError(
                    f"another pull is at work in {self._folder}", "wait for it, or set paths.state elsewhere"
                ) from None
            if self._is_folder(handle):
                self._handle = handle
                return True
            os.close(handle)  # its last owner removed it in between
        return False

    def release(self) -> None:
        """Let others have the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _is_folder(self, handle: int) -> bool:
        try:
            there = self._folder.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(handle)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
