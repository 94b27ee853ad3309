"""Reads and checks the rows of the user's files, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import quote
from pipeline.file_dataset.split_names import SPLIT_WORDS
from pipeline.files.file_format import AUTO, FileFormat, Record
from pipeline.files.records import read_records

# Columns that hold the split of a row in many public data sets.
_SPLIT_COLUMNS = ("split", "fold", "partition", "subset")


@dataclasses.dataclass(frozen=True)
class FileSettings:
    """The settings for reading files.

    Attributes:
        text_column: The column with the text.
        label_column: The column with the label.
        split_column: The column with train, validation, test or unsupervised; empty for none.
        skip_bad_rows: Whether to skip, and count, rows that cannot be used.
        splits_from_names: Whether a word such as test in the name of a file determines its split.
        positive_label: The label that becomes the second; empty: sorted by `order_labels`.
        file_format: The format of the files.
    """

    text_column: str
    label_column: str
    split_column: str
    skip_bad_rows: bool = False
    splits_from_names: bool = True
    positive_label: str = ""
    file_format: FileFormat = AUTO


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a file."""

    file: int  # the number of the file, in the order of reading
    line: int  # for messages: the last line of a table row, the first of an object
    text: bytes = b""  # in UTF-8
    label: str | None = None  # None in the unsupervised split
    split: str = "train"  # from the split column or the file name
    problem: str = ""  # why the row cannot be used; empty if it can
    has_spaced_label: bool = False  # whether there are spaces around the label
    # Unused columns with a name such as `split`, and whether they contain a split here.
    unused_columns: dict[str, bool] = dataclasses.field(default_factory=dict)


def read_rows(splits_of: Mapping[Path, str], settings: FileSettings) -> Iterator[Row]:
    """Yields all rows of files, including those that cannot be used.

    `splits_of` has the split of each file.

    Raises:
        UserError: A file lacks a column.
        RunError: A file cannot be read.
    """
    for number, (path, split) in enumerate(splits_of.items()):
        needed = [settings.text_column, settings.split_column]
        needed += [settings.label_column] if split != "unsupervised" else []
        for line, record in read_records(path, needed, settings.file_format):
            yield _make_row(number, line, record, settings, split)


def _make_row(
    file: int, line: int, record: Record | None, settings: FileSettings, split: str
) -> Row:
    """Converts a record to a row; `problem` of the row says why it cannot be used."""
    if record is None:
        return Row(file, line, problem="not a JSON object")
    if None in record:
        return Row(file, line, problem="more fields than the header has")
    text = record.get(settings.text_column)
    if not isinstance(text, str):
        return Row(file, line, problem=f"no text in {quote(settings.text_column)}")
    if settings.split_column:
        word = str(record.get(settings.split_column) or "").strip().lower()
        if word not in SPLIT_WORDS:
            problem = f"{quote(word)} in {quote(settings.split_column)} is not a split"
            return Row(file, line, problem=problem)
        split = SPLIT_WORDS[word]
    raw = record.get(settings.label_column)
    if isinstance(raw, list | dict) and split != "unsupervised":
        kind = "list" if isinstance(raw, list) else "JSON object"
        problem = f"a {kind} in {quote(settings.label_column)} is not a label"
        return Row(file, line, problem=problem)
    written = "" if raw is None or split == "unsupervised" else str(raw)
    label = written.strip() or None
    if label is None and split != "unsupervised":
        return Row(file, line, problem=f"no label in {quote(settings.label_column)}")
    has_spaced_label = written != (label or "")
    unused = {} if settings.split_column else _unused_columns(record, settings)
    return Row(file, line, text.encode(), label, split, "", has_spaced_label, unused)


def _unused_columns(record: Record, settings: FileSettings) -> dict[str, bool]:
    """Returns `Row.unused_columns` of a record."""
    return {
        name: isinstance(value, str) and value.strip().lower() in SPLIT_WORDS
        for name, value in record.items()
        if name is not None and name.lower() in _SPLIT_COLUMNS
        if name not in (settings.text_column, settings.label_column)
    }
