"""Stores the user's rows after parsing: texts, labels and splits in a cache entry."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.datasets import READ_BATCH, hash_buckets
from pipeline.errors import UserError, quote
from pipeline.examples import Chunk, Examples, read_examples, write_examples
from pipeline.file_dataset.rows import Row
from pipeline.labels import MAX_LABELS

SPLIT_NAMES = ("train", "validation", "test", "unsupervised")
_SHOWN_ROWS = 5


class Statistics(TypedDict):
    """Statistics of rows, in JSON types."""

    labels: list[tuple[str, int, int]]  # with the file number and the line of its first row
    bad_rows: int  # that cannot be used
    first_bad_rows: list[tuple[int, int, str]]  # file number, line and problem of the first few
    empty_texts: int
    class_names: list[str]  # the labels in the order that the files declare; empty if they do not
    split_columns: list[str]  # unused columns in which each row has the name of a split
    sha256: str  # of all texts, labels and splits, in their order


@dataclasses.dataclass(frozen=True)
class ParsedRows:
    """The usable rows of files.

    Attributes:
        examples: The texts as bytes. A label is an index into `statistics["labels"]`; -1 for none.
        splits: <uint8>[N], an index into SPLIT_NAMES, from the file name or the split column.
        hashes: <uint64>[N], of the texts.
        statistics: Statistics of all rows.
    """

    examples: Examples
    splits: np.ndarray
    hashes: np.ndarray
    statistics: Statistics


def save_parsed_rows(folder: Path, rows: Iterable[Row], class_names: Iterable[str] = ()) -> None:
    """Writes rows to a folder; the texts are not kept in memory.

    Rows that cannot be used are only counted. `class_names` are stored in the statistics.

    Raises:
        UserError: There are too many distinct labels.
    """
    collector = _Collector()
    collector.statistics["class_names"] = list(class_names)
    splits, hashes = [np.empty(0, np.uint8)], [np.empty(0, np.uint64)]

    def chunks() -> Iterator[Chunk]:
        usable = collector.usable(rows)
        while chunk := list(itertools.islice(usable, READ_BATCH)):
            texts = [row.text for row in chunk]
            splits.append(np.array([SPLIT_NAMES.index(row.split) for row in chunk], np.uint8))
            hashes.append(np.array([_hash(text) for text in texts], np.uint64))
            labels = np.array([collector.numbers[row.label] for row in chunk])
            lengths = np.array([len(text) for text in texts])
            buckets = hash_buckets(np.array(texts, object)).numpy()
            yield np.frombuffer(b"".join(texts), np.uint8), lengths, labels, buckets

    write_examples(folder, chunks())
    np.save(folder / "splits.npy", np.concatenate(splits), allow_pickle=False)
    np.save(folder / "hashes.npy", np.concatenate(hashes), allow_pickle=False)
    content = json.dumps(collector.statistics)
    (folder / "statistics.json").write_text(content, encoding="utf-8")


def load_parsed_rows(folder: Path) -> ParsedRows:
    """Opens the rows that `save_parsed_rows` wrote.

    Raises:
        ValueError: A file is damaged.
        OSError: A file is missing.
    """
    examples = read_examples(folder)
    splits, hashes = (np.load(folder / f"{name}.npy") for name in ("splits", "hashes"))
    if not len(splits) == len(hashes) == len(examples):
        raise ValueError("its arrays have different lengths")
    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    return ParsedRows(examples, splits, hashes, statistics)


class _Collector:
    """Numbers the labels of rows and collects the statistics while the rows are read."""

    def __init__(self) -> None:
        self.numbers: dict[str | None, int] = {None: -1}
        self.statistics: Statistics = {
            "labels": [],
            "bad_rows": 0,
            "first_bad_rows": [],
            "empty_texts": 0,
            "class_names": [],
            "split_columns": [],
            "sha256": "",
        }

    def usable(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yields the rows that can be used, and adds all rows to the statistics."""
        statistics, content = self.statistics, hashlib.sha256()
        split_columns: set[str] = set()
        other_columns: set[str] = set()
        for row in rows:
            if row.problem:
                statistics["bad_rows"] += 1
                if statistics["bad_rows"] <= _SHOWN_ROWS:
                    statistics["first_bad_rows"].append((row.file, row.line, row.problem))
                continue
            self._number_label(row)
            statistics["empty_texts"] += not row.text.strip()
            for name, is_split in row.unused_columns.items():
                (split_columns if is_split else other_columns).add(name)
            content.update(row.content())
            yield row
        statistics["split_columns"] = sorted(split_columns - other_columns)
        statistics["sha256"] = content.hexdigest()

    def _number_label(self, row: Row) -> None:
        if row.label is None or row.label in self.numbers:
            return
        labels = self.statistics["labels"]
        self.numbers[row.label] = len(labels)
        labels.append((row.label, row.file, row.line))
        if len(labels) > MAX_LABELS:
            raise UserError(
                f"there are more than {MAX_LABELS} different labels, such as {quote(row.label)}; "
                "choose labels with fewer different values: is --label_column right?"
            )


def _hash(text: bytes) -> int:
    """Hashes a text to 64 bits."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
