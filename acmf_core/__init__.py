"""The shared library: what research and production both are made of."""

__version__ = "0.1.0"
