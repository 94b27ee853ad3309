"""What a tokenizer does: texts become token ids."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import tensorflow as tf


class Standardization(Protocol):
    """The first part of a tokenizer: texts become tokens or words, separated by single spaces."""

    @property
    def identity(self) -> dict[str, object]:
        """Returns a cache key: everything that the result depends on, except text and code."""

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns standardized texts <string>[B] of texts <string>[B], usually UTF-8."""


class Tokenizer(Protocol):
    """Converts texts to token ids, in the same way in training, prediction and export.

    Attributes:
        token_names: The token of each id; id 0 is padding.
        trackable: The layer or the table that holds the vocabulary, which an export must track.
    """

    token_names: list[str]
    trackable: Any

    @property
    def standardization(self) -> Standardization:
        """Returns the first part of the tokenizer; the second is `look_up`."""

    @property
    def vocabulary_size(self) -> int:
        """Returns the number of token ids."""

    @property
    def identity(self) -> list[object]:
        """Returns a cache key: everything that `look_up` depends on, except text and code."""

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the token ids of texts <string>[B], ragged <int32>[B, (T)], 1 ≤ T."""

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the token ids of texts that are already standardized; see `__call__`."""

    def words_of(self, text: bytes) -> tuple[list[str], np.ndarray]:
        """Returns the words of a text that remain after truncation, and the word of each token id.

        The second result is <int64>[T], positions in the list of words.
        """
