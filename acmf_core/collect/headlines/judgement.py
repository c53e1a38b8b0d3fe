"""Reading what a language model answered: one call of one tool with numbers in their bounds, or nothing."""

import json
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acmf_core.collect.headlines.cleaning import clean
from acmf_core.collect.headlines.prompt import MAX_DRIVER_CHARS, MAX_DRIVERS
from acmf_core.errors import VenueUnavailable

_MAX_TOKENS: Final = 10_000_000  # more is no usage
_KINDS: Final = frozenset({"tool_use", "text", "thinking", "redacted_thinking"})
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class NewsScore:
    """A score, by whom, and at what cost.

    drivers are the model's words, and so untrusted too: plain text, to be escaped wherever it is shown.
    """

    score: float
    confidence: float
    drivers: tuple[str, ...]
    model: str
    input_tokens: int
    output_tokens: int

    def again(self) -> "NewsScore":
        """The same score, said once more without asking: it costs nothing."""
        return replace(self, input_tokens=0, output_tokens=0)


class _Judgement(BaseModel):
    """The tool's input: these three and nothing else, numbers that are numbers."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    score: float = Field(ge=-1, le=1, allow_inf_nan=False)
    confidence: float = Field(ge=0, le=1, allow_inf_nan=False)
    drivers: list[str] = Field(max_length=MAX_DRIVERS)


class _Usage(BaseModel):
    """What is billed; further fields may come with time."""

    model_config = ConfigDict(strict=True)

    input_tokens: int = Field(ge=0, le=_MAX_TOKENS)
    output_tokens: int = Field(ge=0, le=_MAX_TOKENS)
    cache_creation_input_tokens: int | None = Field(None, ge=0, le=_MAX_TOKENS)
    cache_read_input_tokens: int | None = Field(None, ge=0, le=_MAX_TOKENS)

    @property
    def input(self) -> int:
        """All input, from and to the prompt cache included."""
        return (
            self.input_tokens + (self.cache_creation_input_tokens or 0) + (self.cache_read_input_tokens or 0)
        )


class _Call(BaseModel):
    """A tool call; its input is read apart, to say what is wrong with it."""

    model_config = ConfigDict(strict=True)

    type: Literal["tool_use"]
    name: Literal["record_news_score"]
    input: dict[str, Any]


class _Answer(BaseModel):
    """The envelope; the API may add fields to it."""

    model_config = ConfigDict(strict=True)

    type: Literal["message"]
    role: Literal["assistant"]
    model: str = Field(pattern=r"^[A-Za-z0-9._:/@-]{1,80}$")
    stop_reason: str
    content: list[dict[str, Any]] = Field(max_length=20)
    usage: _Usage


def read_answer(answer: object) -> NewsScore:
    """The one valid score in a decoded answer.

    Raises
    ------
    VenueUnavailable
        Anything else than exactly one call of the tool, with a finite score and confidence in their bounds.
    """
    try:
        envelope = _Answer.model_validate(answer)
    except ValidationError as error:
        _unusable(_first(error, "no message"))
    if envelope.stop_reason != "tool_use":
        _unusable(f"with stop reason {_shown(envelope.stop_reason)}, not with a tool call")
    kinds = [str(block.get("type")) for block in envelope.content]
    beside = [kind for kind in kinds if kind not in _KINDS]
    if kinds.count("tool_use") != 1 or beside:
        _unusable(
            f"{kinds.count('tool_use')} tool calls and {len(beside)} unknown blocks instead of one call"
        )
    try:
        call = _Call.model_validate(envelope.content[kinds.index("tool_use")])
        judgement = _Judgement.model_validate(call.input)
    except ValidationError as error:
        _unusable(_first(error, "no score"))
    drivers = (clean(driver, MAX_DRIVER_CHARS) for driver in judgement.drivers)
    return NewsScore(
        judgement.score + 0.0,  # no negative nought
        judgement.confidence + 0.0,
        tuple(driver for driver in drivers if driver),
        envelope.model,
        envelope.usage.input,
        envelope.usage.output_tokens,
    )


def decoded(body: bytes) -> object:
    """JSON without NaN, Infinity and names that come twice."""
    try:
        return json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        _unusable("no JSON")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def used_tokens(answer: object) -> int | None:
    """Tokens that a decoded answer states, or None."""
    try:
        usage = _Usage.model_validate(answer.get("usage") if isinstance(answer, dict) else None)
    except ValidationError:
        return None
    return usage.input + usage.output_tokens


def _first(error: ValidationError, otherwise: str) -> str:
    """The first slip of a foreign answer in one line, without its values."""
    for slip in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in slip["loc"])
        return f"{otherwise}: {_shown(place or 'it')}: {slip['msg'][:_SHOWN]}"
    return otherwise


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN])


def _unusable(what: str) -> NoReturn:
    raise VenueUnavailable(f"Anthropic answered {what}")
