"""Reads and checks the rows of the user's files, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import quote
from pipeline.file_dataset.split_names import SPLIT_WORDS
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
    """The settings for reading files.

    Attributes:
        columns: The names of the columns.
        skip_bad_rows: Whether to skip, and count, rows that cannot be used.
        splits_from_names: Whether a word such as test in the name of a file determines its split.
        positive_label: The label that becomes the second; empty: sorted by `order_labels`.
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
        line: The line number for messages: the last line of a table row, the first of an object.
        text: The text, in UTF-8.
        label: The label; None in the unsupervised split.
        split: The split, from the split column or the file name.
        problem: Why the row cannot be used; empty if it can.
        has_spaced_label: Whether there are spaces around the label.
        split_columns: Unused columns with a name such as `split` that contain a split here.
        other_columns: Unused columns with a name such as `split` that contain something else.
    """

    file: int
    line: int
    text: bytes = b""
    label: str | None = None
    split: str = "train"
    problem: str = ""
    has_spaced_label: bool = False
    split_columns: tuple[str, ...] = ()
    other_columns: tuple[str, ...] = ()


def read_rows(
    splits_of: Mapping[Path, str], columns: Columns, file_format: FileFormat = AUTO
) -> Iterator[Row]:
    """Yields all rows of files, including those that cannot be used.

    Args:
        splits_of: The split of each file.
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
                yield _make_row(number, line, record, columns, split)


def _make_row(file: int, line: int, record: Record | None, columns: Columns, split: str) -> Row:
    """Converts a record to a row; `problem` of the row says why it cannot be used."""
    if record is None:
        return Row(file, line, problem="not a JSON object")
    if None in record:
        return Row(file, line, problem="more fields than the header has")
    text = record.get(columns.text)
    if not isinstance(text, str):
        return Row(file, line, problem=f"no text in {quote(columns.text)}")
    if columns.split:
        word = str(record.get(columns.split) or "").strip().lower()
        if word not in SPLIT_WORDS:
            problem = f"{quote(word)} in {quote(columns.split)} is not a split"
            return Row(file, line, problem=problem)
        split = SPLIT_WORDS[word]
    raw = record.get(columns.label)
    if isinstance(raw, list | dict) and split != "unsupervised":
        kind = "list" if isinstance(raw, list) else "JSON object"
        return Row(file, line, problem=f"a {kind} in {quote(columns.label)} is not a label")
    written = "" if raw is None or split == "unsupervised" else str(raw)
    label = written.strip() or None
    if label is None and split != "unsupervised":
        return Row(file, line, problem=f"no label in {quote(columns.label)}")
    encoded = text.encode("utf-8", "surrogateescape")
    has_spaced_label = written != (label or "")
    return Row(
        file, line, encoded, label, split, "", has_spaced_label, *_unused_splits(record, columns)
    )


def _unused_splits(record: Record, columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns `Row.split_columns` and `Row.other_columns` of a record."""
    if columns.split:
        return (), ()
    with_split: list[str] = []
    without: list[str] = []
    for name, value in record.items():
        if name is None or name.lower() not in _SPLIT_COLUMNS:
            continue
        if name not in (columns.text, columns.label):
            is_split = isinstance(value, str) and value.strip().lower() in SPLIT_WORDS
            (with_split if is_split else without).append(name)
    return tuple(with_split), tuple(without)
