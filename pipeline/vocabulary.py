"""Converts texts to token ids, and writes and reads the vocabulary file."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import RunError, UserError
from pipeline.text.standardization import WordStandardization
from pipeline.text.tokenizer import Standardization
from pipeline.text.truncation import truncate_rows

PADDING_ID = 0
OOV_ID = 1
FIRST_TOKEN_ID = 2  # the id of the token on line 1 of vocabulary.txt
OOV_TOKEN = "[UNK]"  # TextVectorization's token of id 1; standardized texts have no brackets


class Vectorizer:
    """Converts texts to token ids with a vocabulary of words; a `Tokenizer`.

    Of each text, at most `sequence_length` tokens are kept; for `truncate`, see `truncate_rows`.
    For `punctuation`, see `standardize`.

    Attributes:
        token_names: The token of each id: padding, out-of-vocabulary, then the vocabulary.
        trackable: The TextVectorization layer, which an export must track.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        sequence_length: int,
        truncate: str,
        punctuation: str = "drop",
    ) -> None:
        self.token_names = ["", OOV_TOKEN, *tokens]
        self._standardization = WordStandardization(punctuation)
        self.trackable = keras.layers.TextVectorization(
            vocabulary=np.array(tokens, str),  # Keras takes three times as long for a list
            standardize=None,
            ragged=True,
        )
        self._sequence_length = sequence_length
        self._truncate = truncate

    @property
    def standardization(self) -> Standardization:
        """Returns the first part of the tokenizer: tokens separated by single spaces."""
        return self._standardization

    @property
    def vocabulary_size(self) -> int:
        """Returns the number of token ids."""
        return len(self.token_names)

    @property
    def identity(self) -> list[object]:
        """Returns a cache key: everything that token ids depend on, except text and code."""
        tokens = self.token_names[FIRST_TOKEN_ID:]
        return [fingerprint(tokens), self._sequence_length, self._truncate]

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Converts texts <string>[B] to token ids; see `complete`."""
        return self.complete(self.look_up(self.standardization(texts)))

    def words_of(self, text: bytes) -> tuple[list[str], np.ndarray]:
        """Returns the tokens of a text that remain after truncation, and their positions.

        Each token is one word here. The positions are <int64>[T].
        """
        standard = self.standardization(tf.constant(text))
        tokens = standard.numpy().decode().split(" ")  # an empty text has one empty token
        tokens = self._truncated(tf.ragged.constant([tokens]))[0].numpy()
        return [token.decode() for token in tokens], np.arange(len(tokens))

    def _truncated(self, rows: tf.RaggedTensor) -> tf.RaggedTensor:
        return truncate_rows(rows, self._sequence_length, self._truncate)

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of all tokens of standardized texts or of single words <string>[B].

        The result is ragged <int32>[B, (T)], 0 ≤ T.
        """
        return tf.cast(self.trackable(texts), tf.int32)

    def complete(self, token_ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Truncates the rows of token ids from `look_up`, ragged <int32>[B, (T)].

        Returns:
            Ragged <int32>[B, (T)], 1 ≤ T ≤ sequence_length. A text without tokens becomes one
            out-of-vocabulary token, because cuDNN and means need rows that are not empty.
        """
        token_ids = self._truncated(token_ids)
        is_empty = tf.equal(token_ids.row_lengths(), 0)
        filler = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.math.count_nonzero(is_empty)], OOV_ID), tf.cast(is_empty, tf.int64)
        )
        return tf.concat([token_ids, filler], axis=1)


def most_frequent_tokens(
    words: Iterable[bytes], counts: np.ndarray, *, vocab_size: int
) -> list[str]:
    """Returns the vocabulary that TextVectorization.adapt would find.

    Like `adapt`, puts the alphabetically later one of two equally frequent tokens first.

    Args:
        words: Distinct words.
        counts: <int64>[W], how often each word occurs. Words with the count 0 are left out.
        vocab_size: The largest number of token ids, with padding and out-of-vocabulary.
    """
    found = ((count, word) for count, word in zip(counts.tolist(), words, strict=True) if count)
    frequent = heapq.nlargest(vocab_size - FIRST_TOKEN_ID, found)
    return [word.decode() for _, word in frequent]


def save(tokens: Sequence[str], path: Path) -> None:
    """Writes one token per line; the token on line 1 has id `FIRST_TOKEN_ID`."""
    path.write_bytes(_encode(tokens))


def load(path: Path, *, is_pretrained: bool = False) -> list[str]:
    """Reads the tokens that `save` wrote. With `is_pretrained`, any tokens are allowed.

    Raises:
        UserError: There is no such file.
        RunError: The file is not UTF-8, or has a line that `save` does not write.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; restore it, or train a new run in another --model_dir")
    try:
        tokens = path.read_bytes().decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not is_pretrained and len({*tokens, "", OOV_TOKEN}) < len(tokens) + 2:
        raise RunError(f"{path} is damaged: it has an empty line, {OOV_TOKEN} or a line twice")
    return tokens


def fingerprint(tokens: Sequence[str]) -> str:
    """Returns the SHA-256 of the vocabulary file, as sha256sum prints it."""
    return hashlib.sha256(_encode(tokens)).hexdigest()


def _encode(tokens: Sequence[str]) -> bytes:
    return "".join(f"{token}\n" for token in tokens).encode()
