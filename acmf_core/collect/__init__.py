"""Market data from outside: files, the public archive, and a synthetic market for trying things out."""
