"""The lock of a run: only one process at a time trains in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.errors import UserError, shorten

# The package `filelock` does not name the process that holds a lock, accepts any existing file as
# the lock file, and leaves it behind.


@contextlib.contextmanager
def run_lock(model_dir: Path) -> Iterator[None]:
    """Locks the folder of a run for this process.

    The operating system releases the lock when the process ends, even after kill -9. The folder is
    created if it is missing; if it is still empty at the end, it is deleted again.

    Raises:
        UserError: Another process holds the lock, and the message names it; or `lock` is a file of
            another program; or the folder cannot be created.
    """
    try:
        is_new = not model_dir.exists()
        model_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--model_dir={shorten(str(model_dir))} cannot be created: {error.strerror}; name "
            "another folder"
        ) from error
    path = model_dir / "lock"
    with _open_locked(path) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            # Before the lock is released: later, the file may be the lock of another process.
            path.unlink(missing_ok=True)
            if is_new:
                with contextlib.suppress(OSError):  # the folder is not empty
                    model_dir.rmdir()


def _open_locked(path: Path) -> TextIO:
    """Opens and locks a lock file; creates it if it is missing."""
    while True:
        # a+: keeps the content, which names the holder.
        file = open(path, "a+", encoding="utf-8", opener=_open_no_link)  # noqa: SIM115 returned
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    _check_is_lock(file, path)
                    return file
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise UserError(
                f"{holder} is training in {path.parent}; "
                "wait for it or stop it, or name another --model_dir"
            ) from error
        file.close()  # its holder has just deleted it; try again


def _check_is_lock(file: TextIO, path: Path) -> None:
    """Checks that an existing file is a lock, left by a process that has died."""
    file.seek(0)
    content = file.read(200)
    if content and not content.startswith("process "):
        file.close()
        raise UserError(
            f"{path} is not a lock of this program, and would be replaced; move it away, or name "
            "another --model_dir"
        )


def _open_no_link(path: str, flags: int) -> int:
    """Opens a file, but not a link: in a copied folder, a link may lead to any file."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)
