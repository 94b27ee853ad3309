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
        """Returns the first of three steps; `look_up` and `complete` are the others."""

    @property
    def vocabulary_size(self) -> int:
        """Returns the number of token ids."""

    @property
    def identity(self) -> list[object]:
        """Returns a cache key: everything that token ids depend on, except text and code."""

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the token ids of texts <string>[B], ragged <int32>[B, (T)], 1 ≤ T."""

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of all tokens of standardized texts, ragged <int32>[B, (T)], 0 ≤ T.

        The ids of a text are those of its words, concatenated, so words can be looked up alone.
        """

    def complete(self, token_ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Truncates the ids from `look_up`, and adds the tokens that a model needs.

        The argument is ragged <int32>[B, (T)], 0 ≤ T. The result is that of `__call__`.
        """

    def words_of(self, text: bytes) -> tuple[list[str], np.ndarray]:
        """Returns the words of a text that remain after truncation, and the word of each token id.

        The second result is <int64>[T], positions in the list of words.
        """
