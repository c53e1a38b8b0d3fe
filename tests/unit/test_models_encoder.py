"""The encoder: bits that do not depend on the batch, checks that refuse a broken training, resuming."""

import numpy as np
import pytest
import torch

from acmf_core.config import EncoderConfig
from acmf_core.errors import InvalidPrediction, ModelNotReady
from acmf_core.models import encoder as encoder_module
from acmf_core.models.encoder import Encoder, Targets, one_thread, train_encoder, windows_ending

SMALL = EncoderConfig(d_model=16, n_layers=2, window=64, epochs=3, stride=16, batch=16)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def made_up(n=900, seed=0) -> Targets:
    """A sequence whose class is read off channel 0 three bars ago."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6)).astype(np.float32) * np.float32([1, 2, 3, 4, 5, 50]) + 7
    before = np.roll(x[:, 0] - 7, 3)
    y = np.select([before > 0.5, before < -0.5], [0, 1], 2).astype(np.int64)
    complete = np.arange(n) >= 63
    train, held = np.zeros(n, np.float32), np.zeros(n, np.float32)
    train[64:700], held[720:] = 1.0, 1.0
    return Targets(x, complete, y, train, held)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (EncoderConfig(), 192),
        (EncoderConfig(n_layers=1), 192),
        (EncoderConfig(d_model=16), 192),
        (EncoderConfig(d_model=6, d_state=3, window=50), 50),  # ends inside a vector: one window at a time
    ],
)
def test_a_window_has_the_same_bits_alone_shuffled_padded_and_split(config, window):
    torch.manual_seed(0)
    model = Encoder(config, 22).eval()
    x = np.random.default_rng(0).standard_normal((21, window, 22)).astype(np.float32)
    whole = model.hidden(x)
    assert whole.shape == (21, config.d_model)
    order = np.random.default_rng(1).permutation(21)
    np.testing.assert_array_equal(model.hidden(x[order]), whole[order])
    alone = np.concatenate([model.hidden(x[i : i + 1]) for i in (0, 7, 8, 20)])
    np.testing.assert_array_equal(alone, whole[[0, 7, 8, 20]])
    for cut in (1, 3, 8, 13):
        split = np.concatenate([model.hidden(x[:cut]), model.hidden(x[cut:])])
        np.testing.assert_array_equal(split, whole)
    padded = np.concatenate([np.zeros_like(x[:5]), x[3:4], np.full_like(x[:2], 1e3)])
    np.testing.assert_array_equal(model.hidden(padded)[5], whole[3])


def test_the_number_of_threads_outside_does_not_change_a_bit_and_is_restored():
    model = Encoder(SMALL, 22).eval()
    x = np.random.default_rng(0).standard_normal((9, 64, 22)).astype(np.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = model.hidden(x)
        torch.set_num_threads(2)
        np.testing.assert_array_equal(model.hidden(x), one)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_window_that_is_not_finite_is_refused():
    x = np.zeros((3, 64, 22), dtype=np.float32)
    x[1, 5, 0] = np.nan
    with pytest.raises(InvalidPrediction, match="1 of 3"):
        Encoder(SMALL, 22).eval().hidden(x)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_training_learns_a_pattern_that_one_bar_cannot_show(share):
    data = made_up()
    config = SMALL.model_copy(update={"epochs": 5, "target_share": share, "learning_rate": 1e-2, "stride": 3})
    model, history = train_encoder(data, config, seed=1)
    prior = np.bincount(data.y[data.train > 0]) / (data.train > 0).sum()
    nothing_known = -np.log(prior)[data.y[data.held_out > 0]].mean()
    assert min(h["held_out_loss"] for h in history) < nothing_known - 0.05
    assert not model.training


def test_the_standardiser_holds_the_statistics_of_the_training_rows_alone():
    data = made_up()
    spoiled = made_up()
    spoiled.sequence[700:] = 1e6
    model, _ = train_encoder(data, SMALL.model_copy(update={"epochs": 1}), seed=0)
    rows = data.sequence[1:700].astype(np.float64)
    np.testing.assert_allclose(model.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model.std, rows.std(axis=0), rtol=1e-5)
    again = encoder_module._new_encoder(spoiled, SMALL)
    np.testing.assert_array_equal(again.mean, model.mean)


def test_training_twice_gives_the_same_bits_and_another_seed_others():
    data = made_up()
    states = [train_encoder(data, SMALL, seed)[0].state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["embed.weight"], states[2]["embed.weight"])


class SeenEpochs:
    def __init__(self):
        self.epochs = []

    def __call__(self, stage, done, total):
        self.epochs.append(done)


def test_a_training_killed_after_any_epoch_goes_on_to_the_same_bits(tmp_path):
    data = made_up()
    whole, history = train_encoder(data, SMALL, seed=4)

    class Killed(Exception):
        pass

    for stop in (1, 2):
        path = tmp_path / f"encoder{stop}.safetensors"

        def kill(stage, done, total, stop=stop):
            if done == stop:
                raise Killed

        with pytest.raises(Killed):
            train_encoder(data, SMALL, seed=4, checkpoint=path, progress=kill)
        seen = SeenEpochs()
        resumed, again = train_encoder(data, SMALL, seed=4, checkpoint=path, progress=seen)
        assert seen.epochs == list(range(stop + 1, 4))
        assert again == history
        assert all(
            torch.equal(a, b)
            for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
        )


def test_training_stops_when_the_held_out_loss_no_longer_falls():
    data = made_up()
    noise = Targets(
        data.sequence, data.complete, np.random.default_rng(0).integers(0, 3, 900), data.train, data.held_out
    )
    config = SMALL.model_copy(update={"epochs": 12, "patience": 1, "learning_rate": 1e-2})
    _, history = train_encoder(noise, config, seed=0)
    assert len(history) < 12


def test_a_gradient_that_is_not_finite_stops_the_training():
    data = made_up()
    data.sequence[300, 0] = np.nan
    with pytest.raises(ModelNotReady, match="gradient"):
        train_encoder(data, SMALL, seed=0)


def test_hidden_states_that_have_collapsed_are_refused(monkeypatch):
    monkeypatch.setattr(encoder_module, "MIN_HIDDEN_STD", 100.0)
    with pytest.raises(ModelNotReady, match="collapsed"):
        train_encoder(made_up(), SMALL, seed=0)


def test_windows_are_the_rows_that_end_where_asked():
    sequence = np.arange(40, dtype=np.float32).reshape(20, 2)
    found = windows_ending(sequence, np.array([4, 19]), 5)
    np.testing.assert_array_equal(found, np.stack([sequence[0:5], sequence[15:20]]))
    assert found.flags.c_contiguous
