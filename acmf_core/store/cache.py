"""Small values that may be forgotten (port `Cache`): Redis by configuration, else a folder of files."""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from acmf_core.errors import ConfigError
from acmf_core.ports import Cache, Clock

LONGEST_TTL_S: Final = 10 * 366 * 86_400.0  # what a person means by "for ever"
_MAGIC: Final = b"ACMFCACHE1"
_STAMP_BYTES: Final = 8
_DIGEST_BYTES: Final = 32
_HEADER_BYTES: Final = len(_MAGIC) + _STAMP_BYTES + _DIGEST_BYTES
_LOCK_TRIES: Final = 500
_LOCK_WAIT_S: Final = 0.01
_SWEEP_US: Final = 3_600_000_000
_COUNTER_REST_US: Final = (
    8 * 86_400_000_000
)  # a clock that was ahead for a moment must not forget what was spent
_SWEPT_AT_ONCE: Final = 10_000
_REDIS_TIMEOUT_S: Final = 2.0
_LOG: Final = logging.getLogger("acmf.cache")


def open_cache(redis_url: str, folder: Path, clock: Clock) -> Cache:
    """The configured cache: Redis where there is a URL, else files in `folder`.

    Nothing is asked of Redis yet: a server that is down shows itself as OSError at the first use.

    Raises
    ------
    ConfigError
        The URL is none of Redis (its text, which may hold a password, is not repeated).
    OSError
        The folder cannot be made.
    """
    return RedisCache(redis_url) if redis_url else FileCache(folder, clock)


class _Entry(NamedTuple):
    """A value and the moment, in microseconds, at which it is over."""

    expires: int
    value: bytes


class FileCache:
    """One file a key, written aside and renamed; several processes may share the folder.

    A file is: magic, expiry (microseconds), SHA-256 over the rest and the key, value. One that does not
    hold is no value (`get`), but no counter at nought either: what was counted is not known, `add` refuses.

    Parameters
    ----------
    folder : Path
        Made if it is not there; holds nothing but this cache.
    clock : Clock
        Decides what is over.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._swept: int | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> bytes | None:
        """The value, or None where there is none, its time is over, or its file is damaged."""
        content = self._content(key)
        entry = _read(key, content) if content is not None else None
        if content is not None and entry is None:
            _LOG.warning("the cached file %s is damaged and was passed over", self._file(key).name)
        return entry.value if entry is not None and entry.expires > self._clock.now() else None

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for so many seconds, in place of any earlier one; for none at all: forget it."""
        life = _microseconds(ttl_s)
        with self._locked():
            if life > 0:
                self._write(key, _Entry(self._clock.now() + life, value))
            else:
                self._file(key).unlink(missing_ok=True)

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        """Add to a counter, atomically across processes; returns the sum.

        Raises
        ------
        OSError
            The folder cannot be used, or the counter is damaged or no number.
        """
        with self._locked():
            entry = self._counter(key)
            now = self._clock.now()
            if entry is None or entry.expires <= now:
                entry = _Entry(now + max(_microseconds(ttl_s), 1), b"0")
            total = int(entry.value) + amount
            self._write(key, _Entry(entry.expires, b"%d" % total))
            return total

    def _counter(self, key: str) -> _Entry | None:
        content = self._content(key)
        entry = _read(key, content) if content is not None else None
        if content is not None and (entry is None or not _counts(entry)):
            raise OSError(f"the counter in {self._file(key)} cannot be read: delete it to start at nought")
        return entry

    def _file(self, key: str) -> Path:
        return self._folder / f"{_hash(key).hex()}.cached"

    def _content(self, key: str) -> bytes | None:
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, key: str, entry: _Entry) -> None:
        aside = self._folder / f"{os.getpid()}.aside"  # the lock is held: there is one writer
        with aside.open("wb") as stream:
            stream.write(_framed(key, entry))
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut could leave the new name on an empty file
        aside.replace(self._file(key))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("a") as handle:
            for _ in range(_LOCK_TRIES):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_LOCK_WAIT_S)
            else:
                raise TimeoutError(
                    f"another process holds {self._folder / 'lock'} for seconds: is it stopped?"
                )
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what is over, and what killed writers left aside; at most once an hour. Holds the lock.

        A damaged file stays, since it may be a counter; a counter stays for eight days after its end.
        """
        now = self._clock.now()
        if self._swept is not None and now - self._swept < _SWEEP_US:
            return
        self._swept = now
        for aside in self._folder.glob("*.aside"):
            aside.unlink(missing_ok=True)
        for _, file in zip(range(_SWEPT_AT_ONCE), self._folder.glob("*.cached"), strict=False):
            with file.open("rb") as stream:
                header = stream.read(_HEADER_BYTES)
                if len(header) < _HEADER_BYTES or _expiry(header) > now:
                    continue
                entry = _entry(_hash_in(file), header + stream.read())
            if entry is not None and entry.expires + (_COUNTER_REST_US if _counts(entry) else 0) <= now:
                file.unlink(missing_ok=True)


class RedisCache:
    """Keys of a Redis server, all under `acmf:`.

    One try of two seconds a command: a dead server must not hold up a cycle, and an addition that was sent
    twice would count twice.

    Parameters
    ----------
    url : str
        redis://, rediss:// or unix://; a password in it never shows in an error.

    Raises
    ------
    ConfigError
        The URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        from redis import Redis, exceptions
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._place, self._faults = _place(url), exceptions.RedisError
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=_REDIS_TIMEOUT_S,
                socket_connect_timeout=_REDIS_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
                protocol=2,
            )
        except (ValueError, TypeError, exceptions.RedisError):
            raise ConfigError(*_BAD_URL) from None

    def get(self, key: str) -> bytes | None:
        """The value, or None. OSError where the server does not answer."""
        value = self._ask(lambda: self._redis.get(_redis_key(key)))
        return None if value is None else bytes(value)

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for so many seconds; for none at all: forget it. OSError as above."""
        life_ms = _microseconds(ttl_s) // 1_000
        if life_ms > 0:
            self._ask(lambda: self._redis.set(_redis_key(key), value, px=life_ms))
        else:
            self._ask(lambda: self._redis.delete(_redis_key(key)))

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        """Add to a counter, atomically; returns the sum. OSError as above, and where it is no number."""
        name, life_ms = _redis_key(key), max(_microseconds(ttl_s) // 1_000, 1)

        def added() -> Any:
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(name, 0, px=life_ms, nx=True)
                pipe.incrby(name, amount)
                return pipe.execute()[1]

        return int(self._ask(added))

    def close(self) -> None:
        """Let the connections go."""
        self._redis.close()

    def _ask(self, command: Callable[[], Any]) -> Any:
        try:
            return command()
        except (self._faults, OSError) as error:
            # Only the kind: the words of an error can repeat what was sent, the password included.
            raise OSError(f"the cache at {self._place} does not serve ({type(error).__name__})") from None


_BAD_URL: Final = (
    "paths.redis_url is no Redis URL",
    "write redis://HOST:PORT/0, rediss:// for TLS, or unix:///PATH/TO/SOCKET",
)


def _place(url: str) -> str:
    """Scheme, host and port (or socket) of the URL, without user, password and parameters."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ConfigError(*_BAD_URL) from None
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _redis_key(key: str) -> bytes:
    return b"acmf:" + _encoded(key)


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _microseconds(ttl_s: float) -> int:
    return int(min(ttl_s, LONGEST_TTL_S) * 1_000_000)


def _framed(key: str, entry: _Entry) -> bytes:
    stamp = entry.expires.to_bytes(_STAMP_BYTES, "big", signed=True)
    return _MAGIC + stamp + _digest(_hash(key), stamp, entry.value) + entry.value


def _read(key: str, content: bytes) -> _Entry | None:
    """The entry in a file's content, None where it is not whole or not this key's."""
    return _entry(_hash(key), content)


def _entry(hashed: bytes, content: bytes) -> _Entry | None:
    header, value = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
    stamp = header[len(_MAGIC) : -_DIGEST_BYTES]
    if header != _MAGIC + stamp + _digest(hashed, stamp, value):
        return None
    return _Entry(_expiry(header), value)


def _counts(entry: _Entry) -> bool:
    return entry.value.removeprefix(b"-").isdigit()


def _expiry(header: bytes) -> int:
    return int.from_bytes(header[len(_MAGIC) : len(_MAGIC) + _STAMP_BYTES], "big", signed=True)


def _hash(key: str) -> bytes:
    return hashlib.sha256(_encoded(key)).digest()


def _hash_in(file: Path) -> bytes:
    """The key's hash out of a file's name; nothing where a foreign file stands there."""
    try:
        return bytes.fromhex(file.stem)
    except ValueError:
        return b""


def _digest(hashed: bytes, stamp: bytes, value: bytes) -> bytes:
    return hashlib.sha256(hashed + stamp + value).digest()
