"""TradingState: exact JSON, equality by bits, refusal of what is no state."""

import json
import pickle

import pytest
from trading_market import LONG, flat, market, random_market, signals

from acmf_core.errors import ConfigError, DataError
from acmf_core.trading import TradeParams, TradingState, simulate


def busy():
    """A state with lots, and one with a pending entry."""
    bars = market(flat(4))
    return simulate(bars, signals(LONG, n=4), TradeParams()).final_state


def test_a_state_comes_back_from_json_bit_for_bit():
    bars, probabilities = random_market(400, seed=3)
    for state in simulate(bars, probabilities, TradeParams()).states[::7]:
        assert TradingState.from_json(state.to_json()) == state


def test_json_keeps_a_pending_entry():
    state = simulate(market(flat(1)), signals(LONG), TradeParams()).final_state
    assert TradingState.from_json(state.to_json()).entry == state.entry


def test_states_differ_when_one_bit_does():
    values = json.loads(busy().to_json())
    values["equity"] = values["equity"] * (1 + 2**-52)
    assert TradingState.from_json(json.dumps(values)) != busy()
    assert hash(busy()) == hash(busy())
    assert busy() != "a state"


def test_a_state_survives_a_process_boundary():
    assert pickle.loads(pickle.dumps(busy())) == busy()


def test_a_state_cannot_be_written_from_outside():
    state = busy()
    state.record["equity"] = 0.0
    assert state.equity > 0
    with pytest.raises(AttributeError):
        state.equity = 1.0


@pytest.mark.parametrize("equity", [0.0, -1.0, float("nan"), float("inf")])
def test_an_account_starts_with_money(equity):
    with pytest.raises(ConfigError, match="starting equity"):
        TradingState.initial(equity)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        busy().to_json().replace('"peak"', '"summit"'),
        busy().to_json().replace('"n_lots":1', '"n_lots":2'),
        busy().to_json().replace('"stop":', '"halt":'),
        busy().to_json().replace('"streak":0', '"streak":"many"'),
    ],
)
def test_what_is_no_state_is_refused(text):
    with pytest.raises(DataError, match="not a stored trading state"):
        TradingState.from_json(text)


def test_a_state_shows_side_and_position():
    state = busy()
    assert state.side == 1
    assert state.position == pytest.approx(0.75)
    assert TradingState.initial(1.0).side == 0
    assert "TradingState({" in repr(state)
    with pytest.raises(AttributeError):
        state.nonsense  # noqa: B018
