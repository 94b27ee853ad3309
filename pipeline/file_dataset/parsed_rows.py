"""Stores the user's rows after parsing: texts, labels and splits in a cache entry."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.errors import UserError, quote
from pipeline.examples import Chunk, Examples, read_examples, write_examples
from pipeline.file_dataset.rows import Row
from pipeline.labels import MAX_LABELS
from pipeline.reading import READ_BATCH, hash_buckets

SPLIT_NAMES = ("train", "validation", "test", "unsupervised")
_SHOWN_ROWS = 5


class Statistics(TypedDict, total=False):
    """Statistics of rows, in JSON types."""

    labels: list[str]  # in the order of their first rows
    bad_rows: int  # that cannot be used
    first_bad_rows: list[tuple[int, int, str]]  # file number, line and problem of the first few
    empty_texts: int
    class_names: list[str]  # the labels in the order that the files declare; empty if they do not
    split_columns: list[str]  # unused columns in which each row has the name of a split
    sha256: str  # of all texts, labels and splits, in their order


@dataclasses.dataclass(frozen=True)
class ParsedRows:
    """The usable rows of files."""

    examples: Examples  # texts as bytes; a label is an index into `statistics["labels"]`, or -1
    splits: np.ndarray  # <uint8>[N], an index into SPLIT_NAMES
    hashes: np.ndarray  # <uint64>[N], of the texts
    statistics: Statistics  # of all rows


def save_parsed_rows(folder: Path, rows: Iterable[Row], class_names: Iterable[str] = ()) -> None:
    """Writes rows to a folder; the texts are not kept in memory.

    Rows that cannot be used are only counted. `class_names` are stored in the statistics.

    Raises:
        UserError: There are too many distinct labels.
    """
    statistics = Statistics(labels=[], bad_rows=0, first_bad_rows=[], empty_texts=0, sha256="")
    numbers: dict[str | None, int] = {None: -1}  # of the labels
    counts: collections.Counter[str] = collections.Counter()  # of rows, by their split columns
    splits, hashes = [np.empty(0, np.uint8)], [np.empty(0, np.uint64)]

    def chunks() -> Iterator[Chunk]:
        usable = _usable(rows, statistics)
        while chunk := list(itertools.islice(usable, READ_BATCH)):
            texts = [row.text for row in chunk]
            splits.append(np.array([SPLIT_NAMES.index(row.split) for row in chunk], np.uint8))
            hashes.append(np.array([_hash(text) for text in texts], np.uint64))
            labels = np.array([numbers.setdefault(row.label, len(numbers) - 1) for row in chunk])
            if len(numbers) - 1 > MAX_LABELS:
                raise UserError(
                    f"there are more than {MAX_LABELS} different labels, such as "
                    f"{quote(chunk[-1].label)}; is --label_column right?"
                )
            counts.update(itertools.chain.from_iterable(row.split_columns for row in chunk))
            lengths = np.array([len(text) for text in texts])
            buckets = hash_buckets(np.array(texts, object)).numpy()
            yield np.frombuffer(b"".join(texts), np.uint8), lengths, labels, buckets

    write_examples(folder, chunks())
    np.save(folder / "splits.npy", np.concatenate(splits), allow_pickle=False)
    np.save(folder / "hashes.npy", np.concatenate(hashes), allow_pickle=False)
    statistics["labels"] = [label for label in numbers if label is not None]
    statistics["class_names"] = list(class_names)
    total = sum(map(len, splits))
    statistics["split_columns"] = [name for name in counts if counts[name] == total]
    (folder / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")


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


def _usable(rows: Iterable[Row], statistics: Statistics) -> Iterator[Row]:
    """Yields the rows that can be used, and adds all rows to the statistics."""
    content = hashlib.sha256()
    for row in rows:
        if row.problem:
            statistics["bad_rows"] += 1
            if statistics["bad_rows"] <= _SHOWN_ROWS:
                statistics["first_bad_rows"].append((row.file, row.line, row.problem))
            continue
        statistics["empty_texts"] += not row.text.strip()
        content.update(row.content())
        yield row
    statistics["sha256"] = content.hexdigest()


def _hash(text: bytes) -> int:
    """Hashes a text to 64 bits."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
