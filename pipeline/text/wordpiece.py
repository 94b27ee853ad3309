"""Converts texts to the token ids of BERT: WordPiece, with TensorFlow operations."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.text.bert_standardization import BertStandardization
from pipeline.text.tokenizer import Standardization
from pipeline.text.truncation import truncate_rows

_CONTINUATION = "##"  # starts each piece that is not the first one of its word
_NO_ID = -1


@dataclasses.dataclass(frozen=True)
class WordPieceSettings:
    """What the tokenizer of a pretrained encoder does, besides its vocabulary.

    Attributes:
        standardization: How texts are split into words.
        max_word_length: The number of characters above which a word is unknown.
        unknown: The token of an unknown word.
        start: The token before each text.
        end: The token after each text.
    """

    standardization: BertStandardization
    max_word_length: int = 100
    unknown: str = "[UNK]"
    start: str = "[CLS]"
    end: str = "[SEP]"


class WordPiece:
    """Converts texts to token ids as BERT does: [CLS], the pieces of each word, [SEP].

    A word is divided into the longest piece of the vocabulary that it starts with, then the longest
    piece that the rest starts with, and so on. If a rest has none, the whole word is unknown
    (Schuster & Nakajima, Japanese and Korean voice search, ICASSP 2012).

    Args:
        tokens: The vocabulary.
        settings: What else the tokenizer does. The vocabulary must have its special tokens.
        sequence_length: The largest number of tokens of a text, with [CLS] and [SEP].
        truncate: See `truncate_rows`.

    Attributes:
        token_names: The token of each id.
        trackable: The table of the vocabulary, which an export must track.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        settings: WordPieceSettings,
        *,
        sequence_length: int,
        truncate: str,
    ) -> None:
        self.token_names = list(tokens)
        self._settings, self._length, self._truncate = settings, sequence_length, truncate
        self._longest = max(len(token.encode()) for token in tokens)  # in bytes
        ids = tf.range(len(self.token_names), dtype=tf.int32)
        table = tf.lookup.KeyValueTensorInitializer(tf.constant(self.token_names), ids)
        self.trackable = tf.lookup.StaticHashTable(table, _NO_ID)
        names = (settings.start, settings.end, settings.unknown)
        self._start, self._end, self._unknown = map(self.token_names.index, names)

    @property
    def standardization(self) -> Standardization:
        """Returns the first part of the tokenizer: words separated by single spaces."""
        return self._settings.standardization

    @property
    def vocabulary_size(self) -> int:
        """Returns the number of token ids."""
        return len(self.token_names)

    @property
    def identity(self) -> list[object]:
        """Returns a cache key: everything that token ids depend on, except text and code."""
        vocabulary = hashlib.sha256("\n".join(self.token_names).encode()).hexdigest()
        settings = dataclasses.astuple(self._settings)
        return [vocabulary, settings, self._length, self._truncate]

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Converts texts <string>[B] to token ids; see `complete`."""
        return self.complete(self.look_up(self.standardization(texts)))

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of standardized texts or of single words <string>[B].

        The result is ragged <int32>[B, (T)], 0 ≤ T.
        """
        return self._split_texts(texts).merge_dims(1, 2)

    def complete(self, token_ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Truncates the rows of ids from `look_up`, and adds [CLS] and [SEP].

        Returns:
            Ragged <int32>[B, (T)], 2 ≤ T ≤ sequence_length.
        """
        pieces = self._truncated(token_ids)
        special = tf.ones([pieces.nrows(), 1], tf.int32)
        return tf.concat([self._start * special, pieces, self._end * special], axis=1)

    def words_of(self, text: bytes) -> tuple[list[str], np.ndarray]:
        """Returns the words of a text that remain after truncation, and the word of each token id.

        The first word is [CLS], and the last one is [SEP]. The second result is <int64>[T],
        positions in the list of words.
        """
        texts = self.standardization(tf.constant([text]))
        names = [self._settings.start, *texts[0].numpy().decode().split(), self._settings.end]
        # The first word after [CLS] has the number 1.
        numbers = self._split_texts(texts)[0].value_rowids()[tf.newaxis] + 1
        kept = self._truncated(tf.RaggedTensor.from_tensor(numbers))[0].numpy()
        kept, positions = np.unique([0, *kept, len(names) - 1], return_inverse=True)
        return [names[number] for number in kept], positions

    def _truncated(self, rows: tf.RaggedTensor) -> tf.RaggedTensor:
        """Makes room for [CLS] and [SEP]."""
        return truncate_rows(rows, self._length - 2, self._truncate)

    def _split_texts(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of standardized texts, <int32>[B, (words), (pieces)]."""
        words = tf.strings.split(texts, " ")
        words = tf.ragged.boolean_mask(words, words != "")  # an empty text has one empty word
        distinct, positions = tf.unique(words.flat_values)
        return words.with_flat_values(tf.gather(self._split_words(distinct), positions))

    def _split_words(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of the pieces of words <string>[W], as ragged <int32>[W, (pieces)]."""
        is_long = tf.strings.length(words, unit="UTF8_CHAR") > self._settings.max_word_length
        ids = tf.where(is_long, self._unknown, self.trackable.lookup(words))
        is_whole = ids != _NO_ID  # most words are in the vocabulary
        split_rows, split_ids = self._split_greedily(words, tf.where(~is_whole)[:, 0])
        rows = tf.concat([tf.where(is_whole)[:, 0], split_rows], axis=0)
        ids = tf.concat([tf.boolean_mask(ids, is_whole), split_ids], axis=0)
        order = tf.argsort(rows, stable=True)
        return tf.RaggedTensor.from_value_rowids(
            tf.gather(ids, order), tf.gather(rows, order), tf.size(words, tf.int64)
        )

    def _split_greedily(self, words: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Splits the words <string>[W] at the positions `rows` <int64>[R].

        Returns:
            For each piece, the position of its word <int64>[P] and its id <int32>[P]. The pieces of
            a word are in order.
        """
        options = {"dynamic_size": True, "infer_shape": False, "element_shape": [None]}
        found_rows = tf.TensorArray(tf.int64, 1, **options).write(0, tf.zeros([0], tf.int64))
        found_ids = tf.TensorArray(tf.int32, 1, **options).write(0, tf.zeros([0], tf.int32))

        def split_next(
            step: tf.Tensor,
            rows: tf.Tensor,  # of the words that are not split to their end
            starts: tf.Tensor,  # of their rests, in bytes
            found_rows: tf.TensorArray,
            found_ids: tf.TensorArray,
        ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
            lengths = tf.fill(tf.shape(starts), 2**31 - 1)  # to the end
            rests = tf.strings.substr(tf.gather(words, rows), starts, lengths)
            prefix = tf.where(step > 1, _CONTINUATION, "")
            ids, sizes = self._longest_pieces(rests, prefix)
            found_rows, found_ids = found_rows.write(step, rows), found_ids.write(step, ids)
            goes_on = (ids != _NO_ID) & (sizes < tf.strings.length(rests))
            rows = tf.boolean_mask(rows, goes_on)
            return step + 1, rows, tf.boolean_mask(starts + sizes, goes_on), found_rows, found_ids

        *_, found_rows, found_ids = tf.while_loop(
            lambda _step, rows, *_: tf.size(rows) > 0,
            split_next,
            (1, rows, tf.zeros_like(rows, tf.int32), found_rows, found_ids),
            shape_invariants=(
                *(tf.TensorShape([]), tf.TensorShape([None]), tf.TensorShape([None])),
                *(None, None),
            ),
        )
        return self._replace_unknown(found_rows.concat(), found_ids.concat(), tf.shape(words))

    def _longest_pieces(self, rests: tf.Tensor, prefix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the longest piece at the start of each rest <string>[R].

        Returns:
            The ids of the pieces <int32>[R], _NO_ID for none; and their sizes in bytes <int32>[R].
        """
        longest = tf.minimum(self._longest, tf.reduce_max(tf.strings.length(rests)))
        sizes = tf.range(longest, 0, -1)
        shape = tf.stack([tf.size(rests), longest])
        starts = tf.strings.substr(
            tf.broadcast_to(rests[:, tf.newaxis], shape),
            tf.zeros(shape, tf.int32),
            tf.broadcast_to(sizes, shape),
        )
        ids = self.trackable.lookup(prefix + starts)  # [R, sizes]
        first = tf.argmax(ids != _NO_ID, axis=1)[:, tf.newaxis]
        best = tf.gather(ids, first, batch_dims=1)[:, 0]
        size = tf.strings.length(tf.gather(starts, first, batch_dims=1)[:, 0])
        return best, size

    def _replace_unknown(
        self, rows: tf.Tensor, ids: tf.Tensor, shape: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Replaces all pieces of each word that has a piece without an id."""
        unknown_rows = tf.boolean_mask(rows, ids == _NO_ID)
        ones = tf.ones_like(unknown_rows, tf.int32)
        is_unknown = tf.scatter_nd(unknown_rows[:, tf.newaxis], ones, tf.cast(shape, tf.int64)) > 0
        is_known = ~tf.gather(is_unknown, rows)
        rows = tf.concat([tf.boolean_mask(rows, is_known), unknown_rows], axis=0)
        return rows, tf.concat([tf.boolean_mask(ids, is_known), self._unknown * ones], axis=0)
