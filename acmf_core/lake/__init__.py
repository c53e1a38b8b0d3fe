"""Point-in-time history: Delta tables with two times per row, and the checks on their quality."""

from acmf_core.lake.lake import Lake
from acmf_core.lake.merging import MergeReport
from acmf_core.lake.queries import SlowColumn

__all__ = ["Lake", "MergeReport", "SlowColumn"]
