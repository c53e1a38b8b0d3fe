"""vectorbt's books of the kernel's fills equal its ledger: cash, position and value at every close."""

import numpy as np
import pandas as pd
import pytest
from recorded_bars import momentum_probabilities, recorded_bars
from trading_cases import random_case

from acmf_core.errors import DataError
from acmf_core.trading import Bars, TradeParams, simulate
from backtests.portfolio import portfolio

TOLERANCE = 1e-9  # relative to the largest equity


def worst_difference(run, equity):
    """Of cash, position and value, against the ledger, relative to the largest of each."""
    books = portfolio(run.bars, run.fills, equity)
    position = np.zeros(run.bars.n)
    signed = (run.fills["side"] * run.fills["quantity"]).to_numpy(dtype=float)
    np.add.at(position, run.fills["bar"].to_numpy(), signed)
    position = position.cumsum()
    assert position[-1] == pytest.approx(run.final_state.position, abs=1e-9)
    ledger = {"assets": position, "cash": run.equity - position * run.bars.close, "value": run.equity}
    return max(
        float(np.abs(getattr(books, name)().to_numpy() - ours).max() / max(np.abs(ours).max(), 1.0))
        for name, ours in ledger.items()
    )


def without_funding(bars):
    return bars._replace(funding_event=np.zeros(bars.n))


def test_on_two_months_of_recorded_bars_vectorbt_and_the_ledger_agree(real_data):
    bars = without_funding(
        Bars(**recorded_bars(real_data, "2023-08-01", 5_856))
    )  # with the crash of the 17th
    run = simulate(bars, momentum_probabilities(bars.close, seed=1), TradeParams(resume_after=8))
    assert len(run.fills) > 200
    assert (run.fills.groupby("bar").size() > 1).any()  # an entry and its stop can share a bar
    assert worst_difference(run, 10_000.0) < TOLERANCE


def test_on_two_years_of_recorded_bars_vectorbt_and_the_ledger_agree(real_data):
    bars = without_funding(Bars(**recorded_bars(real_data, "2023-02-01", 67_000)))
    run = simulate(bars, momentum_probabilities(bars.close, seed=2), TradeParams(resume_after=8))
    assert len(run.fills) > 2_000
    assert worst_difference(run, 10_000.0) < TOLERANCE


def test_on_random_paths_vectorbt_and_the_ledger_agree():
    fills = 0
    for seed in range(100):
        case = random_case(seed)
        bars = without_funding(Bars(**case.bars))
        if not np.isfinite(bars.close).all():
            continue  # vectorbt cannot mark at a price that is not there
        run = simulate(bars, case.probabilities, TradeParams(**case.params), equity=case.equity)
        if run.equity.min() <= 0:
            continue  # nor go on below zero, as the ledger does
        fills += len(run.fills)
        assert worst_difference(run, case.equity) < TOLERANCE, seed
    assert fills > 1_000


def test_with_funding_the_difference_is_the_funding(real_data):
    bars = Bars(**recorded_bars(real_data, "2024-03-01", 2_000))
    run = simulate(bars, momentum_probabilities(bars.close, seed=3), TradeParams(resume_after=8))
    paid = run.trades["funding"].sum() + sum(lot.funding for lot in run.final_state.lots)
    assert paid != 0.0
    value = portfolio(run.bars, run.fills, 10_000.0).value().iloc[-1]
    assert value + paid == pytest.approx(run.equity[-1], rel=1e-9)


def test_a_record_without_fills_is_a_flat_portfolio(real_data):
    bars = Bars(**recorded_bars(real_data, "2024-03-01", 100))
    run = simulate(bars, np.full((100, 3), np.nan))
    books = portfolio(run.bars, run.fills, 10_000.0)
    assert (books.value() == 10_000.0).all()
    assert isinstance(books.value(), pd.Series)


def test_fills_of_other_bars_are_refused(real_data):
    bars = Bars(**recorded_bars(real_data, "2023-08-01", 1_000))
    run = simulate(bars, momentum_probabilities(bars.close, seed=1))
    with pytest.raises(DataError, match="outside the bars"):
        portfolio(bars.slice(0, 500), run.fills, 10_000.0)
