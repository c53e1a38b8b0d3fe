"""Since when a row is known that its source tells again and again, days after it happened.

History has a convention for it. A daemon knows better: what it received, it knows since then. Two mistakes
lie between: to stamp everything with its receipt would make an index that has stood still for days look young
after a restart; to stamp late rows by convention would tell research that they were known during an outage of
the source, when the daemon had nothing. So the convention holds for what stood in the first answer and could
be known before it was asked for; the receipt for all that was new, or different, later (ADR 084).
"""

from collections.abc import Hashable, Sequence


class Receipt:
    """The moments of one source's rows. Times are microseconds."""

    def __init__(self) -> None:
        self._first_asked: int | None = None
        self._told: dict[Hashable, int] | None = None

    def ask(self, now: int) -> None:
        """Note that the source is asked now; the first time counts."""
        if self._first_asked is None:
            self._first_asked = now

    def moments(self, rows: Sequence[tuple[Hashable, int]], received: int) -> list[int]:
        """Since when each row of an answer is known.

        Parameters
        ----------
        rows : sequence of (row, convention)
            The row with all its values, and when history says it was known.
        received : int
            When the answer was there.

        Returns
        -------
        list of int
            What was told before keeps its moment.
        """
        first = self._first_asked if self._told is None else None
        told = self._told or {}
        self._told = {
            row: told.get(row, convention if first is not None and convention <= first else received)
            for row, convention in rows
        }
        return [self._told[row] for row, _ in rows]
