"""The report stands alone, says its verdict first, and says nothing that the evidence does not."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_records import made_holdout, made_result

from acmf_core.domain import Check
from backtests import report, story, tables
from backtests.evidence import gather
from backtests.figures import growth_ticks
from backtests.typography import MINUS, number, p_value, percent, typeset
from backtests.walk_forward import WalkForwardResult
from production import gate

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect", "circle", "line"}


class Intact:
    hash = "c" * 64


class Structure(HTMLParser):
    """Open tags, ids, links and outside addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.outside: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "href" and value and value.startswith("#"):
                self.anchors.append(value[1:])
            elif name in ("href", "src") and value and not value.startswith(("data:", "#")):
                self.outside.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def result() -> WalkForwardResult:
    return made_result(days=90)


@pytest.fixture(scope="module")
def evidence(result: WalkForwardResult) -> dict[str, Any]:
    return gather(result, holdout=made_holdout(result), symbol="BTCUSDT")


def judged(evidence: dict[str, Any], calibration: str | None = None) -> list[Check]:
    replay = {"cycles": 2880, "differences": 0}
    return gate.judge(evidence, bundle=Intact(), replay=replay, calibration=calibration)


@pytest.fixture(scope="module")
def page(
    result: WalkForwardResult, evidence: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
    path = report.write(
        result,
        evidence,
        judged(evidence),
        tmp_path_factory.mktemp("report") / "made" / "report.html",
        replay={"cycles": 2880, "differences": 0},
        timings={"walk-forward": 123.4},
        alternatives={"directional": judged(evidence, "directional")},
        override_reason="<script>alert(1)</script>",
        bundle="c" * 64,
    )
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_from_outside(page: str) -> None:
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert structure.outside == []
    assert "script" not in structure.tags
    assert "link" not in structure.tags
    assert not re.search(r"url\((?!#)", page)
    for anchor in structure.anchors:
        assert f'id="{anchor}"' in page


def test_the_verdict_comes_before_any_figure(page: str) -> None:
    assert page.index("We asked") < page.index("The answer") < page.index("By how much") < page.index("<svg")
    assert "refused; runs in paper by override" in page


def test_words_from_outside_are_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_synthetic_market_is_named_as_such_and_a_real_one_is_not_and_pages_repeat_byte_for_byte(
    page: str, result: WalkForwardResult, evidence: dict[str, Any], tmp_path: Path
) -> None:
    assert "SYNTHETIC MARKET" in page
    real = evidence | {"synthetic": False}
    first, second = (report.write(result, real, judged(real), tmp_path / f"{name}.html") for name in "ab")
    assert "SYNTHETIC MARKET" not in first.read_text(encoding="utf-8")
    assert first.read_bytes() == second.read_bytes()


def test_both_verdicts_stand_side_by_side_where_the_demo_chose_temperature(page: str) -> None:
    assert "Two calibrations, two verdicts" in page
    assert "Fully calibrated" in page
    assert "Temperature only" in page
    assert page.count('<b class="neg">Refused</b>') == 2


def test_every_section_that_a_stranger_needs_is_there(page: str) -> None:
    for heading in (
        "The twelve checks", "Equity", "Drawdown", "Month by month", "Trades", "Why it did not trade more",
        "By market regime", "Predictions", "Calibration", "What the model looks at",
        "Costs, delay and funding", "Could it be luck?", "Plateau or lucky spike?", "The last block",
        "Folds", "Settings", "What backtest, paper and live cannot share",
    ):  # fmt: skip
        assert f">{heading}</h" in page
    assert "candles v3, funding v1" in page
    assert "book, news, onchain" in page
    assert "2,880 cycles, 0 differences" in page
    assert "N = 3 series" in page


def test_the_download_holds_every_trade(page: str, result: WalkForwardResult) -> None:
    (found,) = re.findall(r"data:text/csv;base64,([A-Za-z0-9+/=]+)", page)
    table = pd.read_csv(io.BytesIO(base64.b64decode(found)))
    assert len(table) == len(result.simulation.trades)
    assert table["net"].sum() == pytest.approx(result.simulation.trades["net"].sum())
    assert set(table["side"]) <= {"long", "short"}


def test_a_record_without_trades_gets_a_whole_page_that_says_so(tmp_path: Path) -> None:
    silent = made_result(days=60, calibration="directional")
    evidence = gather(silent)
    page = report.write(silent, evidence, judged(evidence), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "It did not trade, so it earned nothing." in page
    assert "no trade in 60 days" in page
    assert "There is no trade to list" in page
    assert "the last block was not touched yet" in page
    assert ">nan" not in page
    assert "None" not in re.sub(r"None of \d+ tuning", "", page)
    structure = Structure()
    structure.feed(page)
    assert structure.open == []


def test_a_record_that_passes_says_so(evidence: dict[str, Any]) -> None:
    checks = [Check(check.name, True, check.figure, check.bound) for check in judged(evidence)]
    view = evidence["by_calibration"]["temperature"]
    found = story.verdict(evidence, view, checks, "")
    assert found.passed
    assert found.headline == "It earned its place."
    assert "All 11 checks passed" in found.reasons[0]


def test_every_check_of_the_gate_is_explained_in_plain_words(evidence: dict[str, Any]) -> None:
    assert [check.name for check in judged(evidence)] == list(story.EXPLAINED)


def test_the_worst_news_comes_first_and_the_rest_is_counted(evidence: dict[str, Any]) -> None:
    checks = [Check(check.name, False, "1", "2") for check in judged(evidence)]
    found = story.verdict(evidence, evidence["by_calibration"]["temperature"], checks, "")
    assert len(found.reasons) == story.REASONS_SHOWN
    assert found.more == 12 - story.REASONS_SHOWN
    assert found.reasons[0].startswith("The stored model could not be verified")


def test_months_of_several_years_lie_in_one_row_each() -> None:
    table = tables.months({"month": ["2023-11", "2023-12", "2024-01"], "return": [0.1, -0.5, None]})
    assert table["months"] == ["Jan", "Nov", "Dec"]
    assert [row["year"] for row in table["rows"]] == ["2023", "2024"]
    assert table["rows"][0]["total"] == percent(1.1 * 0.5 - 1, sign=True)
    assert table["rows"][0]["cells"][0]["text"] == ""


@pytest.mark.parametrize(
    ("low", "high"), [(0.62, 1.44), (0.999, 1.001), (0.3, 40.0), (1.0, 1.0), (1e-4, 1.2)]
)
def test_the_axis_of_growth_has_a_few_round_marks_around_the_data(low: float, high: float) -> None:
    ticks = growth_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(ticks)
    assert ticks[0] <= low * 1.001 or low <= 1e-4
    assert ticks[-1] >= high * 0.5


def test_numbers_are_set_as_people_write_them() -> None:
    assert number(-1234.5, 1) == f"{MINUS}1,234.5"
    assert number(None) == number(float("nan")) == number(float("inf")) == "\N{EN DASH}"
    assert number(-0.0004, 2, sign=True) == "0.00"
    assert percent(0.1234, sign=True) == "+12.3\N{NO-BREAK SPACE}%"
    assert typeset("x >= -5 %") == f"x \N{GREATER-THAN OR EQUAL TO} {MINUS}5\N{NO-BREAK SPACE}%"
    assert p_value(0.0001) == "p < 0.001"
