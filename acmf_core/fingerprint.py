"""One way to give a declaration, or a file, a short and stable name."""

import hashlib
import json
from pathlib import Path

_CHUNK = 1 << 20


def canonical(declaration: object) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity are refused (ValueError)."""
    return json.dumps(declaration, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(declaration: object) -> str:
    """SHA-256 (64 hex digits) that changes when, and only when, the declaration does."""
    return hashlib.sha256(canonical(declaration).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
