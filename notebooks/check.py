"""Hold every notebook to the house's rules: thin, parameterised, committed without outputs.

Run by `make check`; exits 1 naming what is wrong.
"""

import ast
import json
import sys
from pathlib import Path

CODE_LINES = 70
CELLS = 16


def faults(path: Path) -> list[str]:
    """What is wrong with one notebook, in words."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    found = []
    if any(cell["outputs"] or cell["execution_count"] is not None for cell in code):
        found.append("holds outputs: clear them before committing")
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        found.append(f"has {len(tagged)} cells tagged parameters, one is needed")
    if cells[0]["cell_type"] != "markdown" or "?" not in "".join(cells[0]["source"]):
        found.append("does not open with its question")
    source = "\n".join("".join(cell["source"]) for cell in code)
    lines = [line for line in source.splitlines() if line.strip()]
    if len(lines) > CODE_LINES or len(cells) > CELLS:
        found.append(f"has {len(lines)} lines in {len(cells)} cells: move code into the library")
    banned = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While)
    if any(isinstance(node, banned) for node in ast.walk(ast.parse(source))):
        found.append("defines a function, a class or a loop: move it into the library")
    return [f"{path}: {fault}" for fault in found]


def main() -> int:
    """Check all notebooks beside this file."""
    found = [fault for path in sorted(Path(__file__).parent.glob("*.ipynb")) for fault in faults(path)]
    sys.stderr.write("".join(f"{fault}\n" for fault in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
