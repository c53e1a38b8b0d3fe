"""Proof that nothing recorded was altered: the journal's chain, and each cycle's rows by their digest."""

from typing import Any, Final

from sqlalchemy import Connection, select

from acmf_core.domain import Check
from acmf_core.fingerprint import canonical
from acmf_core.store import journal, schema

_STREAMED: Final = {"yield_per": 2_000}  # rows in memory at once


def verify(connection: Connection) -> Check:
    """One line of a pre-flight list: how many rows of the journal hold, and the first thing that does not."""
    events = schema.SYSTEM_EVENTS
    chain = select(events).order_by(events.c.id)
    with connection.execute(chain, execution_options=_STREAMED) as stream:
        count, fault = journal.broken_link(dict(row) for row in stream.mappings())
    fault = fault or _altered_cycle(connection)
    return Check(
        name="journal",
        verdict=not fault,
        figure=f"{count} rows hold",
        bound="every row follows the one before, every cycle matches its digest",
        detail=fault,
        fix="restore the database from the last backup that verifies" if fault else "",
    )


def _altered_cycle(connection: Connection) -> str:
    """The first completed cycle whose rows are not what the journal says; empty when all are."""
    cycles, events = schema.CYCLES.c, schema.SYSTEM_EVENTS.c
    decisions = select(events.cycle_id, events.payload).where(events.kind == "decision")
    said: dict[str, str] = {row.cycle_id: row.payload for row in connection.execute(decisions)}
    completed = select(schema.CYCLES).where(cycles.status != schema.FAILED).order_by(cycles.at)
    with connection.execute(completed, execution_options=_STREAMED) as stream:
        for part in stream.mappings().partitions():
            heads = [dict(row) for row in part]
            children = _children(connection, heads[0]["at"], heads[-1]["at"])
            for head in heads:
                rows = {name: many.get(head["cycle_id"], []) for name, many in children.items()}
                if said.pop(head["cycle_id"], None) != canonical({"digest": journal.digest(head, rows)}):
                    return f"the rows of cycle {head['cycle_id']} are not those that were recorded"
    return f"cycle {min(said)} is in the journal but not among the cycles" if said else ""


def _children(connection: Connection, start: int, end: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """table -> cycle -> rows, of the cycles with start <= at <= end."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, source in schema.CYCLE_TABLES.items():
        query = select(source).where(source.c["at"].between(start, end))
        query = query.order_by(*(source.c[column] for column in schema.CHRONOLOGY[name]))
        by_cycle = found.setdefault(name, {})
        for row in connection.execute(query).mappings():
            by_cycle.setdefault(row["cycle_id"], []).append(dict(row))
    return found
