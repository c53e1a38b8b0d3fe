"""The flight recorder's row: everything one cycle saw and decided, as the lake's table `cycles` keeps it.

Nested things are JSON, NaN is null. A failed cycle has its error and what was known by then.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from acmf_core.domain import SourceHealth
from acmf_core.features import Features

Row = Mapping[str, Any]
_SAID: Final = ("p_long", "p_short", "p_neutral", "confidence", "side", "regime", "gates")
_SCORES: Final = ("score_trending", "score_ranging", "score_high_volatility")
_HEAD: Final = ("cycle_id", "symbol", "mode", "status", "bundle", "params", "health", "timings")


def health_json(health: Iterable[SourceHealth], clock_offset_s: float, blocked: Sequence[str] = ()) -> str:
    """How the sources did, as the store and the lake keep it; empty where there are none (a replay).

    Parameters
    ----------
    health : iterable of SourceHealth
        Of one collection.
    clock_offset_s : float
        The venue's clock minus ours.
    blocked : sequence of str
        Why nothing may be entered in this cycle whatever the model says (gate 10); empty where it may.
    """
    sources = [asdict(one) | {"status": one.status.value} for one in health]
    if not sources:
        return ""
    said = {"sources": sources, "clock_offset_s": clock_offset_s, "entries_blocked": list(blocked)}
    return json.dumps(_plain(said))


def flight_row(
    head: Row, rows: Mapping[str, Sequence[Row]], features: Features | None, clock_offset_s: float
) -> dict[str, Any]:
    """One row of `cycles`; times in microseconds.

    Parameters
    ----------
    head : mapping
        The cycle as the store keeps it.
    rows : mapping
        What belongs to it, by table of the store; empty where the cycle failed.
    features : Features or None
        The newest row is kept: 66 tabular features and 22 channels.
    clock_offset_s : float
        The venue's clock minus ours.
    """
    said = next(iter(rows.get("predictions", ())), {})
    failed = head.get("error", "")
    return {
        "event_time": head["at"],
        "available_at": head["recorded_at"],
        **{name: head[name] for name in _HEAD},
        **{name: _plain(said.get(name)) for name in _SAID},
        "equity": head.get("equity"),
        "clock_offset_s": _plain(clock_offset_s),
        "scores": _json([said[name] for name in _SCORES] if said else []),
        "bar": _json(next(iter(rows.get("ohlcv", ())), {})),
        "features": _json(_newest(features)),
        **{name: _json([dict(row) for row in rows.get(name, ())]) for name in ("orders", "fills", "trades")},
        "features_hash": head.get("features", ""),
        "state": head.get("state") or "",
        # Empty and not null: a bar that failed and is met again loses its error.
        "error": f"{head['stage']}: {failed}" if failed else "",
    }


def _newest(features: Features | None) -> dict[str, dict[str, float | None]]:
    """Name to value of the newest row; nothing where there are no features."""
    if features is None or features.tabular.empty:
        return {}
    frames: dict[str, pd.DataFrame] = {"tabular": features.tabular, "sequence": features.sequence}
    return {name: _plain(frame.iloc[-1].to_dict()) for name, frame in frames.items()}


def _json(value: Any) -> str:
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    """JSON has no NaN: null instead, however deep."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
