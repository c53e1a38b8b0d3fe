"""Run by every kernel that `make lab` starts: work in the project's folder, as `acmf run` does.

A kernel would otherwise start in the notebook's own folder and look for the lake there.
"""

import os
from pathlib import Path

os.chdir(Path(__file__).resolve().parents[1])
del os, Path
