"""Where the user's rows come from: files, or arrays in memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import RunError, UserError
from pipeline.file_dataset.rows import Row, RowSettings, make_row, read_rows
from pipeline.file_dataset.split_names import log_file_splits, split_of_file
from pipeline.files.parquet import read_class_names
from pipeline.files.records import PARQUET, data_suffix, find_files, translate_read_errors

_HASH_BLOCK = 1 << 20  # bytes to read at once


class FileSource:
    """The user's files.

    Args:
        name: A file, a folder or a pattern.
        settings: The settings for reading the files.

    Attributes:
        kind: The key of the data's fingerprint.
        name: The name as the user typed it.
        files: The files, in the order of their numbers.
        key: A cache key of the rows.
        question: For messages: a question about the settings that choose texts and labels.

    Raises:
        UserError: There is no such file.
        RunError: A file cannot be read.
    """

    kind = "files"
    split_advice = "try --splits_from_names=false, or check --split_column"

    def __init__(self, name: str, settings: RowSettings) -> None:
        self.name = name
        self._settings = settings
        paths = find_files(name)
        root = Path(os.path.commonpath([path.parent for path in paths]))
        by_name = settings.splits_from_names
        self._splits = {path: split_of_file(path, root) if by_name else "train" for path in paths}
        self._versions = _versions(self._splits)
        self.files = list(self._splits)
        # The key has the splits of the file names, but not the names: files that were copied, moved
        # or touched are the same data. It lacks the label map, which changes no row.
        self.key = {
            "files": [[_sha256(path), split] for path, split in self._splits.items()],
            "columns": [*settings.text_columns, settings.label_column, settings.split_column],
            "format": dataclasses.astuple(settings.file_format),
        }
        columns = f"--text_column={','.join(settings.text_columns)}"
        self.question = f"are {columns} and --label_column={settings.label_column} right?"

    def rows(self) -> Iterator[Row]:
        """Yields all rows, including those that cannot be used; see `read_rows`.

        Raises:
            UserError: A file lacks a column.
            RunError: A file cannot be read, or changed in the meantime.
        """
        yield from read_rows(self._splits, self._settings)
        if _versions(self.files) != self._versions:
            raise RunError(f"{self.name} changed while it was read; run the command again")

    @property
    def class_names(self) -> Iterable[str]:
        """Returns the labels in the order that Parquet files declare; empty if they do not."""
        names: dict[str, None] = {}
        for path in self.files:
            if data_suffix(path) == PARQUET:
                with translate_read_errors(path):
                    names |= dict.fromkeys(read_class_names(path, self._settings.label_column))
        return names

    def log(self) -> None:
        """Logs the split of each file if the files are several, or if a name assigns a split."""
        has_several = len(self.files) > 1 or set(self._splits.values()) != {"train"}
        if has_several and not self._settings.split_column:
            log_file_splits(self._splits)


@dataclasses.dataclass(frozen=True)
class ArrayData:
    """Arrays in memory, from `pipeline.from_arrays`; the attributes are as those of `FileSource`.

    Raises:
        UserError: There is not one label, and one split, per text.
    """

    texts: tuple[object, ...]
    labels: tuple[object, ...]
    splits: tuple[object, ...]
    name: str

    kind = "arrays"
    class_names = ()
    question = "are the texts and labels right?"
    split_advice = "check splits"

    def __post_init__(self) -> None:
        count = len(self.texts)
        for kind, values in (("labels", self.labels), ("splits", self.splits)):
            if len(values) != count:
                raise UserError(f"{self.name} has {count} texts, but {len(values)} {kind}")

    @property
    def files(self) -> list[str]:
        """Returns the name, which messages show with the position of a text, from 0."""
        return [self.name]

    @functools.cached_property
    def key(self) -> dict[str, object]:
        """Returns a cache key: the SHA-256 of all rows."""
        digest = hashlib.sha256()
        for row in self.rows():
            digest.update(row.content() + f"{row.problem}\n".encode())
        return {"arrays": digest.hexdigest()}

    def rows(self) -> Iterator[Row]:
        """Yields all rows, including those that cannot be used."""
        for position, values in enumerate(zip(self.texts, self.labels, self.splits, strict=True)):
            yield make_row(0, position, *values)


def to_tuple(values: Iterable[object], kind: str) -> tuple[object, ...]:
    """Returns the values of a list, an array or a column; `kind` is their name in messages.

    Raises:
        TypeError: They are a single string, a table, or no list.
    """
    if isinstance(values, str | bytes):
        raise TypeError(f"the {kind} are one string; give a list, such as [text]")
    if getattr(values, "shape", ())[1:] == (1,):  # a table with one column
        values = np.asarray(values).ravel()
    if not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise TypeError(
            f"the {kind} are a {type(values).__name__} that is no list; give a list, an array of "
            "one dimension, or one column of pandas"
        )
    return tuple(values)


def _sha256(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = hashlib.sha256()
    with translate_read_errors(path), path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _versions(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """Returns the size and the modification time of each file, to detect changes."""
    return [(stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in paths)]
