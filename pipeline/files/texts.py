"""Reads texts to score: from a file of any known format, or one text per line."""

from __future__ import annotations

import dataclasses
import io
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import UserError, shown
from pipeline.files.decoding import guess_encoding, open_text, refuse_binary
from pipeline.files.file_format import AUTO, FileFormat
from pipeline.files.records import SUFFIXES, kind, prepare, read_records, translate_read_errors
from pipeline.files.tables import DELIMITERS

_log = logging.getLogger(__name__)

# Files with one text per line. Others may hold rows, whose columns would be scored as texts.
_LINE_KINDS = ("", ".txt", ".text", ".log")
_JSON_START = re.compile(r'(\[\s*)?\{\s*"')
_START = 10_000  # characters in which a header ends


@dataclasses.dataclass(frozen=True)
class Text:
    """A text to score.

    Attributes:
        text: UTF-8, or any bytes if it was typed or piped.
        kept: The values of the other columns that were asked for, by their names.
    """

    text: bytes
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file of texts.

    Args:
        path: CSV, TSV or JSON by its suffix; other text files have one text per line.
        column: The column of the text.
        keep: The other columns that are wanted.
        file_format: The format of the file.
        skip_bad_rows: Whether to leave out, and count, rows that have no text.
    """

    path: Path
    column: str
    keep: Sequence[str] = ()
    file_format: FileFormat = AUTO
    skip_bad_rows: bool = False

    def check(self) -> None:
        """Checks that the file can be read, and detects its format.

        Raises:
            UserError: It is not a file of texts, or lacks a column.
            RunError: It cannot be read.
        """
        self._check_path()
        if self._is_stream():
            return
        with translate_read_errors(self.path):
            content, _ = prepare(self.path, self._needed, self.file_format, flags=self._flags)
            if self._is_lines():
                self._refuse_records(content.encoding)

    def read(self) -> Iterator[Text]:
        """Yields the texts in their order, without keeping them in memory.

        Raises:
            UserError: As `check`; or a row has no text: the message names its line.
            RunError: The file cannot be read.
        """
        self._check_path()
        if self._is_stream():
            with translate_read_errors(self.path), self.path.open("rb") as file:
                yield from read_lines(file, self.file_format, str(self.path))
        elif self._is_lines():
            yield from self._lines()
        else:
            yield from self._rows()

    @property
    def _needed(self) -> list[str]:
        return [] if self._is_lines() else [self.column, *self.keep]

    @property
    def _flags(self) -> list[str]:
        return ["text_column", "keep_columns"] if self.keep else ["text_column"]

    def _is_lines(self) -> bool:
        return kind(self.path) not in SUFFIXES

    def _is_stream(self) -> bool:
        return not self.path.is_file()

    def _check_path(self) -> None:
        if self.path.is_dir():
            raise UserError(f"--input={self.path} is a folder; name a file in it")
        if not self.path.exists():
            raise UserError(f"--input={self.path}: there is no such file")
        if self._is_lines() and not self._is_stream() and kind(self.path) not in _LINE_KINDS:
            raise UserError(
                f"--input={self.path}: {kind(self.path)} files are not read; name it .txt if it "
                "has one text per line, or export the rows as .csv, .tsv or .jsonl"
            )
        if self._is_lines() and self.keep:
            raise UserError(
                f"--keep_columns={','.join(self.keep)}: {self.path} has no columns; its suffix "
                "is none of .csv, .tsv, .jsonl"
            )
        if self._is_stream() and not self._is_lines():
            raise UserError(
                f"--input={self.path} is a pipe or device; tables and JSON are read more than "
                "once, so name a file"
            )

    def _refuse_records(self, encoding: str) -> None:
        """Refuses JSON and tables under the name of a text file.

        Raises:
            UserError: It begins with a JSON object, or its first line names the column of the texts.
        """
        with open_text(self.path, encoding) as file:
            start = file.read(_START).lstrip()
        what = ""
        if _JSON_START.match(start):
            what = "JSON; name it .json or .jsonl"
        header = next(iter(start.splitlines()), "")
        for delimiter in DELIMITERS:
            names = [name.strip(' "') for name in header.split(delimiter)]
            if len(names) > 1 and self.column in names:
                what = f"a table with a column {shown(self.column)}; name it .csv or .tsv"
        if what:
            raise UserError(
                f"--input={self.path} looks like {what}. If it has one text per line, read it from "
                "stdin: --input=- <FILE"
            )

    def _lines(self) -> Iterator[Text]:
        with translate_read_errors(self.path):
            content, _ = prepare(self.path, [], self.file_format, flags=self._flags)
            self._refuse_records(content.encoding)
            newline = content.line_end
            with open_text(self.path, content.encoding, newline=newline) as file:
                for line in file:
                    text = line.removesuffix(newline)
                    yield Text((text.removesuffix("\r") if newline == "\n" else text).encode())

    def _rows(self) -> Iterator[Text]:
        faults: list[str] = []
        count = 0
        records = read_records(self.path, self._needed, self.file_format, flags=self._flags)
        for line, record in records:
            fault = self._fault(record)
            if not fault:
                kept = {name: record[name] for name in self.keep}
                yield Text(record[self.column].encode(), kept)
            elif self.skip_bad_rows:
                count += 1
                faults = faults or [f"{self.path}:{line}: {fault}"]
            else:
                raise UserError(
                    f"{self.path}:{line}: {fault}; --skip_bad_rows leaves such rows out"
                )
        if count:
            _log.warning("left out %d rows of %s: %s", count, self.path, "; ".join(faults))

    def _fault(self, record: dict | None) -> str:
        """Says what is wrong with a record, if anything."""
        if record is None:
            return "not a JSON object"
        if None in record:
            return "more fields than the header has"
        if not isinstance(record.get(self.column), str):
            return f"no text in {shown(self.column)}; is --text_column={self.column} right?"
        lacking = [name for name in self.keep if name not in record]
        return f"no {shown(lacking[0])}, which --keep_columns names" if lacking else ""


def read_lines(file: IO[bytes], file_format: FileFormat, name: str) -> Iterator[Text]:
    """Reads one text per line, as the lines arrive.

    Args:
        file: A stream such as stdin.
        file_format: With the encoding auto, lines are UTF-8, or UTF-16 or UTF-32 with a byte order
            mark; lines that are not UTF-8 are kept as they are, and a warning counts them.
        name: What messages call the stream.

    Raises:
        UserError: It is not text, or has another encoding.
    """
    start = file.peek(16)[: 1 << 16] if isinstance(file, io.BufferedReader) else b""
    refuse_binary(start, name)
    encoding = file_format.encoding
    if encoding == "auto":
        encoding = guess_encoding(start, name)
    if encoding == "utf-8":
        yield from _byte_lines(file, name)
        return
    lines = io.TextIOWrapper(file, encoding, newline="\n")
    read = 0
    try:
        for line in lines:
            read += 1
            yield Text(line.removesuffix("\n").removesuffix("\r").encode())
    except UnicodeError as error:
        raise UserError(
            f"line {read + 1} of {name} or one near it is not {encoding.upper()}; name the right "
            "--encoding"
        ) from error
    finally:
        lines.detach()


def _byte_lines(file: IO[bytes], name: str) -> Iterator[Text]:
    bad, first = 0, 0
    for number, line in enumerate(file, start=1):
        if not is_utf8(line):
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


def is_utf8(text: bytes) -> bool:
    """Says whether bytes are UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
