"""Writes files atomically, and recognizes errors that mean too little memory."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.errors import RunError, translate_disk_full

# Names of the temporary folders in which files are written before they are renamed.
_PREFIX, _SUFFIX = ".text-sentiment-", ".unfinished"
# Phrases in errors of TensorFlow and CUDA that mean too little memory.
_NO_MEMORY = ("out of memory", "out_of_memory", "oom when", "allocate", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that the machine or a GPU has too little memory."""
    if isinstance(error, MemoryError):
        return True
    message = (getattr(error, "message", None) or "").lower()
    return isinstance(error, tf.errors.OpError) and any(phrase in message for phrase in _NO_MEMORY)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replaces a file atomically: yields a temporary path, and renames it to `path` at the end.

    The temporary path is in a new folder beside `path`. A replaced file keeps its permissions. A
    link is replaced, not followed. If the block fails, the old file remains.

    Raises:
        RunError: The disk is full.
        OSError: The file cannot be written; `filename` of the error is `path`.
    """
    with translate_disk_full(path.name, path.parent), unfinished_folder(path) as folder:
        new = folder / "new"
        yield new
        with contextlib.suppress(FileNotFoundError):
            if not path.is_symlink():
                new.chmod(stat.S_IMODE(path.stat().st_mode))
        with new.open("rb") as file:
            os.fsync(file.fileno())  # otherwise a power failure may leave an empty file
        with _error_names(path):
            new.replace(path)


@contextlib.contextmanager
def unfinished_folder(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """Creates a temporary folder for content that is renamed to `path`; finally deletes it.

    The folder is created beside `beside`; None: beside `path`.

    Raises:
        OSError: The folder cannot be created; `filename` of the error is `path`.
    """
    # The name is chosen first, so that a signal right after `mkdir` leaves no folder.
    folder = (beside or path).parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
    try:
        with _error_names(path):
            folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(folder: Path, *, older_than: float = 0.0) -> None:
    """Deletes the temporary folders of `replacing` that killed processes left in a run's folder.

    This process must hold the lock of the run. `older_than` is the minimum age in seconds; 0 if
    only the holder of the lock writes to the folder.
    """
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        is_old = time.time() - path.lstat().st_mtime >= older_than
        if is_old and not path.is_symlink() and {file.name for file in path.iterdir()} <= {"new"}:
            shutil.rmtree(path)


@contextlib.contextmanager
def _error_names(path: Path) -> Iterator[None]:
    """Replaces the path in an OSError by `path`, which the user knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes a JSON file completely or not at all."""
    with replacing(path) as new:
        new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete it and run again") from error
