"""A web service on loopback that answers in every way a service can go wrong."""

import gzip
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler

from loopback import Loopback


@dataclass
class Reply:
    """One answer.

    cut: the connection breaks in the middle of the body. trickle_s: wait between its bytes. stall_s: wait
    before it. sized: its length is said.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    trickle_s: float = 0.0
    stall_s: float = 0.0
    sized: bool = True


@dataclass
class AnswerServer(Loopback):
    """Answers with `faults` first (one a request), then with `reply`. Use as a context manager.

    always: a fault that never goes away. requests: path and query of every request; headers: theirs.
    """

    faults: list[Reply] = field(default_factory=list)
    always: Reply | None = None
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    fault_on: Callable[[str], bool] = lambda path: True
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reply(self, request: BaseHTTPRequestHandler) -> Reply:
        """What is answered when nothing goes wrong."""
        raise NotImplementedError

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request: its fault where one is ordered, else the right answer."""
        with self._lock:
            self.requests.append(request.path)
            self.headers.append(dict(request.headers))
            faulty = self.fault_on(request.path)
            reply = self.faults.pop(0) if self.faults and faulty else self.always if faulty else None
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that had enough
            self._send(request, reply or self.reply(request))

    def _send(self, request: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.stall_s and self.closing.wait(reply.stall_s):
            return
        request.send_response(reply.status)
        request.send_header("Content-Type", reply.content_type)
        if reply.sized:
            request.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            request.send_header(name, value)
        request.end_headers()
        if reply.trickle_s:
            for position in range(len(reply.body)):
                request.wfile.write(reply.body[position : position + 1])
                request.wfile.flush()
                time.sleep(reply.trickle_s)
        else:
            request.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)


def faulty_replies() -> dict[str, Reply]:
    """Every way in which any JSON service fails, by name."""
    return {
        "500": Reply(b"oops", 500),
        "503 with HTML": Reply(b"<html>busy</html>", 503, "text/html"),
        "429": Reply(b"slow down", 429, "text/plain", {"Retry-After": "60"}),
        "403": Reply(b"no", 403, "text/plain"),
        "a redirect": Reply(b"", 302, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
        "a redirect to no name": Reply(b"", 302, headers={"Location": "http://xn--a/"}),
        "a redirect to no port": Reply(b"", 302, headers={"Location": "http://127.0.0.1:99999/"}),
        "HTML": Reply(b"<!DOCTYPE html><html><body>Just a moment...</body></html>", 200, "text/html"),
        "nothing": Reply(b""),
        "null": Reply(b"null"),
        "a number": Reply(b"17"),
        "a list": Reply(b"[]"),
        "an empty object": Reply(b"{}"),
        "NaN": Reply(b'{"data": NaN, "chart": NaN, "result": NaN}'),
        "no UTF-8": Reply(b'{"data": "\xff\xfe"}'),
        "a tower of brackets": Reply(b"[" * 200_000),
        "cut": Reply(b'{"data": [' + b" " * 5000 + b"]}", cut=True),
        "stalled": Reply(b"{}", stall_s=30.0),
        "trickling": Reply(b" " * 1500 + b"{}", trickle_s=0.02),
        "huge": Reply(b'{"data": "' + b"x" * 9_000_000 + b'"}'),
        "huge without a length": Reply(b'{"data": "' + b"x" * 9_000_000 + b'"}', sized=False),
        "a bomb": Reply(gzip.compress(b" " * 20_000_000, 1), headers={"Content-Encoding": "gzip"}),
        "a bomb within a bomb": Reply(bomb(100), headers={"Content-Encoding": "gzip, gzip"}),
    }


@cache
def bomb(megabytes: int) -> bytes:
    """So many megabytes of spaces, packed twice into about a kilobyte."""
    packer = zlib.compressobj(9, wbits=31)
    once = b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()
    return gzip.compress(once, 9)
