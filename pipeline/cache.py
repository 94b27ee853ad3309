"""Work that is done once and kept on disk: vocabularies, and splits as token ids."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pipeline.errors import Fault, Mistake

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_ABANDONED_SECONDS = 24 * 3600  # an unfinished folder older than this is of a process that died


class Cache:
    """Folders of what was computed, each under the hash of all that it was computed from.

    An entry appears whole or not at all: it is written beside its place and renamed. Two
    processes may make the same entry at once; the first to finish wins, and both have it.

    Args:
        root: The folder of the cache; None for one that goes when the process ends.

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path | None) -> None:
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="text-sentiment-")
            root = Path(self._temporary.name)
        self.root = root

    def get(
        self,
        kind: str,
        key: Mapping[str, object],
        *,
        make: Callable[[Path], None],
        read: Callable[[Path], _T],
    ) -> _T:
        """Reads an entry, and makes it first where it is not there or is damaged.

        Args:
            kind: What it is, the first part of its folder's name.
            key: All that it depends on.
            make: Fills an empty folder with it.
            read: Reads it from its folder; raises where it is damaged.

        Returns:
            What `read` returns.
        """
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
        folder = self.root / f"{kind}-{name}"
        if folder.is_dir():
            try:
                return read(folder)
            except (ValueError, OSError, Fault, Mistake) as error:
                _log.warning("%s is damaged (%s) and is made anew", folder, error)
                shutil.rmtree(folder, ignore_errors=True)
        self._make(folder, make)
        return read(folder)

    def _make(self, folder: Path, make: Callable[[Path], None]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=self.root))
        try:
            make(unfinished)
            for path in unfinished.iterdir():
                _flush(path)
            # Fails where another process has been faster; its entry is as good.
            with contextlib.suppress(OSError):
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _remove_abandoned(self) -> None:
        for path in self.root.glob("*.*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path)


def _flush(path: Path) -> None:
    """Sees to it that the file is on disk before its folder gets its name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
