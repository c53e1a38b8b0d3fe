"""The hash chain of decisions and operator commands: each row holds the hash of the one before.

A changed, removed, inserted or reordered row breaks the chain at a place that `broken_link` names. The
payload of a decision holds a digest of everything recorded for its cycle: the chain vouches for that too.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from acmf_core.fingerprint import canonical
from acmf_core.store.schema import FAILED

GENESIS: Final = "0" * 64
_LINKED: Final = ("at", "kind", "actor", "cycle_id", "payload")
_MEASURED: Final = frozenset({"timings"})  # differs from run to run without meaning anything
_LATER: Final = frozenset({"health"})  # columns that came later: empty, they are as if they were not there


def digest(cycle: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """SHA-256 of one cycle and its rows as they stand in the tables, wall-clock timings aside."""
    kept = {
        name: value
        for name, value in cycle.items()
        if name not in _MEASURED and not (name in _LATER and value == "")
    }
    children = {table: [dict(row) for row in found] for table, found in rows.items() if found}
    return sha256(canonical([kept, children]).encode()).hexdigest()


def entry(
    cycle: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[str, dict[str, str]]:
    """(kind, payload) of the event that stands for a recorded cycle: a decision, or a failure and why."""
    payload = {"digest": digest(cycle, rows)}
    if cycle["status"] == FAILED:
        return "failure", payload | {"stage": cycle["stage"], "error": cycle["error"]}
    return "decision", payload


def link(previous: str, event: Mapping[str, Any]) -> str:
    """The hash of an event that follows the row whose hash is `previous`."""
    return sha256(canonical([previous, *(event[name] for name in _LINKED)]).encode()).hexdigest()


def broken_link(events: Iterable[Mapping[str, Any]]) -> tuple[int, str]:
    """(rows that hold, what is wrong with the first that does not; empty when the chain is whole)."""
    previous, count = GENESIS, 0
    for event in events:
        if event["previous"] != previous:
            return count, f"row {event['id']} does not follow row {count}: a row was removed or inserted"
        if event["hash"] != link(previous, event):
            return count, f"row {event['id']} ({event['kind']}) was changed after it was written"
        previous = event["hash"]
        count += 1
    return count, ""
