"""The errors that end a command with one line on stderr, and how values appear in messages."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_LIMIT = 80
_FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """The command cannot do what the user typed; the message says what to type instead. Exit 1."""


class RunError(Exception):
    """Data, a disk or a number is broken; the message says which. Exit code 2."""


def shown(value: object) -> str:
    """Quotes a value for a message.

    Args:
        value: A string gets quotes. Bytes are decoded as UTF-8 first. Any other value is shown by
            `repr`.

    Returns:
        At most 80 characters of it, with … where it is cut. Control characters and other
        characters that do not print are escaped.
    """
    if isinstance(value, bytes):
        value = value[: 4 * _LIMIT + 4].decode(errors="backslashreplace")
    if not isinstance(value, str):
        return cut(escaped(repr(value)))
    # Cut before escaping, since a value may have megabytes; the end quote is always there.
    return f"'{cut(escaped(value[: _LIMIT + 1]))}'"


def escaped(text: str) -> str:
    r"""Writes characters that do not print as Python does: a line break is `\n`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str, limit: int = _LIMIT) -> str:
    """Shortens a text to a number of characters, with … at the end where it is cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_disk_full(error: BaseException) -> bool:
    """Returns whether an error means that a disk, or a quota of it, is full.

    TensorFlow raises ResourceExhaustedError for a full disk, too little memory and too many open
    files. Its message has the system's words for the first. TensorFlow is not imported here.
    """
    if type(error).__name__ == "ResourceExhaustedError":
        return any(os.strerror(number) in str(error) for number in _FULL)
    return getattr(error, "errno", None) in _FULL


@contextlib.contextmanager
def translate_disk_full(what: str, folder: Path) -> Iterator[None]:
    """Translates errors about a full disk into a RunError that says what to do.

    Args:
        what: What is written.
        folder: Where it is written.

    Raises:
        RunError: The disk is full. Other errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(folder).free
        raise RunError(
            f"the disk is full: {what} cannot be written to {folder}, where {free / 1e6:.1f} MB "
            "are free; make room and type the same command again to resume"
        ) from error
