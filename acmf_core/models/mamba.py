r"""Mamba (Gu & Dao 2023, arXiv 2312.00752) in plain PyTorch, named as Hugging Face names it.

Glossary
--------
B  batch   L  length   K  model width (`d_model`, "hidden_size")   D  inner channels = expand * K
N  states a channel (`d_state`)   R  rank of the step size = ceil(K / 16)   W  kernel of the convolution

`Mamba` holds `layers.{i}.norm.weight`, `layers.{i}.mixer.{A_log, D, conv1d.weight, conv1d.bias,
in_proj.weight, x_proj.weight, dt_proj.weight, dt_proj.bias, out_proj.weight}` and `norm_f.weight`, so
published weights load as they are, and a parity test holds every number to `transformers`.

Three ways through the same function: `forward` (all steps), `last` (only the last step; the last layer
then needs no recurrence), `step` (one bar at a time, from a carried state).

Without gradients every matrix product is made window by window in one fixed shape (L x K): products of
different shapes differ in their last bits, and a prediction must not depend on its neighbours in a batch.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmf_core.models.scan import selective_scan, selective_scan_last

_DT_MIN, _DT_MAX, _DT_FLOOR = 1e-3, 1e-1, 1e-4


@dataclass(frozen=True)
class MambaShape:
    """Sizes of a stack of blocks."""

    d_model: int = 128
    n_layers: int = 2
    d_state: int = 16
    expand: int = 2
    d_conv: int = 4

    @property
    def d_inner(self) -> int:
        return self.expand * self.d_model

    @property
    def dt_rank(self) -> int:
        return math.ceil(self.d_model / 16)


@dataclass
class LayerState:
    """What one layer remembers between steps: conv (B, W, D) last inputs, ssm (B, N, D)."""

    conv: Tensor
    ssm: Tensor


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, eps 1e-5."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


class DepthwiseKernel(nn.Module):
    """Weights of a causal depthwise convolution, shaped and started as torch.nn.Conv1d does."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        bound = taps**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))


class Mixer(nn.Module):
    """The selective state space block between two projections."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        inner, rank, n = shape.d_inner, shape.dt_rank, shape.d_state
        self.shape = shape
        self.in_proj = nn.Linear(shape.d_model, 2 * inner, bias=False)
        self.conv1d = DepthwiseKernel(inner, shape.d_conv)
        self.x_proj = nn.Linear(inner, rank + 2 * n, bias=False)
        self.dt_proj = nn.Linear(rank, inner, bias=True)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, n + 1, dtype=torch.float32)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, shape.d_model, bias=False)
        self._start_step_sizes()

    @torch.no_grad()
    def _start_step_sizes(self) -> None:
        """Steps start log-uniform in [0.001, 0.1]; the bias is their inverse softplus."""
        nn.init.uniform_(self.dt_proj.weight, -(self.shape.dt_rank**-0.5), self.shape.dt_rank**-0.5)
        spread = math.log(_DT_MAX) - math.log(_DT_MIN)
        dt = torch.exp(torch.rand(self.shape.d_inner) * spread + math.log(_DT_MIN)).clamp(min=_DT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def rates(self) -> Tensor:
        """A (D, N), strictly negative."""
        return -torch.exp(self.A_log)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, K) -> (B, L, K)."""
        u, z = _linear(x, self.in_proj.weight).chunk(2, dim=-1)  # (B, L, D) each
        u = F.silu(self._conv(u))
        dt, b, c = self._selection(u)
        y = selective_scan(u, dt, self.rates(), b, c) + self.D * u
        return _linear(y * F.silu(z), self.out_proj.weight)

    def last(self, x: Tensor) -> Tensor:
        """(B, L, K) -> (B, 1, K), the last step of `forward` without a recurrence."""
        to_u, to_z = self.in_proj.weight.chunk(2)
        u = F.silu(self._conv(_linear(x, to_u)))  # (B, L, D)
        dt, b, c = self._selection(u)
        y = selective_scan_last(u, dt, self.rates(), b, c[:, -1]) + self.D * u[:, -1]  # (B, D)
        z = _linear(x[:, -1:], to_z)  # (B, 1, D)
        return _linear(y[:, None] * F.silu(z), self.out_proj.weight)

    def step(self, x: Tensor, state: LayerState) -> Tensor:
        """One bar: (B, K) -> (B, K); `state` moves on in place."""
        u, z = F.linear(x, self.in_proj.weight).chunk(2, dim=-1)  # (B, D) each
        state.conv = torch.cat([state.conv[:, 1:], u[:, None]], dim=1)  # (B, W, D)
        u = F.silu((state.conv * self.conv1d.weight[:, 0].T).sum(1) + self.conv1d.bias)
        dt, b, c = self._selection(u[:, None])
        decay = torch.exp(dt[:, 0, None, :] * self.rates().T)  # (B, N, D)
        state.ssm = decay * state.ssm + b[:, 0, :, None] * (dt[:, 0] * u)[:, None, :]
        y = (c[:, 0, :, None] * state.ssm).sum(1) + self.D * u
        return F.linear(y * F.silu(z), self.out_proj.weight)

    def _conv(self, u: Tensor) -> Tensor:
        """Causal depthwise convolution along L as W shifted products, which needs no transposes."""
        kernel = self.conv1d.weight[:, 0].T  # (W, D)
        padded = F.pad(u, (0, 0, len(kernel) - 1, 0))
        out = self.conv1d.bias.expand_as(u)
        for lag, taps in enumerate(kernel):
            out = torch.addcmul(out, padded[:, lag : lag + u.shape[1]], taps)
        return out

    def _selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt (B, L, D), B and C (B, L, N), all read off the input."""
        n = self.shape.d_state
        dt, b, c = torch.split(_linear(u, self.x_proj.weight), [self.shape.dt_rank, n, n], dim=-1)
        return F.softplus(_linear(dt, self.dt_proj.weight) + self.dt_proj.bias), b, c


class Layer(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.norm = RMSNorm(shape.d_model)
        self.mixer = Mixer(shape)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mixer(self.norm(x))
        return x + mixed

    def last(self, x: Tensor) -> Tensor:
        return x[:, -1:] + self.mixer.last(self.norm(x))

    def step(self, x: Tensor, state: LayerState) -> Tensor:
        return x + self.mixer.step(self.norm(x), state)


class Mamba(nn.Module):
    """A stack of pre-norm blocks with a final norm."""

    def __init__(self, shape: MambaShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.n_layers))
        self.norm_f = RMSNorm(shape.d_model)

    @property
    def _blocks(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, K) -> (B, L, K)."""
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm_f(x)
        return out

    def last(self, x: Tensor) -> Tensor:
        """(B, L, K) -> (B, K): row L of `forward`."""
        *below, top = self._blocks
        for layer in below:
            x = layer(x)
        out: Tensor = self.norm_f(top.last(x))[:, 0]
        return out

    def start(self, batch: int) -> list[LayerState]:
        """The states before the first bar."""
        s, like = self.shape, self.norm_f.weight
        return [
            LayerState(
                like.new_zeros(batch, s.d_conv, s.d_inner), like.new_zeros(batch, s.d_state, s.d_inner)
            )
            for _ in self.layers
        ]

    def step(self, x: Tensor, states: list[LayerState]) -> Tensor:
        """One bar: (B, K) -> (B, K); the states move on in place."""
        for layer, state in zip(self._blocks, states, strict=True):
            x = layer.step(x, state)
        out: Tensor = self.norm_f(x)
        return out


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Optimiser groups: matrices decay; A_log, D, biases, norms (all but 2-d projections) do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        exempt = p.ndim < 2 or name.endswith(("A_log", ".D")) or "norm" in name
        (free if exempt else decayed).append(p)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, L, K) @ weight.T; without gradients one window at a time (see the head of this file)."""
    if torch.is_grad_enabled():
        return F.linear(x, weight)
    out = x.new_empty(*x.shape[:-1], weight.shape[0])
    flipped = weight.T
    for window, row in zip(x, out, strict=True):
        torch.mm(window, flipped, out=row)
    return out
