"""One line of news from a stranger: cleaned of markup and of everything that cannot be seen, and named."""

import hashlib
import html
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_READ_CHARS: Final = 4_000  # of a title before it is cleaned; no headline is longer
_PASSES: Final = 3  # markup inside escaped markup inside escaped markup
_HASH_DIGITS: Final = 16
_COMMENT: Final = re.compile(r"<!--.*?(?:-->|$)", re.DOTALL)
_SILENT: Final = re.compile(
    r"<(script|style|template|textarea|iframe|noscript)\b[^>]*>.*?(?:</\1\s*>|$)", re.DOTALL | re.IGNORECASE
)
_TAG: Final = re.compile(r"<[a-zA-Z/!?][^<>]*(?:>|$)")
# Letters and symbols by category, yet nothing is seen: fillers of Hangul, Khmer and Braille.
_BLANKS: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SPACES: Final = frozenset({"Zs", "Zl", "Zp", "Cc"})
_UNSEEN: Final = frozenset({"Cf", "Cs", "Co", "Cn"})
_VARIATIONS: Final = re.compile("[\ufe00-\ufe0f\u180b-\u180f\U000e0100-\U000e01ef]")
_MARKS_A_LETTER: Final = 2


@dataclass(frozen=True, slots=True)
class Headline:
    """A cleaned title and its publication in microseconds, as the feed says."""

    title: str
    published: int

    @property
    def hash(self) -> str:
        """16 hex digits that do not change with case, punctuation or spacing."""
        return _named(self.title)


def clean(text: str, max_chars: int) -> str:
    """Text as a person would see it, on one line, at most `max_chars` long; may be empty.

    Tags, scripts and comments go, and so do control, bidirectional, zero-width, private and unassigned
    characters, variation selectors, and piles of combining marks.
    """
    text = text[:_READ_CHARS]
    for _ in range(_PASSES):
        seen = _without_markup(text)
        if seen == text:
            break
        text = seen
    kept = "".join(_seen(character) for character in unicodedata.normalize("NFC", text))
    return " ".join(_thinned(_VARIATIONS.sub("", kept)).split())[:max_chars].strip()


@lru_cache(maxsize=4_096)
def _named(title: str) -> str:
    folded = unicodedata.normalize("NFKC", title).casefold()
    words = "".join(c if c.isalnum() else " " for c in folded).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:_HASH_DIGITS]


def _without_markup(text: str) -> str:
    for pattern in (_COMMENT, _SILENT, _TAG):
        text = pattern.sub(" ", text)
    return html.unescape(text)


def _seen(character: str) -> str:
    category = unicodedata.category(character)
    if category in _SPACES:
        return " "
    return "" if category in _UNSEEN or character in _BLANKS else character


def _thinned(text: str) -> str:
    """At most two combining marks on a letter."""
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in {"Mn", "Me"} else 0
        if marks <= _MARKS_A_LETTER:
            kept.append(character)
    return "".join(kept)
