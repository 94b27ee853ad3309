"""The scorer with a pretrained encoder: from token ids to logits."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from model.labels import count_logits
from model.pretrained.bert import Architecture, Bert
from model.seeds import derive_seed

# For the integral of `contributions`: the numbers of batches, and of points per batch.
_GROUPS, _GROUP_SIZE = 8, 8


class PretrainedScorer(keras.layers.Layer):
    """Scores a text with BERT, pooling and a dense layer with L units.

    Args:
        architecture: The sizes and constants of the encoder.
        class_count: Number of classes.
        pooling: `mean`: the mean of the vectors of all tokens; `cls`: the vector of [CLS].
        max_length: Number of tokens of a text that are read; 0: as many as there are positions.
        truncate: Which tokens of a longer text are read, besides [CLS] and [SEP]: those at its
            `head`, those at its `tail`, or half of them at each of its `ends`.
        train_layers: Number of layers, counted from the last, that are trained by gradients; -1:
            all of them, and the embeddings; 0: none, nor the dense layer.
        dropout: Probability with which training sets an output of the pooling to zero.
        seed: The seed from which separate seeds for weights and dropout are derived.
        dtype: Precision policy; logits are float32 under every policy.

    Attributes:
        bert: The encoder. Its weights are 0 until they are assigned.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        class_count: int,
        pooling: str,
        max_length: int,
        truncate: str,
        train_layers: int,
        dropout: float,
        seed: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        positions = architecture.position_count
        self._max_length = min(max_length or positions, positions)
        room = self._max_length - 2  # for tokens between [CLS] and [SEP]
        self._head = 1 + {"head": room, "tail": 0, "ends": room // 2}[truncate]
        self._pooling, self._hidden_size = pooling, architecture.hidden_size
        self.bert = Bert(architecture, seed=derive_seed(seed, "bert"), dtype=dtype)
        if train_layers >= 0:
            self.bert.freeze_except_last(train_layers)
        self.dropout = keras.layers.Dropout(dropout, seed=derive_seed(seed, "dropout"), dtype=dtype)
        self.logit = keras.layers.Dense(
            count_logits(class_count),
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=0.02, seed=derive_seed(seed, "logit")
            ),
            dtype="float32",
        )
        # Without layers to train, logistic regression fits the logits.
        self.logit.trainable = train_layers != 0

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates all variables."""
        self.bert.build(token_ids_shape)
        self.logit.build((None, self._hidden_size))

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits <float32>[B, L] of token_ids <int32>[B, T]."""
        return self.logit(self.dropout(self.encode(token_ids, training), training=training))

    def encode(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes a vector for each text, <float32>[B, H], of token_ids <int32>[B, T]."""
        token_ids = self.crop(token_ids)
        return self._pool(self.bert(token_ids, training=training), token_ids > 0)

    def _pool(self, vectors: tf.Tensor, is_token: tf.Tensor) -> tf.Tensor:
        """Pools the vectors [B, T, H] of tokens, with is_token <bool>[B, T], to <float32>[B, H]."""
        vectors = tf.cast(vectors, tf.float32)  # a sum of hundreds of float16 is inexact
        if self._pooling == "cls":
            return vectors[:, 0]
        weights = tf.cast(is_token, tf.float32)
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
        return tf.linalg.matvec(vectors, weights, transpose_a=True)

    def crop(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Crops token_ids <int32>[B, T] to the tokens that are read, <int32>[B, ≤ max_length]."""
        return tf.gather(token_ids, self._kept_positions(token_ids), batch_dims=1)

    def _kept_positions(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the positions <int32>[B, min(T, max_length)] of the tokens that are read."""
        lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)  # [B]
        excess = tf.maximum(lengths - self._max_length, 0)[:, tf.newaxis]
        positions = tf.range(tf.minimum(tf.shape(token_ids)[1], self._max_length))
        return positions + tf.where(positions < self._head, 0, excess)

    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logits of one example to its tokens, by integrated gradients.

        As `NeuralScorer.contributions`, with one difference: the embeddings of [CLS] and [SEP] are
        not scaled. So their contributions are 0, and the baseline is the product for these two
        tokens and zero vectors.
        """
        positions = self._kept_positions(token_ids[tf.newaxis])[0]  # [R]
        vectors = self.bert.embeddings.look_up(tf.gather(token_ids, positions)[tf.newaxis])
        # The part of the vectors that is multiplied, and the rest, each [1, R, H].
        is_special = tf.range(tf.size(positions)) % (tf.size(positions) - 1) == 0
        fixed = tf.where(is_special[:, tf.newaxis], vectors, 0)
        scaled = vectors - fixed
        gradients = self._integrate_gradients(fixed, scaled, direction)  # [R, H]
        per_token = tf.reduce_sum(gradients * tf.cast(scaled[0], tf.float32), axis=1)
        baseline = self._score_vectors(fixed, direction)[0]
        contributions = tf.scatter_nd(positions[:, tf.newaxis], per_token, tf.shape(token_ids))
        return contributions, baseline

    def _integrate_gradients(
        self, fixed: tf.Tensor, scaled: tf.Tensor, direction: tf.Tensor
    ) -> tf.Tensor:
        """Returns the mean gradient <float32>[R, H] on the line from `fixed` to the sum of both."""
        points, weights = np.polynomial.legendre.leggauss(_GROUPS * _GROUP_SIZE)  # from -1 to 1
        shape = [_GROUPS, _GROUP_SIZE]
        groups = (
            tf.constant(((points + 1) / 2).reshape(shape), fixed.dtype),
            tf.constant((weights / 2).reshape(shape), tf.float32),
        )

        def integrate(group: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            points, weights = group
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                vectors = fixed + points[:, tf.newaxis, tf.newaxis] * scaled
                tape.watch(vectors)
                scores = self._score_vectors(vectors, direction)
            gradients = tf.cast(tape.gradient(scores, vectors), tf.float32)
            return tf.tensordot(weights, gradients, axes=1)

        # One group after the other: all at once would need gigabytes for a long text.
        sums = tf.map_fn(integrate, groups, parallel_iterations=1, fn_output_signature=tf.float32)
        return tf.reduce_sum(sums, axis=0)

    def _score_vectors(self, vectors: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Returns the products <float32>[F] of direction and the logits of vectors [F, R, H]."""
        is_token = tf.ones(tf.shape(vectors)[:2], tf.bool)
        logits = self.logit(self._pool(self.bert.encode(vectors, is_token), is_token))
        return tf.linalg.matvec(logits, direction)
