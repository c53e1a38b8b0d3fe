"""The Mamba blocks: three ways through one function, initial values, optimiser groups, causality."""

import pytest
import torch

from acmf_core.models.encoder import one_thread
from acmf_core.models.mamba import Mamba, MambaShape, parameter_groups


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def model(n_layers=2, d_model=32, dtype=torch.float32, seed=0) -> Mamba:
    torch.manual_seed(seed)
    return Mamba(MambaShape(d_model=d_model, n_layers=n_layers)).to(dtype)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_one_bar_at_a_time_gives_what_the_whole_sequence_gives(n_layers):
    mamba = model(n_layers, dtype=torch.float64)
    x = torch.randn(2, 20, 32, dtype=torch.float64)
    states = mamba.start(2)
    steps = torch.stack([mamba.step(x[:, t], states) for t in range(20)], dim=1)
    torch.testing.assert_close(steps, mamba(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_last_step_without_a_scan_equals_the_last_row_with_gradients(n_layers):
    mamba = model(n_layers, dtype=torch.float64)
    x = torch.randn(2, 33, 32, dtype=torch.float64)
    outputs, gradients = [], []
    for y in (mamba(x)[:, -1], mamba.last(x)):
        mamba.zero_grad()
        y.square().sum().backward()
        outputs.append(y)
        gradients.append([p.grad.clone() for p in mamba.parameters()])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    for slow, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)


def test_with_and_without_gradients_the_answer_is_the_same():
    mamba = model(d_model=128)
    x = torch.randn(3, 192, 128)
    with torch.inference_mode():
        served = mamba.last(x)
    torch.testing.assert_close(mamba(x)[:, -1], served, rtol=1e-5, atol=1e-5)


def test_the_future_changes_no_bit_of_the_past():
    mamba = model(d_model=128)
    x = torch.randn(2, 192, 128)
    spoiled = x.clone()
    spoiled[:, 100:] = 1e3
    with torch.inference_mode():
        assert torch.equal(mamba(x)[:, :100], mamba(spoiled)[:, :100])


def test_step_sizes_start_between_a_thousandth_and_a_tenth():
    mixer = model(d_model=128).layers[0].mixer
    dt = torch.nn.functional.softplus(mixer.dt_proj.bias).detach()
    assert float(dt.min()) > 0.0009
    assert float(dt.max()) < 0.11
    assert torch.equal(mixer.A_log[5], torch.log(torch.arange(1.0, 17.0)))
    assert torch.equal(mixer.D, torch.ones(256))
    assert mixer.in_proj.bias is None
    assert mixer.out_proj.bias is None
    assert float(mixer.dt_proj.weight.detach().abs().max()) <= 8**-0.5


def test_state_parameters_biases_and_norms_do_not_decay():
    mamba = model()
    decayed, free = parameter_groups(mamba, 0.05)
    names = {id(p): name for name, p in mamba.named_parameters()}
    assert {names[id(p)].rsplit(".", 2)[-2] for p in decayed["params"]} == {
        "conv1d",
        "in_proj",
        "x_proj",
        "dt_proj",
        "out_proj",
    }
    kept = {names[id(p)] for p in free["params"]}
    assert {
        "layers.0.mixer.A_log",
        "layers.1.mixer.D",
        "layers.0.mixer.dt_proj.bias",
        "norm_f.weight",
    } <= kept
    assert decayed["weight_decay"] == 0.05
    assert free["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(free["params"]) == len(names)
