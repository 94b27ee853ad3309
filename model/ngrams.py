"""The n-gram scorer: a linear model of the n-grams of a text."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from model.labels import count_logits

# IMDB's train split has 5 million distinct n-grams of up to 3 tokens; 1.1 million are in 2 or more.
_MAX_BITS = 24  # of a hash, which is the row of a table
_MAX_VALUES = 2**26  # of a table: with many logits it has fewer rows, and at most 128 MB


class NgramScorer(keras.layers.Layer):
    """Scores a text by logistic regression on its distinct n-grams.

    Each n-gram has a scale s and a score w * s for each logit. The logit is

        bias + sum(w * s) / sqrt(sum(s ** 2)),

    where both sums are over the distinct n-grams of the text. This is a linear model of binary
    features, scaled and then divided by their Euclidean norm. `trainer.objectives.ngram_fit` fits
    it before the first step; steps do not change it. N-grams that it does not know have the score
    and the scale 0.

    N-grams are hashed, so they need not be stored (Weinberger et al., Feature Hashing, ICML 2009).

    Args:
        max_tokens: Number of tokens in the longest n-grams.
        class_count: Number of classes, K.

    Attributes:
        max_tokens: As above.
        class_count: K.
        row_count: Number of rows of the table, R.
    """

    def __init__(self, max_tokens: int, class_count: int) -> None:
        # float32: a logit is the sum of hundreds of terms.
        super().__init__(dtype="float32", autocast=False)
        self.max_tokens, self.class_count = max_tokens, class_count
        self._logit_count = count_logits(class_count)
        max_rows = _MAX_VALUES / (2 * self._logit_count)
        self._bits = min(_MAX_BITS, math.floor(math.log2(max_rows)))
        self.row_count = 2**self._bits

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates the table and the bias, which are not trained by gradients."""
        del token_ids_shape
        fixed = {"initializer": "zeros", "trainable": False}
        # The scores of an n-gram, then its scales: one row is one read from memory. float16 has
        # three digits, which are enough.
        shape = (self.row_count, 2 * self._logit_count)
        self.table = self.add_weight(shape, dtype="float16", name="table", **fixed)
        self.bias = self.add_weight((self._logit_count,), name="bias", **fixed)

    def find_rows(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the row of each distinct n-gram of each text; see `find_ngrams`."""
        return find_ngrams(token_ids, self.max_tokens, self._bits)

    def hash_ngrams(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the row <int32>[B, T, max_tokens] of the n-grams that end at each token.

        Padding (0 in token_ids <int32>[B, T]) has -1. `find_rows` returns each row of a text once.
        """
        hashes = tf.cast(_hash_ngrams(token_ids, self.max_tokens, self._bits), tf.int32)
        return tf.where(token_ids[..., tf.newaxis] > 0, hashes, -1)

    def assign(
        self, rows: np.ndarray, scores: np.ndarray, scales: np.ndarray, bias: np.ndarray
    ) -> None:
        """Sets the table and the bias.

        Args:
            rows: <int>[M], distinct rows; all others become 0.
            scores: <float>[M, L].
            scales: <float>[M, L].
            bias: <float>[L].
        """
        table = np.zeros(self.table.shape, np.float16)
        table[rows] = np.concatenate([scores, scales], axis=1)
        self.table.assign(table)
        self.bias.assign(bias)

    def call(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Computes the logits <float32>[B, L] of token_ids <int32>[B, T]."""
        texts, rows = self.find_rows(token_ids)
        scores, scales = self._look_up(rows)
        sums = tf.math.segment_sum(tf.concat([scores, tf.square(scales)], axis=1), texts)
        sums, squares = tf.split(sums, 2, axis=1)
        return self.bias + tf.math.divide_no_nan(sums, tf.sqrt(squares))

    def _look_up(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the scores and the scales, each <float32>[M, L], of rows <int>[M]."""
        found = tf.cast(tf.gather(self.table, rows), tf.float32)
        scores, scales = tf.split(found, 2, axis=1)
        return scores, scales

    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logits of one example to its tokens, by Shapley values.

        The norm of the text is taken as given. The score of an n-gram depends on all of its tokens,
        so each gets an equal share (Lundberg & Lee, A Unified Approach to Interpreting Model
        Predictions, NeurIPS 2017). If an n-gram occurs several times, its score is first divided
        among the occurrences.

        The arguments and results are those of `TextClassifier.contributions`. The baseline is the
        product for the bias.
        """
        hashes = _hash_ngrams(token_ids[tf.newaxis], self.max_tokens, self._bits)[0]
        rows, indices, counts = tf.unique_with_counts(tf.reshape(hashes, [-1]))
        scores, scales = self._look_up(rows)
        norm = tf.sqrt(tf.reduce_sum(tf.square(scales), axis=0))
        scores = tf.linalg.matvec(tf.math.divide_no_nan(scores, norm), direction)
        scores = tf.gather(scores / tf.cast(counts, tf.float32), indices)  # of each occurrence
        scores = tf.reshape(scores, tf.shape(hashes))  # [T, max_tokens]
        length = tf.size(token_ids)
        total = tf.zeros([length])
        for size in range(1, self.max_tokens + 1):
            # At the beginning of a text, an n-gram has fewer tokens than its size.
            sizes = tf.minimum(tf.range(length) + 1, size)
            shares = scores[:, size - 1] / tf.cast(sizes, tf.float32)
            for offset in range(size):
                total += tf.pad(shares[offset:], [[0, tf.minimum(offset, length)]])
        return total, tf.reduce_sum(self.bias * direction)


def find_ngrams(token_ids: tf.Tensor, max_tokens: int, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the distinct n-grams of each text, as hashes.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        max_tokens: Number of tokens in the longest n-grams.
        bits: Number of bits of a hash.

    Returns:
        Numbers of texts <int32>[M], in ascending order, and hashes <int32>[M]: text numbers[i] has
        hashes[i]. No text has a hash twice, and padding has none.
    """
    hashes = _hash_ngrams(token_ids, max_tokens, bits)
    text = tf.range(tf.shape(token_ids, tf.int64)[0])[:, tf.newaxis, tf.newaxis]
    keys = tf.boolean_mask(text * 2**bits + hashes, token_ids > 0)
    keys = tf.unique(tf.reshape(keys, [-1])).y
    # With int64 indices, TensorFlow's segment sums are 6 times slower.
    return tf.cast(keys // 2**bits, tf.int32), tf.cast(keys % 2**bits, tf.int32)


def _hash_ngrams(token_ids: tf.Tensor, max_tokens: int, bits: int) -> tf.Tensor:
    """Returns the hashes <int64>[B, T, max_tokens] of the n-grams that end at each token."""
    ids = tf.cast(token_ids, tf.uint64)
    found, hashes = [], tf.zeros_like(ids)
    for _ in range(max_tokens):
        # The hash of an n-gram depends on the hash of the (n-1)-gram that ends one token earlier.
        # At the beginning of a text there is none, so the hash is that of the (n-1)-gram that ends
        # here.
        hashes = _mix_bits(hashes + ids)  # [B, T]
        found.append(tf.bitwise.right_shift(hashes, tf.constant(64 - bits, tf.uint64)))
        hashes = tf.pad(hashes[:, :-1], [[0, 0], [1, 0]])
    return tf.cast(tf.stack(found, axis=2), tf.int64)


def _mix_bits(numbers: tf.Tensor) -> tf.Tensor:
    """Mixes the bits of <uint64>[...] by two steps of SplitMix64 (Steele et al., OOPSLA 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(numbers, tf.constant(shift, tf.uint64))
        numbers = tf.bitwise.bitwise_xor(numbers, shifted) * tf.constant(factor, tf.uint64)
    return numbers
