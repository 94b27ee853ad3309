"""Chooses a font that has all characters of a text, or escapes the text."""

from __future__ import annotations

import functools
import logging
from typing import Any

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

_log = logging.getLogger(__name__)

_MAX_CHARACTERS = 20  # the number that fits beside a small picture
_PLACEHOLDER_FONT = "LastResort"  # this font of matplotlib draws a box for every character


@functools.lru_cache(maxsize=64)
def make_drawable(text: str) -> tuple[str, dict[str, Any]]:
    r"""Prepares any text so that matplotlib draws it without a warning.

    Returns:
        The text, shortened and on one line, and keyword arguments for matplotlib's text. If no
        installed font has all its characters, they are escaped, as in `\u6b63`.
    """
    start = text[: _MAX_CHARACTERS + 1]
    text = _shorten("".join(c if c.isprintable() else repr(c)[1:-1] for c in start))
    options: dict[str, Any] = {"parse_math": False}  # draws $ as a character
    default = font_manager.findfont(font_manager.FontProperties())
    if _has_characters(default, text):
        return text, options
    for path in sorted({font.fname for font in font_manager.fontManager.ttflist}):
        if _PLACEHOLDER_FONT not in path and _has_characters(path, text):
            return text, options | {"font": font_manager.FontProperties(fname=path)}
    return _shorten(text.encode("ascii", "backslashreplace").decode(), "..."), options


def _shorten(text: str, end: str = "…") -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - len(end)] + end


@functools.lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError) as error:
        _log.debug("the font %s cannot be read: %s", path, error)
        return frozenset()


def _has_characters(path: str, text: str) -> bool:
    return _characters(path).issuperset(map(ord, text))
