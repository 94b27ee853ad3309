"""Rows of files that were parsed once: their texts, labels and splits as a cache entry."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets import READ_BATCH, hash_buckets
from pipeline.errors import UserError, shown
from pipeline.examples import Examples, read_examples, write_examples
from pipeline.file_dataset.rows import Row

SPLIT_NAMES = ("train", "validation", "test", "unsupervised")
_NUMBERS = {name: number for number, name in enumerate(SPLIT_NAMES)}
_MOST_LABELS = 1000  # with more, the column has texts or row numbers
_SHOWN_FAULTS = 5


@dataclasses.dataclass(frozen=True)
class ParsedRows:
    """The rows of files.

    Attributes:
        examples: Their texts as bytes; the labels index `about["labels"]`, -1 for none.
        splits: <uint8>[N], the split that a row's file or column gives: an index into SPLIT_NAMES.
        hashes: <uint64>[N], a hash of each text.
        about: What `write_rows` found: labels (name, file, line), faults, first_faults (file, line,
            what), empty (texts), spaced (labels), split_columns, sha256.
    """

    examples: Examples
    splits: np.ndarray
    hashes: np.ndarray
    about: dict[str, Any]


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Writes rows as they are read; their texts are not kept in memory.

    Args:
        folder: Where the files go.
        rows: The rows, including those that cannot be used.

    Raises:
        UserError: There are far too many labels.
    """
    found = _Findings()
    splits, hashes = [np.empty(0, np.uint8)], [np.empty(0, np.uint64)]

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        usable = found.usable(rows)
        while part := list(itertools.islice(usable, READ_BATCH)):
            texts = [row.text for row in part]
            splits.append(np.array([_NUMBERS[row.split] for row in part], np.uint8))
            hashes.append(np.array([_hash(text) for text in texts], np.uint64))
            labels = [found.number(row.label) for row in part]
            lengths = np.array([len(text) for text in texts])
            buckets = hash_buckets(np.array(texts, object)).numpy()
            yield np.frombuffer(b"".join(texts), np.uint8), lengths, labels, buckets

    write_examples(folder, parts())
    np.save(folder / "splits.npy", np.concatenate(splits), allow_pickle=False)
    np.save(folder / "hashes.npy", np.concatenate(hashes), allow_pickle=False)
    content = json.dumps(found.about())
    (folder / "about.json").write_text(content, encoding="utf-8")


def read_rows(folder: Path) -> ParsedRows:
    """Opens what `write_rows` wrote.

    Raises:
        ValueError: A file is damaged.
        OSError: One is missing.
    """
    examples = read_examples(folder)
    splits, hashes = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("splits", "hashes")
    )
    if not len(splits) == len(hashes) == len(examples):
        raise ValueError("its arrays are of different lengths")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return ParsedRows(examples, splits, hashes, about)


class _Findings:
    """Collects what is found in rows while they are read."""

    def __init__(self) -> None:
        self._labels: dict[str, tuple[int, int, int]] = {}  # number; first file and line
        self._faults = self._empty = self._spaced = 0
        self._first_faults: list[tuple[int, int, str]] = []
        self._split_columns: set[str] = set()
        self._other_columns: set[str] = set()
        self._content = hashlib.sha256()

    def usable(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yields the rows that can be used, and counts all."""
        for row in rows:
            if row.fault:
                self._faults += 1
                if len(self._first_faults) < _SHOWN_FAULTS:
                    self._first_faults.append((row.file, row.line, row.fault))
                continue
            self._count(row)
            yield row

    def number(self, label: str | None) -> int:
        """Returns the number of a label, in the order of first rows; -1 for None."""
        return -1 if label is None else self._labels[label][0]

    def about(self) -> dict[str, Any]:
        """Returns all findings in types that JSON has."""
        return {
            "labels": [[name, *first] for name, (_, *first) in self._labels.items()],
            "faults": self._faults,
            "first_faults": self._first_faults,
            "empty": self._empty,
            "spaced": self._spaced,
            "split_columns": sorted(self._split_columns - self._other_columns),
            "sha256": self._content.hexdigest(),
        }

    def _count(self, row: Row) -> None:
        if row.label is not None and row.label not in self._labels:
            self._labels[row.label] = (len(self._labels), row.file, row.line)
            if len(self._labels) > _MOST_LABELS:
                raise UserError(
                    f"there are more than {_MOST_LABELS} different labels, such as "
                    f"{shown(row.label)}; is --label_column right?"
                )
        self._empty += not row.text.strip()
        self._spaced += row.spaced
        self._split_columns.update(row.splits)
        self._other_columns.update(row.others)
        label = b"" if row.label is None else row.label.encode("utf-8", "surrogateescape")
        # The lengths make sure that different rows do not hash the same bytes.
        sizes = f"{len(row.text)} {len(label)} {row.split}\n".encode()
        self._content.update(sizes + row.text + label)


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
