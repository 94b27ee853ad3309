"""Caches the results of slow work on disk: parsed files, words, vocabularies, token ids.

Layout of a cache folder, which may be any folder, even one with other files:

    CACHE_DIR/text-sentiment-cache/
        CACHEDIR.TAG                 makes backup programs skip the folder
        words-0123456789abcdef0123/  an entry
            entry.json               the key; the time of its last change is that of the last use
            …
        unfinished/                  entries that are being written or removed

Only folders below `text-sentiment-cache` that have an `entry.json` are ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import keras
import tensorflow as tf

import pipeline
from pipeline.errors import RunError, UserError, translate_disk_full

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FOLDER, _UNFINISHED, _MARKER = "text-sentiment-cache", "unfinished", "entry.json"
_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of text-sentiment. You may delete it; it is rebuilt when needed.
"""
_ABANDONED_SECONDS = 24 * 3600  # the process of an older unfinished entry must have died
_IN_USE_SECONDS = 3600  # entries used more recently than this are not removed


class Cache:
    """Folders with computed results, each named by a hash of everything that the result depends on.

    An entry is written to another folder and then renamed, so no process sees a half-written entry.
    If two processes write the same entry at the same time, both use the one that is complete first.

    Args:
        root: The folder of the cache; None for a temporary folder that the process removes when it
            ends.
        limit: The largest total size of the entries, in bytes; None for no limit. When it is
            exceeded, the least recently used entries are removed, except those used in the last
            hour.
    """

    def __init__(self, root: Path | None, *, limit: int | None = None) -> None:
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="text-sentiment-")
            root, limit = Path(self._temporary.name), None
        self.root = root
        self._folder = root / _FOLDER
        self._limit = limit

    def get(
        self,
        kind: str,
        key: Mapping[str, object],
        *,
        make: Callable[[Path], None],
        read: Callable[[Path], _T],
    ) -> _T:
        """Reads an entry, and writes it first if it is missing or damaged.

        Args:
            kind: The prefix of the entry's folder name.
            key: Everything that the entry depends on except the code, in JSON types.
            make: Writes the entry into an empty folder.
            read: Reads the entry from its folder; raises an error if it is damaged.

        Returns:
            The result of `read`.

        Raises:
            RunError: The disk is full, or another file or folder has the entry's name.
            UserError: The cache cannot be written.
        """
        key_json = json.dumps({**key, "code": code_hash()}, sort_keys=True)
        name = hashlib.sha256(key_json.encode()).hexdigest()[:20]
        folder = self._folder / f"{kind}-{name}"
        with translate_disk_full("the cache", self.root):
            if _is_entry(folder):
                _set_used(folder)  # before reading, so that no other process removes it
                try:
                    return read(folder)
                except (ValueError, OSError, RunError, UserError) as error:
                    _log.warning("%s is damaged (%s); rebuilding it", folder, error)
                    self._remove(folder)
            self._make(folder, key_json, make)
            return read(folder)

    def _make(self, folder: Path, key_json: str, make: Callable[[Path], None]) -> None:
        """Writes an entry, unless another process writes it first."""
        new = self._new_folder(f"{folder.name}.")
        try:
            for entry in _entries(new.parent):
                if time.time() - entry.written_at > _ABANDONED_SECONDS:
                    with contextlib.suppress(OSError):  # another process has removed it
                        _delete(entry.folder)
            (new / _MARKER).write_text(key_json + "\n", encoding="utf-8")
            make(new)
            for path in new.iterdir():  # files must be complete on disk before the renaming
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            _set_used(new)
            with contextlib.suppress(OSError):  # another process has written the same entry
                new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        if not _is_entry(folder):
            raise RunError(
                f"{folder} has the name of a cache entry, but is not one; move it away, or name "
                "another folder: --cache_dir=FOLDER"
            )
        self._remove_least_recently_used()

    def _new_folder(self, prefix: str) -> Path:
        """Creates an empty folder in `unfinished`."""
        unfinished = self._folder / _UNFINISHED
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            tag = self._folder / "CACHEDIR.TAG"
            with contextlib.suppress(FileExistsError), tag.open("x", encoding="utf-8") as file:
                file.write(_TAG)
            return Path(tempfile.mkdtemp(prefix=prefix, dir=unfinished))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"the cache {self.root} cannot be written ({error.strerror}); name another folder, "
                "--cache_dir=FOLDER, or use none: --cache_dir="
            ) from error

    def _remove_least_recently_used(self) -> None:
        """Removes entries until the remaining ones fit into the limit."""
        if self._limit is None:
            return
        entries = sorted(_entries(self._folder), key=lambda entry: entry.used_at)
        total, removed = sum(entry.size for entry in entries), 0
        for entry in entries:
            if total - removed <= self._limit or entry.used_at > time.time() - _IN_USE_SECONDS:
                break
            self._remove(entry.folder)
            removed += entry.size
        if removed:
            _log.info(
                "cache %s: removed the least recently used %.1f MB of %.1f MB; --cache_gb sets the "
                "limit",
                self._folder,
                removed / 1e6,
                total / 1e6,
            )

    def _remove(self, folder: Path) -> None:
        """Removes an entry; renames it first, so that no other process reads an incomplete one."""
        unfinished = self._new_folder("removed.")
        with contextlib.suppress(OSError):  # another process has removed it
            folder.rename(unfinished)
            _delete(unfinished)
        with contextlib.suppress(OSError):
            unfinished.rmdir()


class _Entry(NamedTuple):
    """An entry on disk."""

    folder: Path
    size: int  # bytes of all files
    used_at: float  # seconds since 1970
    written_at: float  # of the newest file, in seconds since 1970


def _entries(folder: Path) -> Iterator[_Entry]:
    for path in folder.iterdir():
        if not _is_entry(path):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            stats = [file.lstat() for file in path.iterdir()]
            used_at = (path / _MARKER).stat().st_mtime
            written_at = max(stat.st_mtime for stat in stats)
            yield _Entry(path, sum(stat.st_size for stat in stats), used_at, written_at)


@functools.cache
def code_hash() -> str:
    """Returns the SHA-256 of this package's code and of library versions, for cache keys."""
    paths = sorted(Path(pipeline.__file__).parent.rglob("*.py"))
    code = b"".join(path.read_bytes() for path in paths)
    versions = f"{tf.__version__} {keras.__version__}"
    return hashlib.sha256(code + versions.encode()).hexdigest()


def _is_entry(folder: Path) -> bool:
    """Returns whether a folder is a cache entry: it has a marker, and is not a link."""
    return (folder / _MARKER).is_file() and not folder.is_symlink()


def _set_used(folder: Path) -> None:
    """Marks an entry as used now."""
    with contextlib.suppress(OSError):  # the cache may be read-only, or the entry removed
        os.utime(folder / _MARKER)


def _delete(folder: Path) -> None:
    """Deletes an entry, its marker last, so that an interrupted deletion can be completed."""
    for path in folder.iterdir():
        if path.name != _MARKER:
            path.unlink()
    (folder / _MARKER).unlink()
    folder.rmdir()
