"""Logs warnings about the user's files before training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.errors import quote
from pipeline.file_dataset.parsed_rows import ParsedRows
from pipeline.file_dataset.splitting import Splits
from pipeline.labels import lookalikes

_log = logging.getLogger(__name__)


def log_rows(name: str, rows: ParsedRows) -> None:
    """Logs an unused split column, empty texts, and spaces around labels.

    Args:
        name: The data set, for messages.
        rows: The parsed rows.
    """
    statistics = rows.statistics
    for column in statistics["split_columns"][:1]:
        _log.warning(
            "%s has a column %s with names of splits, which is not used; to use it: "
            "--split_column=%s",
            name,
            quote(column),
            column,
        )
    if statistics["empty_texts"]:
        empty = statistics["empty_texts"]
        _log.warning("%s: %d of %d texts are empty", name, empty, len(rows.splits))
    if statistics["spaced_labels"]:
        spaced = statistics["spaced_labels"]
        _log.info("%s: ignored spaces around the label of %d rows", name, spaced)


def log_labels(name: str, labels: Sequence[str]) -> None:
    """Logs labels that look alike.

    Args:
        name: The data set, for messages.
        labels: The names of the labels.
    """
    for one, other in lookalikes(labels):
        _log.warning(
            "%s: the labels %s and %s look alike, but are two labels; if they mean the same, "
            "write them the same way",
            name,
            quote(one),
            quote(other),
        )


def log_splits(name: str, splits: Splits) -> None:
    """Logs how splits were made, and texts that are in two splits or have two labels.

    Args:
        name: The data set, for messages.
        splits: The splits of the rows.
    """
    for split in sorted(splits.derived_splits):
        _log.info("%s: the %s split is taken from the train split", name, split)
    if splits.dropped:
        _log.info("%s: --drop_duplicates dropped %d examples", name, splits.dropped)
    if splits.unlabelled_dropped:
        _log.info(
            "%s: dropped %d unlabelled texts that are also in validation or test",
            name,
            splits.unlabelled_dropped,
        )
    if splits.copies:
        counts = (f"{n} of {one} in {other}" for (one, other), n in splits.copies.items())
        _log.warning(
            "%s: some texts are in two splits, so results will look too good: %s; to drop them "
            "from the first split: --drop_duplicates",
            name,
            ", ".join(counts),
        )
    if splits.contradictions:
        _log.warning(
            "%s: rows with the same text have different labels, for %d texts",
            name,
            splits.contradictions,
        )
