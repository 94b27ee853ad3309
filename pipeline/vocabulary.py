"""Converts texts to token ids, and writes and reads the vocabulary file."""

from __future__ import annotations

import collections
import hashlib
import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.errors import RunError, UserError
from pipeline.text.standardization import standardize

PADDING_ID = 0
OOV_ID = 1
FIRST_TOKEN_ID = 2  # the id of the token on line 1 of vocabulary.txt
_OOV_TOKEN = "[UNK]"  # TextVectorization's token of id 1; standardized texts have no brackets


class Vectorizer:
    """Converts texts to token ids, in the same way in training, prediction and export.

    Of each text, `sequence_length` tokens are kept, at its `head` or `tail`. For `punctuation`, see
    `standardize`.

    Attributes:
        tokens: The vocabulary; `tokens[i]` has id `i + FIRST_TOKEN_ID`.
        vocabulary_size: Number of token ids, with padding and out-of-vocabulary.
        layer: The TextVectorization layer, which an export must track.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        sequence_length: int,
        truncate: str,
        punctuation: str = "drop",
    ) -> None:
        self.tokens = list(tokens)
        self.vocabulary_size = len(self.tokens) + FIRST_TOKEN_ID
        self.layer = keras.layers.TextVectorization(
            vocabulary=self.tokens, standardize=None, ragged=True
        )
        self._sequence_length = sequence_length
        self._truncate = truncate
        self._punctuation = punctuation

    @property
    def identity(self) -> list[object]:
        """Returns a cache key: everything that token ids depend on, except text and code."""
        settings = (self._sequence_length, self._truncate, self._punctuation)
        return [fingerprint(self.tokens), *settings]

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Standardizes and vectorizes texts <string>[B]; see `look_up`."""
        return self.look_up(standardize(texts, punctuation=self._punctuation))

    def tokens_of(self, text: bytes) -> list[str]:
        """Returns the tokens of a text, one for each of its token ids."""
        standard = standardize(tf.constant(text), punctuation=self._punctuation)
        tokens = standard.numpy().decode().split(" ")  # an empty text has one empty token
        length = self._sequence_length
        return tokens[:length] if self._truncate == "head" else tokens[-length:]

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Vectorizes texts that are already standardized.

        Args:
            texts: <string>[B].

        Returns:
            Ragged <int32>[B, (T)], 1 ≤ T ≤ sequence_length. A text without tokens becomes one
            out-of-vocabulary token, because cuDNN and means need rows that are not empty.
        """
        token_ids = tf.cast(self.layer(texts), tf.int32)
        length = self._sequence_length
        kept = slice(length) if self._truncate == "head" else slice(-length, None)
        token_ids = token_ids[:, kept]
        is_empty = tf.equal(token_ids.row_lengths(), 0)
        filler = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.math.count_nonzero(is_empty)], OOV_ID), tf.cast(is_empty, tf.int64)
        )
        return tf.concat([token_ids, filler], axis=1)


def most_frequent_tokens(chunks: Iterable[Sequence[bytes]], *, vocab_size: int) -> list[str]:
    """Returns the vocabulary that TextVectorization.adapt would find, in a tenth of its time.

    Like `adapt`, puts the alphabetically later one of two equally frequent tokens first. The chunks
    are standardized texts. There are at most `vocab_size` token ids, with padding and
    out-of-vocabulary.
    """
    counts: collections.Counter[bytes] = collections.Counter()
    for chunk in chunks:
        counts.update(b" ".join(chunk).split())
    frequent = heapq.nlargest(
        vocab_size - FIRST_TOKEN_ID, counts.items(), key=lambda item: (item[1], item[0])
    )
    return [token.decode() for token, _ in frequent]


def save(tokens: Sequence[str], path: Path) -> None:
    """Writes one token per line; the token on line 1 has id `FIRST_TOKEN_ID`."""
    path.write_bytes(_encode(tokens))


def load(path: Path) -> list[str]:
    """Reads the tokens that `save` wrote.

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
    if len({*tokens, "", _OOV_TOKEN}) < len(tokens) + 2:
        raise RunError(f"{path} is damaged: it has an empty line, {_OOV_TOKEN} or a line twice")
    return tokens


def fingerprint(tokens: Sequence[str]) -> str:
    """Returns the SHA-256 of the vocabulary file, as sha256sum prints it."""
    return hashlib.sha256(_encode(tokens)).hexdigest()


def _encode(tokens: Sequence[str]) -> bytes:
    return "".join(f"{token}\n" for token in tokens).encode()
