"""The rows of a user's files: checked, one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import shown
from pipeline.file_dataset.split_names import SPLITS
from pipeline.files.file_format import AUTO, FileFormat
from pipeline.files.records import read_records, translate_read_errors

# Columns that hold the split of a row in many public data sets.
_SPLIT_COLUMNS = ("split", "fold", "partition", "subset")


@dataclasses.dataclass(frozen=True)
class Columns:
    """What a file's columns are called.

    Attributes:
        text: The column of texts.
        label: The column of labels.
        split: The column that says train, validation, test or unsupervised; empty for none.
    """

    text: str
    label: str
    split: str


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of a file.

    Attributes:
        file: The number of the file among those that are read.
        line: The line that messages name: the last of a table's row, the first of a JSON object.
        text: UTF-8.
        label: None if the split is unlabelled.
        split: The split that the row, or the name of its file, gives.
        fault: What is wrong with the row; empty when it can be used.
        spaced: Whether there are spaces around the label.
        splits: Unused split columns that name a split in this row.
        others: Unused split columns that do not.
    """

    file: int
    line: int
    text: bytes = b""
    label: str | None = None
    split: str = "train"
    fault: str = ""
    spaced: bool = False
    splits: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def read_rows(
    splits_of: Mapping[Path, str], columns: Columns, file_format: FileFormat = AUTO
) -> Iterator[Row]:
    """Reads all rows of files, including those that cannot be used.

    Args:
        splits_of: The files, and the split that each one's name gives.
        columns: What the columns are called.
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
                yield _row(number, line, record, columns, split)


def _row(file: int, line: int, record: dict | None, columns: Columns, split: str) -> Row:
    """Checks a record."""
    if record is None:
        return Row(file, line, fault="not a JSON object")
    if None in record:
        return Row(file, line, fault="more fields than the header has")
    text = record.get(columns.text)
    if not isinstance(text, str):
        return Row(file, line, fault=f"no text in {shown(columns.text)}")
    if columns.split:
        word = str(record.get(columns.split) or "").strip().lower()
        if word not in SPLITS:
            return Row(file, line, fault=f"{shown(columns.split)} says {shown(word)}, not a split")
        split = SPLITS[word]
    raw = record.get(columns.label)
    if isinstance(raw, list | dict) and split != "unsupervised":
        kind = "list" if isinstance(raw, list) else "JSON object"
        return Row(file, line, fault=f"a {kind} in {shown(columns.label)}, no label")
    written = "" if raw is None or split == "unsupervised" else str(raw)
    label = written.strip() or None
    if label is None and split != "unsupervised":
        return Row(file, line, fault=f"no label in {shown(columns.label)}")
    encoded = text.encode("utf-8", "surrogateescape")
    spaced = written != (label or "")
    return Row(file, line, encoded, label, split, "", spaced, *_unused_splits(record, columns))


def _unused_splits(record: dict, columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Finds unused split columns: those that name a split in this row, and the others."""
    if columns.split:
        return (), ()
    found: tuple[list[str], list[str]] = ([], [])
    used = (columns.text, columns.label)
    for name, value in record.items():
        if name.lower() in _SPLIT_COLUMNS and name not in used:
            is_split = isinstance(value, str) and value.strip().lower() in SPLITS
            found[not is_split].append(name)
    return tuple(found[0]), tuple(found[1])
