"""The bytes of a user's file as characters: decompressed, and decoded by one encoding."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import gzip
import io
import logging
import lzma
import re
from pathlib import Path
from typing import IO

from pipeline.errors import UserError, shown
from pipeline.files.file_format import FileFormat

COMPRESSED = (".gz", ".bz2", ".xz")

_log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The first bytes of files that are not text, and what such files are.
_BINARY = (
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
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"
_FEW_CONTROLS = 8
_FOREIGN = re.compile(rb"[\x80-\xff]{3}")  # accented Latin letters do not stand so close


@dataclasses.dataclass(frozen=True)
class Content:
    r"""How the characters of a file are written.

    Attributes:
        encoding: The codec that decodes the whole file.
        has_quotes: Whether it contains a `"`.
        line_end: `\r` if lines end in nothing else, else `\n`.
    """

    encoding: str
    has_quotes: bool
    line_end: str


def open_decompressed(path: Path) -> IO[bytes]:
    """Opens a file; gzip, bzip2 and xz are recognized by their first bytes, not by the name."""
    with path.open("rb") as file:
        start = file.read(10)
    for magic, opener in _OPENERS.items():
        # A text may begin with BZh; bzip2 goes on with a digit and the digits of pi.
        if start.startswith(magic) and (magic != b"BZh" or start[4:] == b"1AY&SY"):
            return opener(path)
    return path.open("rb")


def open_text(path: Path, encoding: str, *, newline: str = "") -> io.TextIOWrapper:
    """Opens a file as text, without its byte order mark, line ends untouched.

    Args:
        path: The file.
        encoding: A codec.
        newline: What ends lines, as `open` takes it.
    """
    file = io.TextIOWrapper(open_decompressed(path), encoding, newline=newline)
    try:
        if encoding.endswith(("-le", "-be")) and file.read(1) != "\ufeff":
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def examine(path: Path, file_format: FileFormat) -> Content:
    """Detects the encoding of a file, and decodes all of it as a check.

    Args:
        path: The file.
        file_format: Names the encoding; auto: taken from the byte order mark, else UTF-8.

    Raises:
        UserError: The file is not text, or has another encoding.
    """
    with open_decompressed(path) as file:
        start = file.read(1 << 16)
    refuse_binary(start, str(path))
    given = file_format.encoding != "auto"
    encoding = _normal(file_format.encoding) if given else guess_encoding(start, str(path))
    try:
        content = _decode(path, encoding)
    except (UnicodeError, LookupError) as error:
        if given:
            raise UserError(
                f"{path} is not encoded in --encoding={file_format.encoding} ({_reason(error)}); "
                "leave --encoding out, or name another"
            ) from error
        raise _wrong_encoding(path, encoding, start) from error
    if encoding not in ("utf-8", "utf-8-sig"):
        _log.info("%s is read as %s", path, encoding.upper())
    return content


def guess_encoding(start: bytes, name: str) -> str:
    """Returns the encoding of the byte order mark, or UTF-8 if there is none.

    Args:
        start: The first bytes.
        name: What messages call the file.

    Raises:
        UserError: The bytes are not text, or UTF-16 or UTF-32 without a mark.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if wide := _unmarked(start):
        raise _wide(name, wide)
    if _has_controls(start, share=0.1):
        raise _binary(name, start)
    return "utf-8"


def _binary(name: str, start: bytes) -> UserError:
    """Says what a file with many control characters is: UTF-16 of any script, or no text."""
    if wide := _unmarked_lines(start):
        return _wide(name, wide)
    return UserError(f"{name} is binary, not text; export its rows as CSV or JSON Lines")


def _wide(name: str, encoding: str) -> UserError:
    return UserError(f"{name} looks like {encoding.upper()}; if it is, add --encoding={encoding}")


def refuse_binary(start: bytes, name: str) -> None:
    """Refuses files whose first bytes show that they are not text.

    Args:
        start: The first bytes.
        name: What messages call the file.

    Raises:
        UserError: The file is of another kind.
    """
    for magic, what in _BINARY:
        if start.startswith(magic):
            raise UserError(f"{name} is {what}, not text; export its rows as CSV or JSON Lines")


def _has_controls(start: bytes, *, share: float) -> bool:
    """Says whether more than a share, and more than a few, of the bytes are control characters."""
    controls = len(start) - len(start.translate(None, _CONTROLS))
    return controls > max(share * len(start), _FEW_CONTROLS)


def _unmarked(start: bytes) -> str | None:
    """Guesses UTF-16 or UTF-32 from the places of zero bytes; None if it is neither."""
    places = [[start[place::4].count(0) / max(len(start) // 4, 1)] for place in range(4)]
    is_zero = tuple(share > 0.7 for (share,) in places)
    return {
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
    }.get(is_zero)


def _unmarked_lines(start: bytes) -> str | None:
    """Names the UTF-16 in which these bytes are lines of text, if any; of letters of any script."""
    for encoding in ("utf-16-le", "utf-16-be"):
        text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
        is_text = all(c.isprintable() or c in "\t\r\n" for c in text) and "\ufffd" not in text
        if is_text and "\n" in text:
            return encoding
    return None


def _normal(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    return "utf-8-sig" if name == "utf-8" else name


def _decode(path: Path, encoding: str) -> Content:
    """Decodes a whole file.

    Raises:
        UnicodeError: It has another encoding, or contains surrogates.
    """
    has_quotes = has_feed = has_return = False
    with open_text(path, encoding) as file:
        while block := file.read(_BLOCK):
            block.encode()  # raises for surrogates, which some codecs accept
            has_quotes = has_quotes or '"' in block
            has_feed = has_feed or "\n" in block
            has_return = has_return or "\r" in block
    return Content(encoding, has_quotes, "\r" if has_return and not has_feed else "\n")


def _wrong_encoding(path: Path, encoding: str, start: bytes) -> UserError:
    if encoding not in ("utf-8", "utf-8-sig"):
        return UserError(f"{path} begins as {encoding.upper()}, but is damaged: save it again")
    if _has_controls(start, share=0.02):
        return _binary(str(path), start)
    bad, first, is_windows, is_mixed = 0, (0, b""), True, False
    foreign = 0  # lines in another script
    with open_decompressed(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                is_mixed = is_mixed or not line.decode().removeprefix("\ufeff").isascii()
            except UnicodeDecodeError:
                bad, first = bad + 1, first if bad else (number, line)
                is_windows = is_windows and _decodes(line, "cp1252")
                foreign += bool(_FOREIGN.search(line))
    what = f"{bad} lines of {path} are not UTF-8, the first is line {first[0]}: {shown(first[1])}"
    if is_mixed:
        return UserError(f"{what}, but others are: it has two encodings; save all of it as UTF-8")
    if 2 * foreign >= bad:
        return UserError(
            f"{what}; save it as UTF-8, or name its encoding by --encoding, such as cp1251 "
            "(Cyrillic), gb18030 (Chinese), shift_jis (Japanese), euc-kr (Korean) or cp1252 "
            "(Western Europe)"
        )
    name = "cp1252" if is_windows else "latin-1"
    return UserError(f"{what}; save it as UTF-8, or name its encoding, such as --encoding={name}")


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, UnicodeDecodeError) else "it has surrogates"
