"""What every Exchange must do, the paper one and the fake."""

import dataclasses

import pytest
from fakes import FakeExchange

from acmf_core.domain import Order, Purpose, SymbolRules
from acmf_core.errors import OrderRejected, VenueUnavailable
from acmf_core.execution.orders import client_id
from acmf_core.execution.paper import PaperExchange
from acmf_core.ports import Exchange

RULES = SymbolRules("BTCUSDT", 0.1, 0.001, 0.002, 100.0, 120.0)
ENTRY = Order(client_id("BTCUSDT:2024-01-01T00:15Z", 1, Purpose.ENTRY), "BTCUSDT", 0.25, Purpose.ENTRY)


@pytest.fixture(params=[PaperExchange, FakeExchange])
def exchange(request):
    return request.param(RULES)


def another(**changes):
    return dataclasses.replace(ENTRY, **changes)


async def test_it_is_an_exchange_and_knows_its_filters(exchange):
    assert isinstance(exchange, Exchange)
    assert await exchange.rules("BTCUSDT") == RULES
    with pytest.raises(OrderRejected):
        await exchange.rules("ETHUSDT")


async def test_an_order_can_be_found_by_its_name_and_only_by_it(exchange):
    assert await exchange.find(ENTRY.client_id) is None
    ack = await exchange.submit(ENTRY)
    assert ack.client_id == ENTRY.client_id
    assert ack.venue_id
    assert await exchange.find(ENTRY.client_id) == ack
    assert await exchange.find(ENTRY.client_id + "x") is None


async def test_the_same_order_twice_is_one_order(exchange):
    assert await exchange.submit(ENTRY) == await exchange.submit(ENTRY)


@pytest.mark.parametrize("quantity", [0.25, -0.25, 0.002, 120.0, 12 * 0.001 + 0.001])
async def test_a_quantity_on_the_step_and_inside_the_limits_is_taken(exchange, quantity):
    await exchange.submit(another(quantity=quantity))


@pytest.mark.parametrize("quantity", [0.0005, 0.001, -0.001, 0.0255001, 120.001, 1e9])
async def test_a_quantity_that_breaks_a_filter_is_rejected_and_not_kept(exchange, quantity):
    with pytest.raises(OrderRejected):
        await exchange.submit(another(quantity=quantity))
    assert await exchange.find(ENTRY.client_id) is None


async def test_another_symbol_is_rejected(exchange):
    with pytest.raises(OrderRejected):
        await exchange.submit(another(symbol="ETHUSDT"))


async def test_the_price_is_the_last_one_seen(exchange):
    with pytest.raises(VenueUnavailable):
        await exchange.price("BTCUSDT")
    exchange.mark(42_000.5)
    exchange.mark(42_001.0)
    assert await exchange.price("BTCUSDT") == 42_001.0


async def test_paper_refuses_a_name_that_stands_for_another_order():
    exchange = PaperExchange(RULES)
    await exchange.submit(ENTRY)
    with pytest.raises(OrderRejected, match="belongs to another order"):
        await exchange.submit(another(quantity=-0.25))


async def test_paper_remembers_the_newest_orders_only():
    exchange = PaperExchange(RULES)
    orders = [another(client_id=f"acmf-{i}") for i in range(10_002)]
    for order in orders:
        await exchange.submit(order)
    assert await exchange.find("acmf-1") is None
    assert await exchange.find("acmf-2") is not None


async def test_paper_lets_a_rest_below_the_minimum_leave():
    rest = another(quantity=-0.001, purpose=Purpose.EXIT, reduce_only=True)
    assert await PaperExchange(RULES).submit(rest)
