"""The deep part: reads a review word by word, and scores what it has read."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from model.encoders import make_encoder
from model.seeds import derive_seed

_PLACES = 64  # at which the gradient of an explanation is taken


class NeuralScorer(keras.layers.Layer):
    """An embedding, an encoder and a logit.

    Args:
        encoder: A key of `model.ENCODERS`.
        vocabulary_size: Number of token ids; id 0 is padding.
        embedding_dim: Size of a token's vector.
        embedding_rate: How many times longer a step of the embedding is than one of other weights.
            Adam's steps are all of one length, and the vector of a word that stands in a batch
            now and then gets few of them.
        units: Size of the encoder.
        longest: Tokens that are read of a review, at its end; 0: all of them.
        window: Tokens that training reads of it, at a random place; 0: the same as above. A review
            is positive in most of its parts, and no two epochs read the same ones.
        word_dropout: Share of words whose whole vectors training drops.
        dropout: Share of the embedding's and the encoder's outputs that training drops.
        seed: Seeds the initial weights, the dropout and the windows, each with its own stream.
        dtype: Precision policy; logits are float32 under every policy.
    """

    def __init__(
        self,
        encoder: str,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        embedding_rate: float,
        units: int,
        longest: int,
        window: int,
        word_dropout: float,
        dropout: float,
        seed: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._longest, self._window = longest, window
        self._embedding_rate = embedding_rate
        self.embedding = keras.layers.Embedding(
            vocabulary_size,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomUniform(
                seed=derive_seed(seed, "embedding")
            ),
            dtype=dtype,
        )
        self.places = keras.random.SeedGenerator(derive_seed(seed, "window"))
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
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=derive_seed(seed, "logit")),
            # float16 logits would round the loss of a confident prediction to 0.
            dtype="float32",
        )

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scores token_ids <int32>[B, T] as <float32>[B]."""
        return self.score(*self.embed(token_ids, training=training), training=training)

    def cut(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        """Takes of token_ids <int32>[B, T] what is read."""
        if training and self._window:
            places = keras.random.uniform(tf.shape(token_ids)[:1], seed=self.places)
            return window_of_tokens(token_ids, self._window, places)
        if self._longest:
            return window_of_tokens(token_ids, self._longest, tf.constant([1.0]))
        return token_ids

    def embed(self, token_ids: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns vectors [B, T, E] of what is read of token_ids, and its lengths <int32>[B]."""
        token_ids = self.cut(token_ids, training=training)
        return self._vectors(token_ids), tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)

    def _vectors(self, token_ids: tf.Tensor) -> tf.Tensor:
        embedded = self.embedding(token_ids)
        return embedded * self._embedding_rate if self._embedding_rate != 1 else embedded

    def score(self, embedded: tf.Tensor, lengths: tf.Tensor, training: bool) -> tf.Tensor:
        """Scores what `embed` answers as <float32>[B]."""
        encoding = self.encoder(self._dropped(embedded, training), lengths, training=training)
        encoding = self.encoding_dropout(encoding, training=training)  # [B, D]
        return tf.squeeze(self.logit(encoding), axis=-1)

    def contributions(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Says how much of a review's score is each token's doing.

        By integrated gradients on the way from vectors of zeros to those of the tokens
        (Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, ICML 2017, eq. 1).

        Args:
            token_ids: <int32>[T], without padding.

        Returns:
            <float32>[T], 0 for tokens that are not read, and the score <float32>[] of zeros;
            together they add up to the score, as far as a sum stands for an integral.
        """
        vectors, lengths = self.embed(token_ids[tf.newaxis], training=False)  # [1, R, E]
        places, weights = np.polynomial.legendre.leggauss(_PLACES)  # between -1 and 1
        places = tf.constant((places + 1) / 2, vectors.dtype)[:, tf.newaxis, tf.newaxis]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            on_the_way = places * vectors  # [_PLACES, R, E]
            tape.watch(on_the_way)
            scores = self.score(on_the_way, tf.repeat(lengths, _PLACES), training=False)
        gradients = tf.cast(tape.gradient(scores, on_the_way), tf.float32)
        mean = tf.tensordot(tf.constant(weights / 2, tf.float32), gradients, axes=1)  # [R, E]
        read = tf.reduce_sum(mean * tf.cast(vectors[0], tf.float32), axis=1)
        nothing = self.score(tf.zeros_like(vectors), lengths, training=False)[0]
        return tf.pad(read, [[tf.size(token_ids) - tf.size(read), 0]]), nothing

    def _dropped(self, embedded: tf.Tensor, training: bool) -> tf.Tensor:
        embedded = self.word_dropout(embedded, training=training)
        return self.embedding_dropout(embedded, training=training)


def window_of_tokens(token_ids: tf.Tensor, size: int, places: tf.Tensor) -> tf.Tensor:
    """Takes `size` tokens of each review, or all of a shorter one.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        size: At least 1.
        places: <float32>[B] or [1], where they stand: 0 is at the beginning, 1 at the end.

    Returns:
        <int32>[B, min(T, size)], padded likewise.
    """
    lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)  # [B]
    beyond = tf.maximum(lengths - size, 0)
    # Uniform over beyond + 1 places; 1.0 itself would be one too far.
    starts = tf.minimum(tf.cast(places * tf.cast(beyond + 1, tf.float32), tf.int32), beyond)
    positions = tf.range(tf.minimum(tf.shape(token_ids)[1], size)) + starts[:, tf.newaxis]
    return tf.gather(token_ids, positions, batch_dims=1)
