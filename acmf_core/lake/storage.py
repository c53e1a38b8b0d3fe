"""Where the tables lie: opening them on a disk or an object store, and what refusals mean."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from acmf_core.errors import DataError
from acmf_core.lake.merging import brief
from acmf_core.lake.tables import TABLES, Table, table

# delta-rs alone waits three minutes for a store that is not there. One request may take 20 s (a part of a
# large file over a thin line), reaching the store 2 s, and its first, small answer 4 s.
_PATIENCE: Final = {"connect_timeout": "2s", "timeout": "20s", "max_retries": "2", "retry_timeout": "10s"}
_FIRST_PATIENCE: Final = {"timeout": "4s", "max_retries": "1", "retry_timeout": "2s"}
# Pinned versions must stay readable: nothing expires by itself.
_CONFIGURATION: Final[dict[str, str | None]] = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
# What an object store's refusal looks like in the words of delta-rs, and what it means.
_TORN: Final = (
    "the newest entry of its log is torn (a power cut?): move it out of _delta_log, the versions before it "
    "are whole, and bring in again what it brought"
)
_REFUSALS: Final = (
    (r"NoSuchBucket", "the bucket does not exist"),
    (r"credentials|169\.254\.169\.254", "no credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"),
    (r"\b40[13]\b|privileges", "the object store forbids it"),
    (r"dns error", "the object store's name is not known (AWS_ENDPOINT_URL, AWS_REGION)"),
    (r"\(Connect\)|error sending request|timed out", "the object store does not answer"),
    (r"\b5\d\d [A-Z]", "the object store has trouble of its own"),
)


class Storage:
    """The folder or URI that holds one Delta table per name.

    Parameters
    ----------
    uri : str or Path
        A folder, or a URI that delta-rs knows.
    options : mapping, optional
        Passed to delta-rs, over the defaults (short waits); credentials that are not named here are taken
        from the usual environment variables.
    """

    def __init__(self, uri: str | Path, options: Mapping[str, str] | None = None) -> None:
        self.uri = str(uri).rstrip("/")
        self._answered = "://" not in self.uri
        self._options = (_PATIENCE if "://" in self.uri else {}) | dict(options or {})

    def table_uri(self, name: str) -> str:
        """Where one table lies; DataError where there is none of that name."""
        return f"{self.uri}/{table(name).name}"

    def exists(self, name: str) -> bool:
        """Whether the table was ever written."""
        uri = self.table_uri(name)
        with outside(uri):
            options = self._options if self._answered else self._options | _FIRST_PATIENCE
            found = bool(DeltaTable.is_deltatable(uri, storage_options=options))
        self._answered = True
        return found

    def existing(self) -> dict[str, DeltaTable]:
        """The newest version of every table that was ever written."""
        found = {name: self.newest(name) for name in TABLES}
        return {name: opened for name, opened in found.items() if opened is not None}

    def newest(self, name: str) -> DeltaTable | None:
        """The newest version, or None where the table was never written."""
        uri = self.table_uri(name)
        if not self._answered and not self.exists(name):
            return None
        with outside(uri):
            try:
                opened = DeltaTable(uri, storage_options=self._options)
            except TableNotFoundError:
                return None
        self._require_whole(name, opened.version())
        return opened

    def open(self, name: str, version: int | None = None) -> DeltaTable:
        """One version of a table; DataError where it or the table does not exist."""
        if version is not None and version >= 0 and (self._answered or self.exists(name)):
            with outside(self.table_uri(name)), suppress(TableNotFoundError, DeltaError):
                return DeltaTable(self.table_uri(name), version=version, storage_options=self._options)
        newest = self.newest(name)
        if newest is None:
            raise DataError(
                f"the lake at {self.uri} has no {name} yet", "acmf data pull or acmf data import FILE"
            )
        if version is None:
            return newest
        raise DataError(
            f"{name} in {self.uri} has no version {version}", f"it has versions 0 to {newest.version()}"
        )

    def create(self, spec: Table) -> DeltaTable:
        """The newest version, made empty where the table was never written."""
        uri = self.table_uri(spec.name)
        self.require_writable(spec.name)
        with outside(uri):
            return DeltaTable.create(
                uri,
                schema=spec.schema,
                partition_by=list(spec.partitions),
                name=spec.name,
                mode="ignore",
                configuration=_CONFIGURATION,
                storage_options=self._options,
            )

    def _require_whole(self, name: str, version: int) -> None:
        """Refuse a newest log entry without a byte, which delta-rs takes for a commit of nothing."""
        folder = self._folder(name)
        if folder is None:
            return
        entry = folder / "_delta_log" / f"{version:020}.json"
        if entry.exists() and not entry.stat().st_size:
            raise OSError(errno.EIO, f"the lake's table cannot be used: {_TORN}", str(entry))

    def _folder(self, name: str) -> Path | None:
        """The table's folder on this machine; None on an object store."""
        uri = self.table_uri(name)
        if "://" not in uri:
            return Path(uri)
        parts = urlsplit(uri)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def require_writable(self, name: str) -> None:
        """Ask the disk before delta-rs does, whose word on it is long and goes to stderr."""
        folder = self._folder(name)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for part in (folder, folder / "_delta_log"):
            if part.exists() and not os.access(part, os.W_OK):
                raise PermissionError(errno.EACCES, "no permission to write", str(part))


@contextmanager
def outside(uri: str) -> Iterator[None]:
    """What delta-rs says of the disk or the network, as the OSError that it is."""
    try:
        yield
    except (CommitFailedError, TableNotFoundError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise OSError(errno.EIO, f"the lake cannot be used: {reason(error)}", uri) from error
    except (DeltaError, pa.ArrowException) as error:
        raise OSError(errno.EIO, f"the lake's table cannot be used: {reason(error)}", uri) from error


def reason(error: Exception) -> str:
    """A refusal in one short phrase, without the store's whole answer (which may name keys)."""
    said = str(error)
    if "Json error" in said:
        return _TORN
    if "://" in said:
        for pattern, meaning in _REFUSALS:
            if re.search(pattern, said):
                code = re.search(r"<Code>(\w+)</Code>", said) or re.search(r"\b([45]\d\d [A-Z]\w+)", said)
                return f"{meaning} ({code[1]})" if code else meaning
    return brief(error)
