"""How every kernel of this room is compiled."""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """Compile with numba: cached on disk, without the GIL, IEEE arithmetic in the order written.

    fastmath stays off: a reordered sum or a contracted multiply-add would make the last bit of a feature
    depend on where in memory its row lies, or on the processor.
    """
    return cast(Kernel, njit(cache=True, nogil=True, error_model="numpy")(function))
