"""The `acmf` command: thin, imports lazily."""
