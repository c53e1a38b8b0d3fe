"""An HTTP server on a port of its own, for as long as a `with` lasts."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Loopback:
    """Base of the servers that stand in for the world. Subclasses say what they answer.

    Attributes
    ----------
    closing : threading.Event
        Set when the server goes; answers that stall wait on it.
    """

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                server.answer(self)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def url(self) -> str:
        """Base URL."""
        return self.origin

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request; called from a thread of its own."""
        raise NotImplementedError
