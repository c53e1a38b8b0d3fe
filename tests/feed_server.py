"""RSS and Atom feeds on loopback, and every way in which a feed can be broken or hostile."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from xml.sax.saxutils import escape

import pandas as pd
from loopback import Loopback

Item = tuple[str, pd.Timestamp]


def rss(items: Iterable[Item], *, escaped: bool = True) -> bytes:
    """RSS 2.0 as news sites write it; titles as text, or as they are (markup, CDATA)."""
    entries = "".join(
        f"<item><title>{escape(title) if escaped else title}</title><link>https://news.example/x</link>"
        f"<description>{escape('<p>never read</p>')}</description>"
        f"<pubDate>{format_datetime(when.to_pydatetime(), usegmt=True)}</pubDate></item>"
        for title, when in items
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>News</title>'
        f"<link>https://news.example</link><description>d</description>{entries}</channel></rss>"
    ).encode()


def atom(items: Iterable[Item]) -> bytes:
    """Atom 1.0."""
    entries = "".join(
        f'<entry><title type="html">{escape(title)}</title><id>urn:x</id>'
        f"<updated>{when.isoformat()}</updated><published>{when.isoformat()}</published></entry>"
        for title, when in items
    )
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>{entries}</feed>'.encode()


@dataclass
class Page:
    """One answer. stall_s: wait before it; cut: the connection breaks in the middle of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0.0
    cut: bool = False


@dataclass
class FeedServer(Loopback):
    """Serves `pages` by path; anything else is 404. Use as a context manager.

    requests: paths asked for.
    """

    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def url(self, path: str = "/feed") -> str:
        """Where a page is."""
        return f"{self.origin}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One page."""
        self.requests.append(request.path)
        page = self.pages.get(request.path.partition("?")[0], Page(b"no such page", 404))
        if page.stall_s and self.closing.wait(page.stall_s):
            return
        try:
            request.send_response(page.status)
            for name, value in page.headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(page.body)))
            request.end_headers()
            request.wfile.write(page.body[: len(page.body) // 2] if page.cut else page.body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough: part of the tests
