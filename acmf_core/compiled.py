"""How kernels are compiled: njit, IEEE arithmetic in the order written, cached on disk by folder.

Numba's own cache forgets a compiled function when *its* file changes, but not when a function that
it calls in another file does: a mended rule would go on in its old form wherever a caller was
cached. Here the stamp of every cached function covers all files of its folder, and `domain.py`,
whose constants are compiled in (docs/adr/011-compiled-rules-are-cached-by-folder.md).
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import CacheImpl, CompileResultCacheImpl, FunctionCache

F = TypeVar("F")
_CONSTANTS = Path(__file__).with_name("domain.py")


@cache
def source_stamp(folder: Path) -> str:
    """SHA-256 over the names and bytes of every Python file of the folder, and of the constants."""
    digest = hashlib.sha256()
    for path in (*sorted(folder.glob("*.py")), _CONSTANTS):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def compiler(folder: Path, *, inline: bool = False) -> Callable[[F], F]:
    """A decorator for the kernels of one folder; `inline` puts each into its compiled callers.

    The GIL is released, division by zero follows IEEE 754, and fastmath stays off: a reordered sum or a
    contracted multiply-add would make a last bit depend on the processor. Where no cache folder can be
    written (a read-only container) a kernel compiles once per process.
    """
    kept = _cache_of(folder)

    def compiled(function: F) -> F:
        dispatcher: Any = njit(nogil=True, error_model="numpy", forceinline=inline)(function)
        try:
            dispatcher._cache = kept(function)
        except RuntimeError:  # numba: "no locator available"
            return dispatcher  # type: ignore[no-any-return]
        return dispatcher  # type: ignore[no-any-return]

    return compiled


def _cache_of(folder: Path) -> type[Any]:
    def stamped(locator: type[Any]) -> type[Any]:
        return type(locator.__name__, (locator,), {"get_source_stamp": lambda _self: source_stamp(folder)})

    class FolderCacheImpl(CompileResultCacheImpl):
        _locator_classes = [stamped(locator) for locator in CacheImpl._locator_classes]  # noqa: RUF012

    class FolderCache(FunctionCache):
        _impl_class = FolderCacheImpl

    return FolderCache
