"""The accounts: fees, funding, profit, equity, and fills that a venue reports."""

import pytest
from trading_market import LONG, NONE, SHORT, altered, flat, market, signals

from acmf_core.domain import BAR_US
from acmf_core.errors import ConfigError, DataError, MissingBars
from acmf_core.trading import (
    Fill,
    Kind,
    Reason,
    TradeParams,
    TradingState,
    bar_fills,
    decide,
    deposit,
    route,
    settle,
    settle_with_trades,
    simulate,
)

P = TradeParams()


def test_equity_is_marked_at_the_close():
    bars = market([10_000.0, (10_000.0, 10_100.0, 10_000.0, 10_100.0)])
    result = simulate(bars, signals(LONG, n=2), P)
    # 10,000 - fee 0.0005 x 0.75 x 10,002 + 0.75 x (10,100 - 10,002) = 10,000 - 3.75075 + 73.5
    assert result.equity[1] == pytest.approx(10_069.74925, abs=1e-9)
    assert result.final_state.balance == pytest.approx(9_996.24925, abs=1e-9)


def test_a_trades_net_is_its_profit_less_fees():
    result = simulate(market(flat(4)), signals(LONG, NONE, SHORT, n=4), P)
    trade = result.trades.iloc[0]
    # in at 10,002, out at 9,998: -4 x 0.75 = -3; fees 3.75075 + 3.74925 = 7.5
    assert trade.gross == pytest.approx(-3.0, abs=1e-9)
    assert trade.fees == pytest.approx(7.5, abs=1e-9)
    assert trade.net == pytest.approx(-10.5, abs=1e-9)
    assert result.equity[3] == pytest.approx(9_989.5, abs=1e-9)
    assert trade.risk == pytest.approx(150.0)  # 0.75 x 200


def test_a_short_earns_when_the_price_falls():
    result = simulate(market([10_000.0, 10_000.0, 9_900.0, 9_900.0]), signals(SHORT, NONE, LONG, n=4), P)
    # in at 9,998, out at 9,901.98: 96.02 x 0.75 = 72.015
    assert result.trades.gross.iloc[0] == pytest.approx(72.015, abs=1e-9)


def test_a_trade_in_two_parts_has_the_weighted_exit_price_and_the_last_reason():
    up = (10_250.0, 10_310.0, 10_250.0, 10_300.0)
    bars = market([10_000.0, 10_000.0, up, (10_200.0, 10_200.0, 10_150.0, 10_190.0)])
    trade = simulate(bars, signals(LONG, n=4), P).trades.iloc[0]
    # half at 10,299.9396, half at 10,157.968
    assert trade.exit_price == pytest.approx((10_299.9396 + 10_157.968) / 2, abs=1e-9)
    assert trade.quantity == pytest.approx(0.75)
    assert trade.reason == "trailing"
    assert trade.gross == pytest.approx(0.375 * (297.9396 + 155.968), abs=1e-9)
    assert (trade.regime, trade.confidence) == (0, pytest.approx(0.6))


# --- funding --------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "paid"), [(LONG, -0.75), (SHORT, 0.75)])
def test_longs_pay_a_positive_rate_and_shorts_receive_it(side, paid):
    bars = market(flat(3), funding_event=[0.0, 0.0, 1e-4])
    result = simulate(bars, signals(side, n=3), P)
    # 0.75 x 10,000 x 0.0001 = 0.75
    assert result.final_state.lots[0].funding == pytest.approx(paid, abs=1e-12)
    assert result.equity[2] - result.equity[1] == pytest.approx(paid, abs=1e-9)
    assert result.final_state.funding_time == bars.open_time[2]


def test_the_lot_that_enters_at_this_open_does_not_pay():
    bars = market(flat(2), funding_event=[0.0, 1e-4])
    assert simulate(bars, signals(LONG, n=2), P).final_state.lots[0].funding == 0.0


def test_the_lot_that_leaves_at_this_open_pays():
    bars = market(flat(4), funding_event=[0.0, 0.0, 0.0, 1e-4])
    trade = simulate(bars, signals(LONG, NONE, SHORT, n=4), P).trades.iloc[0]
    assert trade.funding == pytest.approx(-0.75, abs=1e-12)
    assert trade.net == pytest.approx(-11.25, abs=1e-9)


def test_funding_is_reckoned_at_the_open():
    bars = market([10_000.0, 10_000.0, (10_100.0, 10_200.0, 10_000.0, 10_050.0)], funding_event=[0, 0, 2e-4])
    # 0.75 x 10,100 x 0.0002
    assert simulate(bars, signals(LONG, n=3), P).final_state.lots[0].funding == pytest.approx(
        -1.515, abs=1e-12
    )


# --- peak, deposits -------------------------------------------------------------------------


def test_the_peak_includes_this_close():
    bars = market([10_000.0, (10_000.0, 10_200.0, 10_000.0, 10_200.0), 10_100.0])
    result = simulate(bars, signals(LONG, n=3), P)
    assert result.states[1].peak == result.equity[1]
    assert result.final_state.peak == result.equity[1]


def test_a_deposit_is_no_profit_and_a_withdrawal_no_loss():
    state = altered(TradingState.initial(10_000.0), equity=9_800.0, balance=9_800.0)
    after = deposit(state, -1_000.0)
    assert (after.equity, after.balance, after.peak, after.day_reference) == (
        8_800.0,
        8_800.0,
        9_000.0,
        9_000.0,
    )
    with pytest.raises(ConfigError):
        deposit(state, float("nan"))


# --- fills from outside ---------------------------------------------------------------------


def pending(n=1):
    bars = market(flat(n + 1))
    return simulate(bars.slice(0, n), signals(LONG, n=n), P).final_state, bars.bar(n)


def filled(time, quantity, price, *, lot=1, side=1, purpose=Kind.ENTRY, reason=Reason.ENTRY, fee=0.0):
    return Fill(time, lot, side, quantity, price, fee, int(purpose), int(reason))


def test_step_is_fills_then_settle_then_decide():
    state, bar = pending()
    fills = bar_fills(state, bar, P)
    settled, trades = settle_with_trades(state, bar, fills)
    assert settle(state, bar, fills) == settled
    assert trades == ()
    assert decide(settled, bar, route(*NONE_ROUTED, P), P)[0].lots[0].entry == pytest.approx(10_002.0)


NONE_ROUTED = (0.25, 0.25, 0.5)


def test_the_fill_model_only_reads_the_state():
    state, bar = pending()
    before = state.to_json()
    bar_fills(state, bar, P)
    assert state.to_json() == before


def test_the_venues_own_price_sets_stop_and_target():
    state, bar = pending()
    lot = settle(state, bar, [filled(bar.open_time, 0.75, 10_010.0)]).lots[0]
    assert (lot.entry, lot.stop, lot.target) == (10_010.0, pytest.approx(9_810.0), pytest.approx(10_310.0))


def test_an_entry_filled_in_parts_stands_at_its_mean_price():
    state, bar = pending()
    parts = [filled(bar.open_time, 0.25, 10_000.0), filled(bar.open_time, 0.50, 10_030.0, fee=1.0)]
    lot = settle(state, bar, parts).lots[0]
    assert lot.quantity == 0.75
    assert lot.entry == pytest.approx(10_020.0)
    assert lot.stop == pytest.approx(9_820.0)
    assert lot.fees == 1.0


def test_an_entry_that_did_not_fill_is_gone():
    state, bar = pending()
    after = settle(state, bar, ())
    assert (after.entry, after.lots) == (None, ())


def test_an_exit_that_did_not_fill_stays_pending():
    bars = market(flat(4))
    state = simulate(bars.slice(0, 3), signals(LONG, NONE, SHORT), P).final_state
    assert [lot.exit_reason for lot in settle(state, bars.bar(3), ()).lots] == [Reason.OPPOSITE]


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"lot": 7}, "no such entry"),
        ({"side": -1}, "no such entry"),
        ({"purpose": Kind.STOP}, "no such lot"),
        ({"price": -1.0}, "must be positive"),
        ({"quantity": 0.0}, "must be positive"),
    ],
)
def test_a_fill_that_belongs_to_nothing_is_refused(wrong, cause):
    state, bar = pending()
    fill = filled(bar.open_time, **({"quantity": 0.75, "price": 10_000.0} | wrong))
    with pytest.raises(DataError, match=cause):
        settle(state, bar, [fill])


def test_more_than_is_open_cannot_be_closed():
    state, bar = pending()
    entry = filled(bar.open_time, 0.75, 10_000.0)
    leave = filled(bar.open_time, 0.8, 9_900.0, side=-1, purpose=Kind.STOP, reason=Reason.STOP)
    with pytest.raises(DataError, match=r"only 0\.75 are left"):
        settle(state, bar, [entry, leave])


def test_too_many_fills_of_one_bar_are_refused():
    state, bar = pending()
    with pytest.raises(DataError, match="20 fills in one bar"):
        settle(state, bar, [filled(bar.open_time, 0.01, 10_000.0)] * 20)


def test_a_bar_out_of_order_is_refused():
    state, bar = pending()
    for shift in (-1, 1):
        with pytest.raises(MissingBars, match="not the next"):
            settle(state, bar._replace(open_time=bar.open_time + shift * BAR_US), ())


def test_deciding_before_settling_is_refused():
    state, bar = pending()
    with pytest.raises(DataError, match="settle a bar before deciding"):
        decide(state, bar, route(*NONE_ROUTED, P), P)


def test_a_bar_without_prices_fills_nothing_and_keeps_the_last_mark():
    nan = float("nan")
    bars = market([10_000.0, 10_000.0, (nan, nan, nan, nan), 10_000.0])
    result = simulate(bars, signals(LONG, NONE, SHORT, n=4), P)
    assert result.equity[2] == result.equity[1]
    assert list(result.fills.bar) == [1, 3]
