"""The wide part: a review's score is a sum over the words and phrases that stand in it."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

FEATURES = 2**22  # IMDB's training reviews have 6 million different phrases of up to 3 words
_PRIME = 2**31 - 1  # products of two numbers below it fit into 63 bits
_FACTOR = 1_103_515_245
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
        counts = tf.Variable(tf.fill([2, FEATURES], _SMOOTHING))

        @tf.function(reduce_retracing=True)
        def add(token_ids: tf.Tensor, labels: tf.Tensor) -> None:
            rows, features = ngram_features(token_ids, self._longest)
            label = tf.cast(tf.gather(labels, rows), tf.int64)
            ones = tf.ones_like(rows, tf.float32)
            counts.scatter_nd_add(tf.stack([label, features], axis=1), ones)

        for token_ids, labels in batches:
            add(token_ids, labels)
        frequencies = counts / tf.reduce_sum(counts, axis=1, keepdims=True)
        self.ratios.assign(tf.math.log(frequencies[1] / frequencies[0]))

    def call(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Scores token_ids <int32>[B, T] as <float32>[B]."""
        rows, features = ngram_features(token_ids, self._longest)
        terms = tf.gather(self.ratios, features) * tf.gather(self.importance, features)
        size = tf.shape(token_ids, tf.int64)[0]
        return self.bias + _PACE * tf.math.unsorted_segment_sum(terms, rows, size)


def ngram_features(token_ids: tf.Tensor, longest: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Lists the features of reviews, each once a review.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        longest: Tokens in the longest n-grams.

    Returns:
        Rows <int64>[M], in order, and the features <int64>[M], from 0 to FEATURES - 1, that the
        reviews in those rows have. Padding has none.
    """
    ids = tf.cast(token_ids, tf.int64)
    keys, hashes = [], tf.zeros_like(ids)
    for _ in range(longest):
        # That of the n-gram that ends here, from the shorter one that ends a token before. Where
        # a review begins there is none, and the n-gram is the shorter one once more.
        hashes = (hashes * _FACTOR + ids) % _PRIME * _FACTOR % _PRIME  # [B, T]
        keys.append(hashes % FEATURES)
        hashes = tf.pad(hashes[:, :-1], [[0, 0], [1, 0]])
    row = tf.range(tf.shape(ids, tf.int64)[0])[:, tf.newaxis, tf.newaxis]
    keys = row * FEATURES + tf.stack(keys, axis=2)  # [B, T, longest]
    keys = tf.unique(tf.reshape(tf.boolean_mask(keys, ids > 0), [-1])).y
    return keys // FEATURES, keys % FEATURES
