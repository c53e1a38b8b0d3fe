"""From market data to features: `build_features`, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from acmf_core.config import FeatureConfig
from acmf_core.domain import BAR_SECONDS, BAR_US, BARS_PER_DAY, INTERVAL_SECONDS
from acmf_core.errors import ConfigError
from acmf_core.features import sequence, sources, tabular
from acmf_core.features.blocks import Spans, block_spans, complete_candles, run_lengths
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


def build_features(
    market: MarketData, config: FeatureConfig | None = None, *, last: int | None = None
) -> Features:
    """All features of every bar, or of the last few.

    Parameters
    ----------
    market : MarketData
    config : FeatureConfig, optional
        Choices inside the features; the default is `FeatureConfig()`.
    last : int, optional
        Answer only the last so many bars: the same bits, at the cost of their blocks only.

    Returns
    -------
    Features
        A gap in the bars is no error here: what cannot be computed is NaN (features.md, "Exact definitions").

    Raises
    ------
    ConfigError
        `last` is less than 1.
    """
    if last is not None and last < 1:
        raise ConfigError(f"the last {last} bars were asked for", "ask for at least 1, or leave `last` out")
    schema = schema_for(config) if config is not None else _DEFAULT
    count = len(market.candles)
    shift = 0 if last is None else max(0, count - last)
    columns = np.empty((len(schema.features), count - shift))
    open_time = open_times(market.candles)
    _fill_candle_columns(schema, market, open_time, shift, columns)
    _fill_slow_columns(schema, market, open_time[shift:] + BAR_US, columns)
    columns.flags.writeable = False
    index = market.candles.index[shift:]
    channels = len(schema.channels)
    return Features(
        pd.DataFrame(columns[:channels].T, index=index, columns=list(schema.sequence), copy=False),
        pd.DataFrame(columns.T, index=index, columns=list(schema.tabular), copy=False),
        schema,
    )


_DEFAULT: Final = schema_for(FeatureConfig())


def _fill_candle_columns(
    schema: Schema, market: MarketData, open_time: IntArray, shift: int, columns: FloatArray
) -> None:
    ohlcv = np.empty((5, len(open_time)))
    for row, name in zip(ohlcv, OHLCV, strict=True):
        row[:] = market.candles[name].to_numpy()
    runs = np.empty(len(open_time), dtype=np.int64)
    run_lengths(open_time, ohlcv, BAR_US, runs)
    for timeframe, days in WARMUP_DAYS.items():
        wanted = [(i, f) for i, f in enumerate(schema.features) if f.timeframe == timeframe]
        spans = block_spans(open_time, runs, days * BARS_PER_DAY).since(shift)
        _forget_unanswered([i for i, _ in wanted], spans, shift, columns)
        if timeframe == "15m":
            _fill_bar_columns(wanted, ohlcv, spans, shift, columns)
        else:
            bars = INTERVAL_SECONDS[timeframe] // BAR_SECONDS
            _fill_higher_columns(wanted, open_time, runs, ohlcv, spans, bars, shift, columns)


def _forget_unanswered(wanted: list[int], spans: Spans, shift: int, columns: FloatArray) -> None:
    """NaN in the rows that no window answers."""
    ends = np.concatenate((spans.first - shift, [columns.shape[1]]))
    begins = np.concatenate(([0], spans.stop - shift))
    for begin, end in zip(begins[ends > begins], ends[ends > begins], strict=True):
        columns[wanted, begin:end] = np.nan


def _fill_bar_columns(
    wanted: list[tuple[int, Feature]], ohlcv: FloatArray, spans: Spans, shift: int, columns: FloatArray
) -> None:
    for chunk in spans.chunks(_CHUNK_BLOCKS):
        windows = BarWindows(ohlcv, chunk, shift)
        for i, feature in wanted:
            _BAR_COLUMNS[feature.definition](windows, columns[i], **feature.parameters)


def _fill_higher_columns(
    wanted: list[tuple[int, Feature]],
    open_time: IntArray,
    runs: IntArray,
    ohlcv: FloatArray,
    spans: Spans,
    bars: int,
    shift: int,
    columns: FloatArray,
) -> None:
    if len(spans.start) == 0:
        return
    _, high, low, close, _ = ohlcv
    candles = complete_candles(open_time, runs, high, low, close, bars)
    for chunk in spans.chunks(_CHUNK_BLOCKS):
        windows = tabular.HigherWindows.of(candles, bars, chunk, close, shift)
        for i, feature in wanted:
            _HIGHER_COLUMNS[feature.definition](windows, columns[i], **feature.parameters)


def _fill_slow_columns(schema: Schema, market: MarketData, closes: IntArray, columns: FloatArray) -> None:
    slow = market.slow
    for i, feature in enumerate(schema.features):
        if feature.timeframe == "slow":
            sources.join(feature, slow.get(feature.source), closes, columns[i])
