"""The promotion gate: twelve checks on the evidence that a bundle carries, each with figure and bound.

The gate judges; it computes no statistics of a record. The evidence was gathered by research, lies
inside the bundle and is covered by its hashes. The one exception is the comparison with the champion,
which needs the records of two bundles and therefore cannot lie in either of them.

A check that cannot be computed has the verdict None, says why, and never counts as passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from acmf_core.domain import BARS_PER_DAY, Check
from acmf_core.errors import AcmfError

LEAST_TRADES: Final = 100
LEAST_DSR: Final = 0.95
MOST_LOSS_PROBABILITY: Final = 0.05
MOST_PBO: Final = 0.2
SIGNIFICANT: Final = 0.05
LEAST_ECE_BOUND: Final = 0.03
MOST_MONTH_SHARE: Final = 0.5
REPLAY_DAYS: Final = 30
LEAST_COMMON_DAYS: Final = 30
LEAST_PAPER_DAYS: Final = 14
MOST_MEDIAN_BPS: Final = 5.0
MOST_P95_BPS: Final = 15.0
RIVALS: Final = ("class_prior", "persistence", "tabular_only")
BUNDLE: Final = "bundle intact"
PAPER_RECORD: Final = "paper record"
_DRAWS: Final = 2000
_SEED: Final = 7

Evidence = Mapping[str, Any]


def judge(
    evidence: Evidence,
    *,
    bundle: Any = None,
    replay: Any = None,
    champion: Evidence | None = None,
    live: bool = False,
    paper: Evidence | None = None,
    calibration: str | None = None,
) -> list[Check]:
    """All twelve checks, in the order of the gate.

    Parameters
    ----------
    evidence : mapping
        As `backtests.evidence.gather` made it and a bundle carries it.
    bundle : Bundle or AcmfError, optional
        The loaded bundle, or the error that loading raised.
    replay : ReplayResult or mapping, optional
        With cycles and differences, of this bundle over its last 30 days.
    champion : mapping, optional
        Evidence of the present champion; None where there is none.
    live : bool
        Whether real money is asked for: only then the paper record counts.
    paper : mapping, optional
        days, differences, median_bps, p95_bps of the bundle's paper run against its own replay.
    calibration : str, optional
        Judge this calibration instead of the one the evidence was gathered for.
    """
    name = calibration or str(evidence.get("calibration", ""))
    view = evidence.get("by_calibration", {}).get(name)
    if view is None:
        missing = (
            f'the evidence holds no calibration "{name}"' if evidence else "the bundle holds no evidence"
        )
        measured = [_unknown(check, "", missing, _GATHER) for check in _MEASURED]
    else:
        measured = [
            _trades(view),
            _deflated_sharpe(view),
            _overfitting(evidence),
            _superior(view),
            _losses(evidence, view, name),
            _stress(view),
            _calibration(view),
            _months(view),
        ]
    return [
        _bundle(bundle),
        *measured,
        _replay(replay, bundle),
        _champion(view, champion),
        _paper(paper, live),
    ]


def required(checks: Sequence[Check], *, live: bool = False) -> list[Check]:
    """The checks that must pass: all twelve for live, all but the paper record for paper."""
    return [check for check in checks if live or check.name != PAPER_RECORD]


def passed(checks: Sequence[Check], *, live: bool = False) -> bool:
    """Whether every required check passed; None is no pass."""
    return all(check.verdict is True for check in required(checks, live=live))


def summary(checks: Sequence[Check], *, live: bool = False) -> str:
    """One sentence naming what failed and what is missing."""
    wanted = required(checks, live=live)
    failed = [check.name for check in wanted if check.verdict is False]
    unknown = [check.name for check in wanted if check.verdict is None]
    if not failed and not unknown:
        return f"all {len(wanted)} checks passed"
    parts = []
    if failed:
        parts.append(f"{len(failed)} of {len(wanted)} checks failed: {', '.join(failed)}")
    if unknown:
        parts.append(f"{len(unknown)} could not be computed: {', '.join(unknown)}")
    return "; ".join(parts)


_TRADES = "out-of-sample trades"
_DSR = "deflated Sharpe"
_OVERFITTING = "overfitting"
_SUPERIOR = "superior ability"
_LOSSES = "predictive skill"
_STRESS = "costs and delay"
_CALIBRATION = "calibration"
_MONTHS = "spread over months"
_REPLAY = "replay parity"
_CHAMPION = "against the champion"
_MEASURED = (_TRADES, _DSR, _OVERFITTING, _SUPERIOR, _LOSSES, _STRESS, _CALIBRATION, _MONTHS)
_GATHER = "run the walk-forward and train the bundle with its evidence"


def _unknown(name: str, bound: str, why: str, fix: str = "") -> Check:
    return Check(name, None, "not computed", bound, why, fix)


def _bundle(bundle: Any) -> Check:
    bound = "hashes, columns, overlap proof and golden predictions agree"
    if bundle is None:
        return _unknown(BUNDLE, bound, "no bundle was given", "give the bundle's directory")
    if isinstance(bundle, AcmfError):
        return Check(BUNDLE, False, "refused", bound, bundle.cause, bundle.fix)
    return Check(BUNDLE, True, str(bundle.hash)[:12], bound, "loaded and verified")


def _trades(view: Evidence) -> Check:
    count, sharpe = int(view["trades"]), view["sharpe"]
    needed = sharpe["min_track_days"]
    if needed is not None:
        track = f"minimum track record {needed:,.0f} days; the record has {sharpe['days']}"
    else:
        track = sharpe["reason"] or "no track record is long enough for a Sharpe ratio that is not positive"
    return Check(
        _TRADES,
        count >= LEAST_TRADES,
        f"{count}",
        f">= {LEAST_TRADES}",
        track,
        "lengthen the walk-forward; a model that does not trade has nothing to promote",
    )


def _deflated_sharpe(view: Evidence) -> Check:
    """Check 3; the last block, touched once, must not contradict the record."""
    bound, sharpe, holdout = f">= {LEAST_DSR}", view["sharpe"], view["holdout"]
    if sharpe["dsr"] is None:
        return _unknown(_DSR, bound, sharpe["reason"])
    good = sharpe["dsr"] >= LEAST_DSR
    verdict: bool | None = good
    if good and holdout["contradicts"] is not False:
        verdict = False if holdout["contradicts"] else None
    figure = f"{sharpe['dsr']:.4f}"
    if holdout["contradicts"] is None:
        last = holdout["reason"]
    else:
        word = "contradicts" if holdout["contradicts"] else "does not contradict"
        last = f"the last block of {holdout['days']} days {word} the record"
    if good and verdict is not True:
        figure += f", but {last}"
    return Check(
        _DSR,
        verdict,
        figure,
        bound,
        f"annual Sharpe {sharpe['annual']:.2f} over {sharpe['days']} days, "
        f"N = {sharpe['evaluations']} evaluations of this data; {last}",
        "find more edge; a longer record or fewer evaluations of the same data also raise it",
    )


def _overfitting(evidence: Evidence) -> Check:
    tuning = evidence["tuning"]
    bound = f"P(loss) <= {MOST_LOSS_PROBABILITY}"
    if tuning["reason"]:
        return _unknown(_OVERFITTING, bound, tuning["reason"], "tune with more trials over more days")
    differ = tuning["dispersion_p"] <= SIGNIFICANT
    good = tuning["loss_probability"] <= MOST_LOSS_PROBABILITY and (not differ or tuning["pbo"] <= MOST_PBO)
    asked = f"required <= {MOST_PBO}" if differ else "not required: the trials do not truly differ"
    return Check(
        _OVERFITTING,
        good,
        f"P(loss) {tuning['loss_probability']:.3f}, PBO {tuning['pbo']:.3f}",
        f"{bound}, PBO <= {MOST_PBO}" if differ else bound,
        f"CSCV over {tuning['splits']} splits of {tuning['trials']} trials; PBO {asked} "
        f"(dispersion p = {tuning['dispersion_p']:.3f}); in-sample DSR {tuning['in_sample_dsr']:.3f}",
        "tune fewer thresholds, or over a longer training window",
    )


def _superior(view: Evidence) -> Check:
    bound, tests = f"p <= {SIGNIFICANT} against both", view["superior"]
    reasons = dict.fromkeys(test["reason"] for test in tests.values() if test["p"] is None)
    if reasons:
        return _unknown(_SUPERIOR, bound, "; ".join(reasons))
    figures = {name: test["p"] for name, test in tests.items()}
    return Check(
        _SUPERIOR,
        all(p <= SIGNIFICANT for p in figures.values()),
        ", ".join(f"{name.replace('_', '-')} p = {p:.3f}" for name, p in figures.items()),
        bound,
        "SPA, consistent p-value, on daily returns",
        "the record must beat standing aside and the tabular-only model by more than luck",
    )


def _losses(evidence: Evidence, view: Evidence, name: str) -> Check:
    losses, direction = evidence["losses"], view["direction"]
    bound = "log-loss below class prior, persistence and tabular-only; directional gain > 0 at 95 %"
    if name not in losses or direction["gain_lower"] is None:
        return _unknown(_LOSSES, bound, "no bar has a prediction and a known label")
    own = losses[name]["log_loss"]
    worse = [rival for rival in RIVALS if own >= losses[rival]["log_loss"]]
    best = min(losses[rival]["log_loss"] for rival in RIVALS)
    beaten = f"not below {', '.join(worse).replace('_', ' ')}" if worse else "below all three"
    return Check(
        _LOSSES,
        not worse and direction["gain_lower"] > 0,
        f"log-loss {own:.4f} (best rival {best:.4f}); direction {direction['gain']:+.5f} nats",
        bound,
        f"{beaten}; directional gain over a coin, lower 5 % bound {direction['gain_lower']:+.5f}",
        "better features or more data; without skill in direction nothing should be traded",
    )


def _stress(view: Evidence) -> Check:
    bound, stress = "profit at 2x cost, and one bar late", view["stress"]
    if stress["reason"]:
        return _unknown(_STRESS, bound, stress["reason"])
    double, late, even = stress["double_cost"], stress["one_bar_late"], stress["break_even"]
    return Check(
        _STRESS,
        double["net"] > 0 and late["net"] > 0,
        f"2x cost {100 * double['total_return']:+.2f} %, one bar late {100 * late['total_return']:+.2f} %",
        bound,
        f"a side earned {even['gross_bps']:.2f} bps before costs and cost {even['cost_bps']:.2f} bps",
        "trade less often, with more edge a trade",
    )


def _calibration(view: Evidence) -> Check:
    found = view["reliability"]
    if found["ece"] is None or found["quantile"] is None:
        return _unknown(_CALIBRATION, f"<= {LEAST_ECE_BOUND}", "no bar has a prediction and a known label")
    bound = max(LEAST_ECE_BOUND, found["quantile"])
    return Check(
        _CALIBRATION,
        found["ece"] <= bound,
        f"ECE {found['ece']:.4f}",
        f"<= {bound:.4f}",
        f"every {found['every']}th of the predictions, n = {found['n']}; a perfectly calibrated model stays "
        f"below {found['quantile']:.4f} in 19 of 20 cases",
        "calibrate on more, or more recent, data",
    )


def _months(view: Evidence) -> Check:
    bound, months = f"<= {100 * MOST_MONTH_SHARE:.0f} %", view["months"]
    if view["trades"] == 0:
        return _unknown(_MONTHS, bound, "no trades, so no month made a profit")
    share = months["best_share"]
    if share is None:
        return Check(_MONTHS, False, "no profit", bound, "the record as a whole lost money", "")
    return Check(
        _MONTHS,
        share <= MOST_MONTH_SHARE,
        f"{100 * share:.0f} %",
        bound,
        f"the best of {len(months['month'])} months made this share of the growth",
        "a single month is an anecdote: lengthen the record",
    )


def _replay(replay: Any, bundle: Any) -> Check:
    bound, cycles = f"0 differences over {REPLAY_DAYS} days", REPLAY_DAYS * BARS_PER_DAY
    if replay is None:
        return _unknown(
            _REPLAY,
            bound,
            "no replay of this bundle was given",
            "run acmf replay --bundle DIR --json over the last 30 days and pass its output with --replay",
        )
    found = asdict(replay) if is_dataclass(replay) and not isinstance(replay, type) else dict(replay)
    differences, ran = int(found["differences"]), int(found["cycles"])
    own, replayed = str(getattr(bundle, "hash", "")), str(found.get("bundle", ""))
    if own and replayed and own != replayed:
        return Check(
            _REPLAY,
            False,
            f"a replay of bundle {replayed[:12]}",
            bound,
            f"this bundle is {own[:12]}",
            "replay the bundle that is to be promoted",
        )
    if differences == 0 and ran < cycles:
        return _unknown(_REPLAY, bound, f"the replay has {ran} of {cycles} cycles", "replay the last 30 days")
    return Check(
        _REPLAY,
        differences == 0,
        f"{differences} differences in {ran} cycles",
        bound,
        "the daemon in paper mode against simulate, value by value",
        "read the first difference that acmf replay prints",
    )


def _champion(view: Evidence | None, champion: Evidence | None) -> Check:
    bound = "better than the champion with 95 % confidence"
    if champion is None:
        return Check(_CHAMPION, True, "no champion", bound, "there is nothing to beat yet")
    if view is None:
        return _unknown(_CHAMPION, bound, "the challenger has no record")
    rival = champion.get("by_calibration", {}).get(champion.get("calibration", ""))
    if rival is None:
        return _unknown(_CHAMPION, bound, "the champion's bundle holds no record")
    own, other = _common_days(view["daily"], rival["daily"])
    if len(own) < LEAST_COMMON_DAYS:
        return _unknown(
            _CHAMPION, bound, f"the two records share {len(own)} days, {LEAST_COMMON_DAYS} are needed",
            "run the challenger's walk-forward over the champion's days",
        )  # fmt: skip
    mean, lower = paired_difference(own, other)
    return Check(
        _CHAMPION,
        lower > 0,
        f"{1e4 * mean:+.2f} bps a day",
        bound,
        f"lower 5 % bound {1e4 * lower:+.2f} bps a day, paired block bootstrap over {len(own)} common days",
        "the champion stays until it is beaten",
    )


def _common_days(own: Evidence, other: Evidence) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    theirs = dict(zip(other["day"], other["return"], strict=True))
    pairs = [(r, theirs[d]) for d, r in zip(own["day"], own["return"], strict=True) if d in theirs]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def paired_difference(
    own: npt.NDArray[np.float64], other: npt.NDArray[np.float64], *, draws: int = _DRAWS, seed: int = _SEED
) -> tuple[float, float]:
    """Mean daily difference and its lower 5 % bound by a circular block bootstrap of the paired days.

    Blocks of T^(1/3) days keep what the two records share on a day, and what days share in a row.
    """
    difference = own - other
    n = len(difference)
    block = max(1, round(n ** (1 / 3)))
    count = -(-n // block)
    starts = np.random.default_rng(seed).integers(0, n, size=(draws, count))
    rows = (starts[:, :, None] + np.arange(block)) % n
    means = difference[rows.reshape(draws, -1)[:, :n]].mean(axis=1)
    return float(difference.mean()), float(np.quantile(means, 0.05))


def _paper(paper: Evidence | None, live: bool) -> Check:
    bound = (
        f">= {LEAST_PAPER_DAYS} days, 0 differences, fills within {MOST_MEDIAN_BPS:g} bps (median) "
        f"and {MOST_P95_BPS:g} bps (95 %)"
    )
    if paper is None:
        if not live:
            return Check(PAPER_RECORD, None, "not asked", bound, "it counts for live trading only")
        return _unknown(
            PAPER_RECORD, bound, "no paper run of this bundle was given", "run acmf paper for 14 days"
        )
    good = (
        paper["days"] >= LEAST_PAPER_DAYS
        and paper["differences"] == 0
        and paper["median_bps"] <= MOST_MEDIAN_BPS
        and paper["p95_bps"] <= MOST_P95_BPS
    )
    return Check(
        PAPER_RECORD,
        good,
        f"{paper['days']:g} days, {paper['differences']} differences, fills {paper['median_bps']:.1f} / "
        f"{paper['p95_bps']:.1f} bps",
        bound,
        "decisions of the paper daemon against its own replay",
        "find the first differing decision with acmf replay",
    )
