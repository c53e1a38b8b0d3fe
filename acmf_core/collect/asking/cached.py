"""A source behind a cache: what was fetched within the last minutes or hours is not fetched again."""

import asyncio
import hashlib
import logging
from typing import Final

import pandas as pd
import pyarrow as pa

from acmf_core.collect.asking.known import checked
from acmf_core.errors import DataError
from acmf_core.lake.merging import to_arrow, to_pandas
from acmf_core.lake.tables import AVAILABLE, table
from acmf_core.ports import Cache, Clock, Source

_LOG: Final = logging.getLogger("acmf.collect")
_FORM: Final = 2  # of the bytes; raised when what they mean changes
_DIGEST_BYTES: Final = 32
_STAMP_BYTES: Final = 8


class Cached:
    """Answers from the cache while it holds an answer; else asks the source and keeps what it says.

    Rows out of the cache keep their `available_at`: they were known when they first came. A cache that is
    out of reach is said once and asked around. What it holds is believed no more than an answer from outside:
    bytes that are not whole, rows that cannot be and rows of the future are no answer.

    Parameters
    ----------
    source : Source
        Asked when the cache has nothing.
    cache : Cache
        Rows are kept in it as SHA-256 of the rest and the key, moment of keeping (microseconds), Arrow IPC.
    ttl_s : float
        How long an answer is good for.
    clock : Clock
        Says when an answer was kept: one kept in the future (the clock was ahead) is no answer.
    symbol : str
        Whose rows these are, where they belong to one symbol.
    """

    def __init__(self, source: Source, cache: Cache, ttl_s: float, clock: Clock, *, symbol: str = "") -> None:
        self._source = source
        self._cache = cache
        self._ttl_s = ttl_s
        self._clock = clock
        self._symbol = symbol
        self._key = f"acmf:source:{_FORM}:{source.name}:{symbol or 'all'}"
        self._down = False

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def table(self) -> str:
        """The source's."""
        return self._source.table

    def due(self, at: int) -> bool:
        """What the source says: whether something new must be there at `at`; one that cannot say: no."""
        due = getattr(self._source, "due", None)
        return bool(due(at)) if callable(due) else False

    async def collect(self, at: int) -> pd.DataFrame:
        """The rows in the cache, or else, and where new ones are due, the source's; raises what it raises."""
        held = None if self.due(at) else await self._get()
        rows = self._rows(held) if held is not None else None
        if rows is not None:
            return rows
        rows = await self._source.collect(at)
        if len(rows):
            await self._put(rows)
        return rows

    async def _get(self) -> bytes | None:
        try:
            held = await asyncio.to_thread(self._cache.get, self._key)
        except OSError as error:
            self._say(error)
            return None
        self._down = False
        return held

    async def _put(self, rows: pd.DataFrame) -> None:
        spec = table(self._source.table)
        try:
            tabular = to_arrow(spec, checked(spec.name, rows, self._symbol))
        except DataError:
            return  # whoever asked will judge the rows
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, tabular.schema) as stream:
            stream.write_table(tabular)
        body = self._clock.now().to_bytes(_STAMP_BYTES, "big", signed=True) + sink.getvalue().to_pybytes()
        try:
            await asyncio.to_thread(self._cache.put, self._key, self._digest(body) + body, self._ttl_s)
        except OSError as error:
            self._say(error)

    def _rows(self, held: bytes) -> pd.DataFrame | None:
        """Rows of the table, or None where the bytes are not that, or were kept in what is now the future."""
        digest, body = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:]
        now, kept = self._clock.now(), int.from_bytes(body[:_STAMP_BYTES], "big", signed=True)
        rows = self._read(body[_STAMP_BYTES:]) if digest == self._digest(body) else None
        if rows is None:
            _LOG.warning("what the cache holds of %s cannot be read; it is asked anew", self.name)
            return None
        future = bool((rows[AVAILABLE] > pd.Timestamp(now, unit="us", tz="UTC")).any())
        in_time = 0 <= now - kept <= self._ttl_s * 1e6
        return rows if in_time and not future and len(rows) else None

    def _read(self, content: bytes) -> pd.DataFrame | None:
        spec = table(self._source.table)
        try:
            with pa.ipc.open_stream(content) as stream:
                rows = to_pandas(stream.read_all().select(spec.schema.names))
            return checked(spec.name, rows, self._symbol)
        except (pa.ArrowException, KeyError, OSError, ValueError, TypeError, DataError):
            return None

    def _digest(self, body: bytes) -> bytes:
        return hashlib.sha256(hashlib.sha256(self._key.encode()).digest() + body).digest()

    def _say(self, error: OSError) -> None:
        if not self._down:
            _LOG.warning("the cache is out of reach (%s); %s is asked each time", error, self.name)
        self._down = True
