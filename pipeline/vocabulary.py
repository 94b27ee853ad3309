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
_UNKNOWN = "[UNK]"  # TextVectorization's own word of id 1; standardized texts have no brackets


class Vectorizer:
    """Turns texts into token ids, the same way in training, prediction and export.

    Attributes:
        words: The vocabulary; `words[i]` has id `i + FIRST_WORD_ID`.
        vocabulary_size: Number of ids: the words, padding and unknown.
        layer: The TextVectorization layer, which an export has to track.
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
        """Returns the number of token ids with this vocabulary."""
        return len(words) + FIRST_WORD_ID

    @property
    def identity(self) -> list[object]:
        """All that its answers depend on, the code apart."""
        return [
            fingerprint(self.words),
            self._sequence_length,
            self._truncate,
            self._punctuation,
        ]

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Vectorizes a batch of texts <string>[B]; see `look_up` for what it returns."""
        return self.look_up(standardize(texts, punctuation=self._punctuation))

    def read_of(self, text: bytes) -> list[str]:
        """Returns the standardized words of a text that its token ids stand for, one each."""
        standard = standardize(tf.constant(text), punctuation=self._punctuation)
        words = standard.numpy().decode().split(" ")  # of no words: one that is empty
        length = self._sequence_length
        return words[:length] if self._truncate == "head" else words[-length:]

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Vectorizes a batch of texts that are standardized already.

        Args:
            texts: <string>[B].

        Returns:
            Ragged <int32>[B, (T)], 1 ≤ T ≤ sequence_length. A text without words is one unknown
            token, so that no row is empty: cuDNN has no use for those, and neither has a mean.
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
    """Collects the vocabulary of the training texts, as TextVectorization.adapt does.

    Counted here in a tenth of its time; of words that are as frequent as each other, the one that
    is later in the alphabet comes first, as there.

    Args:
        texts: Standardized texts, some at a time.
        vocab_size: Number of ids, padding and unknown included.

    Returns:
        The most frequent words, most frequent first, `vocab_size - FIRST_WORD_ID` at most.
    """
    counts: collections.Counter[bytes] = collections.Counter()
    for some in texts:
        counts.update(b" ".join(some).split())
    by_count = heapq.nlargest(
        vocab_size - FIRST_WORD_ID, counts.items(), key=lambda item: (item[1], item[0])
    )
    return [word.decode() for word, _ in by_count]


def save(words: Sequence[str], path: Path) -> None:
    """Writes one word a line; the word on line 1 has id `FIRST_WORD_ID`."""
    path.write_bytes(_encode(words))


def load(path: Path) -> list[str]:
    """Reads what `save` wrote.

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
    if _UNKNOWN in words:
        raise RunError(f"{path} has {_UNKNOWN!r}, which stands for unknown words; it is damaged")
    if len(set(words)) < len(words):
        word, _ = collections.Counter(words).most_common(1)[0]
        raise RunError(f"{path} has {word!r} twice; it is damaged")
    return words


def fingerprint(words: Sequence[str]) -> str:
    """Returns the SHA-256 of the file that `save` writes, as sha256sum tells it."""
    return hashlib.sha256(_encode(words)).hexdigest()


def _encode(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8")
