"""Names of cycles and orders."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmf_core.domain import BAR_US, Purpose
from acmf_core.errors import DataError
from acmf_core.execution.orders import OrderName, client_id, cycle_id, cycle_time, parse

AT = 1_706_660_100_000_000  # 2024-01-31T00:15Z
VENUE_RULE = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")  # Binance, exchange.md (b)

bars = st.integers(0, 10_000_000).map(lambda n: n * BAR_US)
lots = st.integers(0, 36**8 - 1)
purposes = st.sampled_from(list(Purpose))
symbols = st.from_regex(r"[A-Z0-9]{5,20}", fullmatch=True)


def test_a_cycle_is_named_after_its_symbol_and_the_close_of_its_bar():
    assert cycle_id("BTCUSDT", AT) == "BTCUSDT:2024-01-31T00:15Z"
    assert cycle_time("BTCUSDT:2024-01-31T00:15Z") == AT


def test_the_names_of_a_known_cycle_never_change():
    """Pinned: a changed name would orphan the orders that a running venue holds."""
    cycle = cycle_id("BTCUSDT", AT)
    assert client_id(cycle, 7, Purpose.ENTRY) == "acmf-14n6p-7-e-2a0dcab291"
    assert client_id(cycle, 7, Purpose.STOP) == "acmf-14n6p-7-s-e50aa1e3b0"


@given(symbols, bars, lots, purposes)
def test_a_name_obeys_the_venue_and_can_be_read_back(symbol, at, lot, purpose):
    name = client_id(cycle_id(symbol, at), lot, purpose)
    assert VENUE_RULE.fullmatch(name)
    assert parse(name) == OrderName(at, lot, purpose)
    assert client_id(cycle_id(symbol, at), lot, purpose) == name


@given(st.lists(st.tuples(symbols, bars, lots, purposes), min_size=2, max_size=20, unique=True))
def test_different_wishes_have_different_names(wishes):
    names = {client_id(cycle_id(symbol, at), lot, purpose) for symbol, at, lot, purpose in wishes}
    assert len(names) == len(wishes)


@pytest.mark.parametrize("name", ["", "x-cvBPrNm9abc", "acmf-1-1-q-0123456789", "acmf-1-1-e-01234", "web_1"])
def test_a_foreign_order_is_not_taken_for_ours(name):
    assert parse(name) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: cycle_id("BTCUSDT", AT + 1),
        lambda: cycle_time("BTCUSDT"),
        lambda: client_id("BTCUSDT:yesterday", 1, Purpose.ENTRY),
        lambda: client_id(cycle_id("BTCUSDT", AT), -1, Purpose.ENTRY),
        lambda: client_id(cycle_id("BTCUSDT", AT), 36**12, Purpose.ENTRY),
    ],
)
def test_what_cannot_be_named_is_an_error(call):
    with pytest.raises(DataError):
        call()
