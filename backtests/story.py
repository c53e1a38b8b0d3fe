"""The words of the report: what was asked, what came out, why, and by how much, for a stranger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from acmf_core.domain import Check
from backtests.typography import day, number, percent, typeset

# name of a check -> what it asks, in plain words
EXPLAINED: Final[Mapping[str, str]] = {
    "bundle intact": "Is the stored model exactly the trained one, byte for byte, prediction for prediction?",
    "out-of-sample trades": "Are there enough trades to judge at all?",
    "deflated Sharpe": "Is the risk-adjusted return too good to be the luckiest of several tries?",
    "overfitting": "Does tuning choose settings that keep working on data they were not chosen on?",
    "superior ability": "Does it beat doing nothing, and a simpler model, by more than luck?",
    "predictive skill": "Do the predictions know more than baselines, and more than a coin about direction?",
    "costs and delay": "Is there still a profit when trading costs double, or orders come a bar late?",
    "calibration": "When it says 60 %, does it happen in about 60 % of the cases?",
    "spread over months": "Was the profit earned in more than one lucky month?",
    "replay parity": "Does the live daemon, fed the same bars, decide exactly as the backtest did?",
    "against the champion": "Is it better than the model that runs now?",
    "paper record": "Did it trade in paper for two weeks just as its own replay says it should?",
}

# name of a check -> the reason in the verdict when it fails; the most telling first
_FAILED: Final[Mapping[str, str]] = {
    "bundle intact": "The stored model could not be verified",
    "out-of-sample trades": "There are too few trades to judge",
    "predictive skill": "Its predictions do not clearly beat simple baselines and a coin",
    "costs and delay": "It loses money when costs double or orders come a bar late",
    "deflated Sharpe": "Its return for the risk does not stand up",
    "superior ability": "It does not reliably beat doing nothing and the simpler model",
    "overfitting": "The tuned settings are unlikely to hold on other data",
    "replay parity": "The daemon decided differently from the backtest",
    "calibration": "Its stated confidence does not match how often it is right",
    "spread over months": "The result does not rest on several good months",
    "against the champion": "It is not better than the present champion",
    "paper record": "Its paper trading does not match its replay",
}

ASSUMPTIONS: Final = (
    "Fills come at the next bar's open plus slippage; live, 2 to 22 seconds pass and the price moves.",
    "Inside a bar the order of touches is unknown: where stop and target are both reached, the stop counts.",
    "A target fills at its price here; live it may fill better.",
    "Stops in a crash bar fill at their price plus 2 bps; a thin order book can be far worse.",
    "Stops trigger on the contract price here; the exchange's trigger price type is set explicitly live.",
    "Funding is booked at its nominal time; the exchange may settle seconds later.",
    "Orders fill whole; live they may fill in parts.",
    "Spread and book gates have no history here and pass when data are missing.",
    "Liquidation is not modelled, nor is the operator who switches to observe-only.",
)


@dataclass(frozen=True)
class Verdict:
    """The first thing on the page; `more` counts the reasons that are only in the list of checks."""

    passed: bool
    word: str
    headline: str
    question: str
    answer: str
    reasons: tuple[str, ...]
    more: int
    margin: str


REASONS_SHOWN: Final = 4


def verdict(
    evidence: Mapping[str, Any], view: Mapping[str, Any], checks: Sequence[Check], override_reason: str
) -> Verdict:
    """Sum up the gate's word in plain language.

    Parameters
    ----------
    evidence, view
        The whole evidence and the part of the judged calibration.
    checks
        The gate's twelve; one that was not asked does not count.
    """
    counted = asked(checks)
    failed = sorted((c for c in counted if c.verdict is False), key=_weight)
    unknown = [check for check in counted if check.verdict is None]
    good = bool(counted) and not failed and not unknown
    return Verdict(
        passed=good,
        word="passed" if good else "refused; runs in paper by override" if override_reason else "refused",
        headline=_headline(view, good),
        question=_question(evidence),
        answer=_answer(evidence, view),
        reasons=_reasons(failed[:REASONS_SHOWN], unknown, len(counted)),
        more=max(0, len(failed) - REASONS_SHOWN),
        margin=_margin(view),
    )


def asked(checks: Sequence[Check]) -> list[Check]:
    """The checks that count here: all but one that only live trading asks for."""
    return [check for check in checks if check.figure != "not asked"]


def tally(checks: Sequence[Check]) -> str:
    """How many checks passed, failed and could not be computed."""
    found = [check.verdict for check in asked(checks)]
    return f"{found.count(True)} passed, {found.count(False)} failed, {found.count(None)} not computed"


def _weight(check: Check) -> int:
    order = list(_FAILED)
    return order.index(check.name) if check.name in order else len(order)


def _headline(view: Mapping[str, Any], good: bool) -> str:
    if good:
        return "It earned its place."
    if not view["trades"]:
        return "It did not trade, so it earned nothing."
    if view["performance"]["total_return"] > 0:
        return "It made money, but that is not enough."
    return "It lost money."


def _question(evidence: Mapping[str, Any]) -> str:
    symbol = evidence["symbol"] or "the market"
    return (
        f"Would a model trained only on what was known at the time have earned money trading {symbol} every "
        f"15 minutes from {day(evidence['data']['start'])} to {day(evidence['data']['end'])}, after fees, "
        f"slippage and funding, and by more than luck?"
    )


def _answer(evidence: Mapping[str, Any], view: Mapping[str, Any]) -> str:
    holding = (
        f"Holding the coin would have {_gained(evidence['buy_and_hold']['total_return'])} over the same days."
    )
    days = number(evidence["data"]["days"])
    if not view["trades"]:
        return f"It never saw a direction worth its costs: no trade in {days} days. {holding}"
    total = view["performance"]["total_return"]
    nothing = " Doing nothing would have kept the money." if total < 0 else ""
    return f"It made {number(view['trades'])} trades in {days} days and {_gained(total)}. {holding}{nothing}"


def _gained(total: float) -> str:
    return f"{'gained' if total >= 0 else 'lost'} {percent(abs(total))}"


def _reasons(failed: Sequence[Check], unknown: Sequence[Check], count: int) -> tuple[str, ...]:
    reasons = [f"{_FAILED.get(check.name, check.name)}: {typeset(check.figure)}." for check in failed]
    if unknown:
        names = ", ".join(check.name for check in unknown)
        reasons.append(f"Could not be computed, and so not passed: {names}.")
    return tuple(reasons) or (f"All {count} checks passed; each is listed below with its figure and bound.",)


def _margin(view: Mapping[str, Any]) -> str:
    if not view["trades"]:
        return "There is no return to measure; what the predictions lack is shown under Predictions."
    costs, sharpe, even = view["costs"], view["sharpe"], view["stress"]["break_even"]
    gross, net = costs["mean_gross_bps"], costs["mean_net_bps"]
    low, high = sharpe["annual_90"]
    return (
        f"The average trade earned {number(gross, 1, sign=True)} bps before fees and funding, and "
        f"{number(net, 1, sign=True)} bps after them. It would break even at costs of "
        f"{number(even['gross_bps'], 2)} bps a side; they are {number(even['cost_bps'], 2)}. "
        f"Annual Sharpe ratio {number(sharpe['annual'], 2)}, with 90 % confidence between "
        f"{number(low, 2)} and {number(high, 2)}. "
        f"The probability that it is more than luck is {percent(sharpe['dsr'])}; 95 % are asked."
    )


def calibration_note() -> str:
    """Why there are two verdicts."""
    return (
        "The same trained models, read in two ways. After temperature scaling alone the model stays too sure "
        "of the side a move will take; the second step scales that down to what it was worth on the "
        "calibration days. Everything else on this page shows the temperature reading."
    )


def no_trades() -> str:
    """What it means that nothing was traded."""
    return (
        "That is an answer and not a fault: a calibrated model that sees no direction worth its costs stays "
        "out. Which gate kept it out is shown below."
    )


def skill(evidence: Mapping[str, Any]) -> str:
    """The first line of the predictions: whether the stack beats the simpler model."""
    losses = evidence["losses"]
    if not losses:
        return "No bar has a prediction of every model and a known outcome, so nothing can be compared."
    own, rival, prior = (
        losses[name]["log_loss"] for name in (evidence["calibration"], "tabular_only", "class_prior")
    )
    beats = "beats" if own < rival else "does not beat"
    more = "more" if own < prior else "no more"
    return (
        f"Out of sample, the Mamba stack {beats} the tabular-only model (log-loss {own:.4f} against "
        f"{rival:.4f}), and knows {more} than the class shares of the past ({prior:.4f}), on "
        f"{number(losses['tabular_only']['n'])} bars. Three classes: up, down, or not enough to matter."
    )


def stops(view: Mapping[str, Any]) -> str:
    """What a stop really cost, in units of the risk that was planned."""
    rows = [row for row in view["exits"] if row["reason"] == "stop"]
    if not rows:
        return ""
    return f"A stop cost {abs(rows[0]['mean_r']):.2f} R on average: fees and slippage come on top of 1 R."
