"""Timings of the hot paths, on bars that anyone can make. `make bench`."""
