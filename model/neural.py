"""The neural scorer: embedding, encoder, logits."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from model.encoders import make_encoder
from model.labels import count_logits
from model.seeds import derive_seed

_QUADRATURE_POINTS = 64  # for the integral of `contributions`


class NeuralScorer(keras.layers.Layer):
    """Scores a text with an embedding, an encoder and a dense layer with L units.

    Args:
        encoder: A key of `model.ENCODERS`.
        class_count: Number of classes.
        vocabulary_size: Number of token ids; id 0 is padding.
        embedding_dim: Size of the embedding vectors.
        embedding_rate: Multiplies the embedding vectors. Adam changes each weight by about the
            learning rate, so this raises the learning rate of the embedding by the same factor. The
            vector of an infrequent token needs this, because it is rarely updated.
        units: Size of the encoder.
        max_length: Number of tokens at the end of a text that are read; 0: all of them. In
            training, `window` replaces it.
        window: Number of consecutive tokens, at a random position, that are read in training; 0: no
            window. Most sections of a text reveal its label, and each epoch reads different ones.
        word_dropout: Probability with which training sets a whole embedding vector to zero.
        dropout: Probability with which training sets an output of the embedding or the encoder to
            zero.
        seed: The seed from which separate seeds for weights, dropout and windows are derived.
        dtype: Precision policy; logits are float32 under every policy.
    """

    def __init__(
        self,
        encoder: str,
        *,
        class_count: int,
        vocabulary_size: int,
        embedding_dim: int,
        embedding_rate: float,
        units: int,
        max_length: int,
        window: int,
        word_dropout: float,
        dropout: float,
        seed: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._max_length, self._window = max_length, window
        self._embedding_rate = embedding_rate
        self.embedding = keras.layers.Embedding(
            vocabulary_size,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomUniform(
                seed=derive_seed(seed, "embedding")
            ),
            dtype=dtype,
        )
        self.window_seeds = keras.random.SeedGenerator(derive_seed(seed, "window"))
        self.word_dropout = keras.layers.Dropout(
            word_dropout,
            noise_shape=(None, None, 1),
            seed=derive_seed(seed, "word_dropout"),
            dtype=dtype,
        )
        self.embedding_dropout = keras.layers.Dropout(
            dropout, seed=derive_seed(seed, "embedding_dropout"), dtype=dtype
        )
        self.encoder = make_encoder(
            encoder, units=units, seed=derive_seed(seed, "encoder"), dtype=dtype
        )
        self.encoding_dropout = keras.layers.Dropout(
            dropout, seed=derive_seed(seed, "encoding_dropout"), dtype=dtype
        )
        self.logit = keras.layers.Dense(
            count_logits(class_count),
            kernel_initializer=keras.initializers.GlorotUniform(seed=derive_seed(seed, "logit")),
            # With float16 logits, the loss of a confident prediction would round to 0.
            dtype="float32",
        )

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates all variables. Encodes one token to find the size of the encoder's output."""
        self.embedding.build(token_ids_shape)
        vectors, lengths = self._embed(tf.ones([1, 1], tf.int32))
        self.logit.build(self.encoder(vectors, lengths).shape)

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits <float32>[B, L] of token_ids <int32>[B, T]."""
        embedded, lengths = self._embed(self.crop(token_ids, training))
        return self._score(embedded, lengths, training)

    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logits of one example to its tokens, by integrated gradients.

        The gradients are integrated along the line from zero vectors to the embedding vectors
        (Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, ICML 2017, eq. 1), by
        Gauss-Legendre quadrature.

        The arguments and results are those of `TextClassifier.contributions`. The baseline is the
        product for zero vectors. Tokens that are not read contribute 0. The sum has the error of
        the quadrature.
        """
        vectors, lengths = self._embed(self.crop(token_ids[tf.newaxis], training=False))
        points, weights = np.polynomial.legendre.leggauss(_QUADRATURE_POINTS)  # between -1 and 1
        points = tf.constant((points + 1) / 2, vectors.dtype)[:, tf.newaxis, tf.newaxis]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            scaled_vectors = points * vectors  # [_QUADRATURE_POINTS, R, E]: R tokens are read
            tape.watch(scaled_vectors)
            repeated_lengths = tf.repeat(lengths, _QUADRATURE_POINTS)
            logits = self._score(scaled_vectors, repeated_lengths, training=False)
            logits = tf.linalg.matvec(logits, direction)
        gradients = tf.cast(tape.gradient(logits, scaled_vectors), tf.float32)
        integral = tf.tensordot(tf.constant(weights / 2, tf.float32), gradients, axes=1)  # [R, E]
        per_token = tf.reduce_sum(integral * tf.cast(vectors[0], tf.float32), axis=1)  # [R]
        baseline = self._score(tf.zeros_like(vectors), lengths, training=False)[0]
        baseline = tf.reduce_sum(baseline * direction)
        unread = tf.size(token_ids) - tf.size(per_token)
        return tf.pad(per_token, [[unread, 0]]), baseline

    def crop(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        """Crops token_ids <int32>[B, T] to the tokens that are read: their end or a window."""
        if training and self._window:
            positions = keras.random.uniform(tf.shape(token_ids)[:1], seed=self.window_seeds)
            return window_of_tokens(token_ids, self._window, positions)
        if self._max_length:
            return window_of_tokens(token_ids, self._max_length, tf.constant([1.0]))
        return token_ids

    def _embed(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the vectors [B, T, E] and the lengths <int32>[B] of token_ids."""
        embedded = self.embedding(token_ids)
        if self._embedding_rate != 1:
            embedded = embedded * self._embedding_rate
        return embedded, tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)

    def _score(self, embedded: tf.Tensor, lengths: tf.Tensor, training: bool) -> tf.Tensor:
        """Computes the logits <float32>[B, L] of vectors [B, T, E] with lengths <int32>[B]."""
        embedded = self.word_dropout(embedded, training=training)
        embedded = self.embedding_dropout(embedded, training=training)
        encoding = self.encoder(embedded, lengths, training=training)
        encoding = self.encoding_dropout(encoding, training=training)  # [B, D]
        return self.logit(encoding)


def window_of_tokens(token_ids: tf.Tensor, size: int, positions: tf.Tensor) -> tf.Tensor:
    """Returns `size` consecutive tokens of each text, or all tokens of a shorter text.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        size: At least 1.
        positions: <float32>[B] or [1]: 0 is the beginning of the text, 1 is its end.

    Returns:
        <int32>[B, min(T, size)], padded with 0 on the right.
    """
    lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)  # [B]
    last_start = tf.maximum(lengths - size, 0)
    # There are last_start + 1 possible starts. A position of 1.0 would give one too many.
    starts = tf.cast(positions * tf.cast(last_start + 1, tf.float32), tf.int32)
    starts = tf.minimum(starts, last_start)
    indices = tf.range(tf.minimum(tf.shape(token_ids)[1], size)) + starts[:, tf.newaxis]
    return tf.gather(token_ids, indices, batch_dims=1)
