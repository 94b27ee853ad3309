"""Draws users' text in pictures: in a font that has its characters, or escaped."""

from __future__ import annotations

import functools
import logging
from typing import Any

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

_log = logging.getLogger(__name__)

_LONGEST = 20  # characters that fit beside a small picture
_PLACEHOLDERS = "LastResort"  # a font of matplotlib's whose glyphs are boxes


@functools.lru_cache(maxsize=64)
def drawable(text: str) -> tuple[str, dict[str, Any]]:
    r"""Returns a short text that matplotlib can draw without a warning, and how to draw it.

    Args:
        text: Any text.

    Returns:
        The text, cut and on one line, and keyword arguments for matplotlib's text. Where no
        installed font has all its characters, they are escaped, as in `\u6b63`.
    """
    text = _cut("".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: _LONGEST + 1]))
    options: dict[str, Any] = {"parse_math": False}  # a $ starts no formula
    default = font_manager.findfont(font_manager.FontProperties())
    if _has(default, text):
        return text, options
    for path in sorted({font.fname for font in font_manager.fontManager.ttflist}):
        if _PLACEHOLDERS not in path and _has(path, text):
            return text, options | {"font": font_manager.FontProperties(fname=path)}
    return _cut(text.encode("ascii", "backslashreplace").decode(), "..."), options


def _cut(text: str, end: str = "…") -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(end)] + end


@functools.lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError) as error:
        _log.debug("the font %s cannot be read: %s", path, error)
        return frozenset()


def _has(path: str, text: str) -> bool:
    return _characters(path).issuperset(map(ord, text))
