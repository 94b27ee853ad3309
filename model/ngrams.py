"""The wide part: a review's score is a sum over the words and phrases that stand in it."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

_BITS = 22
FEATURES = 2**_BITS  # IMDB's training reviews have 6 million different phrases of up to 3 words
_SMOOTHING = 1.0  # reviews of either label that each feature is taken to have stood in as well
_PACE = 5.0  # Adam's steps are alike for all weights; these want longer ones than a network's


class NgramScores(keras.layers.Layer):
    """Naive-Bayes ratios of n-grams, each with a weight that training finds.

    A review's score is a bias and the sum, over the different n-grams of up to `longest` tokens in
    it, of ratio x weight. The ratio is the log of how much more often reviews of label 1 have the
    n-gram than those of label 0, counted once before training (Wang & Manning, Baselines and
    Bigrams, ACL 2012); the weight starts at 0. N-grams are hashed to 2^22 features, so nothing but
    the tables needs to be kept (Weinberger et al., Feature Hashing, ICML 2009).

    Args:
        longest: Tokens in the longest n-grams.
    """

    def __init__(self, longest: int) -> None:
        super().__init__(dtype="float32")  # a sum of hundreds of terms
        self._longest = longest

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Makes the tables."""
        del token_ids_shape
        self.ratios = self.add_weight(
            shape=(FEATURES,), initializer="zeros", trainable=False, name="ratios"
        )
        self.importance = self.add_weight(shape=(FEATURES,), initializer="zeros", name="importance")
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def count(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Sets the ratios from labelled batches.

        Args:
            batches: Of token_ids <int32>[B, T] and labels <float32>[B], 0 or 1.
        """
        counts = tf.Variable(tf.fill([2 * FEATURES], _SMOOTHING))  # label 0's, then label 1's

        @tf.function(reduce_retracing=True)
        def add(token_ids: tf.Tensor, labels: tf.Tensor) -> None:
            rows, features = ngram_features(token_ids, self._longest)
            places = features + FEATURES * tf.cast(tf.gather(labels, rows), tf.int32)
            ones = tf.ones_like(places, tf.float32)
            counts.assign_add(tf.math.unsorted_segment_sum(ones, places, 2 * FEATURES))

        for token_ids, labels in batches:
            add(token_ids, labels)
        frequencies = tf.reshape(counts, [2, FEATURES])
        frequencies /= tf.reduce_sum(frequencies, axis=1, keepdims=True)
        self.ratios.assign(tf.math.log(frequencies[1] / frequencies[0]))

    def call(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Scores token_ids <int32>[B, T] as <float32>[B]."""
        rows, features = ngram_features(token_ids, self._longest)
        terms = tf.gather(self.ratios, features) * tf.gather(self.importance, features)
        return self.bias + _PACE * tf.math.segment_sum(terms, rows)


def ngram_features(token_ids: tf.Tensor, longest: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Lists the features of reviews, each once a review.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        longest: Tokens in the longest n-grams.

    Returns:
        Rows <int32>[M], in order, and the features <int32>[M], from 0 to FEATURES - 1, that the
        reviews in those rows have. Padding has none. (TensorFlow sums by int32 indices 6 times
        faster than by int64.)
    """
    ids = tf.cast(token_ids, tf.uint64)
    keys, hashes = [], tf.zeros_like(ids)
    for _ in range(longest):
        # That of the n-gram that ends here, from the shorter one that ends a token before. Where
        # a review begins there is none, and the n-gram is the shorter one once more.
        hashes = _mixed(hashes + ids)  # [B, T]
        keys.append(tf.bitwise.right_shift(hashes, tf.constant(64 - _BITS, tf.uint64)))
        hashes = tf.pad(hashes[:, :-1], [[0, 0], [1, 0]])
    row = tf.range(tf.shape(ids, tf.int64)[0])[:, tf.newaxis, tf.newaxis]
    keys = row * FEATURES + tf.cast(tf.stack(keys, axis=2), tf.int64)  # [B, T, longest]
    keys = tf.unique(tf.reshape(tf.boolean_mask(keys, ids > 0), [-1])).y
    return tf.cast(keys // FEATURES, tf.int32), tf.cast(keys % FEATURES, tf.int32)


def _mixed(numbers: tf.Tensor) -> tf.Tensor:
    """Scatters <uint64>[...] over all 64 bits (Steele et al., SplitMix64, OOPSLA 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(numbers, tf.constant(shift, tf.uint64))
        numbers = tf.bitwise.bitwise_xor(numbers, shifted) * tf.constant(factor, tf.uint64)
    return numbers
