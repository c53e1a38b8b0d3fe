"""How every function of the kernel is compiled."""

from pathlib import Path

from acmf_core.compiled import compiler

# Inlined: a call would pass the bar and the rules as some 80 scalars.
compiled = compiler(Path(__file__).parent, inline=True)
