"""Our Mamba against Hugging Face's: same weights by name, same numbers, same gradients."""

import warnings

import pytest
import torch

from acmf_core.models.encoder import one_thread
from acmf_core.models.mamba import Mamba, MambaShape

transformers = pytest.importorskip("transformers")

SHAPE = MambaShape(d_model=64, n_layers=2, d_state=16, expand=2, d_conv=4)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(3)
    config = transformers.MambaConfig(
        vocab_size=4,
        hidden_size=SHAPE.d_model,
        state_size=SHAPE.d_state,
        num_hidden_layers=SHAPE.n_layers,
        expand=SHAPE.expand,
        conv_kernel=SHAPE.d_conv,
        time_step_rank=SHAPE.dt_rank,
        layer_norm_epsilon=1e-5,
        use_bias=False,
        use_conv_bias=True,
        use_mambapy=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fast kernels it misses are for GPUs
        theirs = transformers.MambaModel(config)
    ours = Mamba(SHAPE)
    return ours, theirs


def weights(theirs):
    return {name: p for name, p in theirs.named_parameters() if not name.startswith("embeddings")}


def test_parameter_names_and_shapes_map_one_to_one(pair):
    ours, theirs = pair
    mine = {name: tuple(p.shape) for name, p in ours.named_parameters()}
    assert mine == {name: tuple(p.shape) for name, p in weights(theirs).items()}


def test_outputs_and_gradients_agree_to_1e_5(pair):
    ours, theirs = pair
    ours.load_state_dict({name: p.detach().clone() for name, p in weights(theirs).items()})
    theirs.train()
    x = torch.randn(3, 50, SHAPE.d_model)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_ours, y_theirs = ours(a), theirs(inputs_embeds=b, use_cache=False).last_hidden_state
    assert float((y_ours - y_theirs).detach().abs().max()) <= 1e-5
    pull = torch.randn_like(y_ours) / y_ours.numel() ** 0.5
    y_ours.backward(pull)
    y_theirs.backward(pull)
    assert float((a.grad - b.grad).abs().max()) <= 1e-5
    grads = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in weights(theirs).items():
        assert float((grads[name] - p.grad).abs().max()) <= 1e-5, name


def test_the_last_step_and_the_served_path_agree_too(pair):
    ours, theirs = pair
    ours.load_state_dict({name: p.detach().clone() for name, p in weights(theirs).items()})
    theirs.eval()
    x = torch.randn(1, 192, SHAPE.d_model)
    with torch.inference_mode():
        expected = theirs(inputs_embeds=x, use_cache=False).last_hidden_state[:, -1]
        assert float((ours.last(x) - expected).abs().max()) <= 1e-5
