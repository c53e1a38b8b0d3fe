"""The request to Claude: within a time, within a day's budget, and without a trace of its key.

What may be spent is reserved before a request is sent and settled by the usage that the answer states.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from acmf_core.collect.headlines.budget import Reserved, TokenBudget
from acmf_core.collect.headlines.judgement import NewsScore, decoded, read_answer, used_tokens
from acmf_core.collect.headlines.prompt import build_request, estimate_tokens
from acmf_core.config import AnthropicConfig
from acmf_core.errors import ConfigError, DataError, VenueUnavailable
from acmf_core.ports import Cache, Clock

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic

MAX_ANSWER_BYTES: Final = 1_000_000
_UNBILLED: Final = frozenset({400, 401, 402, 403, 404, 413, 429, 529})  # refused before any token was read
_HOPELESS: Final = frozenset({400, 401, 402, 403, 404, 405, 413, 422})


class Scorer:
    """Asks Claude for the score of some headlines, within a daily budget of tokens.

    Parameters
    ----------
    config : AnthropicConfig
        base_url, api_key, model, max_tokens_per_day.
    cache : Cache
        Counts what was spent in each day (UTC), across restarts and processes.
    clock : Clock
        Says which day it is.

    Raises
    ------
    ConfigError
        There is no key, or it cannot be sent.
    """

    def __init__(self, config: AnthropicConfig, cache: Cache, clock: Clock) -> None:
        import anthropic  # takes a second: at the start, not within a collection

        key = config.api_key.get_secret_value()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                "anthropic.api_key is empty or holds characters that no key has", "set it, or switch news off"
            )
        self._config, self._sdk = config, anthropic
        self._budget = TokenBudget(config.max_tokens_per_day, cache, clock)

    async def score(self, symbol: str, titles: Sequence[str], timeout_s: float) -> NewsScore:
        """The score of cleaned titles, newest first.

        Raises
        ------
        VenueUnavailable
            No answer, none that is a valid score, or the budget cannot be counted.
        DataError
            The request is refused for good (the key, the model), or the day's budget is spent.
        """
        request = build_request(self._config.model, symbol, titles)
        reserved = await self._budget.reserve(estimate_tokens(request))
        answer = decoded(await self._ask(request, timeout_s, reserved))
        used = used_tokens(answer)
        if used is not None:
            await self._budget.settle(reserved, used)
        return read_answer(answer)

    async def _ask(self, request: dict[str, Any], timeout_s: float, reserved: Reserved) -> bytes:
        import httpx2  # the SDK's, whose errors come through where a body is read

        sdk = self._sdk
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client(timeout_s) as client,
                client.messages.with_streaming_response.create(**request) as response,
            ):
                body = bytearray()
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise VenueUnavailable(f"Anthropic answered more than {MAX_ANSWER_BYTES:,} bytes")
                return bytes(body)
        except sdk.APIStatusError as error:
            if error.status_code < 400 or error.status_code in _UNBILLED:
                await self._budget.settle(reserved, 0)
            refusal = _refusal(error, self._config.model)
        except (TimeoutError, sdk.APITimeoutError, httpx2.TimeoutException):
            refusal = VenueUnavailable(f"Anthropic did not answer within {timeout_s:g} s")
        except (sdk.AnthropicError, httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            refusal = VenueUnavailable(f"Anthropic did not answer: {type(error).__name__}")
        # Raised out here, without the SDK's exception behind it: that holds the request and its key.
        raise refusal

    def _client(self, timeout_s: float) -> "AsyncAnthropic":
        return self._sdk.AsyncAnthropic(
            api_key=self._config.api_key.get_secret_value(),
            base_url=self._config.base_url,
            max_retries=0,  # DataSync asks again, and counts
            timeout=timeout_s,
            open_telemetry=False,
            default_headers={"Accept-Encoding": "identity"},
            # Redirects would carry the key to wherever they point.
            http_client=self._sdk.DefaultAsyncHttpxClient(timeout=timeout_s, follow_redirects=False),
        )


def _refusal(error: "APIStatusError", model: str) -> VenueUnavailable | DataError:
    """An HTTP error in our words: the API's own could repeat what was sent."""
    status = error.status_code
    said = f"Anthropic answered HTTP {status}"
    kind = error.type
    if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,40}", kind):
        said += f" ({kind})"
    if status in {401, 403}:
        return DataError(said, "set a valid anthropic.api_key")
    if status == 404:
        return DataError(said, f'is there a model "{model}"? see anthropic.model')
    if status in _HOPELESS:
        return DataError(said, "see the console of the account: billing, limits, the model's name")
    wait = error.response.headers.get("retry-after", "")
    if wait.isascii() and wait.isdigit() and len(wait) <= 6:
        said += f", to be asked again in {wait} s"
    return VenueUnavailable(said)
