"""The labels of a data set: their names, order and merging, and labels that look alike."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.errors import UserError, quote

MAX_LABELS = 1000  # a column with more distinct values probably has texts or row numbers
_SHOWN = 5  # labels that a message names


def label_text(value: object) -> str | None:
    """Returns a string, UTF-8 bytes, a bool or a number as the name of a label: 4.0 is 4.

    Spaces around it are left out. Returns None for None and NaN. The value may be a NumPy scalar.

    Raises:
        ValueError: The value has another type, or is not valid Unicode; the message names it.
    """
    if not isinstance(value, str):
        value = _to_python(value)
        if value is None:
            return None
    return _strip(str(value))


@functools.lru_cache(MAX_LABELS)  # a file has few labels and many rows
def _strip(name: str) -> str:
    if re.search("[\ud800-\udfff]", name):
        raise ValueError("invalid Unicode")
    return name.strip()


def _to_python(value: object) -> str | int | float | None:
    """Converts a label that is not a string to a Python string or number; None for None and NaN.

    Raises:
        ValueError: The value has another type; the message names it.
    """
    if getattr(value, "size", 1) != 1:
        raise ValueError("an array")
    if hasattr(value, "item"):  # a NumPy scalar; float32 keeps its shortest form, such as 0.1
        value = float(str(value)) if isinstance(value, np.floating) else value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):  # a bool is an int
        raise ValueError(f"a {type(value).__name__}")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def parse_label_map(text: str) -> dict[str, str]:
    r"""Parses new names of labels, such as `1:neg,2:neg,3:pos`; an empty text is an empty map.

    In a label, a colon is written as `\:` and a comma as `\,`. Spaces around labels are ignored.

    Raises:
        UserError: A pair is not OLD:NEW, or a label has two new names.
    """
    mapping: dict[str, str] = {}
    for pair in re.split(r"(?<!\\),", text) if text else ():
        sides = re.split(r"(?<!\\):", pair)
        names = [re.sub(r"\\([:,])", r"\1", side).strip() for side in sides]
        if len(names) != 2 or not all(names):
            raise UserError(
                f"--label_map: {quote(pair)} is not OLD:NEW; write pairs such as "
                r"--label_map=1:neg,2:neg,3:pos, with \: or \, for a colon or comma in a label"
            )
        if names[0] in mapping:
            raise UserError(f"--label_map names {quote(names[0])} twice; give it one new name")
        mapping[names[0]] = names[1]
    return mapping


def choose_labels(
    name: str,
    found: Sequence[str],
    label_map: Mapping[str, str],
    *,
    declared: Sequence[str],
    positive: str,
    expected: Sequence[str] | None,
    question: str,
) -> tuple[str, ...]:
    """Returns the labels of a data set, after renaming, in the order of their numbers.

    `label_map` has new names of the labels that were found; labels with the same new name become
    one. If there are labels of an existing run, they are `expected` and returned; otherwise see
    `order_labels`. Messages have the name of the data set, and a question about the settings that
    choose the labels.

    Raises:
        UserError: There are not 2 to 1,000 labels, a label is not expected, or the label map or
            `positive` names another label.
    """
    labels = list(dict.fromkeys(label_map.get(label, label) for label in found))
    if expected is not None:
        if new := [label for label in labels if label not in expected]:
            pairs = ",".join(map(":".join, [*label_map.items(), (new[0], expected[0])]))
            raise UserError(
                f"{name} has the labels {join_labels(order_labels(labels))}, but the run was "
                f"trained on {join_labels(expected)}; rename them, such as --label_map={pairs}, or "
                "train another run on them: --model_dir=FOLDER"
            )
        return tuple(expected)
    if unknown := [label for label in label_map if label not in found]:
        raise UserError(
            f"--label_map names {quote(unknown[0])}, but the labels of {name} are "
            f"{join_labels(order_labels(found))}; name some of these"
        )
    if not 2 <= len(labels) <= MAX_LABELS:
        count = f"more than {MAX_LABELS} labels" if labels[1:] else f"{len(labels)} label"
        listed = f" ({join_labels(labels)})" if labels else ""
        question = "is --label_map right?" if len(found) > len(labels) == 1 else question
        raise UserError(f"{name} has {count}{listed}; it needs 2 to {MAX_LABELS}; {question}")
    renamed = dict.fromkeys(label_map.get(label, label) for label in declared)
    return order_labels(labels, positive=positive, declared=tuple(renamed))


def order_labels(
    labels: Iterable[str], *, positive: str = "", declared: Sequence[str] = ()
) -> tuple[str, ...]:
    """Sorts labels: in their declared order, or numbers by value and others alphabetically.

    For example, -1 comes before 0 and +1. With 0 and 1, neg and pos, no and yes, or false and true,
    the second label is the positive one; a label named as `positive` is put last. The `declared`
    order, of the data set's authors, is ignored if it lacks a label.

    Raises:
        UserError: `positive` is not one of the labels, or there are more than two.
    """
    labels = list(labels)
    values = {label: _number(label) for label in labels}
    if set(labels) <= set(declared):
        ordered = sorted(labels, key=list(declared).index)
    elif None in values.values():
        ordered = sorted(labels, key=lambda label: (label.lower(), label))
    else:
        ordered = sorted(labels, key=lambda label: (values[label], label))
    if not positive:
        return tuple(ordered)
    if positive not in ordered:
        raise UserError(
            f"--positive_label={quote(positive)} is not a label of the data set; it has "
            f"{join_labels(ordered)}"
        )
    if len(ordered) > 2:
        raise UserError(
            f"--positive_label={quote(positive)} is for two labels, but the data set has "
            f"{len(ordered)}; omit it, or merge labels: --label_map=OLD:NEW,…"
        )
    return (*(label for label in ordered if label != positive), positive)


def join_labels(labels: Sequence[str]) -> str:
    """Quotes the first few labels for a message."""
    return ", ".join(map(quote, labels[:_SHOWN])) + (", …" if len(labels) > _SHOWN else "")


def lookalikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the groups of labels that probably mean the same class.

    They differ only in case, spaces, invisible characters or Unicode form, or are equal as numbers.
    """
    groups: dict[str | float, list[str]] = {}
    for label in labels:
        skeleton = _skeleton(label)
        number = {"false": 0.0, "true": 1.0}.get(skeleton, _number(skeleton))
        groups.setdefault(skeleton if number is None else number, []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _number(label: str) -> float | None:
    """Parses a label as a finite number; returns None if it is not one."""
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _skeleton(label: str) -> str:
    """Returns a label without case, spaces and invisible characters, in one Unicode form."""
    letters = unicodedata.normalize("NFKC", label).casefold()
    visible = (c for c in letters if unicodedata.category(c) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFKC", "".join(visible)).replace(" ", "")
