r"""What predict writes for each text: a row of TSV or a line of JSON.

In TSV, a backslash, tab, line feed or carriage return in a label, a text or another column is
written as two characters: `\\`, `\t`, `\n`, `\r`. All other bytes are unchanged.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, quote

if TYPE_CHECKING:
    from pipeline.files.texts import Text
    from trainer.artifacts.trained_run import Explanation

_ESCAPES = ((b"\\", rb"\\"), (b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_OWN_NAMES = ("label", "probability", "probabilities", "text", "baseline", "words")
_GREENS, _REDS = (0, 194, 157, 120), (0, 224, 217, 210)  # of 256 terminal colours; 0: none


def check_kept(names: Sequence[str], text_column: str) -> None:
    """Refuses kept columns whose names an answer uses already.

    Args:
        names: The names in --keep_columns.
        text_column: The column of the text, which an answer has too.

    Raises:
        UserError: There is such a name, or a name occurs twice.
    """
    for name in names:
        if name == text_column:
            raise UserError(f"--keep_columns: {quote(name)} is the text, which each answer has")
        if name in _OWN_NAMES:
            raise UserError(
                f"--keep_columns: answers have a {quote(name)} of their own; rename that column"
            )
        if names.count(name) > 1:
            raise UserError(f"--keep_columns names {quote(name)} twice")


def tsv(
    label: str,
    probability: float,
    text: Text,
    explanation: Explanation | None = None,
    *,
    is_coloured: bool = False,
) -> bytes:
    """Makes a row: label, probability, text, kept columns, explanation; without its line end."""
    start = f"{probability:.6f}".encode()
    shown_text = escaped(text.text)
    if explanation and is_coloured:
        shown_text = _coloured(explanation).encode()
    kept = [escaped(_plain(value).encode()) for value in text.kept.values()]
    row = [escaped(label.encode(errors="replace")), start, shown_text, *kept]
    if explanation and not is_coloured:
        pairs = zip(explanation.words, explanation.weights, strict=True)
        row.append(escaped(" ".join(f"{w}={x:+.3f}" for w, x in pairs).encode()))
    return b"\t".join(row)


def jsonl(
    label: str, probability: float, text: Text, explanation: Explanation | None = None
) -> bytes:
    """Makes a JSON object, without its line end; bytes that are not UTF-8 become U+FFFD."""
    decoded = text.text.decode(errors="replace")
    content = {"label": label, "probability": probability, "text": decoded, **text.kept}
    if explanation:
        content["baseline"] = explanation.baseline
        pairs = zip(explanation.words, explanation.weights.tolist(), strict=True)
        content["words"] = [list(pair) for pair in pairs]
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")


def escaped(text: bytes) -> bytes:
    """Escapes what would end a column or a row, as two characters."""
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text


def has_colours(*, is_stdout: bool) -> bool:
    """Says whether explanations are shown by colours."""
    return is_stdout and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _plain(value: Any) -> str:  # noqa: ANN401 JSON is of any type
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _coloured(explanation: Explanation) -> str:
    """Marks words that speak for the second label in green, for the first in red."""
    most = max(abs(explanation.weights).max(), 1e-9)
    words = []
    for word, weight in zip(explanation.words, explanation.weights, strict=True):
        shade = int(abs(weight) / most * len(_GREENS) - 1e-6)
        color = (_GREENS if weight > 0 else _REDS)[shade]
        words.append(f"\x1b[30;48;5;{color}m{word}\x1b[0m" if color else word)
    return " ".join(words)
