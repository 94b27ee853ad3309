"""Reads and checks the rows of the user's files, one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError, quote
from pipeline.file_dataset.split_names import SPLIT_WORDS
from pipeline.files.file_format import AUTO, SPLIT_COLUMNS, FileFormat, Record, text_of
from pipeline.files.records import read_records
from pipeline.labels import label_text

_LABEL, _SPLIT = 0, 1  # positions in the names of `make_row`


@dataclasses.dataclass(frozen=True)
class RowSettings:
    """The settings for reading rows; data in memory has no columns and no format."""

    text_columns: tuple[str, ...]  # are joined by a space
    label_column: str
    split_column: str  # with train, validation, test or unsupervised; empty for none
    skip_bad_rows: bool = False  # whether to skip, and count, rows that cannot be used
    splits_from_names: bool = True  # whether a word in the name of a file determines its split
    positive_label: str = ""  # as in `choose_labels`
    label_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    file_format: FileFormat = AUTO


class Row(NamedTuple):  # a dataclass would take four times as long to create
    """A row of a file, or of data in memory."""

    file: int  # the number of the file, in the order of reading
    line: int  # for messages: the last line of a table row, the first of an object
    text: bytes = b""  # in UTF-8
    label: str | None = None  # None in the unsupervised split
    split: str = "train"  # from the split column or the file name
    problem: str = ""  # why the row cannot be used; empty if it can
    split_columns: tuple[str, ...] = ()  # unused columns such as `fold` that contain a split here

    def content(self) -> bytes:
        """Returns bytes that determine text, label and split, for a hash of several rows."""
        label = (self.label or "").encode()
        # With the lengths, different rows cannot give the same bytes.
        return f"{len(self.text)} {len(label)} {self.split}\n".encode() + self.text + label


def read_rows(splits_of: Mapping[Path, str], settings: RowSettings) -> Iterator[Row]:
    """Yields all rows of files, including those that cannot be used.

    `splits_of` has the split of each file.

    Raises:
        UserError: A file lacks a column.
        RunError: A file cannot be read.
    """
    unseen = set(settings.text_columns)
    used = {*settings.text_columns, settings.label_column}
    for number, (path, split) in enumerate(splits_of.items()):
        needed = [*settings.text_columns, settings.split_column]
        needed += [settings.label_column] if split != "unsupervised" else []
        for line, record in read_records(path, needed, settings.file_format):
            if unseen:
                unseen.difference_update(record or ())
            row = _make_file_row(number, line, record, settings, split)
            if record and not settings.split_column and not record.keys() <= used:
                row = row._replace(split_columns=_split_columns(record, used))
            yield row
    if 0 < len(unseen) < len(settings.text_columns):  # in JSON, where no row must have a column
        raise UserError(
            f"no row has the column {quote(min(unseen))}, which --text_column="
            f"{','.join(settings.text_columns)} names; is it right?"
        )


def _make_file_row(
    file: int, line: int, record: Record | None, settings: RowSettings, split: str
) -> Row:
    """Converts a record to a row."""
    try:
        text, record = text_of(record, settings.text_columns), record or {}
    except ValueError as error:
        return Row(file, line, problem=str(error))
    word = record.get(settings.split_column) if settings.split_column else split
    label = record.get(settings.label_column)
    return make_row(file, line, text, label, word, (settings.label_column, settings.split_column))


def _split_columns(record: Record, used: Set[str]) -> tuple[str, ...]:
    """Returns the unused columns, such as `fold`, whose value names a split."""
    return tuple(
        name
        for name, value in record.items()
        if name and name.lower() in SPLIT_COLUMNS and name not in used
        if isinstance(value, str) and value.strip().lower() in SPLIT_WORDS
    )


def make_row(
    file: int, line: int, text: object, label: object, word: object, names: Sequence[str] = ()
) -> Row:
    """Checks the values of a row; `problem` of the row says why it cannot be used.

    The `word` is that of the split. The `names` are the columns of label and split, for messages.
    """

    def in_column(index: int) -> str:  # names are quoted only for messages, which saves time
        return f" in {quote(names[index])}" if names else ""

    if not isinstance(text, str | bytes):
        is_missing = text is None or str(text) in ("nan", "<NA>")  # as pandas writes them
        problem = "no text" if is_missing else f"no text but {quote(str(text))}"
        return Row(file, line, problem=problem)
    word = word.decode(errors="replace") if isinstance(word, bytes) else str(word)
    split = SPLIT_WORDS.get(word.strip().lower(), "")
    if not split:
        problem = f"{quote(word)}{in_column(_SPLIT)} is not a split, such as train or test"
        return Row(file, line, problem=problem)
    try:
        if isinstance(text, bytes):
            text.decode()
        name = "" if split == "unsupervised" else label_text(label)
    except UnicodeDecodeError:
        return Row(file, line, problem="the text is not UTF-8")
    except ValueError as error:
        return Row(file, line, problem=f"{error}{in_column(_LABEL)} is not a label")
    if not name and split != "unsupervised":
        return Row(file, line, problem=f"no label{in_column(_LABEL)}")
    text = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return Row(file, line, text, name or None, split)
