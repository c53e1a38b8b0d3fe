"""How every kernel of this room is compiled."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acmf_core.compiled import compiler

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

compiled = compiler(Path(__file__).parent)
