"""Where the user's rows come from: files, or arrays in memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import RunError, UserError
from pipeline.file_dataset.rows import Row, RowSettings, make_row, read_rows
from pipeline.file_dataset.split_names import FileSplit, log_file_splits, split_of_file
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
        has_named_splits: Whether the name of a file assigns it to a split other than train.
        key: A cache key of the rows.
        question: For messages: a question about the settings that choose texts and labels.

    Raises:
        UserError: There is no such file.
        RunError: A file cannot be read.
    """

    kind = "files"

    def __init__(self, name: str, settings: RowSettings) -> None:
        self.name = name
        self._settings = settings
        self._splits = _find_file_splits(name, settings)
        self._versions = _versions(self._splits)
        self.files = list(self._splits)
        is_named = any(found.split != "train" for found in self._splits.values())
        self.has_named_splits = is_named and not settings.split_column
        # The key has the splits of the file names, but not the names: files that were copied, moved
        # or touched are the same data. It lacks the label map, which changes no row.
        self.key = {
            "files": [[_sha256(path), found.split] for path, found in self._splits.items()],
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
        splits_of = {path: found.split for path, found in self._splits.items()}
        yield from read_rows(splits_of, self._settings)
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
        if (len(self.files) > 1 or self.has_named_splits) and not self._settings.split_column:
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
    has_named_splits = False
    question = "are the texts and labels right?"

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


def _find_file_splits(name: str, settings: RowSettings) -> dict[Path, FileSplit]:
    """Finds the files of a data set, and the split of each."""
    paths = find_files(name)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    if settings.splits_from_names:
        return {path: split_of_file(path, root) for path in paths}
    return {path: FileSplit("train", "--splits_from_names=false") for path in paths}


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
