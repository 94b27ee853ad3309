"""The errors that commands report in one line, and functions to quote values in messages."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_LIMIT = 80  # characters
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class _ProgramError(Exception):
    """An error with a message that names settings as flags, such as `--epochs=5`.

    The commands print this message. As a string, for Python, it names settings as `epochs=5`.
    """

    @property
    def message(self) -> str:
        """Returns the message with flags."""
        return str(self.args[0])

    def __str__(self) -> str:
        """Returns the message with settings; whole commands in it are unchanged."""
        is_command = "python -m" in self.message
        return self.message if is_command else re.sub(r"(?<!\S)--(?=[a-z])", "", self.message)


class UserError(_ProgramError):
    """An error that the user can correct; the message says how. Exit code 1."""


class RunError(_ProgramError):
    """Damaged data, a full disk, too little memory or a number that is not finite. Exit code 2."""


def quote(value: object) -> str:
    """Quotes a value for a message: at most 80 characters; … marks that it was shortened.

    Strings and bytes, decoded as UTF-8, are put in quotes; other values are formatted by `repr`.
    Control characters and other characters that do not print are escaped.
    """
    if isinstance(value, bytes):
        value = value[: 4 * _LIMIT + 4].decode(errors="backslashreplace")
    if not isinstance(value, str):
        return shorten(escape(repr(value)))
    # Shorten before escaping, since a value may have megabytes. The closing quote is never cut off.
    return f"'{shorten(escape(value[: _LIMIT + 1]))}'"


def escape(text: str) -> str:
    r"""Escapes characters that do not print, as Python's `repr` does: a line break becomes `\n`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten(text: str, limit: int = _LIMIT) -> str:
    """Shortens a text to at most `limit` characters; … marks that it was shortened."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


@contextlib.contextmanager
def translate_disk_full(name: str, folder: Path) -> Iterator[None]:
    """Translates errors about a full disk into a RunError that says what to do.

    The message says that `name`, a file or its content, cannot be written to `folder`.

    Raises:
        RunError: The disk is full. Other errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if not _is_disk_full(error):
            raise
        free = shutil.disk_usage(folder).free
        raise RunError(
            f"the disk is full: {name} cannot be written to {folder}, where {free / 1e6:.1f} MB "
            "are free; make room and run the same command again to resume"
        ) from error


def _is_disk_full(error: BaseException) -> bool:
    """Returns whether an error means that a disk is full, or that a disk quota is used up."""
    # TensorFlow raises ResourceExhaustedError for a full disk, too little memory and too many open
    # files. Only for a full disk does its message contain the operating system's text. The class is
    # compared by name because importing TensorFlow would make --help slow.
    if type(error).__name__ == "ResourceExhaustedError":
        return any(os.strerror(number) in str(error) for number in _DISK_FULL)
    return getattr(error, "errno", None) in _DISK_FULL
