"""POST /v1/messages on loopback, as Anthropic's API speaks it, and every answer that is no score."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import Loopback

KEY = "sk-ant-api03-t0p-s3cret-Qm9ndXM"
VERSIONS = {"2023-06-01", "2026-10-21"}  # the SDK before and since its second major version
MODEL = "claude-haiku-4-5"
SNAPSHOT = "claude-haiku-4-5-20251001"
TOOL = "record_news_score"
GOOD = {"score": 0.35, "confidence": 0.7, "drivers": ["ETF inflows rise", "exchange hack is small"]}
USAGE = {"input_tokens": 1_234, "output_tokens": 96}


def call(given: Any = None, name: str = TOOL, **changes: Any) -> dict[str, Any]:
    """A tool_use block."""
    given = GOOD if given is None else given
    return {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": name, "input": given} | changes


def message(*content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A message that holds these blocks, or else the good call."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": SNAPSHOT,
        "content": list(content) or [call()],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": USAGE | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    } | changes


@dataclass
class Reply:
    """One answer: bytes as they are, anything else as JSON. stall_s: wait before it; cut: break off in it."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0
    cut: bool = False


def refusal(status: int, kind: str, **headers: str) -> Reply:
    """An error as the API words it, with the key in it, as a careless server might write."""
    said = f"{kind}: you sent x-api-key {KEY}"
    body = {
        "type": "error",
        "error": {"type": kind, "message": said},
        "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    }
    return Reply(body, status, headers)


@dataclass
class AnthropicServer(Loopback):
    """Answers with `replies` first (one a request), then with `otherwise`. Use as a context manager.

    A request without the right key, version or shape is refused as the API refuses it.
    requests: bodies of all requests as sent.
    """

    replies: list[Reply] = field(default_factory=list)
    otherwise: Callable[[dict[str, Any]], Reply] = lambda request: Reply(message())
    requests: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request, judged as the API would."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        reply = self._refused(request, body)
        if reply is None:
            reply = self.replies.pop(0) if self.replies else self.otherwise(json.loads(body))
        if reply.stall_s and self.closing.wait(reply.stall_s):
            return
        sent = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        try:
            request.send_response(reply.status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(sent)))
            request.send_header("request-id", "req_011CSHoEeqs5C35K2UUqR7Fy")
            for name, value in reply.headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(sent[: len(sent) // 2] if reply.cut else sent)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough: part of the tests

    def _bearer(self, request: BaseHTTPRequestHandler) -> str:
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    def _refused(self, request: BaseHTTPRequestHandler, body: bytes) -> Reply | None:
        if request.path != "/v1/messages":
            return refusal(404, "not_found_error")
        if KEY not in {request.headers.get("x-api-key"), self._bearer(request)}:
            return refusal(401, "authentication_error")
        if request.headers.get("anthropic-version") not in VERSIONS:
            return refusal(400, "invalid_request_error")
        asked = json.loads(body)
        tool = asked["tools"][0]
        bounds = {"minimum", "maximum", "maxItems", "minLength", "maxLength"}
        told = tool["input_schema"]
        if tool.get("strict") and (
            told.get("additionalProperties") is not False
            or any(bounds & spec.keys() for spec in told["properties"].values())
        ):
            return refusal(400, "invalid_request_error")
        if asked["tool_choice"]["type"] == "tool" and asked.get("thinking", {}).get("type") != "disabled":
            return refusal(400, "invalid_request_error")
        return None


def bad_answers() -> dict[str, Reply]:
    """Every answer of status 200 that is no score, by name."""

    def judged(**changes: Any) -> Reply:
        return Reply(message(call({**GOOD, **changes})))

    def without(name: str) -> Reply:
        return Reply(message(call({key: value for key, value in GOOD.items() if key != name})))

    text = {"type": "text", "text": '{"score": 1.0, "confidence": 1.0, "drivers": []}'}
    raw = json.dumps(message())
    return {
        "text only": Reply(message(text, stop_reason="end_turn")),
        "text that claims a tool call": Reply(message(text)),
        "another tool": Reply(message(call(name="set_score"))),
        "a tool of almost that name": Reply(message(call(name="Record_news_score"))),
        "two calls": Reply(message(call(), call())),
        "a call of another tool beside": Reply(message(call(), call(name="transfer_funds"))),
        "a server tool beside": Reply(message(call(), call(type="server_tool_use", name="web_search"))),
        "no content": Reply(message(content=[])),
        "content that is no list": Reply(message(content=call())),
        "content of text": Reply(message(content=["tool_use"])),
        "a block type that is a list": Reply(message(call(type=["tool_use"]))),
        "input that is text": Reply(message(call(json.dumps(GOOD)))),
        "input that is a list": Reply(message(call([0.5, 0.5, []]))),
        "input that is null": Reply(message(call(input=None))),
        "score 5": judged(score=5),
        "score -1.0000001": judged(score=-1.0000001),
        "score as text": judged(score="1.0"),
        "score true": judged(score=True),
        "score null": judged(score=None),
        "score in a list": judged(score=[1.0]),
        "score 10 to the 400": Reply(raw.replace("0.35", "1" + "0" * 400).encode()),
        "score 1e999": Reply(raw.replace("0.35", "1e999").encode()),
        "score NaN": Reply(raw.replace("0.35", "NaN").encode()),
        "score Infinity": Reply(raw.replace("0.35", "-Infinity").encode()),
        "two scores": Reply(raw.replace('"score": 0.35', '"score": 0.35, "score": 1.0').encode()),
        "confidence NaN": Reply(raw.replace("0.7", "NaN").encode()),
        "confidence 1.5": judged(confidence=1.5),
        "confidence -0.1": judged(confidence=-0.1),
        "confidence as text": judged(confidence="high"),
        "six drivers": judged(drivers=["x"] * 6),
        "drivers as text": judged(drivers="ETF"),
        "a driver that is a number": judged(drivers=[1]),
        "a driver that is an object": judged(drivers=[{"text": "x"}]),
        "an extra field": judged(action="buy"),
        "no score": without("score"),
        "no confidence": without("confidence"),
        "no drivers": without("drivers"),
        "an empty input": Reply(message(call({}))),
        "max_tokens": Reply(message(stop_reason="max_tokens")),
        "refusal": Reply(message(text, stop_reason="refusal")),
        "end_turn": Reply(message(stop_reason="end_turn")),
        "pause_turn": Reply(message(stop_reason="pause_turn")),
        "no stop reason": Reply(message(stop_reason=None)),
        "of the user": Reply(message(role="user")),
        "no message": Reply(message(type="error")),
        "a model of strange name": Reply(message(model="<script>alert(1)</script>")),
        "no usage": Reply(message(usage=None)),
        "usage below nought": Reply(message(usage={"input_tokens": -5, "output_tokens": 1})),
        "usage true": Reply(message(usage={"input_tokens": True, "output_tokens": 1})),
        "usage as text": Reply(message(usage={"input_tokens": "1", "output_tokens": 1})),
        "a list": Reply([message()]),
        "null": Reply(b"null"),
        "nothing": Reply(b""),
        "HTML": Reply(b"<!DOCTYPE html><html><body>Just a moment...</body></html>"),
        "truncated JSON": Reply(raw[:-40].encode()),
        "no UTF-8": Reply(raw.encode().replace(b"ETF", b"\xff\xfe")),
        "a tower of brackets": Reply(b"[" * 200_000),
        "a megabyte": Reply(b" " * 1_100_000 + raw.encode()),
        "cut": Reply(message(), cut=True),
        "a stream of events": Reply(b"event: message_start\ndata: {}\n\n"),
    }
