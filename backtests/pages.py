"""Pages: a template filled, everything escaped, written aside and renamed."""

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from acmf_core import __version__
from backtests.typography import bps, day, number, percent, sentence, typeset

_TEMPLATES: Final = Path(__file__).parent / "templates"
_FILTERS: Final = {
    "percent": percent,
    "number": number,
    "date": day,
    "bps": bps,
    "typeset": typeset,
    "sentence": sentence,
}


def write(template: str, path: str | Path, **context: Any) -> Path:
    """Fill a template of this package and put the page at `path`, whole or not at all; returns the path.

    Texts in `context` are escaped; a template marks what is markup of our own (pictures) as safe.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= _FILTERS
    page = environment.get_template(template).render(version=__version__, **context)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    aside.write_text(page, encoding="utf-8")
    aside.replace(target)
    return target
