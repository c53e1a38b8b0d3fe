"""Bulk history from the exchange's public archive: monthly, then daily zips, each verified by its checksum.

Layout under data/futures/um, each file with a .CHECKSUM beside it:

* {monthly|daily}/klines/SYMBOL/15m/SYMBOL-15m-2024-01[-02].zip
* monthly/fundingRate/SYMBOL/SYMBOL-fundingRate-2024-01.zip

Files land in a cache folder under another name and are renamed once verified, so that a pull that was cut
off goes on where it stopped; what the lake has already is not asked for again.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import tenacity

from acmf_core.errors import VenueUnavailable
from acmf_core.fingerprint import file_hash

Progress = Callable[[str, int, int], None]

_ROOT: Final = "data/futures/um"
BACKOFF_S: Final = 0.5  # the first wait between tries
_ATTEMPTS: Final = 4
_CHUNK: Final = 1 << 16
_SHA_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One zip of the archive: a month ("2024-01") or a day ("2024-01-02") of one series."""

    kind: str
    symbol: str
    period: str
    interval: str = ""

    @property
    def name(self) -> str:
        """BTCUSDT-15m-2024-01.zip"""
        return f"{self.symbol}-{self.interval or self.kind}-{self.period}.zip"

    @property
    def path(self) -> str:
        """Under the archive's base URL."""
        span = "monthly" if len(self.period) == len("2024-01") else "daily"
        folder = f"{_ROOT}/{span}/{self.kind}/{self.symbol}"
        return f"{folder}/{self.interval}/{self.name}" if self.interval else f"{folder}/{self.name}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one file: its place in the cache, or None and why ("absent", "bad checksum")."""

    file: ArchiveFile
    path: Path | None
    reason: str = ""


class _Transient(Exception):
    """Worth another try: a cut connection, a busy server, a file that is not the one its checksum names."""


class _WrongChecksum(_Transient):
    """The body arrived whole and still differs."""


class Archive:
    """A polite client of the archive: few connections, retries with jittered backoff. Close it after use.

    Parameters
    ----------
    base_url : str
        https://data.binance.vision or a mirror (`SourcesConfig`).
    cache : Path
        Where verified files wait for their merge.
    connections : int
        At most so many downloads at a time.
    timeout_s : float
        Without a byte for so long, a try is given up.
    backoff_s : float, optional
        The first wait between tries (0.5); it doubles, with jitter.
    """

    def __init__(
        self,
        base_url: str,
        cache: Path,
        *,
        connections: int = 4,
        timeout_s: float = 30.0,
        backoff_s: float | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.cache = cache
        self._connections = connections
        self._backoff_s = BACKOFF_S if backoff_s is None else backoff_s
        self._stop = threading.Event()
        self._client = httpx.Client(
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections),
            follow_redirects=True,
            headers={"User-Agent": "acmf"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what still runs and hand the connections back."""
        self._stop.set()
        self._client.close()

    def fetch(
        self, files: Iterable[ArchiveFile], *, stage: str = "download", progress: Progress | None = None
    ) -> list[Fetched]:
        """Bring files into the cache, several at a time.

        Parameters
        ----------
        files : iterable of ArchiveFile
            What to bring.
        stage, progress : str, callable(stage, done, total)
            Called after every file.

        Returns
        -------
        list of Fetched
            In the order asked for; a file that the archive has not is there with path None.

        Raises
        ------
        VenueUnavailable
            The archive cannot be reached, or keeps failing; what was fetched stays in the cache.
        OSError
            The cache cannot be written.
        """
        wanted = list(files)
        if not wanted:
            return []
        self.cache.mkdir(parents=True, exist_ok=True)
        pool = ThreadPoolExecutor(self._connections, thread_name_prefix="archive")
        finished = False
        try:
            futures: list[Future[Fetched]] = [pool.submit(self._fetch_one, file) for file in wanted]
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress is not None:
                    progress(stage, done, len(wanted))
            finished = True
            return [future.result() for future in futures]
        finally:
            if not finished:  # an error or Ctrl-C: let no thread go on downloading behind it
                self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def forget(self, fetched: Iterable[Fetched]) -> None:
        """Drop files from the cache, once the lake has their rows."""
        for one in fetched:
            if one.path is not None:
                one.path.unlink(missing_ok=True)
                for torn in self.cache.glob(f"{one.path.stem}.*.part"):  # of a pull that was killed
                    torn.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or gone: either is fine
            self.cache.rmdir()

    def _fetch_one(self, file: ArchiveFile) -> Fetched:
        try:
            return self._retrying()(self._try, file)
        except _WrongChecksum:
            return Fetched(file, None, "bad checksum")
        except _Transient as error:
            raise VenueUnavailable(
                f"the archive at {self.base_url} failed {_ATTEMPTS} times for {file.name}: {error}",
                "check the network and sources.archive_base_url, then run the same command: it goes on; "
                "or bring a file: acmf data import FILE",
            ) from None

    def _retrying(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_exponential_jitter(
                multiplier=self._backoff_s, max=20.0, jitter=self._backoff_s
            ),
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )

    def _try(self, file: ArchiveFile) -> Fetched:
        checksum = self._checksum(file)
        if checksum is None:
            return Fetched(file, None, "absent")
        target = self.cache / file.name
        if target.is_file() and file_hash(target) == checksum:
            return Fetched(file, target)
        aside = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            digest = self._download(file, aside)
            if digest is None:
                return Fetched(file, None, "absent")
            if digest != checksum:
                raise _WrongChecksum(f"SHA-256 {digest[:12]}.. instead of {checksum[:12]}..")
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        return Fetched(file, target)

    def _checksum(self, file: ArchiveFile) -> str | None:
        try:
            answer = self._client.get(f"{self.base_url}/{file.path}.CHECKSUM")
        except httpx.TransportError as error:
            raise _Transient(_plain(error)) from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        _raise_for_status(answer)
        digest = answer.text.split(maxsplit=1)[0].lower() if answer.text.strip() else ""
        if len(digest) != _SHA_DIGITS:
            raise _Transient("the checksum file holds no SHA-256")
        return digest

    def _download(self, file: ArchiveFile, target: Path) -> str | None:
        """The body into `target`; its SHA-256, or None where there is no such file."""
        digest = hashlib.sha256()
        try:
            with (
                self._client.stream("GET", f"{self.base_url}/{file.path}") as answer,
                target.open("wb") as out,
            ):
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return None
                _raise_for_status(answer)
                for chunk in answer.iter_bytes(_CHUNK):
                    if self._stop.is_set():
                        raise _Transient("stopped")
                    digest.update(chunk)
                    out.write(chunk)
        except httpx.TransportError as error:
            raise _Transient(_plain(error)) from error
        return digest.hexdigest()


def _raise_for_status(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    raise _Transient(f"HTTP {answer.status_code}")


def _plain(error: httpx.TransportError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
