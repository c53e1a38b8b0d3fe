"""The encoder: 192 bars of 22 channels in, 128 numbers out.

(B, 192, 22) -> standardise with the training block's statistics -> linear 22 -> 128 -> Mamba blocks ->
RMSNorm -> last step: the hidden state (B, 128). A head that predicts the three classes serves training only.

Training reads windows of the same length from the same zero state as inference does. With
`target_share` > 0 the last steps of each window are targets too, not only the very last one: the same
function, at nearly the same cost, sees a hundred times as many labels. The last step is what is served.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from acmf_core.config import EncoderConfig
from acmf_core.errors import InvalidPrediction, ModelNotReady
from acmf_core.models.mamba import Mamba, MambaShape, parameter_groups

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

N_CLASSES: Final = 3
MICRO_BATCH: Final = 8  # windows in work at once: the scan's buffers then fit the second-level cache
MIN_HIDDEN_STD: Final = 0.01
_CLIP_SIGMAS: Final = 10.0  # an exchange's glitch must not drive the state further than training saw
_WARMUP_SHARE: Final = 0.1
_LANES: Final = 32  # floats that PyTorch's widest vector loop takes at once


class Encoder(nn.Module):
    """Standardiser, input projection, Mamba and training head in one module."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, n_channels: int) -> None:
        super().__init__()
        self.config = config
        self.shape = MambaShape(config.d_model, config.n_layers, config.d_state, config.expand, config.d_conv)
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("std", torch.ones(n_channels))
        self.embed = nn.Linear(n_channels, config.d_model)
        self.backbone = Mamba(self.shape)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.d_model, N_CLASSES)

    def standardise(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).clamp(-_CLIP_SIGMAS, _CLIP_SIGMAS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, 22) -> hidden states of every step (B, L, d_model)."""
        out: Tensor = self.backbone(self._embedded(x))
        return out

    def last(self, x: Tensor) -> Tensor:
        """(B, L, 22) -> hidden state of the last step (B, d_model)."""
        return self.backbone.last(self._embedded(x))

    def logits(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(hidden))
        return out

    def _embedded(self, x: Tensor) -> Tensor:
        x = self.standardise(x)
        if torch.is_grad_enabled():
            return F.linear(x, self.embed.weight, self.embed.bias)
        # one window at a time, in one shape: see mamba.py
        out = x.new_empty(*x.shape[:-1], len(self.embed.bias))
        for window, row in zip(x, out, strict=True):
            torch.addmm(self.embed.bias, window, self.embed.weight.T, out=row)
        return out

    def hidden(self, windows: FloatArray, progress: Callable[[int, int], None] | None = None) -> FloatArray:
        """Hidden states (m, d_model) of windows (m, L, 22), on one thread.

        A window's result is the same bits alone, in any batch and in any place of it: products are made
        window by window and everything else is elementwise over whole vectors.

        Raises
        ------
        InvalidPrediction
            When a hidden state is not finite.
        """
        out = np.empty((len(windows), self.config.d_model), dtype=np.float32)
        step = self._inference_batch()
        device = self.embed.weight.device
        with one_thread(), torch.inference_mode():
            for i in range(0, len(windows), step):
                x = torch.from_numpy(np.array(windows[i : i + step], dtype=np.float32))
                out[i : i + step] = self.last(x.to(device)).cpu().numpy()
                if progress:
                    progress(min(i + step, len(windows)), len(windows))
        if not np.isfinite(out).all():
            bad = int((~np.isfinite(out)).any(axis=1).sum())
            raise InvalidPrediction(
                f"{bad} of {len(out)} hidden states are not finite", "look at the windows"
            )
        return out

    def _inference_batch(self) -> int:
        """Windows at a time; 1 where a batch would end inside a vector and mix its neighbours' code path."""
        s = self.shape
        whole = self.config.window % _LANES == 0 and (s.d_inner * s.d_state) % _LANES == 0
        return MICRO_BATCH if whole else 1


@contextmanager
def one_thread(threads: int = 1) -> Iterator[None]:
    """Run PyTorch on so many threads, then as before."""
    before = torch.get_num_threads()
    if before != threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if before != threads:
            torch.set_num_threads(before)


@dataclass(frozen=True)
class Targets:
    """What the encoder learns from, aligned with the rows of a sequence.

    sequence (n, 22) float32; complete (n,): the window that ends at this row is whole; y (n,) class codes;
    train, held_out (n,): weight of each row as a target, 0 where it is none.
    """

    sequence: FloatArray
    complete: NDArray[np.bool_]
    y: IntArray
    train: FloatArray
    held_out: FloatArray


@dataclass
class _Run:
    """Where a training stands after some epochs."""

    epoch: int
    best_loss: float
    best_epoch: int
    history: list[dict[str, float]]


def train_encoder(
    data: Targets,
    config: EncoderConfig,
    seed: int,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Encoder, list[dict[str, float]]]:
    """Fit the encoder; returns it at its best epoch on the held-out rows, and the losses by epoch.

    Every epoch draws its randomness from (seed, epoch), so a run that was stopped and goes on from
    `checkpoint` (a safetensors file, rewritten after each epoch) ends with the same bits.

    Raises
    ------
    ModelNotReady
        When a gradient is not finite, or the hidden states have collapsed (standard deviation <= 0.01).
    """
    torch.manual_seed(seed)
    model = _new_encoder(data, config)
    optimiser = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate)
    best = {k: v.clone() for k, v in model.state_dict().items()}
    run = _Run(0, math.inf, 0, [])
    if checkpoint is not None and checkpoint.exists():
        run, best = _resume(checkpoint, model, optimiser)
    while run.epoch < config.epochs and run.epoch - run.best_epoch < config.patience:
        torch.manual_seed(_seed_of(seed, run.epoch))
        loss = _epoch(model, optimiser, data, seed, run.epoch)
        held_out = _held_out_loss(model, data)
        run.epoch += 1
        run.history.append({"epoch": run.epoch, "train_loss": loss, "held_out_loss": held_out})
        if held_out < run.best_loss:
            run.best_loss, run.best_epoch = held_out, run.epoch
            best = {k: v.clone() for k, v in model.state_dict().items()}
        if checkpoint is not None:
            _save(checkpoint, model, optimiser, run, best)
        if progress:
            progress("encoder", run.epoch, config.epochs)
    model.load_state_dict(best)
    model.eval()
    return model, run.history


def _new_encoder(data: Targets, config: EncoderConfig) -> Encoder:
    """Standardised on the rows that training windows read; the head starts at the class prior."""
    model = Encoder(config, data.sequence.shape[1])
    rows = data.sequence[_rows_read(data, config.window)].astype(np.float64)
    std = rows.std(axis=0)
    share = np.bincount(data.y[data.train > 0], data.train[data.train > 0], minlength=N_CLASSES)
    with torch.no_grad():
        model.mean.copy_(torch.from_numpy(rows.mean(axis=0)))
        model.std.copy_(torch.from_numpy(np.where(std > 1e-12, std, 1.0)))
        model.head.weight.normal_(std=0.02)
        model.head.bias.copy_(torch.from_numpy(np.log(np.maximum(share / share.sum(), 1e-6))))
    return model


def _rows_read(data: Targets, window: int) -> NDArray[np.bool_]:
    ends = np.flatnonzero((data.train > 0) & data.complete)
    change = np.zeros(len(data.y) + 1, dtype=np.int64)
    np.add.at(change, ends + 1, -1)
    np.add.at(change, np.maximum(ends - window + 1, 0), 1)
    return np.cumsum(change)[:-1] > 0


def _epoch(model: Encoder, optimiser: torch.optim.Optimizer, data: Targets, seed: int, epoch: int) -> float:
    """One pass over windows `stride` bars apart (another offset each epoch); the mean training loss."""
    config = model.config
    rng = np.random.default_rng([seed, epoch])
    ends = np.flatnonzero(data.complete & (data.train > 0))
    ends = rng.permutation(ends[rng.integers(min(config.stride, len(ends))) :: config.stride])
    batches = [ends[i : i + config.batch] for i in range(0, len(ends), config.batch)]
    model.train()
    total = weight = 0.0
    for i, batch in enumerate(batches):
        rate = config.learning_rate * _schedule((epoch + i / len(batches)) / config.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss, mass = _step(model, optimiser, data, batch)
        total, weight = total + loss, weight + mass
    return total / max(weight, 1e-12)


def _step(
    model: Encoder, optimiser: torch.optim.Optimizer, data: Targets, ends: IntArray
) -> tuple[float, float]:
    """One update from the windows that end at `ends`; weighted loss and weight summed."""
    config = model.config
    depth = max(1, round(config.target_share * config.window))
    targets = ends[:, None] + np.arange(1 - depth, 1)  # (b, depth) rows
    inside = targets >= 0
    targets = np.maximum(targets, 0)
    weights = np.where(inside, data.train[targets], 0.0).astype(np.float32)
    mass = float(weights.sum())
    optimiser.zero_grad()
    total = 0.0
    for i in range(0, len(ends), MICRO_BATCH):
        part = slice(i, i + MICRO_BATCH)
        x = torch.from_numpy(windows_ending(data.sequence, ends[part], config.window))
        hidden = model(x)[:, -depth:] if depth > 1 else model.last(x)[:, None]  # (b, depth, d_model)
        y = torch.from_numpy(data.y[targets[part]])
        w = torch.from_numpy(weights[part])
        losses = F.cross_entropy(model.logits(hidden).flatten(0, 1), y.flatten(), reduction="none")
        loss = (losses * w.flatten()).sum() / max(mass, 1e-12)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach()) * mass
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        raise ModelNotReady(f"the encoder's gradient is {float(norm)}", "lower encoder.learning_rate")
    optimiser.step()
    return total, mass


def _held_out_loss(model: Encoder, data: Targets) -> float:
    """Weighted log-loss of the head at the last step of held-out windows; checks the hidden states."""
    ends = np.flatnonzero(data.complete & (data.held_out > 0))
    ends = ends[:: max(1, min(model.config.stride, 4))]
    model.eval()
    hidden = torch.from_numpy(model.hidden(windows_ending(data.sequence, ends, model.config.window)))
    spread = float(hidden.std(dim=0).mean())
    if not spread > MIN_HIDDEN_STD:
        raise ModelNotReady(
            f"the hidden states have collapsed: their standard deviation is {spread:.2g}, "
            f"at least {MIN_HIDDEN_STD} is wanted",
            "lower encoder.learning_rate or encoder.weight_decay",
        )
    with torch.inference_mode():
        losses = F.cross_entropy(model.logits(hidden), torch.from_numpy(data.y[ends]), reduction="none")
    return float(np.average(losses.numpy(), weights=data.held_out[ends]))


def windows_ending(sequence: FloatArray, ends: IntArray, length: int) -> FloatArray:
    """Copies of the windows (m, length, channels) whose last rows are `ends`."""
    view = sliding_window_view(sequence, length, axis=0)  # (n - length + 1, channels, length)
    return np.ascontiguousarray(view[ends - length + 1].transpose(0, 2, 1))


def _schedule(done: float) -> float:
    """Linear warm-up over a tenth of the training, then a cosine down to a hundredth."""
    if done < _WARMUP_SHARE:
        return (done + 0.01) / (_WARMUP_SHARE + 0.01)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - _WARMUP_SHARE) / (1 - _WARMUP_SHARE)))


def _seed_of(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _save(
    path: Path, model: Encoder, optimiser: torch.optim.Optimizer, run: _Run, best: Mapping[str, Tensor]
) -> None:
    """Write model, moments and best weights aside, then rename: a crash leaves the old checkpoint."""
    tensors = {f"now.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in best.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"moments.{index}.{k}": v for k, v in moments.items()}
    aside = path.with_suffix(".partial")
    run_json = {"run": json.dumps(vars(run))}
    save_file({k: v.contiguous() for k, v in tensors.items()}, aside, metadata=run_json)
    aside.replace(path)


def _resume(path: Path, model: Encoder, optimiser: torch.optim.Optimizer) -> tuple[_Run, dict[str, Tensor]]:
    tensors = load_file(path)
    with safe_open(path, framework="pt") as stream:
        run = _Run(**json.loads(stream.metadata()["run"]))
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("moments."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    model.load_state_dict(_under("now.", tensors))
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return run, _under("best.", tensors)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
