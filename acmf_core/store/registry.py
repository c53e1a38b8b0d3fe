"""A model registry that is a directory: what the daemon watches, no server needed.

    <root>/registry.json     versions with their tags, and the aliases; written aside and renamed
    <root>/versions/<n>/     the bundles, each an exact copy of what was registered

Because versions and aliases lie in one file, every change is all or nothing, and a reader never locks.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from acmf_core.domain import Deployment
from acmf_core.errors import ModelNotReady
from acmf_core.fingerprint import file_hash, fingerprint

MANIFEST: Final = "manifest.json"
CONTENT: Final = "content"  # tag: SHA-256 over the names and bytes of the bundle's files


def content_hash(path: Path) -> str:
    """SHA-256 over the relative names and bytes of all files of a bundle directory.

    Raises
    ------
    ModelNotReady
        The path is no bundle: not a directory, or without a manifest.
    """
    if not (path / MANIFEST).is_file():
        raise ModelNotReady(
            f"{path} is no bundle: there is no {MANIFEST} in it", "give the directory that training wrote"
        )
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return fingerprint({str(file.relative_to(path)): file_hash(file) for file in files})


class DirectoryRegistry:
    """Versions and aliases in one directory (port `ModelRegistry`).

    Parameters
    ----------
    root : Path
        Created with the first registration.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def register(self, path: str, tags: Mapping[str, str]) -> str:
        """Copy a bundle in; the same content again is the same version, with the tags laid over.

        Raises
        ------
        ModelNotReady
            The path is no bundle, or changed while it was copied.
        """
        source = Path(path)
        content = content_hash(source)
        with self._changing() as book:
            for version, known in book["versions"].items():
                if known[CONTENT] == content:
                    known.update(tags)
                    return str(version)
            version = str(1 + max((int(v) for v in book["versions"]), default=0))
            self._copy(source, version, content)
            book["versions"][version] = {**tags, CONTENT: content}
            return version

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version.

        Raises
        ------
        ModelNotReady
            There is no such version.
        """
        with self._changing() as book:
            if version not in book["versions"]:
                known = ", ".join(book["versions"]) or "none"
                raise ModelNotReady(f"no model version {version} in {self.root}", f"versions: {known}")
            book["aliases"][alias] = version

    def resolve(self, alias: str) -> Deployment | None:
        """What the alias points at, or None.

        Raises
        ------
        ModelNotReady
            The alias points at a bundle that is no longer on disk.
        """
        book = self._read()
        version = book["aliases"].get(alias)
        if version is None:
            return None
        found = self._deployment(version, book["versions"][version])
        if not Path(found.path).is_dir():
            raise ModelNotReady(
                f"{alias} is version {version}, but {found.path} is gone",
                "restore it from a backup, or promote another bundle",
            )
        return found

    def versions(self) -> list[Deployment]:
        """Everything registered, oldest first."""
        book = self._read()["versions"]
        return [self._deployment(v, book[v]) for v in sorted(book, key=int)]

    def aliases(self) -> dict[str, str]:
        """Alias to version."""
        return dict(self._read()["aliases"])

    def _deployment(self, version: str, tags: Mapping[str, str]) -> Deployment:
        return Deployment(version, str(self.root / "versions" / version), dict(tags))

    def _read(self) -> dict[str, Any]:
        file = self.root / "registry.json"
        try:
            book = json.loads(file.read_text(encoding="utf-8"))
            return {"versions": dict(book["versions"]), "aliases": dict(book["aliases"])}
        except FileNotFoundError:
            return {"versions": {}, "aliases": {}}
        except (ValueError, KeyError, TypeError):
            raise ModelNotReady(
                f"{file} cannot be read as a registry",
                "restore it from a backup; the bundles beside it are whole",
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The book under an exclusive lock, written back when the block ends without an error."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            book = self._read()
            yield book
            write_aside(self.root / "registry.json", json.dumps(book, indent=2, sort_keys=True) + "\n")

    def _copy(self, source: Path, version: str, content: str) -> None:
        folder = self.root / "versions"
        folder.mkdir(exist_ok=True)
        aside = folder / f".incoming-{version}"
        target = folder / version
        for left_over in (aside, target):  # of a registration that was killed before the book knew it
            shutil.rmtree(left_over, ignore_errors=True)
        shutil.copytree(source, aside)
        if content_hash(aside) != content:
            shutil.rmtree(aside)
            raise ModelNotReady(
                f"{source} changed while it was copied", "wait until it is written, then again"
            )
        aside.rename(target)


def write_aside(file: Path, text: str) -> None:
    """Replace a file's content so that a reader sees the old text or the new one, never a part."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(file)
