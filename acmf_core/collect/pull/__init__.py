"""History into the lake: archive, then the tail from REST, each series for itself."""
