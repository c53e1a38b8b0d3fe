"""Walk-forward results made by hand: a random market, probabilities with as much skill as asked.

No training, so that evidence, gate and report can be tested in seconds and with a known truth.
"""

import itertools

import numpy as np
import pandas as pd

from acmf_core.config import TrainConfig, TuneConfig, WalkForwardConfig
from acmf_core.domain import BAR_US, BARS_PER_DAY, PROBABILITIES, Label
from acmf_core.features import MarketData
from acmf_core.models import evaluate, label
from acmf_core.trading import Bars, TradeParams, simulate
from backtests.candidate import HeldOut
from backtests.record import Stretch, simulate_record
from backtests.tune import daily_returns
from backtests.walk_forward import FoldResult, WalkForwardResult

START_US = 1_704_067_200_000_000  # 2024-01-01
BASELINES = ("class_prior", "persistence", "tabular_only", "logistic", "last_bar")


def made_candles(days: int, seed: int) -> pd.DataFrame:
    """A random walk with volatility clusters, 15m bars of about 0.3 %."""
    rng = np.random.default_rng(seed)
    n = days * BARS_PER_DAY
    log_vol = np.cumsum(rng.normal(0, 0.02, n)) * 0.3
    sigma = 0.003 * np.exp(log_vol - log_vol.mean())
    close = 40_000 * np.exp(np.cumsum(rng.standard_normal(n) * sigma))
    opened = np.concatenate([[40_000.0], close[:-1]])
    spread = np.abs(rng.standard_normal((2, n))) * sigma * close * 0.4
    index = pd.to_datetime(START_US + BAR_US * np.arange(n), unit="us", utc=True).as_unit("us")
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) + spread[0],
            "low": np.minimum(opened, close) - spread[1],
            "close": close,
            "volume": rng.lognormal(5, 0.3, n),
        },
        index=pd.DatetimeIndex(index, name="open_time"),
    )


def made_bars(candles: pd.DataFrame) -> Bars:
    """Kernel bars with plain indicators; no book, no funding."""
    n = len(candles)
    columns = {name: candles[name].to_numpy() for name in ("open", "high", "low", "close")}
    atr = (candles["high"] - candles["low"]).rolling(14, min_periods=1).mean().to_numpy()
    close = candles["close"]
    ema = close.ewm(span=21, adjust=False).mean()
    rng = np.random.default_rng(1)
    return Bars(
        open_time=candles.index.asi8,
        **columns,
        atr=atr,
        adx=15 + 15 * np.abs(np.sin(np.arange(n) / 300)),
        ema_distance=((close - ema) / atr).to_numpy(),
        atr_ratio=0.8 + 0.5 * rng.random(n),
        vol_regime=rng.random(n),
        volume_ratio=0.6 + rng.random(n),
        funding_bps=np.ones(n),
        book_imbalance=np.full(n, np.nan),
        book_spread_bps=np.full(n, np.nan),
        funding_event=np.where(np.arange(n) % 32 == 0, 1e-4, 0.0),
        data_ok=np.ones(n, dtype=bool),
        entries_off=np.zeros(n, dtype=bool),
    )


def made_probabilities(labels: pd.DataFrame, index: pd.Index, skill: float, seed: int) -> pd.DataFrame:
    """Softmax scores that know the label with the given strength; 0 knows nothing."""
    rng = np.random.default_rng(seed)
    y = labels["y"].reindex(index).fillna(int(Label.NEUTRAL)).to_numpy(np.int64)
    scores = np.log([0.225, 0.225, 0.55]) + 0.25 * rng.standard_normal((len(index), 3))
    scores[np.arange(len(index)), y] += skill * rng.random(len(index))
    p = np.exp(scores)
    frame = pd.DataFrame(p / p.sum(axis=1, keepdims=True), index=index, columns=list(PROBABILITIES))
    frame.iloc[:20] = np.nan  # no complete window yet
    return frame


def made_result(
    *,
    days: int = 120,
    skill: float = 0.0,
    seed: int = 3,
    calibration: str = "temperature",
    synthetic: bool = True,
) -> WalkForwardResult:
    """A result over `days`, cut into three folds."""
    candles = made_candles(days, seed)
    config = WalkForwardConfig(
        folds=3,
        train_days=60,
        test_days=days / 3,
        holdout_days=20,
        train=TrainConfig(calibration=calibration),
        tune=TuneConfig(trials=12),
    )
    labels = label(candles, config.train.labels, k=0.55).dropna()
    labels = labels[labels.index < candles.index[-9]].assign(k=0.55)
    bars = made_bars(candles)
    sharp = made_probabilities(labels, candles.index, skill, seed)
    by_calibration = {"directional": sharp if skill else _undirected(sharp), "temperature": sharp}
    baselines = {
        name: made_probabilities(labels, candles.index, 0.0, seed + 10 + i)
        for i, name in enumerate(BASELINES)
    }
    edges = np.linspace(0, bars.n, 4).astype(int)
    stretches = tuple(Stretch(int(a), int(b), TradeParams()) for a, b in itertools.pairwise(edges))
    records = {
        name: simulate_record(bars, frame, stretches, equity=config.equity)
        for name, frame in {**by_calibration, "tabular_only": baselines["tabular_only"]}.items()
    }
    trials, trial_returns = made_trials(bars, by_calibration[calibration])
    folds = tuple(
        made_fold(
            i, stretch, bars, records[calibration].parts[i].metrics(), by_calibration | baselines, labels
        )
        for i, stretch in enumerate(stretches)
    )
    return WalkForwardResult(
        config=config,
        folds=folds,
        probabilities=by_calibration[calibration],
        by_calibration=by_calibration,
        baselines=baselines,
        labels=labels,
        bars=bars,
        simulation=records[calibration].whole,
        simulations_by_calibration={name: records[name].whole for name in by_calibration},
        tabular_simulation=records["tabular_only"].whole,
        trial_returns=trial_returns,
        trial_scores=trials,
        trials_total=36,
        market=MarketData.from_candles(candles),
        stretches=stretches,
        ledger_tuning=36,
        ledger_out_of_sample=3,
        ledger_sharpes=(0.01, -0.02, 0.03),
        lake_versions={"candles": 3, "funding": 1},
        synthetic=synthetic,
    )


def _undirected(p: pd.DataFrame) -> pd.DataFrame:
    """The same with the two sides drawn together: what the directional calibrator does without skill."""
    middle = (p["p_long"] + p["p_short"]) / 2
    return p.assign(p_long=middle * 1.02, p_short=middle * 0.98)


def made_trials(bars: Bars, probabilities: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Twelve tuning trials on the first half of the bars."""
    n = bars.n // 2
    ratios = [1.2 + 0.1 * i for i in range(12)]
    runs = [simulate(bars.slice(0, n), probabilities.iloc[:n], TradeParams(min_ratio=r)) for r in ratios]
    returns = daily_returns(bars.open_time[:n], np.array([run.equity for run in runs]), 10_000.0)
    rows = [
        {
            "score": run.metrics()["sharpe_daily_annualised"],
            "sharpe": run.metrics()["sharpe_daily_annualised"],
            "trades": len(run.trades),
            "max_drawdown": run.metrics()["max_drawdown"],
            "feasible": True,
            "min_ratio": ratio,
        }
        for run, ratio in zip(runs, ratios, strict=True)
    ]
    return pd.DataFrame(rows), returns


def made_fold(
    index: int,
    stretch: Stretch,
    bars: Bars,
    metrics: dict[str, float],
    predictions: dict[str, pd.DataFrame],
    labels: pd.DataFrame,
) -> FoldResult:
    times = bars.times[stretch.start : stretch.stop]
    losses = pd.DataFrame(
        {name: evaluate(frame.loc[times].dropna(), labels) for name, frame in predictions.items()}
    ).T
    return FoldResult(
        index=index,
        train_start=times[0] - pd.Timedelta(days=60),
        train_end=times[0],
        test_start=times[0],
        test_end=times[-1] + pd.Timedelta(minutes=15),
        params=stretch.params,
        tuned=index > 0,
        note="trial 3 of 12: score 0.40 (defaults 0.10), 31 trades, drawdown 4.0%",
        trials=12,
        metrics=metrics,
        losses=losses,
        model={
            "sources_never_seen": ["book", "news", "onchain"],
            "direction": 0.45,
            "temperature": 1.1,
            "importance": {"atr_14": 31.0, "hidden_3": 12.0, "hidden_7": 9.0, "ret_1": 4.0},
        },
        seconds={"fit": 41.2, "tune": 6.3, "predict": 2.2},
    )


def made_holdout(result: WalkForwardResult, *, days: int = 20, skill: float = 0.0, seed: int = 99) -> HeldOut:
    """A last block of its own random bars."""
    candles = made_candles(days, seed)
    labels = label(candles, result.config.train.labels, k=0.55).dropna()
    bars = made_bars(candles)
    sharp = made_probabilities(labels, candles.index, skill, seed)
    by_calibration = {"directional": sharp if skill else _undirected(sharp), "temperature": sharp}
    runs = {name: simulate(bars, frame, TradeParams()) for name, frame in by_calibration.items()}
    chosen = result.config.train.calibration
    return HeldOut(
        start=candles.index[0],
        end=candles.index[-1],
        bars=bars,
        probabilities=by_calibration[chosen],
        by_calibration=by_calibration,
        baselines={},
        labels=labels,
        losses=pd.DataFrame({n: evaluate(f.dropna(), labels) for n, f in by_calibration.items()}).T,
        simulation=runs[chosen],
        simulations_by_calibration=runs,
    )
