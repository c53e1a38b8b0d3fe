"""A record of several stretches: the kernel's state goes on as if nothing had been cut."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from small_walk_forward import RECORD_BARS as BARS
from small_walk_forward import record_bars as bars
from small_walk_forward import record_signals as signals

from acmf_core.errors import DataError
from acmf_core.trading import TradeParams, simulate
from backtests.record import Stretch, simulate_record


@pytest.mark.parametrize("cuts", [[], [1], [500, 501, 900], [96, 192, 1_499]])
def test_with_one_parameter_set_any_cutting_equals_one_simulation_bit_for_bit(cuts):
    params = TradeParams()
    edges = [0, *cuts, BARS]
    stretches = [Stretch(a, b, params) for a, b in pairwise(edges)]
    record, whole = simulate_record(bars(), signals(), stretches).whole, simulate(bars(), signals(), params)
    assert len(whole.trades) > 20
    for name in ("equity", "gates", "regimes", "scores", "sides", "confidences", "stopped", "open_lots"):
        assert getattr(record, name).tobytes() == getattr(whole, name).tobytes(), name
    for name in ("orders", "fills", "trades"):
        pd.testing.assert_frame_equal(getattr(record, name), getattr(whole, name))
    assert record.metrics() == whole.metrics()
    assert record.final_state == whole.final_state
    for i in (0, 499, 500, 501, 1_000, BARS - 1, -1):
        assert record.states[i] == whole.states[i]
    assert record.states[498:503] == whole.states[498:503]


def test_a_lot_that_is_open_at_a_cut_ends_in_the_next_stretch_by_the_rules_it_was_entered_with():
    entered = TradeParams(time_exit=(30, 30, 30), stop_atr=(9.0, 9.0, 9.0), target_atr=(9.0, 9.0, 9.0))
    first = simulate(bars(), signals(), entered)
    held = np.flatnonzero((first.open_lots > 0) & ~first.stopped)
    cut = int(held[len(held) // 2]) + 1
    record = simulate_record(
        bars(), signals(), [Stretch(0, cut, entered), Stretch(cut, BARS, TradeParams(min_spread=0.9))]
    )
    crossing = record.whole.trades[
        (record.whole.trades["entry_time"] < bars().times[cut])
        & (record.whole.trades["exit_time"] >= bars().times[cut])
    ]
    assert len(crossing) == record.parts[0].final_state.n_lots > 0
    assert record.parts[1].initial_state == record.parts[0].final_state


def test_parts_start_from_the_equity_they_were_handed():
    stretches = [Stretch(0, 700, TradeParams()), Stretch(700, BARS, TradeParams(min_ratio=2.0))]
    record = simulate_record(bars(), signals(), stretches, equity=5_000.0)
    nets = [part.metrics()["net"] for part in record.parts]
    assert sum(nets) == pytest.approx(record.whole.equity[-1] - 5_000.0, rel=1e-12)


@pytest.mark.parametrize(
    "edges", [[], [(0, 10)], [(0, 700), (701, BARS)], [(0, 700), (600, BARS)], [(5, BARS)]]
)
def test_stretches_that_leave_a_hole_or_overlap_are_refused(edges):
    with pytest.raises(DataError, match="do not cover"):
        simulate_record(bars(), signals(), [Stretch(a, b, TradeParams()) for a, b in edges])
