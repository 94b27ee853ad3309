"""Reviews of one's own: CSV, TSV or JSON Lines with a text and a label a row, gzipped or not."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.datasets import READ_BATCH, hash_buckets, in_test
from pipeline.errors import Mistake
from pipeline.file_format import AUTO, FileFormat
from pipeline.files import find_files, read_records, translate_read_errors

_log = logging.getLogger(__name__)

# Words in a split column or in the name of a file, and the split that they mean.
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "unsupervised": "unsupervised",
    "unlabelled": "unsupervised",
    "unlabeled": "unsupervised",
}
_SHOWN = 5  # bad rows that are named


@dataclasses.dataclass(frozen=True)
class Columns:
    """What a file's columns are called.

    Attributes:
        text: That of the text.
        label: That of the label.
        split: That which says train, validation, test or unsupervised; empty where there is none.
    """

    text: str
    label: str
    split: str


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of a file: `label` is None where the split has none, `fault` tells what is wrong."""

    place: str
    text: bytes = b""
    label: str | None = None
    split: str = "train"
    fault: str = ""


class ReviewFiles:
    """Labelled reviews in files; see `ReviewDataset`, whose form it has.

    Where no row says which split it is of, and no file's name does, the test split is cut off by a
    hash of the text, as validation is, so that all copies of one text are on one side.

    Args:
        name: A file, a folder or a pattern.
        columns: What the columns are called.
        test_fraction: Share that is cut off for the test split where there is none.
        skip_bad_rows: Whether to leave out, and count, rows that cannot be used.
        file_format: How the files are written.

    Attributes:
        name: As given.
        label_names: What labels 0 and 1 are called in the files.

    Raises:
        Mistake: There is no such file, a row cannot be used, or there are not two labels.
    """

    def __init__(
        self,
        name: str,
        columns: Columns,
        *,
        test_fraction: float,
        skip_bad_rows: bool,
        file_format: FileFormat = AUTO,
    ) -> None:
        self.name = name
        self._format = file_format
        self._columns = columns
        paths = find_files(name)
        root = Path(os.path.commonpath([path.parent for path in paths]))
        self._splits_of = {path: _split_of(path, root) for path in paths}
        self._test_fraction = test_fraction
        self._sizes: Counter[str] = Counter()
        labels: dict[str, str] = {}  # and where each stands first
        faults: list[str] = []
        for row in self._rows():
            if row.fault:
                faults.append(f"{row.place}: {row.fault}")
                continue
            self._sizes[row.split] += 1
            if row.label is not None:
                labels.setdefault(row.label, row.place)
        _tell_bad(name, faults, skip=skip_bad_rows)
        self.label_names = _ordered(name, labels)
        if not self._sizes["train"]:
            raise Mistake(f"{name} has no row to train on, but {dict(self._sizes)}")
        self._has_test = self._sizes["test"] > 0
        if not self._has_test:
            self._cut_sizes()

    @property
    def identity(self) -> dict[str, object]:
        """What tells these reviews from others: the files, and how they are read."""
        stats = [(str(path), path.stat()) for path in self._splits_of]
        return {
            "files": [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats],
            "columns": dataclasses.astuple(self._columns),
            "format": dataclasses.astuple(self._format),
            "test_fraction": self._test_fraction,
        }

    @property
    def splits(self) -> set[str]:
        """Names its splits; `validation` is there only where the files have one."""
        return {split for split, size in self._sizes.items() if size}

    def size(self, split: str) -> int:
        """Returns how many reviews a split has."""
        return self._sizes[split]

    def read(self, split: str) -> tf.data.Dataset:
        """Reads one split as it streams by; see `ReviewDataset.read`."""
        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(
            lambda: self._batches(split), output_signature=signature
        )

    def _cut_sizes(self) -> None:
        sizes: Counter[str] = Counter({"unsupervised": self._sizes["unsupervised"]})
        sizes["validation"] = self._sizes["validation"]
        for texts, _ in self._stored("train"):
            of_test = in_test(hash_buckets(texts), test_fraction=self._test_fraction)
            sizes["test"] += int(of_test.sum())
            sizes["train"] += int((~of_test).sum())
        self._sizes = sizes

    def _batches(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._has_test or split not in ("train", "test"):
            yield from self._stored(split)
            return
        for texts, labels in self._stored("train"):
            of_test = in_test(hash_buckets(texts), test_fraction=self._test_fraction)
            chosen = of_test if split == "test" else ~of_test
            yield texts[chosen], labels[chosen]

    def _stored(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        numbers = {name: number for number, name in enumerate(self.label_names)}
        rows = (row for row in self._rows() if not row.fault and row.split == split)
        while part := list(itertools.islice(rows, READ_BATCH)):
            texts = np.array([row.text for row in part], object)
            yield texts, np.array([numbers.get(row.label, -1) for row in part], np.int64)

    def _rows(self) -> Iterator[_Row]:
        for path, split in self._splits_of.items():
            needed = [self._columns.text, self._columns.split]
            needed += [self._columns.label] if split != "unsupervised" else []
            with translate_read_errors(path):
                for line, record in read_records(path, needed, self._format):
                    yield _row(f"{path}:{line}", record, self._columns, split)


def _row(place: str, record: dict | None, columns: Columns, split: str) -> _Row:
    """Checks a record."""
    if record is None:
        return _Row(place, fault="no JSON object")
    if None in record:
        return _Row(place, fault="more fields than the header has")
    text = record.get(columns.text)
    if not isinstance(text, str):
        return _Row(place, fault=f"no text in {columns.text!r}")
    if columns.split:
        word = str(record.get(columns.split) or "").strip().lower()
        if word not in _SPLITS:
            return _Row(place, fault=f"{columns.split!r} says {word!r}, no split")
        split = _SPLITS[word]
    label = record.get(columns.label)
    label = None if label is None or split == "unsupervised" else str(label).strip()
    if not label and split != "unsupervised":
        return _Row(place, fault=f"no label in {columns.label!r}")
    return _Row(place, text.encode("utf-8", "surrogateescape"), label, split)


def _split_of(path: Path, root: Path) -> str:
    """Returns the split that the names of a file and its folders below the root tell, or train."""
    for name in reversed(path.relative_to(root).parts):
        for word in re.split("[^a-z]+", name.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return "train"


def _tell_bad(name: str, faults: list[str], *, skip: bool) -> None:
    if not faults:
        return
    shown = "; ".join(faults[:_SHOWN]) + ("; …" if len(faults) > _SHOWN else "")
    if not skip:
        raise Mistake(
            f"{len(faults)} rows of {name} cannot be used: {shown}; mend them, or leave them out: "
            "--skip_bad_rows"
        )
    _log.warning("left out %d rows of %s: %s", len(faults), name, shown)


def _ordered(name: str, labels: dict[str, str]) -> tuple[str, str]:
    """Says which of two labels is 0 and which is 1."""
    if len(labels) != 2:
        found = ", ".join(f"{label!r} ({place})" for label, place in list(labels.items())[:_SHOWN])
        raise Mistake(
            f"{name} has {len(labels)} different labels, not two: {found}; is --label_column right?"
        )
    # So that the positive one of 0 and 1, neg and pos, no and yes, false and true is the second.
    return tuple(sorted(labels, key=str.lower))
