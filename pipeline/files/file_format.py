"""Settings for the format of a file (encoding, delimiter, quoting), and records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.errors import UserError, quote

# The values of a row by column. The key None has the excess fields of a table row.
Record = dict[str | None, Any]

# Columns that hold the split of a row in many public data sets.
SPLIT_COLUMNS = ("split", "fold", "partition", "subset")
QUOTING = ("auto", "csv", "none")
_NAMED_DELIMITERS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


def text_of(record: Record | None, columns: Sequence[str]) -> str:
    """Joins the texts in some columns by a space; leaves out empty and missing ones.

    Raises:
        ValueError: The record cannot be used, or a column has another type; the message says why.
    """
    if record is None:
        raise ValueError("not a JSON object")
    if None in record:
        raise ValueError("more fields than the header has")
    if len(columns) == 1 and isinstance(text := record.get(columns[0]), str):  # saves time
        return text
    found = [value for value in map(record.get, columns) if value is not None]
    other = [f" but {quote(str(value))}" for value in found if not isinstance(value, str)]
    if not found or other:
        place = f"in {quote(','.join(columns))}, which --text_column names"
        raise ValueError(f"no text{''.join(other[:1])} {place}")
    return " ".join(filter(None, found))


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """The format of the user's files; `auto` is detected from the content of each file.

    Raises:
        UserError: A value is invalid.
    """

    encoding: str = "auto"  # or a Python codec such as utf-8, cp1252 or utf-16-le
    delimiter: str = "auto"  # or the character between columns, or a name such as tab
    quoting: str = "auto"  # or csv if quotes enclose fields, none if they belong to the text

    def __post_init__(self) -> None:
        if self.encoding != "auto" and not _is_encoding(self.encoding):
            raise UserError(
                f"--encoding={quote(self.encoding)} is unknown; choose auto, utf-8, cp1252, "
                "latin-1, utf-16 or another of Python's text encodings"
            )
        if self.delimiter not in ("auto", *_NAMED_DELIMITERS) and not _is_delimiter(self.delimiter):
            raise UserError(
                f"--delimiter={quote(self.delimiter)} is not a delimiter; write one character such "
                "as --delimiter=';', or --delimiter=tab, or auto"
            )

    @property
    def separator(self) -> str | None:
        """Returns the character between columns, or None if it must be detected."""
        if self.delimiter == "auto":
            return None
        return _NAMED_DELIMITERS.get(self.delimiter, self.delimiter)


def _is_delimiter(text: str) -> bool:
    return len(text) == 1 and text not in "\r\n\"'\0" and not text.isalnum()


def _is_encoding(name: str) -> bool:
    try:
        "".encode(name)  # raises LookupError for codecs that do not encode text
    except (LookupError, ValueError):
        return False
    return bool(name)


AUTO = FileFormat()
