"""A table out of a CSV or Parquet file, with every way in which a file can be none told in one line."""

import gzip
import io
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from acmf_core.errors import DataError

KLINE_COLUMNS: Final = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
_MEND: Final = "give one CSV or Parquet file"
_AGAIN: Final = "write it again"
_PARQUET_MAGIC: Final = b"PAR1"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZIP_MAGIC: Final = b"PK\x03\x04"
_SEPARATORS: Final = ",;\t"
_LOOK: Final = 4096
_MARKUP: Final = {"<": "a web page or XML", "{": "JSON", "[": "JSON"}  # by the first character
_UNPACKING: Final = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)
_HEAD_ROWS: Final = 10


@dataclass(frozen=True)
class RawTable:
    """A file's columns as they are, and what was assumed."""

    frame: pd.DataFrame
    notes: tuple[str, ...]


def read_table(path: Path, *, head: bool = False) -> RawTable:
    """The table in a file.

    Parameters
    ----------
    path : Path
        Parquet by its magic bytes, else text; .gz and .zip (one member) are unpacked on the fly.
    head : bool
        Only a few rows: enough to see the columns.

    Raises
    ------
    DataError
        No such file, a directory, empty, not a table.
    OSError
        The file cannot be read.
    """
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in {".csv", ".parquet"})[:3]
        raise DataError(
            f"{path} is a directory", f"name a file in it: {', '.join(inside)}" if inside else _MEND
        )
    if not path.exists():
        raise DataError(f"there is no file {path}", "check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty", _MEND)
    with path.open("rb") as stream:
        magic = stream.read(4)
    table = _parquet(path, head) if magic == _PARQUET_MAGIC else _text(path, magic, head)
    if table.frame.empty:
        raise DataError(f"{path.name} has columns but no rows", "export it again")
    return table


def _parquet(path: Path, head: bool) -> RawTable:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise DataError(f"{path.name} has two columns named {twice[:30]}", "drop one of them")
        if head:
            batch = next(file.iter_batches(batch_size=_HEAD_ROWS), None)
            rows = pa.Table.from_batches([] if batch is None else [batch], file.schema_arrow)
        else:
            rows = file.read()
        frame = rows.replace_schema_metadata().to_pandas()  # a pandas index of times stays a plain column
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path.name} is a damaged Parquet file ({_brief(error)})", _AGAIN) from None
    except OSError as error:
        if error.errno is None:  # pyarrow's word for a page that does not decode
            raise DataError(f"{path.name} is a damaged Parquet file ({_brief(error)})", _AGAIN) from None
        raise
    return RawTable(frame, ())


def _text(path: Path, magic: bytes, head: bool) -> RawTable:
    if path.suffix == ".parquet":
        raise DataError(f"{path.name} is not a Parquet file (it begins with {magic!r})", _MEND)
    try:
        data = _unpacked(path, magic).removeprefix(b"\xef\xbb\xbf")
        first = data.split(b"\n", 1)[0].decode("utf-8").strip()
        if b"\0" in data[:_LOOK] or not first:
            raise DataError(f"{path.name} is neither text nor Parquet (it begins with {magic!r})", _MEND)
        if first[0] in _MARKUP:
            raise DataError(f"{path.name} is {_MARKUP[first[0]]}, not a table", _MEND)
        separator = max(_SEPARATORS, key=first.count)
        cells = first.split(separator)
        names = None if not _is_numeric(cells) else _names_without_header(len(cells), path)
        frame = _parse(data, separator, names, _HEAD_ROWS if head else None)
    except UnicodeDecodeError:
        raise DataError(
            f"{path.name} is neither text nor Parquet (it begins with {magic!r})", _MEND
        ) from None
    except (ValueError, pd.errors.ParserWarning, *_UNPACKING) as error:
        raise DataError(f"{path.name} is not a table ({_brief(error)})", _MEND) from None
    return RawTable(frame, () if names is None else (f"no header row: taken as {', '.join(names[:6])}",))


def _parse(data: bytes, separator: str, names: list[str] | None, rows: int | None) -> pd.DataFrame:
    """The cells; a line with more of them than the header is an error, not a shift of the columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            io.BytesIO(data),
            sep=separator,
            nrows=rows,
            header=0 if names is None else None,
            names=names,
            index_col=False,
            low_memory=False,
        )


def _unpacked(path: Path, magic: bytes) -> bytes:
    if magic[:2] == _GZIP_MAGIC:
        return gzip.decompress(path.read_bytes())
    if magic != _ZIP_MAGIC:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.namelist() if not m.endswith("/")]
        if len(members) != 1:
            raise DataError(f"{path.name} holds {len(members)} files", "unpack it and name one of them")
        return archive.read(members[0])


def _is_numeric(cells: list[str]) -> bool:
    return bool(pd.to_numeric(pd.Series(cells), errors="coerce").notna().all())


def _names_without_header(width: int, path: Path) -> list[str]:
    if width == len(KLINE_COLUMNS):
        return list(KLINE_COLUMNS)
    if width == len(KLINE_COLUMNS[:6]):
        return list(KLINE_COLUMNS[:6])
    raise DataError(
        f"{path.name} has no header row and {width} columns",
        "add a header: open_time,open,high,low,close,volume",
    )


def _brief(error: Exception) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return text[:100]
