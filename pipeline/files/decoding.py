"""Decompresses and decodes the user's files, and detects their encoding."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import gzip
import io
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
_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
# Byte order marks. UTF-32 is first, since its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The first bytes of files that are not text, and a description of such files.
_BINARY_FORMATS = (
    (b"PK\x03\x04", "a zip archive, as .zip and .xlsx files are"),
    (b"\xd0\xcf\x11\xe0", "an old Office document, as .xls files are"),
    (b"PAR1\x15", "a Parquet file"),
    (b"ARROW1\0", "an Arrow file"),
    (b"%PDF-", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"SQLite format 3\0", "a database"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1f\x8b", "compressed twice"),
)
# UTF-16 and UTF-32 by the zeros in four bytes of ASCII text.
_BY_ZEROS = {"x0x0": "utf-16-le", "0x0x": "utf-16-be", "x000": "utf-32-le", "000x": "utf-32-be"}
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"
_MAX_CONTROLS = 8  # a text may have this many control characters
_NON_LATIN = re.compile(rb"[\x80-\xff]{3}")  # three accented Latin letters in a row are rare


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
    for magic, opener in _OPENERS.items():
        # A text may begin with BZh; in bzip2, a digit and the digits of pi follow.
        if start.startswith(magic) and (magic != b"BZh" or start[4:10] == b"1AY&SY"):
            return opener
    return None


def check_not_compressed(start: bytes, name: str) -> None:
    """Checks that the first bytes of a stream, which is not decompressed, are not compressed.

    Raises:
        UserError: They are those of gzip, bzip2 or xz.
    """
    if _find_opener(start):
        raise UserError(
            f"{name} is compressed; decompress it first, for example with gunzip, or name the "
            "file: --input=FILE"
        )


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
    is_given = file_format.encoding != "auto"
    if is_given:
        encoding = codecs.lookup(file_format.encoding).name
        encoding = "utf-8-sig" if encoding == "utf-8" else encoding  # a mark is allowed
    else:
        encoding = guess_encoding(start, str(path))
    try:
        scan = _decode(path, encoding)
    except (UnicodeError, LookupError) as error:
        if is_given:
            surrogates = "it contains surrogates"
            reason = error.reason if isinstance(error, UnicodeDecodeError) else surrogates
            raise UserError(
                f"{path} cannot be read as --encoding={file_format.encoding} ({reason}); "
                "omit --encoding, or name another one"
            ) from error
        raise _wrong_encoding_error(path, encoding, start) from error
    if encoding not in ("utf-8", "utf-8-sig"):
        _log.info("%s is read as %s", path, encoding.upper())
    return scan


def guess_encoding(start: bytes, name: str) -> str:
    """Returns the encoding of the byte order mark, or UTF-8 if there is none.

    `start` are the first bytes of a file; `name` is its name in messages.

    Raises:
        UserError: The bytes are not text, or are UTF-16 or UTF-32 without a mark.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    if error := _not_utf8_error(start, name, share=0.1):
        raise error
    return "utf-8"


def check_not_binary(start: bytes, name: str) -> None:
    """Checks that the first bytes are not those of a known binary format; see `guess_encoding`.

    Raises:
        UserError: The file is in such a format.
    """
    for magic, description in _BINARY_FORMATS:
        if start.startswith(magic):
            raise UserError(
                f"{name} is {description}, not text; export its rows as CSV or JSON Lines"
            )


def _not_utf8_error(start: bytes, name: str, *, share: float) -> UserError | None:
    """Returns an error for UTF-16, UTF-32 and binary data: a larger share of control characters."""
    controls = len(start) - len(start.translate(None, _CONTROL_BYTES))
    has_many = controls > max(share * len(start), _MAX_CONTROLS)
    wide = _guess_by_zeros(start) or (_guess_by_lines(start) if has_many else None)
    if wide:
        return UserError(f"{name} looks like {wide.upper()}; if it is, add --encoding={wide}")
    if has_many:
        return UserError(f"{name} is binary, not text; export its rows as CSV or JSON Lines")
    return None


def _guess_by_zeros(start: bytes) -> str | None:
    """Guesses UTF-16 or UTF-32 from the positions of zero bytes; returns None for neither."""
    count = max(len(start) // 4, 1)
    zeros = "".join("0" if start[i::4].count(0) / count > 0.7 else "x" for i in range(4))
    return _BY_ZEROS.get(zeros)


def _guess_by_lines(start: bytes) -> str | None:
    """Returns the byte order of UTF-16 that decodes the bytes to printable lines, or None."""
    for encoding in ("utf-16-le", "utf-16-be"):
        text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
        is_text = all(c.isprintable() or c in "\t\r\n" for c in text) and "\ufffd" not in text
        if is_text and "\n" in text:
            return encoding
    return None


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
    """Returns the error for a file with lines that are not UTF-8, with a guess of its encoding."""
    bad = first_bad = non_latin = 0
    first_line, has_utf8, is_windows = b"", False, True
    with open_decompressed(path) as file:
        for number, line in enumerate(file, start=1):
            if decodes(line, "utf-8"):
                has_utf8 |= not line.removeprefix(codecs.BOM_UTF8).isascii()
                continue
            if not bad:
                first_bad, first_line = number, line
            bad += 1
            is_windows &= decodes(line, "cp1252")
            non_latin += bool(_NON_LATIN.search(line))
    if has_utf8:
        advice = ", but other lines are; save the whole file as UTF-8"
    elif 2 * non_latin >= bad:
        advice = (
            "; save it as UTF-8, or name its encoding by --encoding, such as cp1251 (Cyrillic), "
            "gb18030 (Chinese), shift_jis (Japanese), euc-kr (Korean) or cp1252 (Western Europe)"
        )
    else:
        name = "cp1252" if is_windows else "latin-1"
        advice = f"; save it as UTF-8, or name its encoding, such as --encoding={name}"
    return UserError(
        f"{bad} lines of {path} are not UTF-8, the first is line {first_bad}: "
        f"{quote(first_line)}{advice}"
    )


def decodes(line: bytes, encoding: str) -> bool:
    """Returns whether a line can be decoded."""
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
