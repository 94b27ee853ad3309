"""Reads texts to score, from a file of any known format or one text per line."""

from __future__ import annotations

import dataclasses
import io
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import UserError, quote
from pipeline.files.decoding import check_not_binary, guess_encoding, open_text
from pipeline.files.file_format import AUTO, FileFormat, Record
from pipeline.files.records import (
    SUFFIXES,
    data_suffix,
    detect_format,
    read_records,
    translate_read_errors,
)
from pipeline.files.tables import DELIMITERS

_log = logging.getLogger(__name__)

# Files with one text per line. Files with other suffixes may have rows, which are not texts.
_LINE_KINDS = ("", ".txt", ".text", ".log")
_JSON_START = re.compile(r'(\[\s*)?\{\s*"')
_START = 10_000  # characters; a header is shorter


@dataclasses.dataclass(frozen=True)
class Text:
    """A text to score.

    Attributes:
        text: The text in UTF-8; any bytes if it was typed or piped.
        kept: The values of other columns to copy to the output, by name.
    """

    text: bytes
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file of texts.

    Args:
        path: CSV, TSV or JSON by its suffix; other text files have one text per line.
        column: The column with the text.
        keep: Other columns to copy to the output.
        file_format: The format of the file.
        skip_bad_rows: Whether to skip, and count, rows that cannot be used.
    """

    path: Path
    column: str
    keep: Sequence[str] = ()
    file_format: FileFormat = AUTO
    skip_bad_rows: bool = False

    def check(self) -> None:
        """Checks that the file can be read, and detects its format.

        Raises:
            UserError: The file has no texts, or lacks a column.
            RunError: The file cannot be read.
        """
        self._check_path()
        if self._is_pipe():
            return
        with translate_read_errors(self.path):
            scan, _ = detect_format(self.path, self._needed, self.file_format, flags=self._flags)
            if self._has_lines():
                self._refuse_records(scan.encoding)

    def read(self) -> Iterator[Text]:
        """Yields the texts in the order of the file, without keeping them in memory.

        Raises:
            UserError: As `check`, or a row cannot be used; the message names its line.
            RunError: The file cannot be read.
        """
        self._check_path()
        if self._is_pipe():
            with translate_read_errors(self.path), self.path.open("rb") as file:
                yield from read_lines(file, self.file_format, str(self.path))
        elif self._has_lines():
            yield from self._lines()
        else:
            yield from self._rows()

    @property
    def _needed(self) -> list[str]:
        return [] if self._has_lines() else [self.column, *self.keep]

    @property
    def _flags(self) -> list[str]:
        """Returns the flags that name columns, for messages."""
        return ["text_column", "keep_columns"] if self.keep else ["text_column"]

    def _has_lines(self) -> bool:
        """Returns whether the file has one text per line, by its suffix."""
        return data_suffix(self.path) not in SUFFIXES

    def _is_pipe(self) -> bool:
        """Returns whether the file is a pipe or device, which can be read only once."""
        return not self.path.is_file()

    def _check_path(self) -> None:
        """Checks that the path is a file that can be read."""
        if self.path.is_dir():
            raise UserError(f"--input={self.path} is a folder; name a file in it")
        if not self.path.exists():
            raise UserError(f"--input={self.path}: there is no such file")
        if self._has_lines() and not self._is_pipe() and data_suffix(self.path) not in _LINE_KINDS:
            raise UserError(
                f"--input={self.path}: {data_suffix(self.path)} files cannot be read; rename it to "
                ".txt if it has one text per line, or export the rows as .csv, .tsv or .jsonl"
            )
        if self._has_lines() and self.keep:
            raise UserError(
                f"--keep_columns={','.join(self.keep)}: {self.path} has no columns; its suffix "
                "is not one of .csv, .tsv, .jsonl"
            )
        if self._is_pipe() and not self._has_lines():
            raise UserError(
                f"--input={self.path} is a pipe or device; tables and JSON are read more than "
                "once, so name a file"
            )

    def _refuse_records(self, encoding: str) -> None:
        """Refuses JSON and tables with the suffix of a text file."""
        with open_text(self.path, encoding) as file:
            start = file.read(_START).lstrip()
        found = ""
        if _JSON_START.match(start):
            found = "JSON; rename it to .json or .jsonl"
        header = next(iter(start.splitlines()), "")
        for delimiter in DELIMITERS:
            names = [name.strip(' "') for name in header.split(delimiter)]
            if len(names) > 1 and self.column in names:
                found = f"a table with a column {quote(self.column)}; rename it to .csv or .tsv"
        if found:
            raise UserError(
                f"--input={self.path} looks like {found}. If it has one text per line, read "
                "it from stdin: --input=- <FILE"
            )

    def _lines(self) -> Iterator[Text]:
        with translate_read_errors(self.path):
            scan, _ = detect_format(self.path, [], self.file_format, flags=self._flags)
            self._refuse_records(scan.encoding)
            newline = scan.line_end
            with open_text(self.path, scan.encoding, newline=newline) as file:
                for line in file:
                    text = line.removesuffix(newline)
                    yield Text((text.removesuffix("\r") if newline == "\n" else text).encode())

    def _rows(self) -> Iterator[Text]:
        count, first_problem = 0, ""
        records = read_records(self.path, self._needed, self.file_format, flags=self._flags)
        for line, record in records:
            problem = self._problem(record)
            if record is not None and not problem:
                kept = {name: record[name] for name in self.keep}
                yield Text(record[self.column].encode(), kept)
            elif self.skip_bad_rows:
                count += 1
                first_problem = first_problem or f"{self.path}:{line}: {problem}"
            else:
                raise UserError(
                    f"{self.path}:{line}: {problem}; to skip such rows: --skip_bad_rows"
                )
        if count:
            _log.warning("skipped %d rows of %s, first: %s", count, self.path, first_problem)

    def _problem(self, record: Record | None) -> str:
        """Returns why a record cannot be used; an empty string if it can."""
        if record is None:
            return "not a JSON object"
        if None in record:
            return "more fields than the header has"
        if not isinstance(record.get(self.column), str):
            return f"no text in {quote(self.column)}; is --text_column={self.column} right?"
        missing = [name for name in self.keep if name not in record]
        return f"no {quote(missing[0])}, which --keep_columns names" if missing else ""


def read_lines(file: IO[bytes], file_format: FileFormat, name: str) -> Iterator[Text]:
    """Yields one text per line as soon as the line arrives.

    Args:
        file: A stream such as stdin.
        file_format: Contains the encoding; `auto` means that of the byte order mark, else UTF-8. In
            that case, lines that are not UTF-8 are yielded unchanged, and a warning counts them.
        name: The name of the stream in messages.

    Raises:
        UserError: The stream is not text, or has another encoding.
    """
    start = file.peek(16)[: 1 << 16] if isinstance(file, io.BufferedReader) else b""
    check_not_binary(start, name)
    encoding = file_format.encoding
    if encoding == "auto":
        encoding = guess_encoding(start, name)
    if encoding == "utf-8":
        yield from _byte_lines(file, name)
        return
    lines = io.TextIOWrapper(file, encoding, newline="\n")
    count = 0
    try:
        for line in lines:
            count += 1
            yield Text(line.removesuffix("\n").removesuffix("\r").encode())
    except UnicodeError as error:
        raise UserError(
            f"line {count + 1} of {name} or one near it is not {encoding.upper()}; name its "
            "encoding: --encoding=NAME"
        ) from error
    finally:
        lines.detach()


def _byte_lines(file: IO[bytes], name: str) -> Iterator[Text]:
    """Yields lines of bytes, and logs the number of lines that are not UTF-8."""
    bad, first = 0, 0
    for number, line in enumerate(file, start=1):
        if not _is_utf8(line):
            bad, first = bad + 1, first or number
        yield Text(line.removesuffix(b"\n").removesuffix(b"\r"))
    if bad:
        _log.warning(
            "%d lines of %s are not UTF-8, the first is line %d; name the encoding, such as "
            "--encoding=cp1252",
            bad,
            name,
            first,
        )


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
