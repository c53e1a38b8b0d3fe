"""The trial ledger: append-only, counted by window and kind, safe under several writers and a kill."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from acmf_core.domain import DAY_US, Span
from acmf_core.errors import DataError
from backtests.ledger import Entry, TrialLedger

JANUARY = Span(0, 31 * DAY_US - 1)
FEBRUARY = Span(31 * DAY_US, 59 * DAY_US - 1)


def evaluation(identity, span=JANUARY, sharpe=0.1):
    return Entry("out_of_sample", "BTCUSDT", span, identity, sharpe=sharpe)


def test_tuning_trials_and_evaluations_are_counted_apart(tmp_path):
    ledger = TrialLedger(tmp_path / "deep" / "trials.jsonl")
    ledger.append(Entry("tuning", "BTCUSDT", JANUARY, "study", count=25), evaluation("a"), evaluation("b"))
    counts = ledger.counts("BTCUSDT", JANUARY)
    assert (counts.tuning, counts.out_of_sample) == (25, 2)


def test_the_same_evaluation_again_is_the_same_trial_but_stays_written_down(tmp_path):
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    for _ in range(3):
        ledger.append(evaluation("a"))
    assert ledger.counts("BTCUSDT", JANUARY).out_of_sample == 1
    assert len(ledger.entries()) == 3


def test_only_trials_that_read_the_window_of_the_symbol_count(tmp_path):
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    ledger.append(evaluation("a"), evaluation("b", FEBRUARY), evaluation("c", Span(0, 40 * DAY_US)))
    assert ledger.counts("BTCUSDT", FEBRUARY).out_of_sample == 2
    assert ledger.counts("ETHUSDT", FEBRUARY).out_of_sample == 0


def test_sharpes_of_trials_that_have_one_come_back_exactly(tmp_path):
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    ledger.append(evaluation("a", sharpe=1 / 3), evaluation("b", sharpe=None))
    counts = ledger.counts("BTCUSDT", JANUARY)
    assert counts.sharpes == (1 / 3,)
    assert counts.out_of_sample == 2


def test_an_unwritten_ledger_is_empty(tmp_path):
    assert TrialLedger(tmp_path / "none.jsonl").counts("BTCUSDT", JANUARY).out_of_sample == 0


def test_many_writers_lose_no_line(tmp_path):
    path = tmp_path / "trials.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: TrialLedger(path).append(evaluation(f"trial {i}")), range(200)))
    assert TrialLedger(path).counts("BTCUSDT", JANUARY).out_of_sample == 200


def test_a_line_that_a_killed_writer_left_half_written_is_not_a_trial_and_is_cut_off(tmp_path):
    path = tmp_path / "trials.jsonl"
    ledger = TrialLedger(path)
    ledger.append(evaluation("a"))
    with path.open("a") as stream:
        stream.write('{"kind": "out_of_sam')
    assert ledger.counts("BTCUSDT", JANUARY).out_of_sample == 1
    ledger.append(evaluation("b"))
    assert [entry.identity for entry in ledger.entries()] == ["a", "b"]


def test_an_edited_ledger_is_refused_with_its_line(tmp_path):
    path = tmp_path / "trials.jsonl"
    ledger = TrialLedger(path)
    ledger.append(evaluation("a"), evaluation("b"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"kind"', '"kin"')]) + "\n")
    with pytest.raises(DataError, match="line 2"):
        ledger.counts("BTCUSDT", JANUARY)
