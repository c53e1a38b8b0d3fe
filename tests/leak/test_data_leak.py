"""Through the lake: nothing that became known after a bar's close reaches its row, whatever comes later."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acmf_core.collect.files.importer import read_candles, read_funding
from acmf_core.collect.files.slow import read_slow
from acmf_core.collect.history import load_market
from acmf_core.features import SCHEMA, build_features
from acmf_core.features.market import COLUMNS
from acmf_core.lake import Lake
from acmf_core.lake.quality import bridge
from acmf_core.lake.tables import BOOK_LEVELS, candle_rows, funding_rows

BAR = pd.Timedelta(minutes=15)
SYMBOL = "BTCUSDT"
WINDOWS = {  # of candles: a spring with every source, an autumn of recorded on-chain figures
    "spring": (pd.Timestamp("2024-03-20", tz="UTC"), pd.Timestamp("2024-05-20", tz="UTC")),
    "autumn": (pd.Timestamp("2020-10-02", tz="UTC"), pd.Timestamp("2020-11-17", tz="UTC")),
}
SLOW = [feature.name for feature in SCHEMA.features if feature.source != "candles"]
Tables = dict[str, pd.DataFrame]


def recorded_tables(folder: Path, window: str) -> Tables:
    """The recorded rows of every table, from two months before the window on."""
    start, end = WINDOWS[window]
    tables = {
        "fear_greed": read_slow(folder / "fear_greed_daily_2018_2024.parquet", "fear_greed").frame,
        "macro": read_slow(folder / "macro_daily_2014_2024.parquet", "macro").frame,
    }
    if window == "spring":
        bars = read_candles(folder / "BTCUSDT_perp_15m_2023_2024.parquet").frame
        paid = read_funding(folder / "BTCUSDT_perp_funding_8h_2023_2024.parquet").frame
        tables |= {"funding": funding_rows(paid, SYMBOL)} | invented_tables(start, end)
    else:
        file = folder / "BTCUSDT_spot_15m_20201002_20210102_with_taker.parquet"
        found = read_candles(file, allow_gaps=True).frame
        flat = bridge(found.reset_index()).set_index("open_time").drop(columns="bridged")
        bars = pd.concat([found, flat]).sort_index()
        tables["onchain"] = recorded_onchain(folder)
    tables = {
        name: rows[rows["event_time"].between(start - pd.Timedelta(days=60), end)].reset_index(drop=True)
        for name, rows in tables.items()
    }
    tables["candles"] = candle_rows(bars[(bars.index >= start) & (bars.index < end)], SYMBOL)
    return tables


def recorded_onchain(folder: Path) -> pd.DataFrame:
    """Days of the exchanges' flows, known when the day is over; deposits stand in for whales' transfers."""
    rows = pd.read_parquet(folder / "onchain_glassnode_daily_20140101_20201117.parquet")
    days = rows["open_time"].dt.as_unit("us")
    return pd.DataFrame(
        {
            "symbol": SYMBOL,
            "event_time": days,
            "available_at": days + pd.Timedelta(days=1),
            "whale_transfers": rows["exch_deposits"],
            "exchange_netflow": rows["exch_net_flow"],
        }
    ).dropna()


def invented_tables(start: pd.Timestamp, end: pd.Timestamp) -> Tables:
    """Rows of the sources of which there is no record, as an archive and a daemon would have left them."""
    rng = np.random.default_rng(7)

    def known(freq: str, event: str, delay: str, **columns: object) -> pd.DataFrame:
        times = pd.date_range(start - pd.Timedelta(days=1), end, freq=freq, unit="us") + pd.Timedelta(event)
        drawn = {name: draw(len(times)) if callable(draw) else draw for name, draw in columns.items()}
        return pd.DataFrame(
            {"symbol": SYMBOL, "event_time": times, "available_at": times + pd.Timedelta(delay), **drawn}
        )

    def ratio(n: int) -> np.ndarray:
        return rng.uniform(0.5, 2.5, n)

    archive = known("5min", "0s", "5min", interval="5m", long_short_ratio=ratio)
    daemon = known("15min", "14min", "40s", interval="15m", long_short_ratio=ratio)
    middle = start + (end - start) / 2
    outage = daemon["event_time"].between(middle, middle + pd.Timedelta(days=5))
    levels = {
        f"{side}_{what}_{i}": (lambda n, mid=mid, i=i: mid + i * rng.uniform(0.1, 0.2, n))
        for side, sign in (("bid", -1), ("ask", 1))
        for what, mid in (("px", 60_000 + sign * 50), ("qty", 1))
        for i in range(1, BOOK_LEVELS + 1)
    }
    return {
        "long_short": pd.concat([archive, daemon[(daemon["event_time"] > middle - BAR) & ~outage]]),
        "book": known("15min", "14min 35s", "1s", **levels),
        "news": known(
            "4h",
            "13min",
            "90s",
            score=lambda n: rng.uniform(-1, 1, n),
            confidence=0.5,
            headlines=3,
            model="m",
            prompt_version="1",
        ),
    }


def filled(folder: Path, tables: Tables) -> Lake:
    lake = Lake(folder)
    for name, rows in tables.items():
        lake.merge(name, rows)
    return lake


class World:
    """A lake of recorded tables, and lakes beside it in which some of them are others."""

    def __init__(self, folder: Path, tables: Tables, window: str) -> None:
        self.folder, self.tables, self.window = folder, tables, WINDOWS[window]
        self.lake = filled(folder / "lake", tables)
        self.full = self.rows(self.lake)
        self._others = 0

    @property
    def slow(self) -> Tables:
        return {name: rows for name, rows in self.tables.items() if name != "candles"}

    def rows(self, lake: Lake, start: object = None, end: object = None, **pinned: object) -> pd.DataFrame:
        return build_features(load_market(lake, SYMBOL, start, end, **pinned)).tabular

    def other(self, **tables: pd.DataFrame) -> Lake:
        """The same lake but for these tables."""
        self._others += 1
        place = self.folder / f"other{self._others}"
        for name in set(self.tables) - set(tables):
            shutil.copytree(self.folder / "lake" / name, place / name)
        return filled(place, tables)

    def cut_times(self, count: int, seed: int) -> list[pd.Timestamp]:
        start, end = self.window
        draws = np.random.default_rng(seed).uniform(0.2, 0.95, count)
        return [(start + share * (end - start)).floor("us") for share in draws]


@pytest.fixture(scope="module", params=list(WINDOWS))
def world(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    tables = recorded_tables(real_data, request.param)
    return World(tmp_path_factory.mktemp(request.param), tables, request.param)


def same_bits(one: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    a, b = one.to_numpy(), other.to_numpy()
    return (a == b) | (np.isnan(a) & np.isnan(b))


def closes(rows: pd.DataFrame) -> pd.DatetimeIndex:
    return rows.index + BAR


def values_of(name: str, rows: pd.DataFrame) -> list[str]:
    return [column for column in COLUMNS[name] if column in rows.columns]


def respoken(name: str, rows: pd.DataFrame, later: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """The rows known later: some gone, the others with other values, and new ones between them."""
    kept = rows[~later | (rng.random(len(rows)) < 0.7)].copy()
    columns = values_of(name, rows)
    changed = later[~later | np.isin(np.arange(len(rows)), rows.index.get_indexer(kept.index))]
    kept.loc[changed, columns] = kept.loc[changed, columns].to_numpy() * 0.5 + 0.01
    fresh = rows[later].sample(frac=0.3, random_state=3).copy()
    shift = pd.Timedelta(seconds=77)
    fresh[["event_time", "available_at"]] += shift
    fresh[columns] *= 0.25
    return pd.concat([kept, fresh], ignore_index=True)


def test_the_recorded_sources_reach_the_features(world: World) -> None:
    seen = {source for source, names in SCHEMA.sources.items() if world.full[list(names)].notna().any().all()}
    assert set(world.slow) <= seen


def test_what_becomes_known_later_changes_no_row_before_it(world: World) -> None:
    """Values changed, rows deleted and rows added after a random moment, in every slow table at once."""
    for number, cut in enumerate(world.cut_times(4, seed=1)):
        rng = np.random.default_rng(number)
        spoiled = {}
        for name, rows in world.slow.items():
            spoiled[name] = respoken(name, rows, (rows["available_at"] > cut).to_numpy(), rng)
        changed = world.rows(world.other(**spoiled))
        before = closes(world.full) <= cut
        same = same_bits(changed, world.full)
        assert same[before].all(), cut
        for name in world.slow:  # the spoiling was felt afterwards: the test has teeth
            own = [world.full.columns.get_loc(feature) for feature in SCHEMA.sources[name]]
            assert not same[~before][:, own].all(), name


def test_the_rows_before_a_moment_are_those_of_a_lake_that_ends_there(world: World) -> None:
    for cut in world.cut_times(4, seed=2):
        known = {name: rows[rows["available_at"] <= cut] for name, rows in world.tables.items()}
        short = world.rows(filled(world.folder / f"until {cut.value}", known))
        assert same_bits(short, world.full.loc[short.index]).all()
        window = world.rows(world.lake, None, cut.floor(BAR))
        assert same_bits(window, world.full.loc[window.index]).all()


def test_a_window_has_the_slow_features_of_the_whole_history(world: World) -> None:
    """What `load_market` leaves out before a window, no bar of the window could have used."""
    for start in world.cut_times(6, seed=3):
        part = world.rows(world.lake, start.floor(BAR), None)
        assert same_bits(part[SLOW], world.full.loc[part.index, SLOW]).all()


def test_a_table_known_one_bar_later_is_felt_exactly_one_bar_later(world: World) -> None:
    for name, rows in world.slow.items():
        late = world.rows(world.other(**{name: rows.assign(available_at=rows["available_at"] + BAR)}))
        own = list(SCHEMA.sources[name])
        assert same_bits(late[own].iloc[1:], world.full[own].shift().iloc[1:]).all(), name
        others = late.columns.difference(own)
        assert same_bits(late[others], world.full[others]).all(), name


def test_rows_delayed_from_some_row_on_change_features_from_its_bar_on(world: World) -> None:
    cut = world.cut_times(1, seed=4)[0]
    for name, rows in world.slow.items():
        delayed = rows["available_at"] > cut
        first = rows.loc[delayed, "available_at"].min()
        moved = rows.assign(available_at=rows["available_at"].where(~delayed, rows["available_at"] + BAR))
        late = world.rows(world.other(**{name: moved}))
        changed = ~same_bits(late, world.full).all(axis=1)
        assert changed.any(), name
        assert closes(world.full)[changed][0] == first.ceil(BAR), name


def test_a_row_changes_with_a_value_that_was_known_at_its_close(world: World) -> None:
    cut = world.cut_times(1, seed=5)[0]
    for name, rows in world.slow.items():
        own = list(SCHEMA.sources[name])
        usable = world.full[own].notna().any(axis=1) & (closes(world.full) <= cut)
        bar = world.full.index[usable][-1]
        known = rows[rows["available_at"] <= bar + BAR]
        newest = known["available_at"] > known["available_at"].max() - pd.Timedelta(minutes=20)
        changed = rows.copy()
        columns = values_of(name, rows)
        at = known.index[newest]
        changed.loc[at, columns] = changed.loc[at, columns].to_numpy() * 0.9 + 0.01
        felt = ~same_bits(world.rows(world.other(**{name: changed}))[own], world.full[own]).all(axis=1)
        assert felt[world.full.index.get_loc(bar)], name
        assert not felt[closes(world.full) < known.loc[newest, "available_at"].min()].any(), name


def test_a_pinned_load_knows_nothing_of_later_merges_corrections_and_tables(
    world: World, tmp_path: Path
) -> None:
    *first, last = world.slow
    halves = {name: world.tables[name].iloc[: len(world.tables[name]) // 2] for name in first}
    lake = filled(tmp_path / "lake", {"candles": world.tables["candles"], **halves})
    versions, before = lake.versions(), world.rows(lake)
    for name in first:
        rows = world.tables[name]
        lake.merge(name, rows)
        columns = values_of(name, rows)
        lake.merge(name, rows.assign(**(rows[columns] * 0.5)), accept_corrections=True)
    lake.merge(last, world.tables[last])
    pinned = load_market(lake, SYMBOL, versions=versions)
    assert getattr(pinned, last) is None  # the table came later
    assert same_bits(build_features(pinned).tabular, before).all()
    assert not same_bits(world.rows(lake), before).all()
