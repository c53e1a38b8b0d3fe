"""How every function of the kernel is compiled: njit, float64, no fastmath, cached on disk.

Numba's own cache forgets a compiled function when *its* file changes, but not when a function that
it calls in another file does: a mended rule would go on trading in its old form wherever a caller
was cached. Here the stamp of every cached function covers all files of this folder.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import CacheImpl, CompileResultCacheImpl, FunctionCache

F = TypeVar("F")
_FOLDER = Path(__file__).parent


@cache
def source_stamp(folder: Path = _FOLDER) -> str:
    """SHA-256 over the names and bytes of every Python file of the folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _stamped(locator: type[Any]) -> type[Any]:
    return type(locator.__name__, (locator,), {"get_source_stamp": lambda _self: source_stamp()})


class _FolderCacheImpl(CompileResultCacheImpl):
    _locator_classes = [_stamped(locator) for locator in CacheImpl._locator_classes]  # noqa: RUF012


class _FolderCache(FunctionCache):
    _impl_class = _FolderCacheImpl


def compiled(function: F) -> F:
    """Compile a rule on its first call; division by zero follows IEEE 754, the GIL is released.

    Where no cache folder can be written (a read-only container) it compiles once per process.
    """
    dispatcher: Any = njit(nogil=True, forceinline=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _FolderCache(function)  # type: ignore[no-untyped-call]
    except RuntimeError:  # numba: "no locator available"
        return dispatcher  # type: ignore[no-any-return]
    return dispatcher  # type: ignore[no-any-return]
