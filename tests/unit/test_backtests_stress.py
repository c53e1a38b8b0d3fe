"""The stress grid trades again; the break-even cost is read off the trades as they were."""

import math

import numpy as np
import pandas as pd
from small_walk_forward import RECORD_BARS as BARS
from small_walk_forward import record_bars as bars
from small_walk_forward import record_signals as signals
from trading_market import LONG, NONE, market

from acmf_core.domain import PROBABILITIES
from acmf_core.trading import TradeParams, simulate
from backtests.record import Stretch
from backtests.stress import break_even, stress_grid

WHOLE = [Stretch(0, BARS, TradeParams())]


def test_the_unstressed_cell_is_the_record_itself():
    grid = stress_grid(bars(), signals(), WHOLE, fees=[1], slippages=[1], delays=[0], fundings=[1])
    own = simulate(bars(), signals()).metrics()
    assert {name: grid.loc[0, name] for name in own} == own


def test_every_combination_is_traded_once():
    grid = stress_grid(bars(), signals(), WHOLE)
    assert len(grid) == 36
    assert not grid.duplicated(["fee", "slippage", "delay", "funding"]).any()


def test_a_doubled_cost_equals_a_simulation_with_doubled_fees_and_slippage():
    grid = stress_grid(bars(), signals(), WHOLE, fees=[2], slippages=[2], delays=[0], fundings=[1])
    dear = simulate(bars(), signals(), TradeParams(fee_bps=10.0, slippage_bps=4.0)).metrics()
    assert grid.loc[0, "net"] == dear["net"]


def test_a_bar_of_delay_gives_every_decision_the_prediction_of_the_bar_before():
    grid = stress_grid(bars(), signals(), WHOLE, fees=[1], slippages=[1], delays=[1], fundings=[1])
    late = signals().to_numpy()
    late = np.vstack([np.full((1, 3), np.nan), late[:-1]])
    assert grid.loc[0, "net"] == simulate(bars(), late).metrics()["net"]


def test_funding_can_be_switched_off_and_multiplied():
    grid = stress_grid(bars(), signals(), WHOLE, fees=[1], slippages=[1], delays=[0], fundings=[0, 1, 50])
    assert grid["net"].nunique() == 3
    none = simulate(bars()._replace(funding_event=np.zeros(BARS)), signals()).metrics()
    assert grid.loc[0, "net"] == none["net"]


def test_break_even_of_one_trade_worked_by_hand():
    # a long is decided at 10000, bought at the next open, never touched, sold by time: 100 to 101 percent
    closes = [10_000.0, 10_000.0, *[10_100.0] * 20]
    made = market([(closes[max(i - 1, 0)], max(closes[max(i - 1, 0)], c), min(closes[max(i - 1, 0)], c), c)
                   for i, c in enumerate(closes)])  # fmt: skip
    given = [LONG] + [NONE] * (len(closes) - 1)
    params = TradeParams(fee_bps=5.0, slippage_bps=2.0)
    run = simulate(made, given, params)
    assert len(run.trades) == 1
    trade = run.trades.iloc[0]
    assert trade["exit_price"] == 10_100 * (1 - 2e-4)
    found = break_even(run, [Stretch(0, made.n, params)])
    # mid to mid: +100 on 10000 + 10100 of turnover, whatever the quantity
    assert math.isclose(found.gross_bps, 1e4 * 100 / 20_100, rel_tol=1e-9)
    fees = 5 * (10_000 * 1.0002 + 10_100 * 0.9998) / 20_100
    assert math.isclose(found.cost_bps, fees + 2, rel_tol=1e-9)
    assert math.isclose(found.turnover, trade["quantity"] * 20_100, rel_tol=1e-9)


def test_break_even_accounts_for_everything_but_funding():
    free = bars()._replace(funding_event=np.zeros(BARS))
    run = simulate(free, signals())
    found = break_even(run, WHOLE)
    net = run.equity[-1] - 10_000.0
    assert math.isclose((found.gross_bps - found.cost_bps) * 1e-4 * found.turnover, net, rel_tol=1e-9)


def test_break_even_without_fills_says_nothing():
    none = pd.DataFrame(np.nan, index=bars().times, columns=list(PROBABILITIES))
    found = break_even(simulate(bars(), none), WHOLE)
    assert math.isnan(found.gross_bps)
    assert found.turnover == 0.0
