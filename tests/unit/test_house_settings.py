"""Configuration: what is known, what wins, what is refused and how."""

import pytest

from acmf_core.config import Config
from acmf_core.errors import ConfigError
from production import settings


def write(folder, text):
    file = folder / "acmf.toml"
    file.write_text(text)
    return file


def test_with_nothing_given_everything_has_a_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = settings.load(environment={})
    assert loaded.config == Config()
    assert {origin for _, _, origin in loaded.rows()} == {"default"}


def test_flags_beat_the_environment_which_beats_the_file(tmp_path):
    file = write(tmp_path, "[train]\nseed = 1\n[tune]\ntrials = 5\n[walk_forward]\nfolds = 2\n")
    environment = {"ACMF__TRAIN__SEED": "2", "ACMF__TUNE__TRIALS": "6"}
    loaded = settings.load(file, environment=environment, flags={"train.seed": 3})
    assert (loaded.config.train.seed, loaded.config.tune.trials, loaded.config.walk_forward.folds) == (
        3,
        6,
        2,
    )
    origins = dict(loaded.origins)
    assert origins["train.seed"] == "flag"
    assert origins["tune.trials"] == "ACMF__TUNE__TRIALS"
    assert origins["walk_forward.folds"] == "acmf.toml"


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path):
    file = write(tmp_path, "[train.encoder]\nepoch = 3\n")
    with pytest.raises(ConfigError, match=r'unknown key "train.encoder.epoch"; did you mean "epochs"'):
        settings.load(file, environment={})


def test_an_unknown_environment_key_names_the_variable():
    with pytest.raises(ConfigError, match=r"ACMF__TRAIN__SED.*did you mean"):
        settings.load(environment={"ACMF__TRAIN__SED": "1"})


def test_a_value_out_of_range_names_its_place(tmp_path):
    with pytest.raises(ConfigError, match=r"train.stack.n_selected"):
        settings.load(write(tmp_path, "[train.stack]\nn_selected = 67\n"), environment={})


def test_a_file_that_is_not_toml_says_where(tmp_path):
    with pytest.raises(ConfigError, match=r"line 1"):
        settings.load(write(tmp_path, "seed 7\n"), environment={})


def test_a_named_file_that_is_not_there_is_an_error_and_not_a_default(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file"):
        settings.load(tmp_path / "nope.toml", environment={})


def test_trading_mode_is_an_alias_of_the_mode_setting():
    assert settings.load(environment={"TRADING_MODE": "replay"}).config.mode == "replay"
    with pytest.raises(ConfigError, match="TRADING_MODE"):
        settings.load(environment={"TRADING_MODE": "lve"})


def test_secrets_come_from_files_and_never_show(tmp_path):
    secret = tmp_path / "url"
    secret.write_text("postgresql://me:hunter2@db/acmf\n")
    loaded = settings.load(environment={"DATABASE_URL_FILE": str(secret)})
    assert loaded.config.paths.database_url.get_secret_value().endswith("@db/acmf")
    shown = " ".join(value for _, value, _ in loaded.rows())
    assert "hunter2" not in shown + repr(loaded.config) + loaded.config.model_dump_json()


def test_the_fingerprint_changes_with_a_value_and_not_with_a_secret():
    config = Config()
    other = Config.from_values({"train": {"seed": 8}})
    secret = Config.from_values({"paths": {"database_url": "postgresql://x"}})
    assert config.train.fingerprint != other.train.fingerprint
    assert config.paths.fingerprint == secret.paths.fingerprint


def test_configuration_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Config().train.seed = 9


@pytest.mark.parametrize("name", ["candles", "book", "funding", "long_short"])
def test_what_is_asked_at_each_close_is_not_cached(name):
    with pytest.raises(
        ConfigError, match=rf"sources\.{name}: .*cache_s = 60, but what is asked at each close"
    ):
        Config.from_values({"sources": {name: {"cache_s": 60}}})
    assert Config.from_values({"sources": {"macro": {"cache_s": 60}}}).sources.macro.cache_s == 60
