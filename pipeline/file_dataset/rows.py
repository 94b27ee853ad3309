"""Reads and checks the rows of the user's files, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import quote
from pipeline.file_dataset.split_names import SPLITS
from pipeline.files.file_format import AUTO, FileFormat, Record
from pipeline.files.records import read_records, translate_read_errors

# Columns that hold the split of a row in many public data sets.
_SPLIT_COLUMNS = ("split", "fold", "partition", "subset")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of columns.

    Attributes:
        text: The column with the text.
        label: The column with the label.
        split: The column with train, validation, test or unsupervised; empty for none.
    """

    text: str
    label: str
    split: str


@dataclasses.dataclass(frozen=True)
class FileSettings:
    """How files are read.

    Attributes:
        columns: The names of the columns.
        skip_bad_rows: Whether to leave out, and count, rows that cannot be used.
        splits_from_names: Whether a word such as test in a file's name gives its split.
        positive_label: The label that becomes the second; empty: as `order_labels` sorts them.
        file_format: The format of the files.
    """

    columns: Columns
    skip_bad_rows: bool = False
    splits_from_names: bool = True
    positive_label: str = ""
    file_format: FileFormat = AUTO


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a file.

    Attributes:
        file: The number of the file, in the order of reading.
        line: The line for messages: the last of a table's row, the first of a JSON object.
        text: The text, in UTF-8.
        label: The label; None in the unsupervised split.
        split: The split, from the split column or the file name.
        problem: Why the row cannot be used; empty if it can.
        is_spaced: Whether there are spaces around the label.
        split_columns: Unused columns named like a split column that have a split in this row.
        other_columns: Unused columns named like a split column that do not.
    """

    file: int
    line: int
    text: bytes = b""
    label: str | None = None
    split: str = "train"
    problem: str = ""
    is_spaced: bool = False
    split_columns: tuple[str, ...] = ()
    other_columns: tuple[str, ...] = ()


def read_rows(
    splits_of: Mapping[Path, str], columns: Columns, file_format: FileFormat = AUTO
) -> Iterator[Row]:
    """Yields all rows of files, including those that cannot be used.

    Args:
        splits_of: The split that each file's name gives.
        columns: The names of the columns.
        file_format: The format of the files.

    Raises:
        UserError: A file lacks a column.
        RunError: A file cannot be read.
    """
    for number, (path, split) in enumerate(splits_of.items()):
        needed = [columns.text, columns.split]
        needed += [columns.label] if split != "unsupervised" else []
        with translate_read_errors(path):
            for line, record in read_records(path, needed, file_format):
                yield _check(number, line, record, columns, split)


def _check(file: int, line: int, record: Record | None, columns: Columns, split: str) -> Row:
    """Checks a record, and returns it as a row."""
    if record is None:
        return Row(file, line, problem="not a JSON object")
    if None in record:
        return Row(file, line, problem="more fields than the header has")
    text = record.get(columns.text)
    if not isinstance(text, str):
        return Row(file, line, problem=f"no text in {quote(columns.text)}")
    if columns.split:
        word = str(record.get(columns.split) or "").strip().lower()
        if word not in SPLITS:
            problem = f"{quote(word)} in {quote(columns.split)} is not a split"
            return Row(file, line, problem=problem)
        split = SPLITS[word]
    raw = record.get(columns.label)
    if isinstance(raw, list | dict) and split != "unsupervised":
        kind = "list" if isinstance(raw, list) else "JSON object"
        return Row(file, line, problem=f"a {kind} in {quote(columns.label)} is not a label")
    written = "" if raw is None or split == "unsupervised" else str(raw)
    label = written.strip() or None
    if label is None and split != "unsupervised":
        return Row(file, line, problem=f"no label in {quote(columns.label)}")
    encoded = text.encode("utf-8", "surrogateescape")
    is_spaced = written != (label or "")
    return Row(file, line, encoded, label, split, "", is_spaced, *_unused_splits(record, columns))


def _unused_splits(record: Record, columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the unused columns named like a split column: those with a split here, the others."""
    if columns.split:
        return (), ()
    with_split: list[str] = []
    without: list[str] = []
    for name, value in record.items():
        if name is None or name.lower() not in _SPLIT_COLUMNS:
            continue
        if name not in (columns.text, columns.label):
            is_split = isinstance(value, str) and value.strip().lower() in SPLITS
            (with_split if is_split else without).append(name)
    return tuple(with_split), tuple(without)
