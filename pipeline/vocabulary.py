"""Turns texts into token ids, and writes and reads the vocabulary file."""

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
UNKNOWN_ID = 1
FIRST_WORD_ID = 2  # the id of the token on line 1 of vocabulary.txt
_OOV_TOKEN = "[UNK]"  # TextVectorization's token of id 1; standardized texts have no brackets


class Vectorizer:
    """Turns texts into token ids, the same way in training, prediction and export.

    Args:
        words: The vocabulary.
        sequence_length: Tokens that are kept of each text.
        truncate: Which tokens of a longer text are kept: `head` or `tail`.
        punctuation: `drop` or `keep`; see `standardize`.

    Attributes:
        words: The vocabulary; `words[i]` has id `i + FIRST_WORD_ID`.
        vocabulary_size: Number of token ids, with padding and out-of-vocabulary.
        layer: The TextVectorization layer, which an export must track.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        sequence_length: int,
        truncate: str,
        punctuation: str = "drop",
    ) -> None:
        self.words = list(words)
        self.vocabulary_size = self.size_of(words)
        self.layer = keras.layers.TextVectorization(
            vocabulary=self.words, standardize=None, ragged=True
        )
        self._sequence_length = sequence_length
        self._truncate = truncate
        self._punctuation = punctuation

    @staticmethod
    def size_of(words: Sequence[str]) -> int:
        """Returns the number of token ids with a vocabulary."""
        return len(words) + FIRST_WORD_ID

    @property
    def identity(self) -> list[object]:
        """Returns a cache key: all that the token ids of a text depend on, except the code."""
        return [
            fingerprint(self.words),
            self._sequence_length,
            self._truncate,
            self._punctuation,
        ]

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Standardizes and vectorizes texts <string>[B]; see `look_up`."""
        return self.look_up(standardize(texts, punctuation=self._punctuation))

    def read_of(self, text: bytes) -> list[str]:
        """Returns the tokens that the token ids of a text stand for, in their order."""
        standard = standardize(tf.constant(text), punctuation=self._punctuation)
        tokens = standard.numpy().decode().split(" ")  # of an empty text: one empty token
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
            tf.fill([tf.math.count_nonzero(is_empty)], UNKNOWN_ID), tf.cast(is_empty, tf.int64)
        )
        return tf.concat([token_ids, filler], axis=1)


def count(texts: Iterable[Sequence[bytes]], *, vocab_size: int) -> list[str]:
    """Returns the vocabulary of training texts, as TextVectorization.adapt would.

    This takes a tenth of the time of `adapt`. As there, of two equally frequent tokens the
    alphabetically later one comes first.

    Args:
        texts: Chunks of standardized texts.
        vocab_size: The largest number of token ids, with padding and out-of-vocabulary.

    Returns:
        At most `vocab_size - FIRST_WORD_ID` tokens, the most frequent first.
    """
    counts: collections.Counter[bytes] = collections.Counter()
    for chunk in texts:
        counts.update(b" ".join(chunk).split())
    most_frequent = heapq.nlargest(
        vocab_size - FIRST_WORD_ID, counts.items(), key=lambda item: (item[1], item[0])
    )
    return [token.decode() for token, _ in most_frequent]


def save(words: Sequence[str], path: Path) -> None:
    """Writes one token per line; the token on line 1 has id `FIRST_WORD_ID`."""
    path.write_bytes(_encode(words))


def load(path: Path) -> list[str]:
    """Reads the tokens that `save` wrote.

    Raises:
        UserError: There is no such file.
        RunError: The file is not UTF-8, or has a line that `save` does not write.
    """
    if not path.is_file():
        raise UserError(f"there is no vocabulary at {path}; train a model there first")
    try:
        words = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise RunError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from error
    if not all(words):
        raise RunError(f"{path} has an empty line ({words.index('') + 1}); it is damaged")
    if _OOV_TOKEN in words:
        raise RunError(f"{path} has {_OOV_TOKEN!r}, which is no token of a text; it is damaged")
    if len(set(words)) < len(words):
        word, _ = collections.Counter(words).most_common(1)[0]
        raise RunError(f"{path} has {word!r} twice; it is damaged")
    return words


def fingerprint(words: Sequence[str]) -> str:
    """Returns the SHA-256 of the vocabulary file, as sha256sum prints it."""
    return hashlib.sha256(_encode(words)).hexdigest()


def _encode(words: Sequence[str]) -> bytes:
    """Returns the content of the vocabulary file."""
    return "".join(f"{word}\n" for word in words).encode("utf-8")
