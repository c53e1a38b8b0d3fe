"""From market data to features: `build_features`, and what it returns."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from acmf_core.config import FeatureConfig
from acmf_core.domain import BAR_SECONDS, BAR_US, BARS_PER_DAY, INTERVAL_SECONDS
from acmf_core.errors import ConfigError
from acmf_core.features import sequence, sources, tabular
from acmf_core.features.blocks import Candles, Spans, block_spans, complete_candles, run_lengths
from acmf_core.features.compiled import FloatArray, IntArray
from acmf_core.features.market import OHLCV, MarketData, open_times
from acmf_core.features.schema import WARMUP_DAYS, Feature, Schema, schema_for
from acmf_core.features.windows import BarWindows

_CHUNK_BLOCKS = 16  # windows unrolled at a time: their series stay in the processor's cache

_BAR_COLUMNS: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {
        "rsi": sequence.rsi,
        "ema": sequence.ema,
        "atr": sequence.atr,
        "bollinger": sequence.bollinger,
        "macd": sequence.macd,
        "anchored_vwap": sequence.anchored_vwap,
        "volume_ratio": sequence.volume_ratio,
        "vwap_distance": sequence.vwap_distance,
        "adx": sequence.adx,
        "obv_change": sequence.obv_change,
        "obv_slope": sequence.obv_slope,
        "return_std": sequence.return_std,
        "garman_klass": sequence.garman_klass,
        "atr_ratio": sequence.atr_ratio,
        "volatility_rank": sequence.volatility_rank,
        "log_return": tabular.log_return,
        "return_autocorrelation": tabular.return_autocorrelation,
        "range_position": tabular.range_position,
        "return_skew": tabular.return_skew,
        "return_kurtosis": tabular.return_kurtosis,
        "zscore": tabular.zscore,
    }
)
_HIGHER_COLUMNS: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {
        "rsi": tabular.higher_rsi,
        "ema": tabular.higher_ema,
        "atr": tabular.higher_atr,
        "adx": tabular.higher_adx,
        "macd": tabular.higher_macd,
        "log_return": tabular.higher_log_return,
    }
)


@dataclass(frozen=True, eq=False)
class Features:
    """The features of some bars, row by row; row t uses nothing that was not known when bar t closed.

    Attributes
    ----------
    sequence : DataFrame (n, 22) of float64
        The channels, indexed by the bars' open time. Read-only, like `tabular`, of which it is a part.
    tabular : DataFrame (n, 66) of float64
    schema : Schema
        What the columns are.
    """

    sequence: pd.DataFrame
    tabular: pd.DataFrame
    schema: Schema

    def windows(self, length: int = 192) -> tuple[NDArray[np.float32], pd.DatetimeIndex]:
        """Every window of `length` successive bars without a missing bar or a NaN.

        Returns
        -------
        windows : ndarray (m, length, 22) of float32, read-only
            A view on one (n, 22) array where the windows' last bars follow each other without a hole; else a
            copy (use `window_ends` to cut windows one by one where memory is short).
        times : DatetimeIndex (m,)
            Open time of each window's last bar.
        """
        ends = self.window_ends(length)
        times = self._index[ends]
        if len(ends) == 0:
            return np.empty((0, length, len(self.schema.channels)), dtype=np.float32), times
        every = np.lib.stride_tricks.sliding_window_view(self.matrix, length, axis=0).transpose(0, 2, 1)
        starts = ends - (length - 1)
        if starts[-1] - starts[0] == len(starts) - 1:
            return every[starts[0] : starts[-1] + 1], times
        chosen = every[starts]
        chosen.flags.writeable = False
        return chosen, times

    def window_ends(self, length: int = 192) -> IntArray:
        """Positions of the rows that end a window of `length` rows, all finite and of successive bars."""
        if length < 1:
            raise ConfigError(f"a window of {length} bars", "ask for at least 1")
        whole = np.isfinite(self.sequence.to_numpy()).all(axis=1)
        follows = np.ones(len(whole), dtype=bool)
        follows[1:] = np.diff(self._index.asi8) == BAR_US
        rows = np.arange(len(whole))
        # The newest row at or before each one at which no window may still be running.
        broken = np.maximum.accumulate(np.where(whole & follows, -1, np.where(whole, rows - 1, rows)))
        return np.flatnonzero(rows - broken >= length).astype(np.int64)

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """The channels as one (n, 22) float32 array, rows contiguous, read-only."""
        matrix = np.ascontiguousarray(self.sequence.to_numpy(), dtype=np.float32)
        matrix.flags.writeable = False
        return matrix

    @property
    def _index(self) -> pd.DatetimeIndex:
        index = self.tabular.index
        assert isinstance(index, pd.DatetimeIndex)
        return index

    def __len__(self) -> int:
        return len(self.tabular)

    def __repr__(self) -> str:
        short = self.schema.fingerprint[:12]
        return f"Features({len(self):,} bars, {self._complete():,} with all channels, schema {short})"

    def _repr_html_(self) -> str:
        known = self.tabular.notna().mean()
        unseen = ", ".join(known.index[known == 0.0]) or "none"
        return (
            f"<p><b>{len(self):,}</b> bars, {self._complete():,} with all channels; schema "
            f"<code>{self.schema.fingerprint[:12]}</code><br>never known: {unseen}</p>"
        )

    def _complete(self) -> int:
        return int(np.isfinite(self.sequence.to_numpy()).all(axis=1).sum())


_DEFAULT: Final = schema_for(FeatureConfig())


def build_features(
    market: MarketData,
    config: FeatureConfig | None = None,
    *,
    last: int | None = None,
    threads: int = 1,
) -> Features:
    """All features of every bar, or of the last few.

    Parameters
    ----------
    market : MarketData
    config : FeatureConfig, optional
        Choices inside the features; the default is `FeatureConfig()`.
    last : int, optional
        Answer only the last so many bars: the same bits, at the cost of their blocks only.
    threads : int
        Blocks computed at a time; changes no bit.

    Returns
    -------
    Features
        A gap in the bars is no error here: what cannot be computed is NaN (features.md, "Exact definitions").

    Raises
    ------
    ConfigError
        `last` or `threads` is less than 1.
    """
    if last is not None and last < 1:
        raise ConfigError(f"the last {last} bars were asked for", "ask for at least 1, or leave `last` out")
    if threads < 1:
        raise ConfigError(f"{threads} threads", "give at least 1")
    schema = schema_for(config) if config is not None else _DEFAULT
    open_time = open_times(market.candles)
    shift = 0 if last is None else max(0, len(open_time) - last)
    columns = np.empty((len(schema.features), len(open_time) - shift))
    _run(_candle_work(schema, _Bars.of(market.candles, shift), columns), threads)
    _fill_slow_columns(schema, market, open_time[shift:] + BAR_US, columns)
    columns.flags.writeable = False
    index, channels = market.candles.index[shift:], len(schema.channels)
    return Features(
        pd.DataFrame(columns[:channels].T, index=index, columns=list(schema.sequence), copy=False),
        pd.DataFrame(columns.T, index=index, columns=list(schema.tabular), copy=False),
        schema,
    )


class _Bars(NamedTuple):
    """The 15m bars as arrays: ohlcv is (5, n), runs counts the bars without a missing one that end at each.

    Row 0 of the output is bar `shift`.
    """

    open_time: IntArray
    ohlcv: FloatArray
    runs: IntArray
    shift: int

    @classmethod
    def of(cls, candles: pd.DataFrame, shift: int) -> "_Bars":
        open_time = open_times(candles)
        ohlcv, runs = np.empty((5, len(open_time))), np.empty(len(open_time), dtype=np.int64)
        for row, name in zip(ohlcv, OHLCV, strict=True):
            row[:] = candles[name].to_numpy()
        run_lengths(open_time, ohlcv, BAR_US, runs)
        return cls(open_time, ohlcv, runs, shift)

    def candles(self, bars: int) -> Candles:
        """The complete candles of a higher timeframe."""
        _, high, low, close, _ = self.ohlcv
        return complete_candles(self.open_time, self.runs, high, low, close, bars)


_Work = Callable[[], None]
_Wanted = list[tuple[Feature, FloatArray]]


def _candle_work(schema: Schema, bars: _Bars, columns: FloatArray) -> list[_Work]:
    """What there is to do for the columns made of candles: independent pieces of some blocks each."""
    work: list[_Work] = []
    for timeframe, days in WARMUP_DAYS.items():
        wanted = [(f, columns[i]) for i, f in enumerate(schema.features) if f.timeframe == timeframe]
        spans = block_spans(bars.open_time, bars.runs, days * BARS_PER_DAY).since(bars.shift)
        _forget_unanswered(wanted, spans, bars.shift)
        if len(spans.start) == 0:
            continue
        if timeframe == "15m":
            work += [partial(_fill_bar_columns, wanted, bars, some) for some in spans.chunks(_CHUNK_BLOCKS)]
        else:
            length = INTERVAL_SECONDS[timeframe] // BAR_SECONDS
            fill = partial(_fill_higher_columns, wanted, bars, bars.candles(length), length)
            work += [partial(fill, some) for some in spans.chunks(_CHUNK_BLOCKS)]
    return work


def _run(work: list[_Work], threads: int) -> None:
    if threads == 1 or len(work) == 1:
        for piece in work:
            piece()
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="features") as pool:
        for done in [pool.submit(piece) for piece in work]:
            done.result()


def _forget_unanswered(wanted: _Wanted, spans: Spans, shift: int) -> None:
    """NaN in the rows that no window answers."""
    begins = np.concatenate(([0], spans.stop - shift))
    ends = np.append(spans.first - shift, [len(wanted[0][1])])
    gaps = [(begin, end) for begin, end in zip(begins, ends, strict=True) if begin < end]
    for _, column in wanted:
        for begin, end in gaps:
            column[begin:end] = np.nan


def _fill_bar_columns(wanted: _Wanted, bars: _Bars, spans: Spans) -> None:
    windows = BarWindows(bars.ohlcv, spans, bars.shift)
    for feature, column in wanted:
        _BAR_COLUMNS[feature.definition](windows, column, **feature.parameters)


def _fill_higher_columns(wanted: _Wanted, bars: _Bars, candles: Candles, length: int, spans: Spans) -> None:
    windows = tabular.HigherWindows.of(candles, length, spans, bars.ohlcv[3], bars.shift)
    for feature, column in wanted:
        _HIGHER_COLUMNS[feature.definition](windows, column, **feature.parameters)


def _fill_slow_columns(schema: Schema, market: MarketData, closes: IntArray, columns: FloatArray) -> None:
    slow = market.slow
    for i, feature in enumerate(schema.features):
        if feature.timeframe == "slow":
            sources.join(feature, slow.get(feature.source), closes, columns[i])
