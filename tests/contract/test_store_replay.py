"""The daemon on a real PostgreSQL: what comes back from NUMERIC columns is exactly what was simulated."""

from replaying import PARAMS, WARM, market, window
from standin import Standin

from acmf_core.store.sql import SqlStore
from production.daemon import replay


def test_a_replay_on_postgresql_has_no_difference_and_goes_on_after_a_restart(empty_postgresql):
    for stop, ran in ((60, 60), (120, 60)):
        with SqlStore.open(empty_postgresql) as store:
            result = replay(market(), Standin(), store=store, params=PARAMS, **window(WARM, WARM + stop))
            assert (result.ran, result.differences) == (ran, 0), result.first_difference
            assert store.verify_journal().verdict is True
    assert result.trades > 3
