r"""The selective scan of Mamba (Gu & Dao 2023, algorithm 2): a slow twin and two fast ones.

Glossary
--------
B  batch         L  length of the sequence     D  inner channels     N  states a channel
u   (B, L, D)  input            dt  (B, L, D)  positive step sizes
A   (D, N)     negative rates   Bm, Cm  (B, L, N)  input and output projections ("B", "C" in the paper)
h   (B, N, D)  state: the channels last, so that every elementwise pass runs along long rows

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t          y_t = C_t . h_t

The skip term ``D u`` and the gate belong to the block (`mamba.py`), not to the scan.

`selective_scan_ref` is the definition. `selective_scan` walks the same recurrence in chunks of a few
steps with two reused buffers, keeps only the state at each chunk's start and recomputes the rest in its
backward pass. `selective_scan_last` gives only the last step, in closed form and without a recurrence:
``h_L = sum_s exp(A (S_L - S_s)) dt_s B_s u_s`` with ``S`` the running sum of dt; every exponent is <= 0,
so nothing overflows. Base two is used inside because exp2 costs a third of exp.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 8  # steps a buffer holds; with sub-batches of 16 it stays in the second-level cache
_LOG2_E = math.log2(math.e)
_FAINTEST = -80.0  # 2^-80 is nothing beside 1; far smaller powers are denormal numbers, four times as slow


def selective_scan_ref(u: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor) -> Tensor:
    """The recurrence, written down; autograd does the rest. Returns y (B, L, D)."""
    h = u.new_zeros(u.shape[0], A.shape[1], A.shape[0])
    steps = []
    # unbind once: indexing [:, t] in a loop makes autograd allocate a full-size zero a step
    for u_t, dt_t, b_t, c_t in zip(u.unbind(1), dt.unbind(1), Bm.unbind(1), Cm.unbind(1), strict=True):
        decay = torch.exp(dt_t[:, None, :] * A.T)  # (B, N, D)
        h = decay * h + b_t[:, :, None] * (dt_t * u_t)[:, None, :]
        steps.append((c_t[:, :, None] * h).sum(1))
    return torch.stack(steps, dim=1)


def selective_scan(u: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor) -> Tensor:
    """Fast twin of `selective_scan_ref`; same arguments, y (B, L, D)."""
    y: Tensor = _ChunkedScan.apply(u, dt, A, Bm, Cm)  # type: ignore[no-untyped-call]
    return y


def selective_scan_last(u: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, c_last: Tensor) -> Tensor:
    """The last row of `selective_scan_ref`: c_last is (B, N), the answer (B, D)."""
    y: Tensor = _LastStep.apply(u, dt, A, Bm, c_last)  # type: ignore[no-untyped-call]
    return y


class _ChunkedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, Cm: Tensor) -> Tensor:
        u_, dt_, b_, c_ = (x.transpose(0, 1).contiguous() for x in (u, dt, Bm, Cm))  # time first
        rates = (A.T * _LOG2_E).contiguous()
        y = torch.empty_like(u_)
        state = u.new_zeros(u.shape[0], *rates.shape)
        starts = []
        decay, h = _buffer(u_, rates), _buffer(u_, rates)
        for t0 in range(0, len(u_), CHUNK):
            part = slice(t0, min(t0 + CHUNK, len(u_)))
            starts.append(state)
            _states(decay, h, u_[part], dt_[part], rates, b_[part], state)
            n = part.stop - t0
            _contract(c_[part], h[:n], out=y[part])
            state = h[n - 1].clone()
        ctx.save_for_backward(u_, dt_, rates, b_, c_, *starts)
        return y.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_y: Tensor) -> tuple[Tensor, ...]:
        u, dt, rates, b, c, *starts = ctx.saved_tensors
        g_y = g_y.transpose(0, 1).contiguous()
        g_u, g_dt, g_b, g_c = (torch.empty_like(x) for x in (u, dt, b, c))
        g_rates = torch.zeros_like(rates)
        carry = torch.zeros_like(starts[0])  # gradient flowing into the last state of the chunk
        decay, h, g_h = _buffer(u, rates), _buffer(u, rates), _buffer(u, rates)
        for t0 in reversed(range(0, len(u), CHUNK)):
            part = slice(t0, min(t0 + CHUNK, len(u)))
            n, start = part.stop - t0, starts[t0 // CHUNK]
            _states(decay, h, u[part], dt[part], rates, b[part], start)
            g_c[part] = _over_channels(h[:n], g_y[part])
            torch.mul(c[part][..., None], g_y[part][:, :, None, :], out=g_h[:n])
            g_h[n - 1] += carry
            for t in range(n - 1, 0, -1):
                g_h[t - 1].addcmul_(decay[t], g_h[t])
            carry = decay[0] * g_h[0]
            g_b[part] = _over_channels(g_h[:n], dt[part] * u[part])
            g_dtu = _contract(b[part], g_h[:n], out=g_u[part])
            g_exponent = decay[:n].mul_(g_h[:n])  # d loss / d (dt A): decay * h_{t-1} * g_h
            g_exponent[0].mul_(start)
            g_exponent[1:].mul_(h[: n - 1])
            torch.mul(g_exponent, rates, out=h[:n])
            torch.sum(h[:n], dim=2, out=g_dt[part])
            g_dt[part].div_(_LOG2_E).addcmul_(g_dtu, u[part])
            g_rates += g_exponent.mul_(dt[part][:, :, None, :]).sum((0, 1))
            g_dtu.mul_(dt[part])
        back = (x.transpose(0, 1) for x in (g_u, g_dt, g_b, g_c))
        g_u, g_dt, g_b, g_c = back
        return g_u, g_dt, g_rates.T, g_b, g_c


class _LastStep(torch.autograd.Function):
    """y = sum_s dt_s u_s sum_n c_n b_sn exp(A_n span_s), span_s = the time left after step s."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, Bm: Tensor, c_last: Tensor) -> Tensor:
        u_, dt_, b_ = (x.transpose(0, 1).contiguous() for x in (u, dt, Bm))
        rates = (A.T * _LOG2_E).contiguous()
        span, dtu, bc = _time_left(dt_), dt_ * u_, b_ * c_last
        weight = _buffer(u_, rates)
        y = torch.zeros_like(u_[0])
        for t0 in range(0, len(u_), CHUNK):
            part = slice(t0, min(t0 + CHUNK, len(u_)))
            mixed = _contract(bc[part], _decayed(weight, span[part], rates)).mul_(dtu[part])
            for step in mixed:
                y += step
        ctx.save_for_backward(u_, dt_, span, rates, b_, c_last)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_y: Tensor) -> tuple[Tensor, ...]:
        u, dt, span, rates, b, c_last = ctx.saved_tensors
        dtu_g, bc = dt * u * g_y, b * c_last
        dtu_g_span = dtu_g * span
        g_bc, g_dtu, g_span = torch.empty_like(b), torch.empty_like(u), torch.empty_like(u)
        g_rates = torch.zeros_like(rates)
        weight, scratch = _buffer(u, rates), _buffer(u, rates)
        for t0 in range(0, len(u), CHUNK):
            part = slice(t0, min(t0 + CHUNK, len(u)))
            w = _decayed(weight, span[part], rates)  # (n, B, N, D)
            g_bc[part] = _over_channels(w, dtu_g[part])
            w.mul_(bc[part][..., None])
            torch.sum(w, dim=2, out=g_dtu[part])
            product = torch.mul(w, rates, out=scratch[: len(w)])
            torch.sum(product, dim=2, out=g_span[part])
            g_rates += w.mul_(dtu_g_span[part][:, :, None, :]).sum((0, 1))
        g_dtu.mul_(g_y)
        g_span.mul_(dtu_g)
        # dt_r is part of span_s for every s < r
        g_dt = torch.zeros_like(dt)
        torch.cumsum(g_span[:-1], dim=0, out=g_dt[1:])
        g_dt.div_(_LOG2_E).addcmul_(g_dtu, u)
        g_u, g_b, g_c = g_dtu.mul_(dt), g_bc * c_last, (g_bc * b).sum(0)
        return g_u.transpose(0, 1), g_dt.transpose(0, 1), g_rates.T, g_b.transpose(0, 1), g_c


def _buffer(u: Tensor, rates: Tensor) -> Tensor:
    """A work array (CHUNK, B, N, D), written over and over."""
    return u.new_empty((min(CHUNK, len(u)), u.shape[1], *rates.shape))


def _states(decay: Tensor, h: Tensor, u: Tensor, dt: Tensor, rates: Tensor, b: Tensor, start: Tensor) -> None:
    """Fill decay and h (n, B, N, D) for one chunk that begins in state `start`."""
    n = len(u)
    torch.mul(dt[:, :, None, :], rates, out=decay[:n]).exp2_()
    torch.mul(b[..., None], (dt * u)[:, :, None, :], out=h[:n])
    before = start
    for t in range(n):
        before = h[t].addcmul_(decay[t], before)


def _decayed(weight: Tensor, span: Tensor, rates: Tensor) -> Tensor:
    """What is left at the end of each step's contribution, written to weight[:n] (n, B, N, D)."""
    return torch.mul(span[:, :, None, :], rates, out=weight[: len(span)]).clamp_(min=_FAINTEST).exp2_()


def _time_left(dt: Tensor) -> Tensor:
    """Sum of dt after each step, summed from the end so that short spans keep their digits."""
    after = torch.zeros_like(dt)
    torch.cumsum(dt.flip(0)[:-1], dim=0, out=after[1:])
    return after.flip(0)


def _contract(c: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
    """Sum over states: c (..., N), h (..., N, D) -> (..., D)."""
    if out is None:
        return torch.matmul(c[..., None, :], h).squeeze(-2)
    out.copy_(torch.matmul(c[..., None, :], h).squeeze(-2))
    return out


def _over_channels(h: Tensor, x: Tensor) -> Tensor:
    """Sum over channels: h (..., N, D), x (..., D) -> (..., N)."""
    return torch.matmul(h, x[..., None]).squeeze(-1)
