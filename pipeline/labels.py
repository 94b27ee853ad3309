"""Orders the labels of a data set, and finds labels that look alike."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Sequence

from pipeline.errors import UserError, quote


def order_labels(labels: Iterable[str], *, positive: str = "") -> tuple[str, ...]:
    """Sorts labels: numbers by value, other labels alphabetically.

    For example, -1 comes before 0 and +1. With 0 and 1, neg and pos, no and yes, or false and true,
    the second label is the positive one.

    Args:
        labels: Distinct labels.
        positive: The label to put last; empty to sort all labels.

    Raises:
        UserError: `positive` is not one of the labels.
    """
    labels = list(labels)
    values = {label: _number(label) for label in labels}
    if None in values.values():
        ordered = sorted(labels, key=lambda label: (label.lower(), label))
    else:
        ordered = sorted(labels, key=lambda label: (values[label], label))
    if not positive:
        return tuple(ordered)
    if positive not in ordered:
        raise UserError(
            f"--positive_label={quote(positive)} is not a label of the data set; it has "
            f"{', '.join(map(quote, ordered))}"
        )
    return (*(label for label in ordered if label != positive), positive)


def lookalikes(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs of labels that probably mean the same class.

    They differ only in case, spaces, invisible characters or Unicode form, or are equal as numbers.
    """
    return [
        pair
        for pair in itertools.combinations(labels, 2)
        if _skeleton(pair[0]) == _skeleton(pair[1])
        or (_number(pair[0]) is not None and _number(pair[0]) == _number(pair[1]))
    ]


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
