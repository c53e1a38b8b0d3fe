"""MarketData out of the lake or a file: whole, in order, and refused where a bar is missing."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from acmf_core.collect.files.columns import plain
from acmf_core.collect.files.importer import read_candles, read_funding
from acmf_core.collect.slow_rows import slow_frames
from acmf_core.collect.synthetic import is_synthetic
from acmf_core.domain import INTERVAL_SECONDS
from acmf_core.errors import DataError, MissingBars
from acmf_core.features import SCHEMA, MarketData
from acmf_core.lake import Lake
from acmf_core.lake.merging import as_stamp
from acmf_core.lake.quality import gaps, interval_step, missing_bars
from acmf_core.lake.tables import AVAILABLE, OHLCV
from acmf_core.lake.windows import Stamp

INTERVAL = "15m"


def warmup_bars() -> int:
    """15-minute bars that one live decision needs, all timeframes included (13,056)."""
    per_timeframe = (bars * INTERVAL_SECONDS[name] for name, bars in SCHEMA.warmup.items())
    return int(max(per_timeframe) // INTERVAL_SECONDS[INTERVAL])


def load_market(
    lake: Lake,
    symbol: str,
    start: Stamp = None,
    end: Stamp = None,
    versions: Mapping[str, int] | None = None,
) -> MarketData:
    """Candles of a symbol, start <= open_time < end, and every slow row that their features depend on.

    Parameters
    ----------
    lake : Lake
        Where to read.
    symbol : str
        The venue's name (BTCUSDT).
    start, end : str, int (microseconds), Timestamp with a zone, optional
        None is the first or the last bar there is. A given start or end must be covered.
    versions : mapping, optional
        Table to version, as recorded in a bundle (`Lake.versions`): a whole state of the lake, so that a slow
        table that it does not name is not there. None reads all at their newest.

    Returns
    -------
    MarketData
        Every bar of the window; slow rows known by its end, back to the oldest that its first bar leans on
        (`slow_rows`), each with its own `available_at`; None where a source has no rows. The candles of a
        synthetic market carry `attrs["synthetic"]`.

    Raises
    ------
    MissingBars
        The lake (or the state that `versions` names) has no bar of the symbol, the window is not covered,
        or it has gaps; with the command that fills them.
    """
    if versions is not None and "candles" not in versions:  # read without a version it would be today's
        raise _no_bars(symbol, f" in the pinned state ({', '.join(versions) or 'no table'})")
    rows = lake.read(
        "candles",
        symbol=symbol,
        interval=INTERVAL,
        start=start,
        end=end,
        version=None if versions is None else versions["candles"],
        columns=["open_time", *OHLCV],
    )
    _require_window(rows["open_time"], symbol, start, end)
    candles = rows.set_index("open_time")
    first, last = (candles.index[i] + interval_step(INTERVAL) for i in (0, -1))
    market = MarketData(candles=candles, **slow_frames(lake, symbol, first, last, versions))
    if is_synthetic(symbol):
        market.candles.attrs["synthetic"] = True
    return market


def load_file(
    path: str | Path, funding: str | Path | None = None, *, min_bars: int | None = None
) -> MarketData:
    """Candles, and funding where a second file is given, without a lake.

    Parameters
    ----------
    path, funding : str or Path
        CSV or Parquet files (`importer`).
    min_bars : int, optional
        Fewer bars are refused; None means the warm-up of one decision (13,056).

    Raises
    ------
    DataError
        As `importer.read_candles` and `read_funding`; a gap is MissingBars. The two files name two markets.
    OSError
        The file cannot be read.
    """
    bars = read_candles(path, INTERVAL, min_bars=warmup_bars() if min_bars is None else min_bars)
    paid = None
    if funding is not None:
        payments = read_funding(funding)
        _require_one_market(bars.market, payments.market)
        paid = payments.frame
        if AVAILABLE not in paid:
            paid = paid.assign(available_at=paid["event_time"])
    return MarketData(candles=bars.frame[list(OHLCV)], funding=paid)


def _require_window(times: pd.Series, symbol: str, start: Stamp, end: Stamp) -> None:
    """Every grid point from start (or the first bar) to end (or the last bar) must be there."""
    step = interval_step(INTERVAL)
    if times.empty:
        window = f" from {start or 'the beginning'} to {end or 'now'}" if start or end else ""
        raise _no_bars(symbol, window)
    first = times.iloc[0] if start is None else as_stamp(start).ceil(step)
    last = times.iloc[-1] if end is None else as_stamp(end).ceil(step) - step
    guarded = [first - step, *times, last + step]  # so that a missing edge is a gap as well
    holes = gaps(pd.DatetimeIndex(guarded), INTERVAL)
    if len(holes):
        begins, ends = holes["first"].iloc[0], holes["last"].iloc[-1] + step
        raise missing_bars(
            holes,
            f"{symbol} {INTERVAL}",
            f"acmf data pull --symbol {symbol} --from {begins:%Y-%m-%d} --to {ends.ceil('D'):%Y-%m-%d}, then "
            "acmf data check --bridge for what the venue never had",
        )


def _require_one_market(candles: str, funding: str) -> None:
    """Two files that both name their market must mean one; "BTC" and "BTC/USDT" may."""
    one, other = plain(candles), plain(funding)
    if not (one.startswith(other) or other.startswith(one)):
        raise DataError(
            f"the candles are of {candles}, the funding rates of {funding}", "give two files of one market"
        )


def _no_bars(symbol: str, where: str) -> MissingBars:
    return MissingBars(
        f"the lake has no {INTERVAL} bars of {symbol}{where}",
        f"acmf data import FILE --symbol {symbol}, or acmf data pull --symbol {symbol} --from DATE",
    )
