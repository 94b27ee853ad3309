"""One training process a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.errors import UserError


@contextlib.contextmanager
def run_lock(model_dir: Path) -> Iterator[None]:
    """Holds a run's folder, which is made where it is not there, for this process.

    The system gives the lock back when the process ends, by whatever death: a lock that a dead
    process left does not block.

    Args:
        model_dir: The run's folder. Where this made it and nothing was written, it goes again.

    Raises:
        UserError: Another process holds it; the message names that process.
    """
    is_new = not model_dir.exists()
    model_dir.mkdir(parents=True, exist_ok=True)
    path = model_dir / "lock"
    with _locked(path) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held still, or it might be another's
            if is_new:
                with contextlib.suppress(OSError):  # there is something in it, as there should be
                    model_dir.rmdir()


def _locked(path: Path) -> TextIO:
    while True:
        # a+: what the holder wrote is not to be emptied by those who ask.
        file = open(path, "a+", encoding="utf-8", opener=_no_link)  # noqa: SIM115 it outlives this
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
        file.close()  # its holder removed it just now


def _check_is_lock(file: TextIO, path: Path) -> None:
    """Checks that an existing file is the lock of a dead process, which may be removed.

    Raises:
        UserError: It is something else.
    """
    file.seek(0)
    content = file.read(200)
    if content and not content.startswith("process "):
        file.close()
        raise UserError(
            f"{path} is not a lock of this program, and would be replaced; move it away, or name "
            "another --model_dir"
        )


def _no_link(path: str, flags: int) -> int:
    """Opens no link, which in a folder from a stranger may lead to any file."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)
