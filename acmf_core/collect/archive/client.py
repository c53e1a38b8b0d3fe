"""Bulk history from the exchange's public archive: monthly and daily zips, each verified by its checksum.

Files land in a cache folder under another name and are renamed once verified, so that a pull that was cut
off goes on where it stopped; what the lake has already is not asked for again.
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import tenacity

from acmf_core.collect.archive.claim import Claim
from acmf_core.collect.archive.files import ArchiveFile, Fetched
from acmf_core.errors import ConfigError, VenueUnavailable
from acmf_core.fingerprint import file_hash

Progress = Callable[[str, int, int], None]

BACKOFF_S: Final = 0.5  # the first wait between tries
_ATTEMPTS: Final = 4
_CHUNK: Final = 1 << 16
_SHA_DIGITS: Final = 64
_LONGEST_WAIT_S: Final = 120.0  # a server that asks for more patience than this is told to a person
_WHOLE_FILE: Final = 20  # times the read timeout: a server that trickles is given up too
_MAX_FILE: Final = 64 << 20  # a month of 1-minute bars is 2 MB
_MAX_CHECKSUM: Final = 4_096
_REFUSED: Final = frozenset({401, 403, 451})
_GO_ON: Final = "run the same command again: it goes on; or bring a file: acmf data import FILE"


@dataclass(frozen=True, slots=True)
class Batch:
    """Downloads under way."""

    futures: Sequence[Future[Fetched]]

    def wait(self, each: Callable[[], None] | None = None) -> list[Fetched]:
        """Every file, in the order asked for; `each` is called after each one that came.

        Raises
        ------
        VenueUnavailable
            The archive cannot be reached, keeps failing, or refuses; what was fetched stays in the cache.
        OSError
            The cache cannot be written.
        """
        try:
            for future in as_completed(self.futures):
                future.result()
                if each is not None:
                    each()
        except BaseException:  # an error or Ctrl-C: nothing goes on downloading behind it
            self.cancel()
            raise
        return [future.result() for future in self.futures]

    def cancel(self) -> None:
        """Stop what has not come yet."""
        for future in self.futures:
            future.cancel()


class _Transient(Exception):
    """Worth another try: a cut connection, a busy server, a file that is not the one its checksum names."""


class _WrongChecksum(_Transient):
    """The body arrived whole and still differs."""


class _NoConnection(_Transient):
    """Nobody answers at that address: no other file will come either."""


class Archive:
    """A polite client of the archive: few connections, retries with jittered backoff, Retry-After honoured.

    Downloads run on an event loop in a thread of its own: the caller parses while the next files come, and
    an interrupt ends a stalled download at once. Close it after use.

    Parameters
    ----------
    base_url : str
        https://data.binance.vision or a mirror (`SourcesConfig`).
    cache : Path
        Where verified files wait for their merge; one archive at a time may use it.
    connections : int
        At most so many downloads at a time.
    timeout_s : float
        Without a byte for so long, a try is given up.
    backoff_s : float, optional
        The first wait between tries (0.5); it doubles, with jitter.

    Raises
    ------
    ConfigError
        The URL is none.
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
        self._timeout_s = timeout_s
        self._backoff_s = BACKOFF_S if backoff_s is None else backoff_s
        self._claim = Claim(cache)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._slots = asyncio.Semaphore(connections)
        self._refusal: VenueUnavailable | None = None  # a word that holds for every file
        self._resume_at = 0.0  # of the loop's clock: before it the server wants no request
        try:
            self._client = httpx.AsyncClient(
                base_url=self.base_url,
                timeout=timeout_s,
                limits=httpx.Limits(max_connections=connections),
                follow_redirects=True,
                headers={"User-Agent": "acmf", "Accept-Encoding": "identity"},
            )
        except httpx.InvalidURL as error:
            raise ConfigError(f'"{base_url}" is no URL: {error}', "mend sources.archive_base_url") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what still runs, at once, and hand connections and cache back."""
        if self._loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None
        self._claim.release()

    def start(self, files: Iterable[ArchiveFile]) -> Batch:
        """Begin to bring files into the cache; returns without waiting.

        Raises
        ------
        VenueUnavailable
            The archive has refused, or was out of reach, before: no file is worth another try.
        ConfigError
            Another pull uses the cache.
        OSError
            The cache cannot be written.
        """
        wanted = list(files)
        if not wanted:
            return Batch(())
        if self._refusal is not None:
            raise self._refusal
        loop = self._running()
        return Batch([asyncio.run_coroutine_threadsafe(self._fetch_one(file), loop) for file in wanted])

    def fetch(self, files: Iterable[ArchiveFile], each: Callable[[], None] | None = None) -> list[Fetched]:
        """Bring files into the cache, several at a time; `start` and `Batch.wait` in one."""
        return self.start(files).wait(each)

    def in_turn(
        self, lots: Sequence[Sequence[ArchiveFile]], each: Callable[[], None] | None = None
    ) -> Iterator[list[Fetched]]:
        """One lot of files after another; while the caller works on one, the next is on its way."""
        ahead = self.start(lots[0] if lots else ())
        try:
            for number in range(len(lots)):
                fetched = ahead.wait(each)
                ahead = self.start(lots[number + 1] if number + 1 < len(lots) else ())
                yield fetched
        finally:
            ahead.cancel()

    def forget(self, fetched: Iterable[Fetched]) -> None:
        """Drop files from the cache, once the lake has their rows."""
        for one in fetched:
            if one.path is not None:
                one.path.unlink(missing_ok=True)

    def sweep(self, series: str) -> None:
        """Drop what a killed pull left of a series ("BTCUSDT-15m") that is in the lake now."""
        if not self.cache.is_dir():
            return
        self._take_cache()
        for left in self.cache.glob(f"{series}-*.zip"):
            left.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: other series wait there
            self.cache.rmdir()
            self._claim.release()

    # -- the loop's side --------------------------------------------------------------------------------

    def _take_cache(self) -> None:
        if self._claim.take():
            for torn in self.cache.glob("*.part"):  # of a pull that was killed: the cache is ours alone
                torn.unlink(missing_ok=True)

    def _running(self) -> asyncio.AbstractEventLoop:
        self._take_cache()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="archive", daemon=True)
            self._thread.start()
        return self._loop

    async def _shut_down(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.aclose()

    async def _fetch_one(self, file: ArchiveFile) -> Fetched:
        try:
            async with self._slots:
                if self._refusal is not None:
                    raise self._refusal
                return await self._retrying()(self._try, file)
        except _WrongChecksum:
            return Fetched(file, None, "bad checksum")
        except _Transient as error:
            failure = VenueUnavailable(
                f"the archive at {self.base_url} failed {_ATTEMPTS} times for {file.name}: {error}",
                f"check the network and sources.archive_base_url, then {_GO_ON}",
            )
            if isinstance(error, _NoConnection):
                self._refusal = failure
            raise failure from None

    def _retrying(self) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(
                multiplier=self._backoff_s, max=20.0, jitter=self._backoff_s
            ),
            reraise=True,
        )

    async def _try(self, file: ArchiveFile) -> Fetched:
        try:
            async with asyncio.timeout(_WHOLE_FILE * self._timeout_s):
                return await self._verified(file)
        except TimeoutError:
            raise _Transient(f"not whole after {_WHOLE_FILE * self._timeout_s:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _NoConnection(f"{type(error).__name__}: {error}".removesuffix(": ")) from error
        except httpx.RequestError as error:
            raise _Transient(f"{type(error).__name__}: {error}".removesuffix(": ")) from error

    async def _verified(self, file: ArchiveFile) -> Fetched:
        checksum = await self._checksum(file)
        if checksum is None:
            return Fetched(file, None, "absent")
        target = self.cache / file.name
        if target.is_file() and file_hash(target) == checksum:
            return Fetched(file, target)
        aside = target.with_suffix(".part")
        try:
            digest = await self._download(file, aside)
            if digest is None:
                return Fetched(file, None, "absent")
            if digest != checksum:
                raise _WrongChecksum(f"SHA-256 {digest[:12]}.. instead of {checksum[:12]}..")
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        return Fetched(file, target)

    async def _checksum(self, file: ArchiveFile) -> str | None:
        text = bytearray()
        await self._pause()
        async with self._client.stream("GET", f"{file.path}.CHECKSUM") as answer:
            if not self._there(answer):
                return None
            async for chunk in answer.aiter_bytes():
                text += chunk
                if len(text) > _MAX_CHECKSUM:
                    break
        digest = bytes(text.split(maxsplit=1)[0] if text.strip() else b"").decode("ascii", "replace").lower()
        if len(digest) != _SHA_DIGITS:
            raise _Transient("the checksum file holds no SHA-256")
        return digest

    async def _download(self, file: ArchiveFile, target: Path) -> str | None:
        """The body into `target`; its SHA-256, or None where there is no such file."""
        digest, size = hashlib.sha256(), 0
        await self._pause()
        async with self._client.stream("GET", file.path) as answer:
            if not self._there(answer):
                return None
            with target.open("wb") as out:
                async for chunk in answer.aiter_bytes(_CHUNK):
                    size += len(chunk)
                    if size > _MAX_FILE:
                        raise _Transient(f"larger than {_MAX_FILE >> 20} MB")
                    digest.update(chunk)
                    out.write(chunk)
        return digest.hexdigest()

    async def _pause(self) -> None:
        """While the server has asked for a rest, no connection of ours asks for anything."""
        while (rest := self._resume_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(rest)

    def _there(self, answer: httpx.Response) -> bool:
        """Whether the file is there (False: 404); anything but an answer to that is an error."""
        status = answer.status_code
        if answer.is_success or status == httpx.codes.NOT_FOUND:
            return status != httpx.codes.NOT_FOUND
        if status in _REFUSED:
            self._refusal = VenueUnavailable(
                f"the archive at {self.base_url} refuses this address or region (HTTP {status})",
                "go through another network or a mirror (sources.archive_base_url), or acmf data import FILE",
            )
            raise self._refusal
        if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
            self._rest(_seconds_asked(answer), status)
        raise _Transient(f"HTTP {status}")

    def _rest(self, seconds: float, status: int) -> None:
        if seconds > _LONGEST_WAIT_S:
            self._refusal = VenueUnavailable(
                f"the archive at {self.base_url} asks to come back in {seconds:.0f} s (HTTP {status})",
                f"wait that long, then {_GO_ON}",
            )
            raise self._refusal
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + seconds)


def _seconds_asked(answer: httpx.Response) -> float:
    """Retry-After in seconds: a number, or a date measured against the server's own; 0 without one."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        wait = parsedate_to_datetime(asked) - parsedate_to_datetime(answer.headers.get("Date", ""))
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, wait.total_seconds())
