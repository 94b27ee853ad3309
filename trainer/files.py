"""Files that are there whole or not at all, and a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from pipeline.errors import Fault

_FULL = (errno.ENOSPC, errno.EDQUOT)
# How TensorFlow and CUDA word that there is no memory.
_NO_MEMORY = ("out of memory", "out_of_memory", "oom when", "allocate", "cannot allocate memory")


def is_full_disk(error: BaseException) -> bool:
    """Says whether an error is of a full disk, or of a quota of disk space.

    TensorFlow raises one class for a full disk, too little memory and too many open files, with
    the system's own words for the first and the last.
    """
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return any(os.strerror(number) in (error.message or "") for number in _FULL)
    return getattr(error, "errno", None) in _FULL


def is_memory(error: BaseException) -> bool:
    """Says whether an error is of too little memory, the processor's or a GPU's."""
    if isinstance(error, MemoryError):
        return True
    message = (getattr(error, "message", None) or "").lower()
    return isinstance(error, tf.errors.OpError) and any(word in message for word in _NO_MEMORY)


@contextlib.contextmanager
def full_disk_told(what: str, folder: Path) -> Iterator[None]:
    """Turns what is raised where a disk is full into a Fault that people can act upon.

    Args:
        what: What is being written.
        folder: Where it goes.

    Raises:
        Fault: There is no room for it.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if not is_full_disk(error):
            raise
        free = shutil.disk_usage(folder).free
        raise Fault(
            f"the disk is full: {what} cannot be written to {folder}, where {free / 1e6:.1f} MB "
            "are free; make room and type the same command again, it goes on"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and puts what was written in the place of another, whole.

    Args:
        path: What is to be replaced, or made.

    Raises:
        Fault: The disk is full; what was there is there still.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # of a process that was killed; or a link to somewhere else
    try:
        with full_disk_told(path.name, path.parent):
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())  # or, after a power cut, the name may be of nothing
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)
