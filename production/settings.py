"""The effective configuration of one process: file, then environment, then flags.

The only place in the house that reads environment variables.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from acmf_core.config import Config
from acmf_core.errors import ConfigError

PREFIX = "ACMF__"
ALIASES = {
    "TRADING_MODE": "mode",
    "LAKE_URI": "paths.lake",
    "DATABASE_URL": "paths.database_url",
    "MLFLOW_TRACKING_URI": "paths.tracking_uri",
    "REDIS_URL": "paths.redis_url",
    "ANTHROPIC_API_KEY": "anthropic.api_key",
    "WHALE_ALERT_API_KEY": "sources.onchain.api_key",
}
MASK = "********"


@dataclass(frozen=True)
class Settings:
    """The configuration and where each value came from.

    origins maps a dotted key ("train.seed") to "acmf.toml", an environment variable's name or "flag";
    keys that are not there are defaults.
    """

    config: Config
    origins: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """(dotted key, value as text with secrets masked, origin) of every setting."""
        return [(key, _text(value), self.origins.get(key, "default")) for key, value in _leaves(self.config)]

    def values(self) -> dict[str, Any]:
        """Every setting by its dotted key as a plain JSON value, secrets masked."""
        return {key: _plain(value) for key, value in _leaves(self.config)}


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Gather file, environment and flags.

    Parameters
    ----------
    path : Path, optional
        The TOML file; None means `acmf.toml` in the working directory where there is one.
    environment : mapping, optional
        Instead of the process environment (tests).
    flags : mapping, optional
        Dotted keys to values; the strongest.

    Raises
    ------
    ConfigError
        A file that is not there or not TOML, an unknown key, a value out of range.
    """
    environment = os.environ if environment is None else environment
    origins: dict[str, str] = {}
    layers: list[tuple[str, dict[str, Any]]] = []
    file = path if path is not None else Path("acmf.toml")
    if path is not None or file.is_file():
        layers.append((file.name, _read_toml(file)))
    layers.extend(_environment_layers(environment))
    if flags:
        layers.append(("flag", _nested(dict(flags))))
    values: dict[str, Any] = {}
    for source, layer in layers:
        Config.from_values(layer, source=source)  # so that the error names the layer that is wrong
        _merge(values, layer)
        origins |= dict.fromkeys(_dotted(layer), source)
    return Settings(Config.from_values(values), origins)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {file}", "create it or leave --config away") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", "mend that line") from None


def _environment_layers(environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in sorted(environment):
        plain = name.removesuffix("_FILE")
        key = ALIASES.get(plain)
        if key is None and plain.startswith(PREFIX):
            key = plain.removeprefix(PREFIX).lower().replace("__", ".")
        if key is None:
            continue
        text = environment[name] if plain == name else _secret_file(name, environment[name])
        found.append((name, _nested({key: _literal(text, key)})))
    return found


def _secret_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{name} points at {path}, which cannot be read ({error.strerror})") from None


def _literal(text: str, key: str) -> Any:
    """A TOML value where the text is one and the setting is not textual; else the text itself."""
    if key in ALIASES.values():
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, leaf = key.split(".")
        here = nested
        for group in groups:
            here = here.setdefault(group, {})
        here[leaf] = value
    return nested


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            keys += _dotted(value, f"{prefix}{key}.")
        else:
            keys.append(prefix + key)
    return keys


def _leaves(section: BaseModel, prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        leaves += (
            _leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [(prefix + name, value)]
        )
    return leaves


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else '""'
    return repr(value)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return list(value) if isinstance(value, tuple) else value
