"""A split in plain files: written once as it streams by, then read a batch at a time."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

_ARRAYS = {"lengths": np.int32, "labels": np.float32, "buckets": np.uint16}
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


class NumberFile:
    """A long row of unsigned numbers in a file; a slice is read when it is asked for.

    Not a memory map: of a map, all that was ever touched counts as the process' memory.

    Args:
        path: Raw numbers.
        count: How many there must be; their width follows from the size of the file.

    Raises:
        ValueError: The file has another size.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        size = os.fstat(self._file).st_size
        width = size // max(count, 1) or 1
        if width not in _UNSIGNED or size != count * width:
            raise ValueError(f"{path.name} has {size} bytes for {count} numbers")
        self.dtype = np.dtype(_UNSIGNED[width])

    def __getitem__(self, part: slice) -> np.ndarray:
        """Reads [part.stop - part.start] numbers; both ends must be given."""
        width = self.dtype.itemsize
        data = os.pread(self._file, (part.stop - part.start) * width, part.start * width)
        return np.frombuffer(data, self.dtype)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled reviews, end to end in one long row: the bytes of their texts, or token ids.

    Attributes:
        values: The row; on disk or in memory.
        starts: <int64>[N], where in it each review starts.
        lengths: <int32>[N], how long each is.
        labels: <float32>[N], 0 or 1; a teacher's probability; -1 of a review that has none.
        buckets: <uint16>[N], a hash of each text; it decides what is cut off for validation.
    """

    values: NumberFile | np.ndarray | _TwoRows
    starts: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    buckets: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, chosen: np.ndarray | slice) -> Examples:
        """Chooses reviews by a slice, a mask or positions; the row stays as it is."""
        parts = (self.starts, self.lengths, self.labels, self.buckets)
        return Examples(self.values, *(part[chosen] for part in parts))

    def row(self, position: int) -> np.ndarray:
        """Returns the numbers of one review, [lengths[position]]."""
        start = int(self.starts[position])
        return self.values[start : start + int(self.lengths[position])]

    def in_chunks(self, size: int) -> Iterator[Examples]:
        """Goes through the reviews, so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def labelled(self, labels: np.ndarray) -> Examples:
        """Gives the reviews other labels <float32>[N]."""
        return dataclasses.replace(self, labels=labels)

    def joined(self, others: Examples) -> Examples:
        """Adds other reviews after these; no row is read for it."""
        end = int((self.starts + self.lengths).max(initial=0))
        return Examples(
            _TwoRows(self.values, end, others.values),
            np.concatenate([self.starts, others.starts + end]),
            np.concatenate([self.lengths, others.lengths]),
            np.concatenate([self.labels, others.labels]),
            np.concatenate([self.buckets, others.buckets]),
        )

    def texts(self) -> list[bytes]:
        """Returns the reviews as bytes, where the row is one of bytes."""
        return [self.row(position).tobytes() for position in range(len(self))]


@dataclasses.dataclass(frozen=True)
class _TwoRows:
    """The first `end` numbers of a row, and after them another row; no slice has parts of both."""

    first: NumberFile | np.ndarray
    end: int
    second: NumberFile | np.ndarray

    def __getitem__(self, part: slice) -> np.ndarray:
        if part.start < self.end:
            return self.first[part]
        return self.second[part.start - self.end : part.stop - self.end]


def in_memory(token_ids: tf.RaggedTensor) -> Examples:
    """Makes reviews without labels of token ids <int32>[N, (T)]."""
    lengths = token_ids.row_lengths().numpy().astype(np.int32)
    nothing = np.zeros(len(lengths))
    return Examples(
        token_ids.flat_values.numpy(),
        _starts(lengths),
        lengths,
        nothing.astype(np.float32),
        nothing.astype(np.uint16),
    )


def write_examples(
    folder: Path, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    """Writes reviews as they come; only what is not their text stays in memory meanwhile.

    Args:
        folder: Where the files go.
        parts: Of some reviews each: values end to end, lengths, labels and buckets.
    """
    arrays: dict[str, list[np.ndarray]] = {name: [np.empty(0, t)] for name, t in _ARRAYS.items()}
    with (folder / "values.bin").open("wb") as file:
        for values, *rest in parts:
            file.write(values.tobytes())
            for (name, dtype), array in zip(_ARRAYS.items(), rest, strict=True):
                arrays[name].append(np.asarray(array, dtype))
    for name, collected in arrays.items():
        np.save(folder / f"{name}.npy", np.concatenate(collected), allow_pickle=False)


def read_examples(folder: Path) -> Examples:
    """Opens what `write_examples` wrote.

    Raises:
        ValueError: A file is damaged.
        OSError: One is missing.
    """
    arrays = {n: np.load(folder / f"{n}.npy", allow_pickle=False) for n in _ARRAYS}
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError("its arrays are of different lengths")
    lengths = arrays["lengths"]
    values = NumberFile(folder / "values.bin", int(lengths.sum(dtype=np.int64)))
    return Examples(values, _starts(lengths), **arrays)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)[:-1]]).astype(np.int64)[
        : len(lengths)
    ]
