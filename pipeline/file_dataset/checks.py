"""Checks the user's parsed rows, and logs warnings about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.errors import UserError, quote
from pipeline.file_dataset.parsed_rows import ParsedRows
from pipeline.file_dataset.sources import ArrayData, FileSource
from pipeline.file_dataset.splitting import Splits
from pipeline.labels import lookalikes

_log = logging.getLogger(__name__)

_Source = FileSource | ArrayData

_SHOWN = 5  # groups of labels that a message names


def check_rows(source: _Source, rows: ParsedRows, *, skip: bool) -> None:
    """Checks that there are usable rows with texts, and logs the rows that are skipped.

    Raises:
        UserError: A row cannot be used, there is no row, or all texts are empty.
    """
    name, files, count = source.name, source.files, len(rows.splits)
    bad, first = rows.statistics["bad_rows"], rows.statistics["first_bad_rows"]
    listed = "; ".join(f"{files[file]}:{line}: {problem}" for file, line, problem in first)
    listed += "; …" if bad > len(first) else ""
    if bad and not skip:
        raise UserError(
            f"{bad} of {bad + count} rows of {name} cannot be used: {listed}; correct them, or "
            "skip them: --skip_bad_rows"
        )
    if bad:
        _log.warning("skipped %d rows of %s: %s", bad, name, listed)
    if not count:
        found = f" ({listed})" if bad else ""
        raise UserError(f"{name} has no rows with a text and a label{found}; {source.question}")
    if rows.statistics["empty_texts"] == count:
        raise UserError(f"all {count} texts of {name} are empty; {source.question}")


def log_findings(name: str, rows: ParsedRows, labels: Sequence[str], splits: Splits) -> None:
    """Logs how splits were made, and warnings about rows and labels."""
    for column in rows.statistics["split_columns"][:1]:
        _log.warning(
            "%s has a column %s with names of splits, which is not used; to use it: "
            "--split_column=%s",
            name,
            quote(column),
            column,
        )
    if empty := rows.statistics["empty_texts"]:
        _log.warning("%s: %d of %d texts are empty", name, empty, len(rows.splits))
    if groups := lookalikes(labels):
        named = [" and ".join(map(quote, group[:_SHOWN])) for group in groups[:_SHOWN]]
        _log.warning(
            "%s: the labels %s look alike, but are different labels; if they mean the same, merge "
            "them: --label_map=OLD:NEW",
            name,
            ", ".join(named) + (", …" if len(groups) > _SHOWN else ""),
        )
    _log_splits(name, splits)


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
