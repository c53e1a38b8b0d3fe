"""Numbers and dates as people read them: a real minus, thin units, a dash for what is not there."""

import math
from typing import Final

import pandas as pd

MINUS: Final = "\N{MINUS SIGN}"
DASH: Final = "\N{EN DASH}"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
SPACE: Final = "\N{NO-BREAK SPACE}"


def number(value: float | None, digits: int = 0, *, sign: bool = False, unit: str = "") -> str:
    """A number with thousands separators; a dash for None, NaN and infinity, no sign on zero."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS) + (SPACE + unit if unit else "")


def percent(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A fraction in percent."""
    return number(None if value is None else 100 * value, digits, sign=sign, unit="%")


def share(value: float) -> str:
    """A share in percent that says 100 % only of all, and 0 % only of nothing."""
    if 0.999 < value < 1.0 or 0.0 < value < 0.001:
        return percent(0.999 if value > 0.5 else 0.001)
    return percent(value, 0 if value in (0.0, 1.0) else 1)


def p_value(value: float | None) -> str:
    """A p-value to three digits."""
    if value is None:
        return DASH
    return "p < 0.001" if value < 0.0005 else f"p = {value:.3f}"


def bps(value: float | None, digits: int = 1) -> str:
    """A fraction in basis points."""
    return number(None if value is None else 1e4 * value, digits, sign=True, unit="bps")


def day(moment: str | pd.Timestamp) -> str:
    """A time as a date."""
    return f"{pd.Timestamp(moment):%-d %b %Y}"


def typeset(text: str) -> str:
    """A line of plain ASCII figures (from a check) with real signs."""
    words = text.replace(">=", "\N{GREATER-THAN OR EQUAL TO}").replace("<=", "\N{LESS-THAN OR EQUAL TO}")
    out = []
    for word in words.split(" "):
        negative = len(word) > 1 and word[0] == "-" and word[1].isdigit()
        out.append(MINUS + word[1:] if negative else word)
    return " ".join(out).replace(" %", SPACE + "%")


def sentence(text: str) -> str:
    """The text with a capital in front and a full stop behind."""
    return typeset(text[:1].upper() + text[1:].rstrip(".") + ".") if text else ""
