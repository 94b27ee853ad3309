"""The n-gram scorer: a logit is a bias plus a sum over the n-grams of a text."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from model.labels import count_logits

# IMDB's train split has 5 million distinct n-grams of up to 3 tokens; 0.4 million are not rare.
_HASH_BITS = 24
RATIO_BUCKETS = 2**_HASH_BITS
_WEIGHT_BUCKETS = 2**21
# With many logits, tables have fewer buckets, so that all of them together, with both moments of
# Adam, take less than 256 MB.
_MAX_RATIOS, _MAX_WEIGHTS = 2**26, 2**23

MIN_COUNT = 4  # training examples; an n-gram that fewer of them contain is rare
RARE_WEIGHT = 0.04  # the fixed weight of all rare n-grams
_SMOOTHING = 2.0  # the count that is added to each n-gram, divided between the labels

# Adam changes all weights by about the learning rate. The weights of n-grams need larger changes
# than those of a neural network, so each is the product of this factor and a trained variable.
_LEARNING_RATE_MULTIPLIER = 7.0


class NgramScorer(keras.layers.Layer):
    """Scores a text by the weighted Naive-Bayes log-ratios of its n-grams.

    The logit of a class is the bias plus the sum of ratio * weight over the distinct n-grams of the
    text. The ratio is log(p(n-gram | class) / p(n-gram | all other classes)), counted once before
    training (Wang & Manning, Baselines and Bigrams, ACL 2012). Only the bias depends on the sizes
    of the classes. The weights start at 0. Two classes have one logit, that of the second.

    The ratio of a rare n-gram reveals the labels of the few training examples that contain it, and
    training would rely on that. So training leaves out rare n-grams, and inference uses a small,
    fixed weight for them.

    N-grams are hashed, so they need not be stored (Weinberger et al., Feature Hashing, ICML
    2009). The table of ratios has 2^24 buckets, because after a collision an n-gram may get a ratio
    of the wrong sign. For the weights, 2^21 buckets are enough.

    Args:
        max_tokens: Number of tokens in the longest n-grams.
        class_count: Number of classes, K.
    """

    def __init__(self, max_tokens: int, class_count: int) -> None:
        # float32: a logit is the sum of hundreds of terms.
        super().__init__(dtype="float32", autocast=False)
        self._max_tokens, self._class_count = max_tokens, class_count
        self._logit_count = count_logits(class_count)
        self._ratio_buckets = min(RATIO_BUCKETS, _buckets(_MAX_RATIOS, self._logit_count))
        self._weight_buckets = min(_WEIGHT_BUCKETS, _buckets(_MAX_WEIGHTS, self._logit_count))

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates the tables."""
        del token_ids_shape
        # For two classes, as in earlier versions, whose checkpoints have these shapes.
        logits = () if self._logit_count == 1 else (self._logit_count,)
        buckets, counted = self._ratio_buckets, {"initializer": "zeros", "trainable": False}
        # float16 has three digits, which are enough; a smaller table is faster to read.
        self.ratios = self.add_weight((buckets, *logits), dtype="float16", name="ratios", **counted)
        self.is_rare = self.add_weight((buckets,), dtype="bool", name="is_rare", **counted)
        # The weight of an n-gram is this times _LEARNING_RATE_MULTIPLIER.
        self.importance = self.add_weight(
            shape=(self._weight_buckets, *logits), initializer="zeros", name="importance"
        )
        self.bias = self.add_weight(shape=logits, initializer="zeros", name="bias")

    def adapt(
        self,
        batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
        class_weights: np.ndarray | None = None,
    ) -> None:
        """Computes the ratios of n-grams, and sets the biases for the shares of the classes.

        Args:
            batches: Training examples: token_ids <int32>[B, T] and labels <int32>[B].
            class_weights: <float32>[K], which training multiplies the losses by; None for 1.
        """
        counts = np.zeros(self._class_count * self._ratio_buckets, np.int32)
        sizes = np.zeros(self._class_count, np.int64)  # examples of each class
        find_features = tf.function(ngram_features, reduce_retracing=True)
        for token_ids, labels in batches:
            rows, features = (
                values.numpy() for values in find_features(token_ids, self._max_tokens)
            )
            # numpy.add.at is 30 times slower with indices that are not int64.
            labels = np.asarray(labels, np.int64)
            indices = features % self._ratio_buckets + self._ratio_buckets * labels[rows]
            np.add.at(counts, indices, np.int32(1))
            sizes += np.bincount(labels, minlength=self._class_count)
        counts = counts.reshape(self._class_count, self._ratio_buckets)
        self.is_rare.assign(counts.sum(axis=0) < MIN_COUNT)
        if np.count_nonzero(sizes) < 2:  # with one class, ratios stay 0
            return
        weighted = sizes if class_weights is None else sizes * class_weights
        is_binary = self._logit_count == 1
        ratios = np.zeros([self._ratio_buckets, self._logit_count], np.float16)
        # More than two classes often differ in the length of their texts, so they are compared by
        # their n-grams, not by their texts. Two classes keep the ratios of earlier versions.
        totals = sizes if is_binary else counts.sum(axis=1)
        for number in [1] if is_binary else np.flatnonzero(totals):
            ratios[:, 0 if is_binary else number] = _log_ratios(counts, totals, int(number))
        self.ratios.assign(ratios.reshape(self.ratios.shape))
        if is_binary:
            self.bias.assign(np.log(weighted[1] / weighted[0]))
        else:  # a class without an example counts as half an example
            self.bias.assign(np.log(np.maximum(weighted, 0.5) / weighted.sum()))

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits <float32>[B, L] of token_ids <int32>[B, T]."""
        rows, features = ngram_features(token_ids, self._max_tokens)
        return self.bias + tf.math.segment_sum(self._feature_scores(features, training), rows)

    def _feature_scores(self, features: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns ratio * weight <float32>[M, L] of features <int32>[M]."""
        places = features % self._ratio_buckets
        ratios = tf.cast(tf.gather(self.ratios, places), tf.float32)
        importance = tf.gather(self.importance, features % self._weight_buckets)
        weights = _LEARNING_RATE_MULTIPLIER * importance
        rare_weight = 0.0 if training else RARE_WEIGHT
        is_rare = tf.gather(self.is_rare, places)[:, tf.newaxis]
        ratios, weights = (
            tf.reshape(values, [-1, self._logit_count]) for values in (ratios, weights)
        )
        return ratios * tf.where(is_rare, rare_weight, weights)

    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logits of one example to its tokens, by Shapley values.

        The score of an n-gram depends on all of its tokens, so each gets an equal share (Lundberg &
        Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017). If an n-gram
        occurs several times, its score is first divided among the occurrences.

        The arguments and results are those of `TextClassifier.contributions`. The baseline is the
        product for the bias.
        """
        hashes = _ngram_hashes(token_ids[tf.newaxis], self._max_tokens)[0]  # [T, max_tokens]
        features, indices, counts = tf.unique_with_counts(tf.reshape(hashes, [-1]))
        scores = self._feature_scores(tf.cast(features, tf.int32), training=False)
        scores = tf.linalg.matvec(scores, direction)
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
        return total, tf.reduce_sum(self.bias * direction)


def _buckets(max_values: int, logit_count: int) -> int:
    """Returns the largest power of two of buckets with at most `max_values` values in all."""
    return int(2 ** math.floor(math.log2(max_values / logit_count)))


def _log_ratios(counts: np.ndarray, sizes: np.ndarray, number: int) -> np.ndarray:
    """Returns log(p(n-gram | class) / p(n-gram | all other classes)), smoothed, <float32>[F].

    The smoothing is divided between the classes in proportion to their sizes. The ratio of an
    n-gram that is equally frequent in both classes is then 0, even if it is rare and the classes
    differ in size; equal smoothing would shift it towards the smaller class.

    Args:
        counts: <int32>[K, F], examples of each class that contain an n-gram.
        sizes: <int64>[K], examples, or n-grams of all examples, of each class.
        number: The number of the class, which has an example and is not the only one.
    """
    smoothing = (_SMOOTHING * sizes / sizes.sum()).astype(np.float32)
    totals = counts.sum(axis=0, dtype=np.int32)
    inside = counts[number].astype(np.float32) + smoothing[number]
    outside = (totals - counts[number]).astype(np.float32) + np.delete(smoothing, number).sum()
    prior = sizes[number] / (sizes.sum() - sizes[number])
    ratios = np.log(inside / outside) - np.log(prior).astype(np.float32)
    return np.where(totals, ratios, 0)  # exactly 0: rounding may leave 1e-7


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
