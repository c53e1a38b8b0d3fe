"""The page about the data: verdict first, every section there, nothing from outside, nothing unescaped."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from lake_rows import FIRST
from test_quality_findings import clean, slow_rows
from test_report_page import Structure

from acmf_core.collect.inspection import inspect_file, inspect_lake, max_ages
from acmf_core.errors import DataError
from acmf_core.lake import Lake
from acmf_core.lake.audit import Audit, inspect
from acmf_core.lake.resample import cascade
from acmf_core.lake.tables import candle_rows
from backtests import quality_exhibits, quality_page, quality_story

HOSTILE = '<script>alert("BTC")</script>'
SECTIONS = ("findings", "gaps", "outliers", "agreement", "coverage", "longer", "how")


def faulty(symbol: str = "BTCUSDT") -> Audit:
    """Bars with a hole, four hours that disagree, a slow source that ends."""
    bars = clean()
    coarse = candle_rows(cascade(bars, ["4h"])["4h"], symbol, "4h")
    coarse.loc[70, "high"] *= 1.01
    holed = bars.drop(index=range(1_500, 1_520))
    ratios = slow_rows("long_short", 900)

    def of(rows: pd.DataFrame) -> Callable[[], Iterator[pd.DataFrame]]:
        return lambda: iter([rows])

    return inspect(
        symbol, {"15m": of(holed), "4h": of(coarse)}, {"long_short": of(ratios)}, max_ages=max_ages()
    )


def whole(symbol: str = "BTCUSDT") -> Audit:
    return inspect(symbol, {"15m": lambda: iter([clean()])})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "deep" / "BTCUSDT.html"
    assert quality_page.write(faulty(), path, source="data_lake/store") == path
    assert [file.name for file in path.parent.iterdir()] == ["BTCUSDT.html"]
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_nothing_from_outside(page: str) -> None:
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert structure.outside == []
    assert "script" not in structure.tags
    assert set(SECTIONS) <= set(structure.ids or re.findall(r'<h2 id="(\w+)"', page))
    assert set(structure.anchors) <= set(re.findall(r'id="(\w+)"', page))


def test_the_verdict_comes_first_and_names_the_fault_and_the_mend(page: str) -> None:
    top = page[: page.index('<div class="tiles">')]
    assert "The data must not be read as they are" in top
    assert "BTCUSDT: 1 fault to mend first" in top
    assert "15m: missing bars, 20, the first at 2024-01-16 15:00" in top
    assert "acmf data pull --symbol BTCUSDT --from 2024-01-16 --to 2024-01-17" in top


def test_every_finding_is_on_the_page_with_what_it_means(page: str) -> None:
    for quality in faulty().qualities:
        for finding in quality.findings["finding"]:
            assert finding.replace(">", "&gt;").replace("'", "&#39;") in page
            assert quality_story.explained(finding)
    assert "1 differ" in page
    assert "The candles that differ" in page


def test_every_picture_is_there_wide_and_narrow_in_the_colours_of_the_page(page: str) -> None:
    assert page.count("<svg") == 2 * 7  # gaps, price, moves, agreement, coverage; gaps and moves of 4h
    assert page.count('<div class="wide">') == page.count('<div class="narrow">') == 7
    pictures = " ".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert not re.search(r"#0\d0\d0\d", pictures)
    assert "var(--bad)" in pictures
    assert ">20</text>" in pictures  # the count of missing bars in its day


def test_whole_data_are_said_to_be_whole(tmp_path: Path) -> None:
    page = quality_page.write(whole(), tmp_path / "page.html", source="a file").read_text()
    assert "The data may be read" in page
    assert "<h1>BTCUSDT is whole</h1>" in page
    assert "There is no second timeframe in the lake" in page
    assert 'id="longer"' not in page


def test_hostile_text_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    audit = faulty(HOSTILE)
    main = audit.candles["15m"]
    table = main.quality.findings.assign(detail=HOSTILE, finding=HOSTILE)
    broken = replace(main, quality=replace(main.quality, findings=table))
    audit = replace(audit, candles={**audit.candles, "15m": broken})
    page = quality_page.write(audit, tmp_path / "page.html", source=HOSTILE).read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert "<script" not in quality_exhibits.finding_table(audit).to_html()
    assert "<script" not in quality_story.data_conclusions(audit)._repr_html_()


def test_conclusions_and_figures_follow_the_audit() -> None:
    figures = quality_story.data_figures(faulty())
    assert figures == {
        "ok": False,
        "rows": 2_860,
        "missing_bars": 20,
        "bridged_bars": 0,
        "bars_without_volume": 0,
        "outliers": 0,
        "errors": 1,
        "warnings": 2,
        "candles_compared": 178,
        "candles_that_differ": 1,
    }
    said = repr(quality_story.data_conclusions(faulty()))
    assert "20 bars missing (0.694" in said
    assert "acmf data pull" in said
    assert "Of 178 longer candles that were compared, 1 differ" in said
    assert "long short at" in said
    assert "BTCUSDT is whole: 2,880 15m bars" in repr(quality_story.data_conclusions(whole()))


def test_a_notebook_shows_the_same_pictures_as_png() -> None:
    audit = faulty()
    shown = [
        quality_exhibits.calendar(audit.main),
        quality_exhibits.price(audit.main),
        quality_exhibits.moves(audit.main),
        quality_exhibits.agreement(audit),
        quality_exhibits.coverage(audit),
    ]
    assert all(picture.png().startswith(b"\x89PNG") for picture in shown)
    assert "20 bars missing" in shown[0].alt
    assert "4h of 15m: 1 of 178 differ" in shown[3].alt
    assert "nothing to compare" in quality_exhibits.agreement(whole()).alt
    table = quality_exhibits.finding_table(audit).data
    assert table["severity"].tolist() == ["error", "warning", "warning"]


@pytest.mark.parametrize("months", [40, 70])
def test_many_years_still_fit(months: int) -> None:
    n = months * 30
    days = pd.date_range(FIRST, periods=n, freq="D", unit="us")
    bars = clean(n).assign(open_time=days, interval="1d", available_at=days + pd.Timedelta(days=1))
    audit = inspect("BTCUSDT", {"1d": lambda: iter([bars])})
    assert quality_exhibits.calendar_height(audit.main) < 1_100
    assert quality_exhibits.calendar(audit.main).png()


def test_a_lake_is_inspected_with_the_ages_of_the_features(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    bars = clean()
    lake.merge("candles", bars)
    lake.merge("candles", candle_rows(cascade(bars, ["1h"])["1h"], "BTCUSDT", "1h"))
    lake.merge("candles", bars.assign(symbol="ETHUSDT").drop(index=[5]))
    lake.merge("funding", slow_rows("funding", 91).assign(symbol="BTCUSDT"))
    lake.merge("fear_greed", slow_rows("fear_greed", 31).assign(classification="Fear"))
    audit = inspect_lake(lake, "BTCUSDT")
    assert [q.interval for q in audit.qualities] == ["15m", "1h", "funding", "fear_greed"]
    assert all(quality.findings.empty for quality in audit.qualities)
    assert audit.agreements[0].compared == 720
    assert not inspect_lake(lake, "ETHUSDT").ok
    hours = inspect_lake(lake, "BTCUSDT", interval="1h", start="2024-01-10", end="2024-01-12")
    assert [(q.interval, q.rows) for q in hours.qualities] == [("1h", 48)]
    assert hours.agreements[0].compared == 48
    window = inspect_lake(lake, "BTCUSDT", start="2024-01-10 12:00", end="2024-01-12")
    assert [q.rows for q in window.qualities] == [144, 36, 5, 3]
    assert all(quality.findings.empty for quality in window.qualities)
    for missing in ({"symbol": "XRPUSDT"}, {"symbol": "BTCUSDT", "start": "2025-01-01"}):
        with pytest.raises(DataError, match="in that window"):
            inspect_lake(lake, **missing)


def test_every_slow_table_has_a_maximum_age() -> None:
    from acmf_core.lake.slow_quality import CHECKED

    assert set(max_ages()) == set(CHECKED)
    assert max_ages()["funding"] == pd.Timedelta(hours=9)
    assert max_ages()["macro"] == pd.Timedelta(days=4)


def test_the_known_blemishes_of_the_real_files_are_all_that_is_found(real_data: Path) -> None:
    perp = inspect_file(
        real_data / "BTCUSDT_perp_15m_2023_2024.parquet",
        real_data / "BTCUSDT_perp_funding_8h_2023_2024.parquet",
        "BTCUSDT",
    )
    assert perp.ok
    bars, funding = perp.qualities
    assert funding.findings.empty
    assert perp.slow["funding"].covered.min() == 1.0
    assert bars.findings.set_index("finding")["count"].to_dict() == {
        "zero volume": 4,
        "close moved > 25 usual moves": 36,
        "volume > 4 deviations below its week": 1,
    }
    assert bars.findings.loc[0, "first"] == pd.Timestamp("2024-10-28 20:00", tz="UTC")
    assert bars.findings.loc[1, "detail"] == "the largest -10.3% at 2023-08-17 21:30"
    assert (perp.main.days["zero"] > 0).sum() == 1
    spot = inspect_file(real_data / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet", None, "BTCUSDT")
    assert not spot.ok
    assert spot.qualities[0].findings.set_index("finding")["count"].to_dict() == {
        "missing bars": 23,
        "zero volume": 3,
        "close moved > 25 usual moves": 2,
    }
    assert spot.qualities[0].findings.loc[0, "detail"] == "in 3 place(s), the longest 15"
    assert spot.main.days["missing"][lambda days: days > 0].tolist() == [4, 15, 4]
