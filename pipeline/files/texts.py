"""Reads texts to score, from a file of any known format or one text per line."""

from __future__ import annotations

import dataclasses
import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import UserError, quote
from pipeline.files.decoding import (
    FileScan,
    check_not_binary,
    decodes,
    guess_encoding,
    open_text,
    scan_file,
)
from pipeline.files.file_format import AUTO, FileFormat, Record, text_of
from pipeline.files.records import (
    SUFFIX_LIST,
    SUFFIXES,
    data_suffix,
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
    """A text to score."""

    text: bytes  # in UTF-8; any bytes if it was typed or piped
    # The values of other columns to copy to the output, by name.
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_texts(
    path: Path,
    columns: Sequence[str],
    keep: Sequence[str] = (),
    file_format: FileFormat = AUTO,
    *,
    skip_bad_rows: bool = False,
) -> Iterator[Text]:
    """Checks a file and detects its format, and returns an iterator over its texts.

    Args:
        path: CSV, TSV, JSON or Parquet by its suffix; other text files have one text per line.
        columns: The columns with the text, which are joined by a space.
        keep: Other columns to copy to the output.
        file_format: The format of the file.
        skip_bad_rows: Whether to skip, and count, rows that cannot be used.

    Returns:
        The texts in the order of the file; they are not kept in memory.

    Raises:
        UserError: The file has no texts, or lacks a column. The iterator raises it for a row that
            cannot be used; the message names its line.
        RunError: The file cannot be read.
    """
    has_lines = data_suffix(path) not in SUFFIXES
    _check_path(path, keep, has_lines=has_lines)
    if not path.is_file():
        return _read_pipe(path, file_format)
    if has_lines:
        with translate_read_errors(path):
            scan = scan_file(path, file_format)
            _refuse_records(path, scan.encoding, columns)
        return _read_file_lines(path, scan)
    flags = ["text_column", "keep_columns"] if keep else ["text_column"]
    records = read_records(path, [*columns, *keep], file_format, flags)
    return _read_rows(path, records, columns, keep, skip_bad_rows=skip_bad_rows)


def _check_path(path: Path, keep: Sequence[str], *, has_lines: bool) -> None:
    """Checks that a path is a file that can be read."""
    suffix, is_pipe = data_suffix(path), not path.is_file()
    if path.is_dir():
        raise UserError(f"--input={path} is a folder; name a file in it")
    if not path.exists():
        raise UserError(f"--input={path}: there is no such file")
    if has_lines and not is_pipe and suffix not in _LINE_KINDS:
        raise UserError(
            f"--input={path}: {suffix} files cannot be read; rename it to .txt if it has one text "
            f"per line, or export the rows as one of {SUFFIX_LIST}"
        )
    if has_lines and keep:
        raise UserError(
            f"--keep_columns={','.join(keep)}: {path} has no columns; its suffix is not one of "
            f"{SUFFIX_LIST}"
        )
    if is_pipe and not has_lines:
        raise UserError(
            f"--input={path} is a pipe or device; only lines of text can be read from it, so name "
            "a file"
        )


def _refuse_records(path: Path, encoding: str, columns: Sequence[str]) -> None:
    """Refuses JSON and tables with the suffix of a text file."""
    with open_text(path, encoding) as file:
        start = file.read(_START).lstrip()
    found = ""
    if _JSON_START.match(start):
        found = "JSON; rename it to .json or .jsonl"
    header = next(iter(start.splitlines()), "")
    for delimiter in DELIMITERS:
        names = [name.strip(' "') for name in header.split(delimiter)]
        if len(names) > 1 and set(columns) <= set(names):
            found = f"a table with a column {quote(columns[0])}; rename it to .csv or .tsv"
    if found:
        raise UserError(
            f"--input={path} looks like {found}. If it has one text per line, read it from stdin: "
            "--input=- <FILE"
        )


def _read_pipe(path: Path, file_format: FileFormat) -> Iterator[Text]:
    with translate_read_errors(path), path.open("rb") as file:
        yield from read_lines(file, file_format, str(path))


def _read_file_lines(path: Path, scan: FileScan) -> Iterator[Text]:
    newline = scan.line_end
    with translate_read_errors(path), open_text(path, scan.encoding, newline=newline) as file:
        for line in file:
            text = line.removesuffix(newline)
            yield Text((text.removesuffix("\r") if newline == "\n" else text).encode())


def _read_rows(
    path: Path,
    records: Iterable[tuple[int, Record | None]],
    columns: Sequence[str],
    keep: Sequence[str],
    *,
    skip_bad_rows: bool,
) -> Iterator[Text]:
    count, first_problem = 0, ""
    for line, record in records:
        try:
            text, kept = text_of(record, columns), _values(record or {}, keep)
        except ValueError as error:
            problem = f"{path}:{line}: {error}"
            if not skip_bad_rows:
                raise UserError(f"{problem}; to skip such rows: --skip_bad_rows") from error
            count, first_problem = count + 1, first_problem or problem
            continue
        yield Text(text.encode(), kept)
    if count:
        _log.warning("skipped %d rows of %s, first: %s", count, path, first_problem)


def _values(record: Record, keep: Sequence[str]) -> dict[str, Any]:
    """Returns the values of the columns to copy; raises a ValueError if one is missing."""
    if missing := [name for name in keep if name not in record]:
        raise ValueError(f"no {quote(missing[0])}, which --keep_columns names")
    return {name: record[name] for name in keep}


def read_lines(file: IO[bytes], file_format: FileFormat, name: str) -> Iterator[Text]:
    """Yields one text per line as soon as the line arrives.

    Args:
        file: A stream such as stdin.
        file_format: Contains the encoding; `auto` means that of the byte order mark, else UTF-8. In
            that case, lines that are not UTF-8 are yielded unchanged, and a warning counts them.
        name: The name of the stream in messages.

    Raises:
        UserError: The stream is not text, is compressed, or has another encoding.
    """
    start = file.peek(16)[: 1 << 16] if isinstance(file, io.BufferedReader) else b""
    check_not_binary(start, name)
    encoding = file_format.encoding
    if encoding == "auto":
        encoding = guess_encoding(start, name)
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    lines = io.TextIOWrapper(file, encoding, errors, newline="\n")
    count = bad = first_bad = 0
    try:
        for line in lines:
            count += 1
            text = line.removesuffix("\n").removesuffix("\r").encode("utf-8", errors)
            if not decodes(text, "utf-8"):
                bad, first_bad = bad + 1, first_bad or count
            yield Text(text)
    except UnicodeError as error:
        raise UserError(
            f"line {count + 1} of {name} or one near it is not {encoding.upper()}; name its "
            "encoding: --encoding=NAME"
        ) from error
    finally:
        lines.detach()
    if bad:
        _log.warning(
            "%d lines of %s are not UTF-8, the first is line %d; name the encoding, such as "
            "--encoding=cp1252",
            bad,
            name,
            first_bad,
        )
