"""The wide part: a review's score is a sum over the words and phrases that stand in it."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

_BITS = 24
FEATURES = 2**_BITS  # IMDB's training reviews have 5 million different phrases of up to 3 words,
_WEIGHTS = 2**21  # 0.4 million of which are not rare
RARE = 4  # an n-gram of fewer training reviews than this has no weight of its own,
RARE_WEIGHT = 0.04  # but this one
_SMOOTHING = 2.0  # added to the counts of each n-gram, divided between the classes by size
_LEARNING_RATE_MULTIPLIER = (
    7.0  # Adam's steps are alike for all weights; these want longer ones than a network's
)


class NgramScorer(keras.layers.Layer):
    """Naive-Bayes ratios of n-grams, each with a weight that training finds.

    A review's score is a bias and the sum, over the different n-grams of up to `longest` tokens in
    it, of ratio x weight. The ratio is the log of how much more often reviews of label 1 have the
    n-gram than those of label 0, counted once before training (Wang & Manning, Baselines and
    Bigrams, ACL 2012); only the bias depends on the sizes of the classes. The weight starts at 0.
    The ratio of a rare n-gram reveals the labels of the very reviews that it was counted in, and
    training would rely on it: training leaves it out, and its weight is small and fixed.

    N-grams are hashed, so nothing but the tables needs to be kept (Weinberger et al., Feature
    Hashing, ICML 2009): ratios have 2^24 places, since where two meet one has the other's sign;
    weights do with 2^21.

    Args:
        longest: Tokens in the longest n-grams.
    """

    def __init__(self, longest: int) -> None:
        super().__init__(dtype="float32", autocast=False)  # a sum of hundreds of terms
        self._longest = longest

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Makes the tables."""
        del token_ids_shape
        counted = {"shape": (FEATURES,), "initializer": "zeros", "trainable": False}
        # 3 digits are enough, and a table of half the size is read faster.
        self.ratios = self.add_weight(**counted, dtype="float16", name="ratios")
        self.is_rare = self.add_weight(**counted, dtype="bool", name="is_rare")
        self.importance = self.add_weight(shape=(_WEIGHTS,), initializer="zeros", name="importance")
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def adapt(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Sets the ratios, and the bias to the log-odds of the classes, from labelled batches.

        Args:
            batches: Of token_ids <int32>[B, T] and labels <float32>[B], 0 or 1.
        """
        counts = np.zeros(2 * FEATURES, np.int32)  # label 0's, then label 1's
        sizes = np.zeros(2, np.int64)  # examples of each label
        find = tf.function(ngram_features, reduce_retracing=True)
        for token_ids, labels in batches:
            rows, features = (found.numpy() for found in find(token_ids, self._longest))
            # int64 places: by others numpy adds 30 times slower.
            labels = np.asarray(labels, np.int64)
            places = features + FEATURES * labels[rows]
            np.add.at(counts, places, np.int32(1))
            sizes += np.bincount(labels, minlength=2)
        counts = counts.reshape(2, FEATURES)
        self.is_rare.assign(counts.sum(axis=0) < RARE)
        if not sizes.all():  # with one class there is nothing to compare
            return
        self.ratios.assign(_log_ratios(counts, sizes))
        self.bias.assign(np.log(sizes[1] / sizes[0]))

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scores token_ids <int32>[B, T] as <float32>[B]; without the rare ones in training."""
        rows, features = ngram_features(token_ids, self._longest)
        return self.bias + tf.math.segment_sum(self._scores(features, training), rows)

    def _scores(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        ratios = tf.cast(tf.gather(self.ratios, features), tf.float32)
        weights = _LEARNING_RATE_MULTIPLIER * tf.gather(self.importance, features % _WEIGHTS)
        hint = 0.0 if training else RARE_WEIGHT
        return ratios * tf.where(tf.gather(self.is_rare, features), hint, weights)

    def contributions(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Says how much of a review's score is each token's doing.

        An n-gram counts where all of its tokens stand, and is the doing of each of them alike:
        that is their Shapley value (Lundberg & Lee, A Unified Approach to Interpreting Model
        Predictions, NeurIPS 2017).

        Args:
            token_ids: <int32>[T], without padding.

        Returns:
            <float32>[T], and the score <float32>[] of no tokens; together they add up to the score.
        """
        hashes = _ngram_hashes(token_ids[tf.newaxis], self._longest)[0]  # [T, longest]
        features, places, counts = tf.unique_with_counts(tf.reshape(hashes, [-1]))
        score = self._scores(tf.cast(features, tf.int32), training=False)
        score = tf.gather(score / tf.cast(counts, tf.float32), places)  # of each occurrence
        score = tf.reshape(score, tf.shape(hashes))
        length = tf.size(token_ids)
        total = tf.zeros([length])
        for size in range(1, self._longest + 1):
            # Where a review begins, an n-gram has fewer tokens than its size.
            share = score[:, size - 1] / tf.cast(tf.minimum(tf.range(length) + 1, size), tf.float32)
            for before in range(size):
                total += tf.pad(share[before:], [[0, tf.minimum(before, length)]])
        return total, tf.identity(self.bias)


def _log_ratios(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns log(p(n-gram | label 1) / p(n-gram | label 0)), smoothed, <float32>[FEATURES].

    The smoothing is divided between the classes in proportion to their sizes. The ratio of an
    n-gram that is equally frequent in both classes is then 0, even if it is rare and the classes
    differ in size; equal smoothing would shift it towards the smaller class. For classes of equal
    size, both are add-one smoothing.

    Args:
        counts: <int32>[2, FEATURES], examples of each label that contain an n-gram.
        sizes: <int64>[2], examples of each label, none of them 0.
    """
    shares = (_SMOOTHING * sizes / sizes.sum()).astype(np.float32)
    negative, positive = counts.astype(np.float32) + shares[:, np.newaxis]
    ratios = np.log(positive / negative) - np.log(sizes[1] / sizes[0]).astype(np.float32)
    return np.where(counts.any(axis=0), ratios, 0)  # exactly 0: rounding may leave 1e-7


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
    hashes = _ngram_hashes(token_ids, longest)
    row = tf.range(tf.shape(token_ids, tf.int64)[0])[:, tf.newaxis, tf.newaxis]
    keys = tf.unique(tf.reshape(tf.boolean_mask(row * FEATURES + hashes, token_ids > 0), [-1])).y
    return tf.cast(keys // FEATURES, tf.int32), tf.cast(keys % FEATURES, tf.int32)


def _ngram_hashes(token_ids: tf.Tensor, longest: int) -> tf.Tensor:
    """Returns the feature <int64>[B, T, longest] of each n-gram that ends at each token."""
    ids = tf.cast(token_ids, tf.uint64)
    found, hashes = [], tf.zeros_like(ids)
    for _ in range(longest):
        # That of the n-gram that ends here, from the shorter one that ends a token before. Where
        # a review begins there is none, and the n-gram is the shorter one once more.
        hashes = _mixed(hashes + ids)  # [B, T]
        found.append(tf.bitwise.right_shift(hashes, tf.constant(64 - _BITS, tf.uint64)))
        hashes = tf.pad(hashes[:, :-1], [[0, 0], [1, 0]])
    return tf.cast(tf.stack(found, axis=2), tf.int64)


def _mixed(numbers: tf.Tensor) -> tf.Tensor:
    """Scatters <uint64>[...] over all 64 bits (Steele et al., SplitMix64, OOPSLA 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(numbers, tf.constant(shift, tf.uint64))
        numbers = tf.bitwise.bitwise_xor(numbers, shifted) * tf.constant(factor, tf.uint64)
    return numbers
