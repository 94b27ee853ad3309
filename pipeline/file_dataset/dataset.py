"""A data set in the user's files: CSV, TSV or JSON with a text and a label in each row."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.cache import Cache
from pipeline.datasets import READ_BATCH
from pipeline.errors import RunError
from pipeline.file_dataset.checks import (
    check_rows,
    check_train_split,
    choose_label_order,
    log_findings,
)
from pipeline.file_dataset.parsed_rows import SPLIT_NAMES, load_parsed_rows, save_parsed_rows
from pipeline.file_dataset.rows import FileSettings, Row, read_rows
from pipeline.file_dataset.split_names import FileSplit, log_file_splits, split_of_file
from pipeline.file_dataset.splitting import SplitSettings, make_splits
from pipeline.files.records import find_files, translate_read_errors

_HASH_BLOCK = 1 << 20  # bytes to read at once


class FileDataset:
    """A data set in the user's files, with the interface of `NamedDataset`.

    The files are parsed once, into a cache entry. A test or validation split that the files lack is
    taken from the train split; see `make_splits`.

    Args:
        name: A file, a folder or a pattern.
        settings: The settings for reading the files.
        split_settings: The settings for the splits that the files lack.
        cache: Stores the parsed rows; None: a temporary cache.
        label_names: The labels in the order of an existing run; None: sorted by `order_labels`.
        with_progress: Wraps the rows while they are parsed, to show progress.

    Attributes:
        name: The name as the user typed it.
        label_names: The names of labels 0 and 1, as in the files.
        derived_splits: The names of the splits that are taken from the train split.
        fingerprint: The SHA-256 of all texts, labels and splits, in their order.

    Raises:
        UserError: There is no such file, a row cannot be used, or there are not two labels.
        RunError: A file cannot be read.
    """

    def __init__(
        self,
        name: str,
        settings: FileSettings,
        split_settings: SplitSettings,
        *,
        cache: Cache | None = None,
        label_names: Sequence[str] | None = None,
        with_progress: Callable[[Iterator[Row]], Iterator[Row]] = iter,
    ) -> None:
        self.name = name
        self._settings = settings
        self._split_settings = split_settings
        self._files = _find_file_splits(name, settings)
        versions = _versions(self._files)
        self._rows_key = self._make_rows_key()

        def make(folder: Path) -> None:
            splits_of = {path: found.split for path, found in self._files.items()}
            save_parsed_rows(folder, with_progress(read_rows(splits_of, settings)))
            if _versions(self._files) != versions:
                raise RunError(f"{name} changed while it was read; run the command again")

        cache = cache or Cache(None)
        self._rows = cache.get("rows", self._rows_key, make=make, read=load_parsed_rows)
        paths = list(self._files)
        check_rows(name, paths, self._rows, settings)
        self.label_names = choose_label_order(
            name, paths, self._rows, positive=settings.positive_label, expected=label_names
        )
        self._splits = make_splits(self._rows, split_settings)
        by_names = self._has_splits_from_names() and not settings.split_column
        check_train_split(name, self._rows, self._splits, by_names=by_names)
        self._positions = {split: self._splits.positions(split) for split in SPLIT_NAMES}
        self.derived_splits = self._splits.derived_splits
        self.fingerprint = self._rows.statistics["sha256"]

    @property
    def identity(self) -> dict[str, object]:
        """Returns a cache key: the content of the files and the settings for reading them."""
        split_settings = dataclasses.asdict(self._split_settings)
        return self._rows_key | {"labels": self.label_names, "split_settings": split_settings}

    @property
    def splits(self) -> set[str]:
        """Returns the names of the splits; validation and test are included even if empty."""
        optional = {"unsupervised"} if self.size("unsupervised") else set()
        return {"train", "validation", "test"} | optional

    def size(self, split: str) -> int:
        """Returns the number of examples in a split."""
        return len(self._positions[split])

    def class_counts(self, split: str) -> list[int]:
        """Returns the number of examples of each label in a split, ordered as `label_names`."""
        labels = self._labels(self._positions[split])
        return [int((labels == number).sum()) for number in range(len(self.label_names))]

    def read(self, split: str) -> tf.data.Dataset:
        """Reads a split in the order of its rows; see `NamedDataset.read`."""
        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(
            lambda: self._batches(split), output_signature=signature
        )

    def texts_at(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Returns the texts at positions <int64>[N] of a split, as in the files."""
        return self._rows.examples[self._positions[split][positions]].texts()

    def log_findings(self) -> None:
        """Logs the splits of the files, and warnings about their rows and labels."""
        is_unclear = len(self._files) > 1 or self._has_splits_from_names()
        if is_unclear and not self._settings.split_column:
            log_file_splits(self._files)
        log_findings(self.name, self._rows, self.label_names, self._splits)

    def _make_rows_key(self) -> dict[str, object]:
        # The key has the splits of the file names, but not the names: files that were copied, moved
        # or touched are the same data.
        settings = self._settings
        return {
            "files": [[_sha256(path), found.split] for path, found in self._files.items()],
            "columns": [settings.text_column, settings.label_column, settings.split_column],
            "format": dataclasses.astuple(settings.file_format),
        }

    def _has_splits_from_names(self) -> bool:
        """Returns whether the name of a file assigns it to a split other than train."""
        return any(found.split != "train" for found in self._files.values())

    def _labels(self, positions: np.ndarray) -> np.ndarray:
        """Returns the labels <int64>[N] of rows, in the order of `label_names`; -1 for none."""
        numbers = {name: number for number, name in enumerate(self.label_names)}
        order = [numbers[name] for name, *_ in self._rows.statistics["labels"]]
        stored = self._rows.examples.labels[positions].astype(np.int64)
        return np.array([*order, -1])[stored]

    def _batches(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields texts <object>[N] and labels <int64>[N] of a split."""
        positions = self._positions[split]
        for start in range(0, len(positions), READ_BATCH):
            batch = positions[start : start + READ_BATCH]
            texts = np.array(self._rows.examples[batch].texts(), object)
            yield texts, self._labels(batch)


def _find_file_splits(name: str, settings: FileSettings) -> dict[Path, FileSplit]:
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
