"""A source behind a cache: what was fetched within the last minutes or hours is not fetched again."""

import asyncio
import logging
from typing import Final

import pandas as pd
import pyarrow as pa

from acmf_core.errors import DataError
from acmf_core.lake.merging import conform, to_arrow, to_pandas
from acmf_core.lake.tables import table
from acmf_core.ports import Cache, Source

_LOG: Final = logging.getLogger("acmf.collect")
_FORM: Final = 1  # of the bytes; raised when what they mean changes


class Cached:
    """Answers from the cache while it holds an answer; else asks the source and keeps what it says.

    Rows out of the cache keep their `available_at`: they were known when they first came. A cache that is
    out of reach is said once and asked around; bytes that cannot be read are no answer.

    Parameters
    ----------
    source : Source
        Asked when the cache has nothing.
    cache : Cache
        Rows are kept in it as Arrow IPC.
    ttl_s : float
        How long an answer is good for.
    symbol : str
        Whose rows these are, where they belong to one symbol.
    """

    def __init__(self, source: Source, cache: Cache, ttl_s: float, *, symbol: str = "") -> None:
        self._source = source
        self._cache = cache
        self._ttl_s = ttl_s
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

    async def collect(self, at: int) -> pd.DataFrame:
        """The rows in the cache, or else the source's; raises what the source raises."""
        held = await self._get()
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
            sink = pa.BufferOutputStream()
            tabular = to_arrow(spec, conform(spec, rows))
        except DataError:
            return  # whoever asked will judge the rows
        with pa.ipc.new_stream(sink, tabular.schema) as stream:
            stream.write_table(tabular)
        try:
            await asyncio.to_thread(self._cache.put, self._key, sink.getvalue().to_pybytes(), self._ttl_s)
        except OSError as error:
            self._say(error)

    def _rows(self, held: bytes) -> pd.DataFrame | None:
        """Rows of the table, or None where the bytes are not that."""
        spec = table(self._source.table)
        try:
            with pa.ipc.open_stream(held) as stream:
                rows = conform(spec, to_pandas(stream.read_all().select(spec.schema.names)))
        except (pa.ArrowException, KeyError, OSError, DataError):
            _LOG.warning("what the cache holds of %s cannot be read; it is asked anew", self.name)
            return None
        return rows if len(rows) else None

    def _say(self, error: OSError) -> None:
        if not self._down:
            _LOG.warning("the cache is out of reach (%s); %s is asked each time", error, self.name)
        self._down = True
