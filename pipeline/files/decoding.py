"""Decompresses and decodes the user's files, and detects their encoding."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import gzip
import io
import json
import logging
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from pipeline.errors import UserError, quote
from pipeline.files.file_format import FileFormat

COMPRESSED = (".gz", ".bz2", ".xz")

_log = logging.getLogger(__name__)

_BLOCK = 1 << 20
# By the first bytes. A text may begin with BZh; in bzip2, a digit and the digits of pi follow.
_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    rb"\x1f\x8b": gzip.GzipFile,
    rb"BZh[1-9]1AY&SY": bz2.BZ2File,
    rb"\xfd7zXZ\x00": lzma.LZMAFile,
}
# The first bytes of .zip and .xlsx, .xls, Parquet, Arrow, PDF, RTF, SQLite, Zstandard and 7-Zip.
_BINARY_STARTS = (
    *(b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1\x15", b"ARROW1\0", b"%PDF-", b"{\\rtf"),
    *(b"SQLite format 3\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf"),
)
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"
_MAX_CONTROLS = 8  # a text may have this many control characters


@dataclasses.dataclass(frozen=True)
class FileScan:
    """The results of decoding a whole file."""

    encoding: str  # the codec that decodes the whole file
    has_quotes: bool  # whether the file contains a "
    line_end: str  # "\r" if the file has "\r" but no "\n", else "\n"


def open_decompressed(path: Path) -> IO[bytes]:
    """Opens a file; detects gzip, bzip2 and xz by their first bytes, not by the name."""
    with path.open("rb") as file:
        opener = _find_opener(file.read(10))
    # typeshed does not declare GzipFile as IO[bytes]
    return cast(IO[bytes], opener(path)) if opener else path.open("rb")


def _find_opener(start: bytes) -> Callable[[Path], io.BufferedIOBase] | None:
    """Returns what opens a file with these first bytes; None if it is not compressed."""
    found = (opener for pattern, opener in _OPENERS.items() if re.match(pattern, start))
    return next(found, None)


def open_text(path: Path, encoding: str, *, newline: str = "") -> io.TextIOWrapper:
    """Opens a file as text, without its byte order mark; `newline` is as in `open`."""
    file = io.TextIOWrapper(open_decompressed(path), encoding, newline=newline)
    try:
        if encoding.endswith(("-le", "-be")) and file.read(1) != "\ufeff":
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def scan_file(path: Path, file_format: FileFormat) -> FileScan:
    """Detects the encoding of a file, and decodes all of it to check this encoding.

    If the encoding of the format is `auto`, it is that of the byte order mark, else UTF-8.

    Raises:
        UserError: The file is not text, or is not in this encoding.
    """
    with open_decompressed(path) as file:
        start = file.read(1 << 16)
    check_not_binary(start, str(path))
    given = file_format.encoding
    if given == "auto":
        encoding = guess_encoding(start, str(path))
    else:
        encoding = codecs.lookup(given).name
        encoding = "utf-8-sig" if encoding == "utf-8" else encoding  # a mark is allowed
    try:
        scan = _decode(path, encoding)
    except (UnicodeError, LookupError) as error:
        if given == "auto":
            raise _wrong_encoding_error(path, encoding, start) from error
        raise UserError(
            f"{path} cannot be read as --encoding={given} ({getattr(error, 'reason', error)}); "
            "omit --encoding, or name another one"
        ) from error
    if encoding not in ("utf-8", "utf-8-sig"):
        _log.info("%s is read as %s", path, encoding.upper())
    return scan


def guess_encoding(start: bytes, name: str) -> str:
    """Returns the encoding of the byte order mark, or UTF-8 if there is none.

    `start` are the first bytes of a file; `name` is its name in messages.

    Raises:
        UserError: The bytes are not text, or are UTF-16 or UTF-32 without a mark.
    """
    if (encoding := json.detect_encoding(start)) in ("utf-8-sig", "utf-16", "utf-32"):
        return encoding
    if error := _not_utf8_error(start, name, share=0.1):
        raise error
    return "utf-8"


def check_not_binary(start: bytes, name: str) -> None:
    """Checks the first bytes of a file that is decompressed, or of a stream; see `guess_encoding`.

    Raises:
        UserError: They are those of a known binary format, or are compressed.
    """
    if start.startswith(_BINARY_STARTS) or _find_opener(start):
        raise _binary_error(name)


def _binary_error(name: str) -> UserError:
    return UserError(
        f"{name} is binary or still compressed, not text; decompress it, or export its rows as CSV "
        "or JSON Lines (rename a Parquet file to .parquet)"
    )


def _not_utf8_error(start: bytes, name: str, *, share: float) -> UserError | None:
    """Returns an error for UTF-16, UTF-32 and binary data: a larger share of control characters."""
    controls = len(start) - len(start.translate(None, _CONTROL_BYTES))
    wide = json.detect_encoding(start)
    if wide != "utf-8" and start.count(0) > share * len(start):
        return UserError(f"{name} looks like {wide.upper()}; if it is, add --encoding={wide}")
    has_many = controls > max(share * len(start), _MAX_CONTROLS)
    return _binary_error(name) if has_many else None


def _decode(path: Path, encoding: str) -> FileScan:
    """Decodes a whole file, and returns its properties; raises UnicodeError if it cannot."""
    has_quotes = has_feed = has_return = False
    with open_text(path, encoding) as file:
        while block := file.read(_BLOCK):
            block.encode()  # raises for surrogates, which some codecs accept
            has_quotes = has_quotes or '"' in block
            has_feed = has_feed or "\n" in block
            has_return = has_return or "\r" in block
    return FileScan(encoding, has_quotes, "\r" if has_return and not has_feed else "\n")


def _wrong_encoding_error(path: Path, encoding: str, start: bytes) -> UserError:
    """Returns the error for a file that cannot be decoded, with a guess of its encoding."""
    if encoding not in ("utf-8", "utf-8-sig"):
        return UserError(f"{path} begins as {encoding.upper()}, but is damaged; save it again")
    return _not_utf8_error(start, str(path), share=0.02) or _bad_lines_error(path)


def _bad_lines_error(path: Path) -> UserError:
    """Returns the error for a file with lines that are not UTF-8."""
    numbers, first_line, has_utf8 = [], b"", False
    with open_decompressed(path) as file:
        for number, line in enumerate(file, start=1):
            if decodes(line, "utf-8"):
                has_utf8 |= not line.isascii()
            else:
                numbers.append(number)
                first_line = first_line or line
    advice = (
        ", but other lines are; save the whole file as UTF-8"
        if has_utf8
        else "; save it as UTF-8, or name its encoding by --encoding, such as cp1252 (Western "
        "Europe), cp1251 (Cyrillic), gb18030 (Chinese), shift_jis (Japanese) or euc-kr (Korean)"
    )
    return UserError(
        f"{len(numbers)} lines of {path} are not UTF-8, the first is line {numbers[0]}: "
        f"{quote(first_line)}{advice}"
    )


def decodes(line: bytes, encoding: str) -> bool:
    """Returns whether a line can be decoded."""
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
