"""Files that are there whole or not at all, and a disk that is full."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.errors import RunError, translate_disk_full

# Of the names of folders in which files are written before they are renamed.
_PREFIX, _SUFFIX = ".text-sentiment-", ".unfinished"
# Words in errors of TensorFlow and CUDA when there is no memory.
_NO_MEMORY = ("out of memory", "out_of_memory", "oom when", "allocate", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error means too little memory, of the machine or a GPU."""
    if isinstance(error, MemoryError):
        return True
    message = (getattr(error, "message", None) or "").lower()
    return isinstance(error, tf.errors.OpError) and any(word in message for word in _NO_MEMORY)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and puts what was written in the place of another, whole.

    The path is in a new folder with a unique name, beside the other path. A file that is
    replaced keeps its permissions; a link is replaced, not followed.

    Args:
        path: What is to be replaced, or made.

    Raises:
        RunError: The disk is full; what was there is there still.
        OSError: It cannot be written; its `filename` is `path`.
    """
    with translate_disk_full(path.name, path.parent), unfinished_folder(path) as folder:
        new = folder / "new"
        yield new
        with contextlib.suppress(FileNotFoundError):
            if not path.is_symlink():
                new.chmod(stat.S_IMODE(path.stat().st_mode))
        with new.open("rb") as file:
            os.fsync(file.fileno())  # else the file may be empty after a power cut
        with _error_names(path):
            new.replace(path)


@contextlib.contextmanager
def unfinished_folder(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """Makes a folder for content that is renamed when it is whole; removes it at the end.

    Args:
        path: Where its content goes when it is whole.
        beside: The folder is made beside this; None: beside `path`.

    Raises:
        OSError: No folder can be made there; its `filename` is `path`.
    """
    with _error_names(path):
        folder = tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=(beside or path).parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(folder: Path, *, older_than: float = 0.0) -> None:
    """Removes what killed processes have left behind in `replacing`.

    Args:
        folder: A folder of a run, whose lock this process holds.
        older_than: Seconds; 0 where only the holder of the lock writes files.
    """
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        is_old = time.time() - path.lstat().st_mtime >= older_than
        if is_old and not path.is_symlink() and {file.name for file in path.iterdir()} <= {"new"}:
            shutil.rmtree(path)


@contextlib.contextmanager
def _error_names(path: Path) -> Iterator[None]:
    """Makes an OSError name the path that the user knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes JSON whole or not at all."""
    with replacing(path) as new:
        new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote.

    Raises:
        RunError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete it and run again") from error
