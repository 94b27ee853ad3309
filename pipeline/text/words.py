"""Numbers the words of standardized texts, so that each distinct word is looked up only once."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf


class WordNumbers:
    """Numbers distinct words in the order of their first occurrence, from 0.

    Needs about 100 bytes of memory for each distinct word.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = collections.defaultdict(itertools.count().__next__)

    def number(self, words: Sequence[bytes]) -> np.ndarray:
        """Returns the numbers <uint32>[W] of words; new words get the next numbers."""
        return np.fromiter(map(self._numbers.__getitem__, words), np.uint32, len(words))

    def words(self) -> Iterator[bytes]:
        """Yields the word of each number."""
        return iter(self._numbers)


def split_words(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Splits standardized texts <string>[B] into words.

    Returns:
        The distinct words <string>[W] in the order of their first occurrence; for each word of all
        texts, its position in them <int32>[M]; and the number of words of each text <int64>[B].
    """
    words = tf.strings.split(texts)
    distinct, positions = tf.unique(words.flat_values)
    return distinct, positions, words.row_lengths()
