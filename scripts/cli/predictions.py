r"""Formats the output of predict: a row of TSV or a line of JSON for each text.

In TSV, a backslash, tab, line feed or carriage return in a label, a text or another column is
written as two characters: `\\`, `\t`, `\n`, `\r`. All other bytes are unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, quote

if TYPE_CHECKING:
    from pipeline.files.texts import Text
    from trainer.artifacts.trained_run import Explanation

_ESCAPES = ((b"\\", rb"\\"), (b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r"))
_RESERVED = ("label", "probability", "probabilities", "text", "baseline", "words")
# Indices in xterm's 256 colours, from weak to strong; 0 is no colour.
_GREENS, _REDS = (0, 194, 157, 120), (0, 224, 217, 210)


def check_keep_columns(names: Sequence[str], text_columns: Sequence[str]) -> None:
    """Checks the names in --keep_columns.

    Raises:
        UserError: The output already uses a name, or a name occurs twice.
    """
    for name in names:
        if name in text_columns:
            raise UserError(f"--keep_columns: {quote(name)} is the text, which is always written")
        if name in _RESERVED:
            raise UserError(
                f"--keep_columns: {quote(name)} is a name that the output uses; rename that column"
            )
        if names.count(name) > 1:
            raise UserError(f"--keep_columns names {quote(name)} twice")


def _choose(probabilities: Mapping[str, float], threshold: float | None) -> tuple[str, float]:
    """Returns the predicted label and its probability; of two labels, that of the second one."""
    label = max(probabilities, key=lambda name: probabilities[name])
    if len(probabilities) != 2:
        return label, probabilities[label]
    first, second = probabilities
    if threshold is not None:
        label = second if probabilities[second] >= threshold else first
    return label, probabilities[second]


def format_header(kept: Sequence[str], *, has_words: bool) -> bytes:
    """Formats the names of the columns of `format_tsv`; the last one is the explanation."""
    names = ["label", "probability", "text", *kept, *(["words"] if has_words else [])]
    return b"\t".join(_escape(name.encode(errors="replace")) for name in names)


def format_tsv(
    probabilities: Mapping[str, float],
    text: Text,
    explanation: Explanation | None = None,
    *,
    threshold: float | None = None,
    use_colors: bool = False,
) -> bytes:
    """Formats a row without a line end: label, probability, text, kept columns, explanation."""
    if explanation and use_colors:
        shown_text = _color_tokens(explanation).encode()
    else:
        shown_text = _escape(text.text)
    label, probability = _choose(probabilities, threshold)
    row = [_escape(label.encode(errors="replace")), f"{probability:.6f}".encode(), shown_text]
    row += [_escape(_format_value(value).encode(errors="replace")) for value in text.kept.values()]
    if explanation and not use_colors:
        pairs = zip(explanation.tokens, explanation.contributions, strict=True)
        row.append(_escape(" ".join(f"{token}={added:+.3f}" for token, added in pairs).encode()))
    return b"\t".join(row)


def format_json(
    probabilities: Mapping[str, float],
    text: Text,
    explanation: Explanation | None = None,
    *,
    threshold: float | None = None,
) -> bytes:
    """Formats a JSON object, without a line end; bytes that are not UTF-8 become U+FFFD."""
    decoded = text.text.decode(errors="replace")
    label, probability = _choose(probabilities, threshold)
    content: dict[str, Any] = {
        "label": label,
        "probability": probability,
        "probabilities": probabilities,
    }
    content |= {"text": decoded, **text.kept}
    if explanation:
        content["baseline"] = explanation.baseline
        pairs = zip(explanation.tokens, explanation.contributions.tolist(), strict=True)
        content["words"] = list(pairs)
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")


def _escape(text: bytes) -> bytes:
    """Escapes the characters that would end a column or a row."""
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text


def _format_value(value: Any) -> str:  # noqa: ANN401 a JSON value may have any type
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _color_tokens(explanation: Explanation) -> str:
    """Colours the tokens: green if they raise the probability of the second label, red if not."""
    largest = max(abs(explanation.contributions).max(), 1e-9)
    colored = []
    for token, added in zip(explanation.tokens, explanation.contributions, strict=True):
        shade = int(abs(added) / largest * len(_GREENS) - 1e-6)
        color = (_GREENS if added > 0 else _REDS)[shade]
        colored.append(f"\x1b[30;48;5;{color}m{token}\x1b[0m" if color else token)
    return " ".join(colored)
