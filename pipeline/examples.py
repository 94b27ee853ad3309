"""The examples of a split in binary files: written in chunks, read in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

# The values of some examples, concatenated; lengths; labels; hash buckets.
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_ARRAYS = {"lengths": np.int32, "labels": np.int32, "hash_buckets": np.uint16}
_UNSIGNED = {1: tf.uint8, 2: tf.uint16, 4: tf.uint32}


class Values(Protocol):
    """A one-dimensional array that is read in parts."""

    def __getitem__(self, section: slice, /) -> np.ndarray:
        """Returns a section; `section` has a start and a stop."""

    def gather(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns the values <int32>[...] at positions <int64>[...]; tf.data can run it."""


class TensorValues:
    """The values of a tensor <int>[M], which may be mapped from a file."""

    def __init__(self, tensor: tf.Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, section: slice, /) -> np.ndarray:
        return np.asarray(memoryview(self._tensor))[section]  # numpy() copies

    def gather(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns the values <int32>[...] at positions <int64>[...]."""
        return tf.cast(tf.gather(self._tensor, positions), tf.int32)


def open_values(path: Path, count: int) -> TensorValues:
    """Opens a file of `count` unsigned numbers, which may be larger than the memory.

    The operating system reads a part of the file when it is used, and may drop it again. The size
    of the file determines the bytes per number.

    Raises:
        ValueError: The size of the file does not fit.
    """
    size = path.stat().st_size
    width = size // max(count, 1) or 1
    if width not in _UNSIGNED or size != count * width:
        raise ValueError(f"{path.name} has {size} bytes for {count} numbers")
    dtype = _UNSIGNED[width]
    if not count:  # an empty file cannot be mapped
        return TensorValues(tf.zeros([0], dtype))
    with tf.device("CPU"):
        return TensorValues(
            tf.raw_ops.ImmutableConst(dtype=dtype, shape=[count], memory_region_name=str(path))
        )


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled examples: bytes of text, word numbers, or token ids."""

    values: Values  # of all examples, concatenated
    starts: np.ndarray  # <int64>[N], the position of the first value of each example
    lengths: np.ndarray  # <int32>[N], the number of values of each example
    # Class numbers <int32>[N], -1 for none; or soft labels <float32>[N, L] for model.labels.
    labels: np.ndarray
    hash_buckets: np.ndarray  # <uint16>[N], of the original texts, from `reading.hash_buckets`
    # Logits <float32>[N, L] that training adds to those of the model; None for 0.
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, chosen: np.ndarray | slice) -> Examples:
        """Selects examples by a slice, a mask or positions, without reading their values."""
        arrays = (self.starts, self.lengths, self.labels, self.hash_buckets)
        offsets = None if self.offsets is None else self.offsets[chosen]
        return dataclasses.replace(
            Examples(self.values, *(a[chosen] for a in arrays)), offsets=offsets
        )

    def row(self, position: int) -> np.ndarray:
        """Reads the values of one example, [lengths[position]]."""
        start = int(self.starts[position])
        return self.values[start : start + int(self.lengths[position])]

    def read(self) -> np.ndarray:
        """Reads the values of all examples, concatenated; consecutive examples in one piece."""
        if not len(self):
            return self.values[slice(0, 0)]
        ends = self.starts + self.lengths
        breaks = np.flatnonzero(self.starts[1:] != ends[:-1]) + 1
        starts, ends = self.starts[[0, *breaks]], ends[[*(breaks - 1), -1]]
        sections = map(slice, starts.tolist(), ends.tolist())
        return np.concatenate([self.values[section] for section in sections])

    def in_chunks(self, size: int) -> Iterator[Examples]:
        """Yields the examples in chunks of at most `size`."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def concatenate(self, others: Examples) -> Examples:
        """Returns these examples followed by others, without offsets; reads no values."""
        end = int((self.starts + self.lengths).max(initial=0))
        return Examples(
            _ConcatenatedValues(self.values, end, others.values),
            np.concatenate([self.starts, others.starts + end]),
            np.concatenate([self.lengths, others.lengths]),
            np.concatenate([self.labels, others.labels]),
            np.concatenate([self.hash_buckets, others.hash_buckets]),
        )

    def texts(self) -> list[bytes]:
        """Reads the texts, if the values are bytes."""
        text, ends = self.read().tobytes(), np.cumsum(self.lengths, dtype=np.int64)
        return [
            text[s:e] for s, e in zip((ends - self.lengths).tolist(), ends.tolist(), strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class _ConcatenatedValues:
    """The first `end` values of one array, then another array."""

    first: Values
    end: int
    second: Values

    def __getitem__(self, section: slice, /) -> np.ndarray:
        start, stop, end = section.start, section.stop, self.end
        if stop <= end:
            return self.first[section]
        second = self.second[max(start - end, 0) : stop - end]
        return second if start >= end else np.concatenate([self.first[start:end], second])

    def gather(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns the values <int32>[...] at positions <int64>[...]."""
        first = self.first.gather(tf.minimum(positions, self.end - 1))
        second = self.second.gather(tf.maximum(positions - self.end, 0))
        return tf.where(positions < self.end, first, second)


def unlabelled_examples(token_ids: tf.RaggedTensor) -> Examples:
    """Returns examples with token ids <int32>[N, (T)], in memory; their labels, 0, are not used."""
    lengths = token_ids.row_lengths().numpy().astype(np.int32)
    return Examples(
        _in_memory(token_ids.flat_values),
        _starts(lengths),
        lengths,
        labels=np.zeros(len(lengths), np.int32),
        hash_buckets=np.zeros(len(lengths), np.uint16),
    )


def _in_memory(values: tf.Tensor) -> TensorValues:
    with tf.device("CPU"):
        return TensorValues(tf.identity(values))


def write_examples(folder: Path, chunks: Iterable[Chunk]) -> None:
    """Writes examples chunk by chunk to files in a folder; their values are not kept in memory."""
    arrays: dict[str, list[np.ndarray]] = {name: [np.empty(0, t)] for name, t in _ARRAYS.items()}
    with (folder / "values.bin").open("wb") as file:
        for values, *others in chunks:
            file.write(values.tobytes())
            for (name, dtype), array in zip(_ARRAYS.items(), others, strict=True):
                arrays[name].append(np.asarray(array, dtype))
    for name, collected in arrays.items():
        np.save(folder / f"{name}.npy", np.concatenate(collected), allow_pickle=False)


def read_examples(folder: Path) -> Examples:
    """Opens the files that `write_examples` wrote; the values stay on disk.

    Raises:
        ValueError: A file is damaged.
        OSError: A file is missing.
    """
    arrays = {name: np.load(folder / f"{name}.npy") for name in _ARRAYS}
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError("its arrays have different lengths")
    lengths = arrays["lengths"]
    values = open_values(folder / "values.bin", int(lengths.sum(dtype=np.int64)))
    return Examples(values, _starts(lengths), **arrays)


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Returns the start positions <int64>[N] of consecutive sections of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1].astype(np.int64)
