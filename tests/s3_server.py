"""A real S3 server on loopback (moto's).

It has a process of its own: delta-rs holds Python's lock while it waits for an answer.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx

_SERVE = """
import logging, sys
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass
class S3Server:
    """Where it listens, and what a client must say to be let in."""

    endpoint: str
    _names: Iterator[int] = field(default_factory=count)

    @property
    def options(self) -> dict[str, str]:
        """The usual environment variables; delta-rs takes them as storage options as well."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "her-secret",
            "AWS_REGION": "us-east-1",
        }

    def bucket(self) -> str:
        """The URI of a new, empty bucket."""
        name = f"lake-{next(self._names)}"
        httpx.put(f"{self.endpoint}/{name}").raise_for_status()
        return f"s3://{name}"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield S3Server(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()
