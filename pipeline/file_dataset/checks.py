"""Checks the parsed rows of the user's files, orders their labels, and logs warnings about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError, quote
from pipeline.file_dataset.parsed_rows import SPLIT_NAMES, ParsedRows
from pipeline.file_dataset.rows import FileSettings
from pipeline.file_dataset.splitting import Splits
from pipeline.labels import lookalikes, order_labels

_log = logging.getLogger(__name__)

_SHOWN = 5  # labels that a message names


def check_rows(name: str, files: Sequence[Path], rows: ParsedRows, settings: FileSettings) -> None:
    """Checks that there are usable rows with texts, and logs the rows that are skipped.

    `name` is the data set, for messages; `files` are in the order of their numbers in `rows`.

    Raises:
        UserError: A row cannot be used, there is no row, or all texts are empty.
    """
    _check_bad_rows(name, files, rows, skip=settings.skip_bad_rows)
    count = len(rows.splits)
    if not count and rows.statistics["bad_rows"]:
        raise UserError(
            f"{name}: --skip_bad_rows skips all rows; are --text_column="
            f"{settings.text_column} and --label_column={settings.label_column} right?"
        )
    if not count:
        raise UserError(f"{name} has no rows; name files with a text and a label in each row")
    if rows.statistics["empty_texts"] == count:
        raise UserError(
            f"all {count} texts of {name} are empty, in the column {quote(settings.text_column)}; "
            "is --text_column right?"
        )


def _check_bad_rows(name: str, files: Sequence[Path], rows: ParsedRows, *, skip: bool) -> None:
    """Refuses rows that cannot be used, or logs that they are skipped."""
    count, first = rows.statistics["bad_rows"], rows.statistics["first_bad_rows"]
    if not count:
        return
    listed = "; ".join(f"{files[file]}:{line}: {problem}" for file, line, problem in first)
    listed += "; …" if count > len(first) else ""
    if not skip:
        raise UserError(
            f"{count} of {count + len(rows.splits)} rows of {name} cannot be used: {listed}; "
            "correct them, or skip them: --skip_bad_rows"
        )
    _log.warning("skipped %d rows of %s: %s", count, name, listed)


def choose_label_order(
    name: str,
    files: Sequence[Path],
    rows: ParsedRows,
    *,
    positive: str,
    expected: Sequence[str] | None,
) -> tuple[str, ...]:
    """Returns the two labels in the order of their numbers, 0 and 1; see `check_rows`.

    The order is that of an existing run, `expected`, or else that of `order_labels`.

    Raises:
        UserError: There are not two labels, or not the expected ones.
    """
    found = rows.statistics["labels"]
    labels = [label for label, *_ in found]
    if expected is not None and set(labels) != set(expected):
        raise UserError(
            f"{name} has the labels {_join(sorted(labels))}, but the run was trained on "
            f"{_join(sorted(expected))}; rename the labels, or train another run on them: "
            "--model_dir=FOLDER"
        )
    if len(labels) != 2:
        quoted = [f"{quote(label)} ({files[file]}:{line})" for label, file, line in found]
        alike = lookalikes(labels[:_SHOWN])
        hint = f"; {quote(alike[0][0])} and {quote(alike[0][1])} look alike" if alike else ""
        number = "one label" if len(labels) == 1 else f"{len(labels)} different labels"
        raise UserError(
            f"{name} has {number}, not two: "
            f"{', '.join(quoted[:_SHOWN])}{', …' if len(labels) > _SHOWN else ''}{hint}; "
            "is --label_column right?"
        )
    return order_labels(labels, positive=positive) if expected is None else tuple(expected)


def check_train_split(name: str, rows: ParsedRows, splits: Splits, *, by_names: bool) -> None:
    """Checks that the train split has a row; `by_names`: splits come from file names.

    Raises:
        UserError: The train split is empty.
    """
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
    hint = "; to ignore the names of files: --splits_from_names=false" if by_names else ""
    raise UserError(f"{name} has no row in the train split: {found or 'no rows'}{dropped}{hint}")


def log_findings(name: str, rows: ParsedRows, labels: Sequence[str], splits: Splits) -> None:
    """Logs how splits were made, and warnings about rows and labels."""
    _log_rows(name, rows)
    for one, other in lookalikes(labels):
        _log.warning(
            "%s: the labels %s and %s look alike, but are two labels; if they mean the same, "
            "write them the same way",
            name,
            quote(one),
            quote(other),
        )
    _log_splits(name, splits)


def _log_rows(name: str, rows: ParsedRows) -> None:
    """Logs an unused split column, empty texts, and spaces around labels."""
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
    if spaced := statistics["spaced_labels"]:
        _log.info("%s: ignored spaces around the label of %d rows", name, spaced)


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


def _join(labels: Sequence[str]) -> str:
    return ", ".join(map(quote, labels[:_SHOWN])) + (", …" if len(labels) > _SHOWN else "")
