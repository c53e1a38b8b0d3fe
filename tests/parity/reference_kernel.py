"""The slow twin of the trading kernel: the trading page read aloud in plain Python, one bar at a time.

It shares no code with `acmf_core.trading`. It takes the same arrays of bars, the same probabilities and
the same parameters (any object with the field names of `TradeParams`) and says what must happen. Every
block names the rule it spells out; "FP 7" is item 7 of that page's fine print. Nothing here is fast or
clever on purpose: where the kernel and this file disagree, one of them has misread the page.
"""

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

DAY_US = 86_400_000_000
BAR_US = 900_000_000
TRENDING, RANGING, HIGH_VOLATILITY = 0, 1, 2  # FP 1
EPS = 1e-9  # FP 2
TOUCH = 1e-6  # FP 6, in ticks
ALL_GATES = 4095


@dataclass
class Lot:
    """One entry; everything that the page freezes per lot is here."""

    number: int
    side: int
    quantity: float
    entry: float
    atr: float
    regime: int
    confidence: float
    entry_bar: int
    entry_time: int
    entry_quantity: float
    stop: float
    target: float
    best: float
    target_done: bool = False
    stop_moved: bool = False
    pending: str = ""
    fees: float = 0.0
    funding: float = 0.0
    gross: float = 0.0
    exit_value: float = 0.0  # sum of quantity x price of the exit fills


@dataclass(frozen=True)
class EntryOrder:
    side: int
    quantity: float
    atr: float
    regime: int
    confidence: float
    lot: int


@dataclass(frozen=True)
class Order:
    bar: int
    side: int  # of the order: +1 buys
    quantity: float
    purpose: str
    reason: str
    lot: int
    regime: int
    confidence: float


@dataclass(frozen=True)
class Fill:
    bar: int
    time: int
    lot: int
    side: int  # of the order: +1 buys
    quantity: float
    price: float
    reason: str
    fee: float


@dataclass(frozen=True)
class Trade:
    lot: int
    side: int
    quantity: float
    entry_bar: int
    exit_bar: int
    entry_price: float
    exit_price: float
    regime: int
    confidence: float
    reason: str
    fees: float
    funding: float
    net: float


@dataclass
class Account:
    """Everything that survives from one bar to the next."""

    cash: float  # start + realised price moves - fees + funding
    equity: float  # marked at the last close
    reference: float
    peak: float
    lots: list[Lot] = field(default_factory=list)
    entry: EntryOrder | None = None
    next_lot: int = 1
    last_date: int | None = None
    last_event_bar: int | None = None  # last market decision or resting fill
    streak: int = 0
    low_probability: int = 0
    stopped: bool = False
    paused: bool = False
    stopped_at: int = -1
    cause: str = ""


@dataclass
class ReferenceRun:
    """What happened: one list item per bar, order, fill or trade."""

    equity: list[float] = field(default_factory=list)
    gates: list[int] = field(default_factory=list)
    regimes: list[int] = field(default_factory=list)
    scores: list[tuple[float, float, float]] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    streaks: list[int] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    account: Account | None = None


# --------------------------------------------------------------------------------------------- routing


def routed(p_long: float, p_short: float, p_neutral: float, params: Any) -> tuple[int, float, float | None]:
    """Side, confidence and the largest class probability (None: no prediction). "Routing", FP 2, FP 3."""
    triple = (p_long, p_short, p_neutral)
    if all(math.isnan(p) for p in triple):
        return 0, 0.0, None
    if any(math.isnan(p) or p < 0 for p in triple) or abs(sum(triple) - 1.0) > 1e-4:
        raise ValueError(f"not probabilities: {triple}")
    dominant, opposite = max(p_long, p_short), min(p_long, p_short)
    if opposite > 0:
        ratio = dominant / opposite
    elif dominant > 0:
        ratio = math.inf
    else:
        ratio = 1.0
    confidence = 1.0 - 1.5 / (ratio + 1.0)
    directional = (
        dominant - params.min_ratio * opposite >= -EPS and dominant - opposite >= params.min_spread - EPS
    )
    if p_long == p_short:  # FP 2: whatever the params
        directional = False
    towards = 1 if p_long > p_short else -1
    return (towards if directional else 0), confidence, max(triple)


def reaches(confidence: float, threshold: float) -> bool:
    """FP 2: every comparison of a confidence with a threshold."""
    return confidence - threshold >= -EPS


# ---------------------------------------------------------------------------------------------- regime


def regime_scores(bar: Any) -> tuple[float, float, float]:
    """The table under "Regime"; a missing input scores nothing."""
    trending = ranging = high = 0.0
    if not math.isnan(bar.adx):
        if bar.adx >= 25:
            trending += 2
        elif bar.adx >= 20:
            trending += 1
        else:
            ranging += 2
    if not math.isnan(bar.ema_distance):
        if abs(bar.ema_distance) >= 1:
            trending += 1
        if abs(bar.ema_distance) < 0.5:
            ranging += 1
        move = (bar.ema_distance > 0) - (bar.ema_distance < 0)
        if move != 0:  # FP 27
            from_one = bar.funding_bps - 1.0
            if abs(from_one) >= 1 and from_one * move > 0:  # NaN compares false
                trending += 0.5
            if bar.book_imbalance * move >= 0.2:
                trending += 0.5
    if bar.atr_ratio < 1.0:
        ranging += 1
    if bar.atr_ratio >= 1.5:
        high += 2
    elif bar.atr_ratio >= 1.25:
        high += 1
    if bar.vol_regime >= 0.9:
        high += 2
    elif bar.vol_regime >= 0.75:
        high += 1
    if abs(bar.funding_bps) >= 5:
        high += 1
    return trending, ranging, high


def regime_of(scores: tuple[float, float, float]) -> int:
    """The highest score; ties go to the stricter regime."""
    best = max(scores)
    for regime in (HIGH_VOLATILITY, RANGING, TRENDING):
        if scores[regime] == best:
            return regime
    raise AssertionError("unreachable")


# ------------------------------------------------------------------------------------- rounding, FP 6


def up_to_tick(price: float, tick: float) -> float:
    return math.ceil(price / tick - 1e-6) * tick


def down_to_tick(price: float, tick: float) -> float:
    return math.floor(price / tick + 1e-6) * tick


def down_to_step(quantity: float, step: float) -> float:
    return math.floor(quantity / step + 1e-9) * step


def priced(bar: Any) -> bool:
    return all(math.isfinite(price) for price in (bar.open, bar.high, bar.low, bar.close))


# -------------------------------------------------------------------------------------------- the run


class ReferenceKernel:
    """One account going through the bars."""

    def __init__(self, bars: Any, probabilities: np.ndarray, params: Any, equity: float) -> None:
        names = [name for name in bars._fields]
        columns = [np.asarray(getattr(bars, name)).tolist() for name in names]
        self.bars = [
            SimpleNamespace(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)
        ]
        self.probabilities = np.asarray(probabilities, dtype=float).tolist()
        self.params = params
        self.account = Account(cash=equity, equity=equity, reference=equity, peak=equity)
        self.run = ReferenceRun(account=self.account)

    def simulate(self) -> ReferenceRun:
        for t, bar in enumerate(self.bars):
            self.settle(t, bar)
            self.decide(t, bar)
        return self.run

    # ---- settle: what the bar does to the account

    def settle(self, t: int, bar: Any) -> None:
        account = self.account
        self.new_day(bar)
        if not priced(bar):  # the page is silent: nothing fills, the entry lapses, the last mark stands
            account.entry = None
            self.run.equity.append(account.equity)
            return
        nets: list[float] = []  # of the lots whose last fill is in this bar, FP 19
        self.pay_funding(bar)
        # Bar order 0: pending market exits, oldest first, then the pending entry, all at the open.
        for lot in list(account.lots):
            if lot.pending:
                self.fill_exit(t, bar, lot, lot.quantity, bar.open, lot.pending, nets)
        if account.entry is not None:
            self.fill_entry(t, bar, account.entry)
            account.entry = None
        # Bar order 1: resting exits inside the bar, oldest lot first.
        for lot in list(account.lots):
            self.resting_exits(t, bar, lot, nets)
        # "The extreme of a bar moves the stop after that bar."
        for lot in account.lots:
            self.trail(t, bar, lot)
        if nets:  # FP 19: one result a bar
            account.streak = account.streak + 1 if sum(nets) < 0 else 0
        # Equity is marked at the close; the peak includes this close, FP 24.
        open_result = sum(lot.side * lot.quantity * (bar.close - lot.entry) for lot in account.lots)
        account.equity = account.cash + open_result
        account.peak = max(account.peak, account.equity)
        self.run.equity.append(account.equity)

    def new_day(self, bar: Any) -> None:
        """FP 20: before anything else, and not while stopped."""
        account = self.account
        date = bar.open_time // DAY_US
        if account.last_date is not None and date != account.last_date and not account.stopped:
            account.reference = account.equity
        account.last_date = date

    def pay_funding(self, bar: Any) -> None:
        """FP 18: lots held into the open pay, those leaving at it included, the one entering not."""
        for lot in self.account.lots:
            amount = -lot.side * lot.quantity * bar.open * bar.funding_event
            lot.funding += amount
            self.account.cash += amount

    def worsened(self, price: float, order_side: int) -> float:
        """FP 4: every fill pays slippage: buyers pay more, sellers get less; no rounding."""
        return price * (1.0 + order_side * self.params.slippage_bps / 1e4)

    def fill_entry(self, t: int, bar: Any, order: EntryOrder) -> None:
        """ "Frozen per lot": regime and ATR of the deciding bar, around the fill price, toward the entry."""
        p = self.params
        price = self.worsened(bar.open, order.side)
        fee = order.quantity * price * p.fee_bps / 1e4
        stop_distance = p.stop_atr[order.regime] * order.atr
        target_distance = p.target_atr[order.regime] * order.atr
        if order.side > 0:
            stop = up_to_tick(price - stop_distance, p.tick)
            target = down_to_tick(price + target_distance, p.tick)
        else:
            stop = down_to_tick(price + stop_distance, p.tick)
            target = up_to_tick(price - target_distance, p.tick)
        lot = Lot(
            number=order.lot,
            side=order.side,
            quantity=order.quantity,
            entry=price,
            atr=order.atr,
            regime=order.regime,
            confidence=order.confidence,
            entry_bar=t,
            entry_time=bar.open_time,
            entry_quantity=order.quantity,
            stop=stop,
            target=target,
            best=price,
            fees=fee,
        )
        self.account.cash -= fee
        self.account.lots.append(lot)
        fill = Fill(t, bar.open_time, lot.number, lot.side, lot.quantity, price, "entry", fee)
        self.run.fills.append(fill)

    def fill_exit(
        self, t: int, bar: Any, lot: Lot, quantity: float, price: float, reason: str, nets: list[float]
    ) -> None:
        """An exit fill of all or a part of a lot; the last one makes the trade. FP 4, FP 8."""
        account = self.account
        price = self.worsened(price, -lot.side)
        fee = quantity * price * self.params.fee_bps / 1e4
        gross = lot.side * quantity * (price - lot.entry)
        account.cash += gross - fee
        lot.gross += gross
        lot.fees += fee
        lot.exit_value += quantity * price
        lot.quantity -= quantity
        self.run.fills.append(Fill(t, bar.open_time, lot.number, -lot.side, quantity, price, reason, fee))
        if lot.quantity > self.params.step / 2:
            return
        net = lot.gross - lot.fees + lot.funding
        nets.append(net)
        account.lots.remove(lot)
        self.run.trades.append(
            Trade(
                lot=lot.number,
                side=lot.side,
                quantity=lot.entry_quantity,
                entry_bar=lot.entry_bar,
                exit_bar=t,
                entry_price=lot.entry,
                exit_price=lot.exit_value / lot.entry_quantity,
                regime=lot.regime,
                confidence=lot.confidence,
                reason=reason,
                fees=lot.fees,
                funding=lot.funding,
                net=net,
            )
        )

    def resting_exits(self, t: int, bar: Any, lot: Lot, nets: list[float]) -> None:
        """Bar order 1, FP 6: stop before target, a gap fills at the open, the target closes half."""
        p = self.params
        tolerance = TOUCH * p.tick
        if lot.side > 0:
            stop_touched = bar.low <= lot.stop + tolerance
            target_touched = bar.high >= lot.target - tolerance
            stop_price = min(bar.open, lot.stop)
        else:
            stop_touched = bar.high >= lot.stop - tolerance
            target_touched = bar.low <= lot.target + tolerance
            stop_price = max(bar.open, lot.stop)
        if stop_touched:
            reason = "trailing" if lot.stop_moved else "stop"  # FP 8
            self.fill_exit(t, bar, lot, lot.quantity, stop_price, reason, nets)
            self.account.last_event_bar = t  # gate 2: a resting fill
        elif target_touched and not lot.target_done:
            half = down_to_step(0.5 * lot.quantity, p.step)
            rest = lot.quantity - half
            if half <= 0 or half < p.min_quantity - EPS or rest < p.min_quantity - EPS:  # FP 17
                half = lot.quantity
            lot.target_done = True
            self.fill_exit(t, bar, lot, half, lot.target, "target", nets)
            self.account.last_event_bar = t  # gate 2: a partial take profit included

    def trail(self, t: int, bar: Any, lot: Lot) -> None:
        """Bar order 1: the rest trails behind the best price; FP 5, FP 7."""
        p = self.params
        lot.best = max(lot.best, bar.high) if lot.side > 0 else min(lot.best, bar.low)
        if not lot.target_done:
            return
        distance = p.trail_atr[lot.regime] * lot.atr
        tolerance = TOUCH * p.tick
        if lot.side > 0:
            moved = up_to_tick(max(lot.entry, lot.best - distance), p.tick)
            better = moved > lot.stop
            refused = moved >= bar.close - tolerance
        else:
            moved = down_to_tick(min(lot.entry, lot.best + distance), p.tick)
            better = moved < lot.stop
            refused = moved <= bar.close + tolerance
        if not better:
            return
        if refused:
            self.leave(t, lot, "trailing")
        else:
            lot.stop = moved
            lot.stop_moved = True

    def leave(self, t: int, lot: Lot, reason: str) -> None:
        """A market exit for the next open; the first reason stays (FP 8); FP 12: a market decision."""
        if lot.pending:
            return
        lot.pending = reason
        self.account.last_event_bar = t
        order = Order(t, -lot.side, lot.quantity, "exit", reason, lot.number, lot.regime, lot.confidence)
        self.run.orders.append(order)

    # ---- decide: what the account wants at the close

    def decide(self, t: int, bar: Any) -> None:
        account, p, run = self.account, self.params, self.run
        side, confidence, largest = routed(*self.probabilities[t], p)
        scores = regime_scores(bar)
        regime = regime_of(scores)
        self.resume(t)
        # Bar order 2: opposite signal, then time.
        opposed = side != 0 and any(lot.side == -side for lot in account.lots)
        if opposed and reaches(confidence, p.opposite_min_confidence):
            for lot in account.lots:
                self.leave(t, lot, "opposite")
        for lot in account.lots:
            if t - lot.entry_bar + 1 >= p.time_exit[lot.regime]:
                self.leave(t, lot, "time")
        # Bar order 3: the breaker. FP 3: no prediction leaves the counter as it is.
        if largest is not None:
            low = not reaches(largest, p.min_probability)
            account.low_probability = account.low_probability + 1 if low else 0
        self.breaker(t)
        # Bar order 4, FP 11: the mask comes last and is the entry.
        quantity = self.size(bar, regime, confidence)
        mask = self.gates(t, bar, side, confidence, regime, quantity)
        if mask == ALL_GATES:
            account.entry = EntryOrder(side, quantity, bar.atr, regime, confidence, account.next_lot)
            run.orders.append(
                Order(t, side, quantity, "entry", "entry", account.next_lot, regime, confidence)
            )
            account.next_lot += 1
            account.last_event_bar = t
        run.gates.append(mask)
        run.regimes.append(regime)
        run.scores.append(scores)
        run.sides.append(side)
        run.confidences.append(confidence)
        run.stopped.append(account.stopped)
        run.causes.append(account.cause)
        run.references.append(account.reference)
        run.streaks.append(account.streak)

    def daily_drawdown(self) -> float:
        """FP 24."""
        account = self.account
        if account.reference <= 0:
            return 1.0
        return (account.reference - account.equity) / account.reference

    def resume(self, t: int) -> None:
        """ "Resume", FP 21: first in decide. The peak stays.

        `person_resumes` is live: `resume_after` stands in for nobody, and only a pause lifts itself (FP 22).
        """
        account, p = self.account, self.params
        if not account.stopped or p.resume_after is None or t < account.stopped_at + p.resume_after:
            return
        if getattr(p, "person_resumes", False) and not account.paused:
            return
        account.stopped = account.paused = False
        account.cause = ""
        account.streak = 0
        account.low_probability = 0
        account.reference = account.equity

    def breaker(self, t: int) -> None:
        """Bar order 3; FP 23: the first cause is recorded, while stopped nothing trips; FP 22."""
        account, p = self.account, self.params
        if account.stopped:
            return
        tripped = {
            "daily_drawdown": self.daily_drawdown() > p.max_daily_drawdown,
            "loss_streak": account.streak >= p.max_losses,
            "low_probability": account.low_probability >= p.low_probability_bars,
        }
        causes = [name for name, trips in tripped.items() if trips]
        if not causes:
            return
        account.cause = causes[0]
        account.paused = p.streak_action == "pause" and causes == ["loss_streak"]
        account.stopped = True
        account.stopped_at = t
        for lot in account.lots:
            self.leave(t, lot, "breaker")

    def round_trip_cost(self, bar: Any) -> float:
        """FP 26: in price units."""
        return 2.0 * (self.params.fee_bps + self.params.slippage_bps) / 1e4 * bar.close

    def scalar(self, confidence: float, regime: int) -> float:
        """Linear from 0.8 at the regime's minimum to 1.2 at 0.75, clipped; FP 16."""
        minimum = self.params.min_confidence[regime]
        if minimum >= 0.75:
            return 1.2 if reaches(confidence, minimum) else 0.8
        return min(1.2, max(0.8, 0.8 + 0.4 * (confidence - minimum) / (0.75 - minimum)))

    def size(self, bar: Any, regime: int, confidence: float) -> float:
        """ "Sizing", in its order; 0 means that caps or filters allow no entry. FP 13 to 17."""
        account, p = self.account, self.params
        equity, close = account.equity, bar.close
        stop_distance = bar.atr * p.stop_atr[regime]
        if not (equity > 0 and close > 0 and stop_distance > 0 and math.isfinite(stop_distance)):
            return 0.0
        risked = stop_distance + self.round_trip_cost(bar) if p.cost_in_risk else stop_distance
        quantity = equity * p.risk_per_trade / risked
        # one lot's notional
        quantity = min(quantity, equity * p.max_leverage / p.max_positions[regime] / close)
        # confidence, then drawdown
        quantity *= self.scalar(confidence, regime)
        if (account.peak - equity) / account.peak > 0.02:
            quantity *= 0.5
        wanted = quantity
        # the total caps, over the lots that stay
        staying = [lot for lot in account.lots if not lot.pending]  # FP 13
        notional = sum(lot.quantity * close for lot in staying)
        quantity = min(quantity, (equity * p.max_leverage - notional) / close)
        risk = sum(lot.quantity * max(0.0, lot.side * (lot.entry - lot.stop)) for lot in staying)  # FP 14
        quantity = min(quantity, (equity * p.max_open_risk - risk) / stop_distance)
        if quantity < 0.5 * wanted - 1e-9 * p.step:  # FP 15
            return 0.0
        quantity = min(quantity, p.max_market_quantity)  # FP 17
        quantity = down_to_step(quantity, p.step)
        if quantity < p.min_quantity - EPS or quantity * close < p.min_notional - EPS:  # FP 17
            return 0.0
        return quantity

    def gates(self, t: int, bar: Any, side: int, confidence: float, regime: int, quantity: float) -> int:
        """The table of the twelve gates; all are evaluated. FP 9, 10, 12, 24, 25, 26."""
        account, p = self.account, self.params
        staying = sum(1 for lot in account.lots if not lot.pending)
        other_side = any(lot.side == -side for lot in account.lots) if side != 0 else False
        last = account.last_event_bar
        needed = (
            bar.open, bar.high, bar.low, bar.close, bar.atr, bar.adx,
            bar.ema_distance, bar.atr_ratio, bar.vol_regime, bar.volume_ratio,
        )  # fmt: skip
        checks = [
            side != 0,
            reaches(confidence, p.min_confidence[regime]),
            last is None or t - last >= p.cooldown[regime],
            staying < p.max_positions[regime] and not other_side,
            bar.volume_ratio >= p.min_volume_ratio,
            self.daily_drawdown() < p.max_daily_drawdown,
            account.streak < p.max_losses,
            math.isnan(bar.funding_bps)
            or (
                abs(bar.funding_bps) <= p.max_funding_bps
                and not side * bar.funding_bps > p.max_adverse_funding_bps
            ),
            math.isnan(bar.book_spread_bps) or bar.book_spread_bps <= p.max_spread_bps,
            math.isnan(bar.book_imbalance) or not side * bar.book_imbalance < -p.max_adverse_imbalance,
            bool(bar.data_ok) and all(math.isfinite(value) for value in needed),
            not account.stopped
            and not bar.entries_off
            and account.equity > 0
            and quantity > 0
            and bar.atr * p.target_atr[regime] >= p.reward_cost_multiple * self.round_trip_cost(bar),
        ]
        return sum(1 << bit for bit, passed in enumerate(checks) if passed)


def reference_simulation(
    bars: Any, probabilities: np.ndarray, params: Any, equity: float = 10_000.0
) -> ReferenceRun:
    """Run the page over the bars.

    Parameters
    ----------
    bars : NamedTuple of (n,) arrays
        The fields of `acmf_core.trading.Bars`.
    probabilities : ndarray (n, 3)
        P(LONG), P(SHORT), P(NEUTRAL); a row of NaN is a bar without a prediction.
    params : object
        Carries the fields of `TradeParams`.
    equity : float
        Starting equity, quote units.
    """
    return ReferenceKernel(bars, probabilities, params, equity).simulate()
