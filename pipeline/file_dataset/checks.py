"""Checks the user's parsed rows, and logs warnings about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from pipeline.errors import UserError, quote
from pipeline.file_dataset.parsed_rows import SPLIT_NAMES, ParsedRows
from pipeline.file_dataset.sources import ArrayData, FileSource
from pipeline.file_dataset.splitting import Splits
from pipeline.labels import lookalikes

_log = logging.getLogger(__name__)

_Source = FileSource | ArrayData

_SHOWN = 5  # groups of labels that a message names
# If there are more labels than this, fewer examples of each cause a warning; else fewer than 1.5.
_MANY_LABELS, _FEW_EXAMPLES = 50, 10


def check_rows(source: _Source, rows: ParsedRows, *, skip: bool) -> None:
    """Checks that there are usable rows with texts, and logs the rows that are skipped.

    Raises:
        UserError: A row cannot be used, there is no row, or all texts are empty.
    """
    _check_bad_rows(source, rows, skip=skip)
    name, count = source.name, len(rows.splits)
    if not count and rows.statistics["bad_rows"]:
        raise UserError(f"{name}: --skip_bad_rows skips all rows; {source.question}")
    if not count:
        raise UserError(f"{name} has no rows; give rows with a text and a label")
    if rows.statistics["empty_texts"] == count:
        raise UserError(f"all {count} texts of {name} are empty; {source.question}")


def _check_bad_rows(source: _Source, rows: ParsedRows, *, skip: bool) -> None:
    """Refuses rows that cannot be used, or logs that they are skipped."""
    count, first = rows.statistics["bad_rows"], rows.statistics["first_bad_rows"]
    if not count:
        return
    name, files = source.name, source.files
    listed = "; ".join(f"{files[file]}:{line}: {problem}" for file, line, problem in first)
    listed += "; …" if count > len(first) else ""
    if not skip:
        raise UserError(
            f"{count} of {count + len(rows.splits)} rows of {name} cannot be used: {listed}; "
            "correct them, or skip them: --skip_bad_rows"
        )
    _log.warning("skipped %d rows of %s: %s", count, name, listed)


def check_train_split(source: _Source, rows: ParsedRows, splits: Splits) -> None:
    """Checks that the train split has a row.

    Raises:
        UserError: The train split is empty.
    """
    name = source.name
    sizes = {split: len(splits.positions(split)) for split in SPLIT_NAMES}
    if sizes["train"]:
        return
    found = " and ".join(f"{size} in {split}" for split, size in sizes.items() if size)
    if (rows.splits == SPLIT_NAMES.index("train")).any() and splits.derived_splits:
        missing = " and ".join(sorted(splits.derived_splits))
        raise UserError(
            f"{name} has too few different texts for {missing} splits: {found}, and none remain to "
            "train on; add more texts, or files for these splits"
        )
    dropped = ", since --drop_duplicates dropped the others" if splits.dropped else ""
    hint = ""
    if source.has_named_splits:
        hint = "; to ignore the names of files: --splits_from_names=false"
    raise UserError(f"{name} has no row in the train split: {found or 'no rows'}{dropped}{hint}")


def log_findings(source: _Source, rows: ParsedRows, labels: Sequence[str], splits: Splits) -> None:
    """Logs how splits were made, and warnings about rows and labels."""
    _log_rows(source.name, rows)
    _log_labels(source, rows, labels)
    _log_splits(source.name, splits)


def _log_labels(source: _Source, rows: ParsedRows, labels: Sequence[str]) -> None:
    """Logs labels that look alike, and labels that are probably not classes."""
    if groups := lookalikes(labels):
        named = [" and ".join(map(quote, group[:_SHOWN])) for group in groups[:_SHOWN]]
        _log.warning(
            "%s: the labels %s look alike, but are different labels; if they mean the same, merge "
            "them: --label_map=OLD:NEW",
            source.name,
            ", ".join(named) + (", …" if len(groups) > _SHOWN else ""),
        )
    mean = np.count_nonzero(rows.examples.labels >= 0) / len(labels)
    if len(labels) > 2 and mean < (_FEW_EXAMPLES if len(labels) > _MANY_LABELS else 1.5):
        _log.warning(
            "%s has %d labels, with %.1f examples each; they are probably not classes: %s",
            source.name,
            len(labels),
            mean,
            source.question,
        )


def _log_rows(name: str, rows: ParsedRows) -> None:
    """Logs an unused split column, and empty texts."""
    statistics = rows.statistics
    for column in statistics["split_columns"][:1]:
        _log.warning(
            "%s has a column %s with names of splits, which is not used; to use it: "
            "--split_column=%s",
            name,
            quote(column),
            column,
        )
    if empty := statistics["empty_texts"]:
        _log.warning("%s: %d of %d texts are empty", name, empty, len(rows.splits))


def _log_splits(name: str, splits: Splits) -> None:
    """Logs how splits were made, and texts that are in two splits or have two labels."""
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
        counts = (
            f"{n} {one} rows are also in {other}" for (one, other), n in splits.copies.items()
        )
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
