"""Layer 1: the outside world into the lake, and out of it what was known at a moment."""
