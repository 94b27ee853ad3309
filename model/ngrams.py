"""The n-gram scorer: the logit is a bias plus a sum over the n-grams of a text."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

# IMDB's train split has 5 million distinct n-grams of up to 3 tokens; 0.4 million are not rare.
_HASH_BITS = 24
RATIO_BUCKETS = 2**_HASH_BITS
_WEIGHT_BUCKETS = 2**21

MIN_COUNT = 4  # training examples; an n-gram that fewer of them contain is rare
RARE_WEIGHT = 0.04  # the fixed weight of all rare n-grams
_SMOOTHING = 2.0  # the count that is added to each n-gram, divided between the labels

# Adam changes all weights by about the learning rate. The weights of n-grams need larger changes
# than those of a neural network, so each is the product of this factor and a trained variable.
_LEARNING_RATE_MULTIPLIER = 7.0


class NgramScorer(keras.layers.Layer):
    """Scores a text by the weighted Naive-Bayes log-ratios of its n-grams.

    The logit is the bias plus the sum of ratio * weight over the distinct n-grams of the text. The
    ratio is log(p(n-gram | label 1) / p(n-gram | label 0)), counted once before training (Wang &
    Manning, Baselines and Bigrams, ACL 2012). Only the bias depends on the sizes of the classes.
    The weights start at 0.

    The ratio of a rare n-gram reveals the labels of the few training examples that contain it, and
    training would rely on that. So training leaves out rare n-grams, and inference uses a small,
    fixed weight for them.

    N-grams are hashed, so they need not be stored (Weinberger et al., Feature Hashing, ICML
    2009). The table of ratios has 2^24 buckets, because after a collision an n-gram may get a ratio
    of the wrong sign. For the weights, 2^21 buckets are enough.

    Args:
        max_tokens: Number of tokens in the longest n-grams.
    """

    def __init__(self, max_tokens: int) -> None:
        # float32: a logit is the sum of hundreds of terms.
        super().__init__(dtype="float32", autocast=False)
        self._max_tokens = max_tokens

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates the tables."""
        del token_ids_shape
        counted = {"shape": (RATIO_BUCKETS,), "initializer": "zeros", "trainable": False}
        # float16 has three digits, which are enough; a smaller table is faster to read.
        self.ratios = self.add_weight(**counted, dtype="float16", name="ratios")
        self.is_rare = self.add_weight(**counted, dtype="bool", name="is_rare")
        # The weight of an n-gram is this times _LEARNING_RATE_MULTIPLIER.
        self.importance = self.add_weight(
            shape=(_WEIGHT_BUCKETS,), initializer="zeros", name="importance"
        )
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def adapt(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Computes the ratios of n-grams, and sets the bias to the log-odds of the labels.

        Args:
            batches: Training examples: token_ids <int32>[B, T] and labels <float32>[B], 0 or 1.
        """
        counts = np.zeros(2 * RATIO_BUCKETS, np.int32)  # of label 0, then of label 1
        sizes = np.zeros(2, np.int64)  # examples of each label
        find_features = tf.function(ngram_features, reduce_retracing=True)
        for token_ids, labels in batches:
            rows, features = (
                values.numpy() for values in find_features(token_ids, self._max_tokens)
            )
            # numpy.add.at is 30 times slower with indices that are not int64.
            labels = np.asarray(labels, np.int64)
            indices = features + RATIO_BUCKETS * labels[rows]
            np.add.at(counts, indices, np.int32(1))
            sizes += np.bincount(labels, minlength=2)
        counts = counts.reshape(2, RATIO_BUCKETS)
        self.is_rare.assign(counts.sum(axis=0) < MIN_COUNT)
        if not sizes.all():  # with one label, ratios stay 0
            return
        self.ratios.assign(_log_ratios(counts, sizes))
        self.bias.assign(np.log(sizes[1] / sizes[0]))

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits <float32>[B] of token_ids <int32>[B, T]."""
        rows, features = ngram_features(token_ids, self._max_tokens)
        return self.bias + tf.math.segment_sum(self._feature_scores(features, training), rows)

    def _feature_scores(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns ratio * weight <float32>[M] of features <int32>[M]."""
        ratios = tf.cast(tf.gather(self.ratios, features), tf.float32)
        importance = tf.gather(self.importance, features % _WEIGHT_BUCKETS)
        weights = _LEARNING_RATE_MULTIPLIER * importance
        rare_weight = 0.0 if training else RARE_WEIGHT
        return ratios * tf.where(tf.gather(self.is_rare, features), rare_weight, weights)

    def contributions(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logit of one example to its tokens, by Shapley values.

        The score of an n-gram depends on all of its tokens, so each gets an equal share (Lundberg &
        Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017). If an n-gram
        occurs several times, its score is first divided among the occurrences.

        Args:
            token_ids: <int32>[T], without padding.

        Returns:
            The contribution of each token <float32>[T], and the baseline <float32>[], the bias.
            Their sum is the logit.
        """
        hashes = _ngram_hashes(token_ids[tf.newaxis], self._max_tokens)[0]  # [T, max_tokens]
        features, indices, counts = tf.unique_with_counts(tf.reshape(hashes, [-1]))
        scores = self._feature_scores(tf.cast(features, tf.int32), training=False)
        scores = tf.gather(scores / tf.cast(counts, tf.float32), indices)  # of each occurrence
        scores = tf.reshape(scores, tf.shape(hashes))
        length = tf.size(token_ids)
        total = tf.zeros([length])
        for size in range(1, self._max_tokens + 1):
            # At the beginning of a text, an n-gram has fewer tokens than its size.
            sizes = tf.minimum(tf.range(length) + 1, size)
            shares = scores[:, size - 1] / tf.cast(sizes, tf.float32)
            for offset in range(size):
                total += tf.pad(shares[offset:], [[0, tf.minimum(offset, length)]])
        return total, tf.identity(self.bias)


def _log_ratios(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns log(p(n-gram | label 1) / p(n-gram | label 0)), smoothed, <float32>[RATIO_BUCKETS].

    The smoothing is divided between the classes in proportion to their sizes. The ratio of an
    n-gram that is equally frequent in both classes is then 0, even if it is rare and the classes
    differ in size; equal smoothing would shift it towards the smaller class.

    Args:
        counts: <int32>[2, RATIO_BUCKETS], examples of each label that contain an n-gram.
        sizes: <int64>[2], examples of each label, none of them 0.
    """
    smoothing = (_SMOOTHING * sizes / sizes.sum()).astype(np.float32)
    negative, positive = counts.astype(np.float32) + smoothing[:, np.newaxis]
    ratios = np.log(positive / negative) - np.log(sizes[1] / sizes[0]).astype(np.float32)
    return np.where(counts.any(axis=0), ratios, 0)  # exactly 0: rounding may leave 1e-7


def ngram_features(token_ids: tf.Tensor, max_tokens: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the distinct n-grams of each text as hashed features.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        max_tokens: Number of tokens in the longest n-grams.

    Returns:
        Rows <int32>[M], in ascending order, and features <int32>[M], from 0 to RATIO_BUCKETS - 1:
        text rows[i] contains features[i]. No text has a feature twice, and padding has no features.
    """
    hashes = _ngram_hashes(token_ids, max_tokens)
    row = tf.range(tf.shape(token_ids, tf.int64)[0])[:, tf.newaxis, tf.newaxis]
    keys = tf.boolean_mask(row * RATIO_BUCKETS + hashes, token_ids > 0)
    keys = tf.unique(tf.reshape(keys, [-1])).y
    # With int64 indices, TensorFlow's segment sums are 6 times slower.
    return tf.cast(keys // RATIO_BUCKETS, tf.int32), tf.cast(keys % RATIO_BUCKETS, tf.int32)


def _ngram_hashes(token_ids: tf.Tensor, max_tokens: int) -> tf.Tensor:
    """Returns the features <int64>[B, T, max_tokens] of the n-grams that end at each token."""
    ids = tf.cast(token_ids, tf.uint64)
    found, hashes = [], tf.zeros_like(ids)
    for _ in range(max_tokens):
        # The hash of an n-gram depends on the hash of the (n-1)-gram that ends one token earlier.
        # At the beginning of a text there is none, so the hash is that of the (n-1)-gram that ends
        # here.
        hashes = _mix_bits(hashes + ids)  # [B, T]
        found.append(tf.bitwise.right_shift(hashes, tf.constant(64 - _HASH_BITS, tf.uint64)))
        hashes = tf.pad(hashes[:, :-1], [[0, 0], [1, 0]])
    return tf.cast(tf.stack(found, axis=2), tf.int64)


def _mix_bits(numbers: tf.Tensor) -> tf.Tensor:
    """Mixes the bits of <uint64>[...] by two steps of SplitMix64 (Steele et al., OOPSLA 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        shifted = tf.bitwise.right_shift(numbers, tf.constant(shift, tf.uint64))
        numbers = tf.bitwise.bitwise_xor(numbers, shifted) * tf.constant(factor, tf.uint64)
    return numbers
