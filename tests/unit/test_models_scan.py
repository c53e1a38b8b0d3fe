"""The fast scans against the slow twin: values, gradients, edges."""

import pytest
import torch

from acmf_core.models.scan import CHUNK, selective_scan, selective_scan_last, selective_scan_ref


def inputs(batch, length, channels, states, dtype=torch.float32, dt_max=0.1, seed=0):
    g = torch.Generator().manual_seed(seed)
    u = torch.randn(batch, length, channels, dtype=dtype, generator=g)
    dt = dt_max * torch.rand(batch, length, channels, dtype=dtype, generator=g) + 1e-3
    rates = -16.0 * torch.rand(channels, states, dtype=dtype, generator=g) - 0.05
    b, c = (torch.randn(batch, length, states, dtype=dtype, generator=g) for _ in range(2))
    return [x.requires_grad_() for x in (u, dt, rates, b, c)]


def relative(found, expected):
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 50])
def test_the_chunked_scan_equals_the_reference_forward_and_backward(length):
    x = inputs(3, length, 16, 4)
    g = torch.randn(3, length, 16, generator=torch.Generator().manual_seed(1))
    expected = torch.autograd.grad(selective_scan_ref(*x), x, g)
    found = torch.autograd.grad(selective_scan(*x), x, g)
    assert relative(selective_scan(*x), selective_scan_ref(*x)) < 1e-5
    for name, a, b in zip(("u", "dt", "A", "B", "C"), found, expected, strict=True):
        assert relative(a, b) < 1e-4, name


@pytest.mark.parametrize("length", [1, CHUNK, 3 * CHUNK + 2])
def test_the_closed_form_of_the_last_step_equals_the_reference_forward_and_backward(length):
    x = inputs(3, length, 16, 4)
    u, dt, rates, b, c = x
    g = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    slow = selective_scan_ref(*x)[:, -1]
    fast = selective_scan_last(u, dt, rates, b, c[:, -1])
    assert relative(fast, slow) < 1e-5
    expected, found = torch.autograd.grad(slow, x, g), torch.autograd.grad(fast, x, g)
    for name, one, other in zip(("u", "dt", "A", "B", "C"), found, expected, strict=True):
        assert relative(one, other) < 1e-4, name


def test_both_scans_pass_gradcheck_in_double_precision():
    x = inputs(2, CHUNK + 3, 3, 2, torch.float64)
    assert torch.autograd.gradcheck(selective_scan, x)
    assert torch.autograd.gradcheck(lambda u, dt, a, b, c: selective_scan_last(u, dt, a, b, c[:, -1]), x)


def test_long_sequences_and_large_steps_stay_finite():
    # cumulative sums in log space give NaN here
    x = inputs(1, 400, 8, 4, dt_max=5.0)
    for y in (selective_scan(*x), selective_scan_last(*x[:4], x[4][:, -1])):
        grads = torch.autograd.grad(y.square().sum(), x, allow_unused=True)
        assert torch.isfinite(y).all()
        assert all(torch.isfinite(g).all() for g in grads if g is not None)


def test_a_step_does_not_depend_on_later_input_bit_for_bit():
    u, dt, rates, b, c = (x.detach() for x in inputs(2, 40, 16, 4))
    whole = selective_scan(u, dt, rates, b, c)
    for t in (0, 6, 7, 8, 23):
        spoiled = [x.clone() for x in (u, dt, b, c)]
        for x in spoiled:
            x[:, t + 1 :] = 1e6
        part = selective_scan(spoiled[0], spoiled[1], rates, spoiled[2], spoiled[3])
        assert torch.equal(whole[:, : t + 1], part[:, : t + 1])
        shorter = selective_scan(u[:, : t + 1], dt[:, : t + 1], rates, b[:, : t + 1], c[:, : t + 1])
        assert torch.equal(whole[:, : t + 1], shorter)
