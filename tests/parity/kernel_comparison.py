"""Hold the kernel's answer against the reference's, bar for bar: says the first difference in words."""

from typing import Any

import numpy as np
from reference_kernel import ReferenceRun, reference_simulation
from trading_cases import Case

from acmf_core.trading import Bars, SimulationResult, TradeParams, simulate

EXACT = 1e-12  # relative, prices and quantities
LEDGER = 1e-9  # relative, equity
MONEY = 1e-9  # of the equity, nets and fees of a trade (differences of larger sums)


def run_both(case: Case) -> tuple[SimulationResult, ReferenceRun]:
    """The kernel's and the reference's answer to one case."""
    bars, params = Bars(**case.bars), TradeParams(**case.params)
    kernel = simulate(bars, case.probabilities, params, equity=case.equity)
    return kernel, reference_simulation(bars, case.probabilities, params, case.equity)


def first_difference(kernel: SimulationResult, reference: ReferenceRun) -> str:
    """The earliest bar on which the two disagree and in what; empty when they do not."""
    found = [
        *_per_bar(kernel, reference),
        *_tables(kernel, reference),
        *_final_state(kernel, reference),
    ]
    return min(found)[1] if found else ""


def _per_bar(kernel: SimulationResult, reference: ReferenceRun) -> list[tuple[int, str]]:
    found = []
    same = {
        "gates": (kernel.gates, reference.gates),
        "regime": (kernel.regimes, reference.regimes),
        "side": (kernel.sides, reference.sides),
        "stopped": (kernel.stopped, reference.stopped),
        "confidence": (kernel.confidences, reference.confidences),
    }
    for name, (ours, theirs) in same.items():
        for i in np.flatnonzero(np.asarray(ours) != np.asarray(theirs))[:1]:
            shown = f"{ours[i]:012b} {theirs[i]:012b}" if name == "gates" else f"{ours[i]} {theirs[i]}"
            found.append((int(i), f"bar {i}: {name}: kernel, reference = {shown}"))
    scores = np.asarray(reference.scores)
    for i in np.flatnonzero((kernel.scores != scores).any(axis=1))[:1]:
        found.append((int(i), f"bar {i}: scores: kernel {kernel.scores[i]}, reference {scores[i]}"))
    equity = np.asarray(reference.equity)
    apart = ~np.isclose(kernel.equity, equity, rtol=LEDGER, atol=LEDGER * equity[0])
    for i in np.flatnonzero(apart)[:1]:
        found.append((int(i), f"bar {i}: equity: kernel {kernel.equity[i]!r}, reference {equity[i]!r}"))
    return found


def _tables(kernel: SimulationResult, reference: ReferenceRun) -> list[tuple[int, str]]:
    regimes, confidences = reference.regimes, reference.confidences
    orders = [
        (o.bar, o.lot, o.side, o.purpose, o.reason, regimes[o.bar], o.quantity, confidences[o.bar])
        for o in reference.orders
    ]
    fills = [(f.bar, f.lot, f.side, f.reason, f.quantity, f.price, f.fee) for f in reference.fills]
    trades = [
        (t.exit_bar, t.lot, t.side, t.reason, t.regime, t.exit_bar - t.entry_bar + 1)
        for t in reference.trades
    ]
    prices = [
        (t.exit_bar, t.lot, t.quantity, t.entry_price, t.exit_price, t.confidence) for t in reference.trades
    ]
    money = [(t.exit_bar, t.lot, t.net, t.fees, t.funding) for t in reference.trades]
    order_columns = "bar lot side purpose reason regime quantity confidence"
    price_columns = "bar lot quantity entry_price exit_price confidence"
    scale = kernel.initial_state.equity
    return [
        *_rows("order", _listed(kernel.orders, order_columns), sorted(orders, key=_sending)),
        *_rows("fill", _listed(kernel.fills, "bar lot side reason quantity price fee"), fills),
        *_rows("trade", _listed(kernel.trades, "bar lot side reason regime bars"), trades),
        *_rows("prices of trade", _listed(kernel.trades, price_columns), prices),
        *_rows("money of trade", _listed(kernel.trades, "bar lot net fees funding"), money, scale),
    ]


def _sending(order: tuple[Any, ...]) -> tuple[bool | int, ...]:
    """Orders of one bar go out exits first, by lot; the reference notes them as it decides them."""
    bar, lot, _, purpose, *_ = order
    return bar, purpose == "entry", lot


def _final_state(kernel: SimulationResult, reference: ReferenceRun) -> list[tuple[int, str]]:
    """The lots left open and the breaker's memory, after the last bar."""
    account, state = reference.account, kernel.final_state.record[0]
    assert account is not None
    last = len(reference.equity)
    theirs = [
        (lot.number, lot.side, int(lot.target_done), lot.quantity, lot.entry, lot.stop, lot.target, lot.best)
        for lot in account.lots
    ]
    names = ("lot", "side", "target_done", "quantity", "entry", "stop", "target", "best")
    ours = [tuple(lot[name].item() for name in names) for lot in state["lots"][: int(state["n_lots"])]]
    found = _rows("open lot", [(last, *row) for row in ours], [(last, *row) for row in theirs])
    counters = (
        ("streak", account.streak),
        ("low_probability", account.low_probability),
        ("stopped", int(account.stopped)),
        ("paused", int(account.paused)),
        ("next_lot", account.next_lot),
    )
    found += [
        (last, f"final {name}: kernel {state[name]}, reference {value}")
        for name, value in counters
        if int(state[name]) != value and not (name == "low_probability" and account.stopped)
    ]
    for name, value in (("day_reference", account.reference), ("peak", account.peak)):
        if not np.isclose(float(state[name]), value, rtol=LEDGER, atol=LEDGER):
            found.append((last, f"final {name}: kernel {float(state[name])!r}, reference {value!r}"))
    return found


def _listed(table: Any, columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].tolist() for name in columns.split()), strict=True))


def _rows(
    what: str, ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]], scale: float = 0.0
) -> list[tuple[int, str]]:
    """First differing row; words and whole numbers equal, floats within EXACT (or MONEY of `scale`)."""
    for mine, other in zip(ours, theirs, strict=False):
        if not all(_close(a, b, scale) for a, b in zip(mine, other, strict=True)):
            bar = min(int(mine[0]), int(other[0]))
            return [(bar, f"bar {bar}: {what}: kernel {mine}, reference {other}")]
    if len(ours) != len(theirs):
        longer = max(ours, theirs, key=len)
        extra = longer[min(len(ours), len(theirs))]
        who = "kernel" if longer is ours else "reference"
        return [(int(extra[0]), f"bar {extra[0]}: {what} only in the {who}: {extra}")]
    return []


def _close(a: Any, b: Any, scale: float) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) <= (MONEY * abs(scale) if scale else EXACT * max(abs(a), abs(b)))
    return bool(a == b)
