"""Which code made a thing: the commit of the checkout this module lies in."""

import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 10.0


def code_commit() -> str:
    """The commit, with "+changes" where tracked Python files differ from it; empty outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}+changes" if changed else commit


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, check=True, timeout=_SECONDS
    )
    return done.stdout.strip()
