"""The deep part: reads a review word by word, and scores what it has read."""

from __future__ import annotations

import keras
import tensorflow as tf

from model.encoders import make_encoder


class DeepScores(keras.layers.Layer):
    """An embedding, an encoder and a logit.

    Args:
        encoder: A key of `model.ENCODERS`.
        vocabulary_size: Number of token ids; id 0 is padding.
        embedding_dim: Size of a token's vector.
        embedding_rate: How many times longer a step of the embedding is than one of other weights.
            Adam's steps are all of one length, and the vector of a word that stands in a batch
            now and then gets few of them.
        longest: Tokens that are read of a review, at its end; 0: all of them.
        dropout: Share of the embedding's and the encoder's outputs that training drops.
        seed: Decides the initial weights and the dropout.
        dtype: Precision policy; logits are float32 under every policy.
    """

    def __init__(
        self,
        encoder: str,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        embedding_rate: float,
        longest: int,
        dropout: float,
        seed: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._longest = longest
        self._embedding_rate = embedding_rate
        self.embedding = keras.layers.Embedding(
            vocabulary_size,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomUniform(seed=seed),
            dtype=dtype,
        )
        self.embedding_dropout = keras.layers.Dropout(dropout, seed=seed, dtype=dtype)
        self.encoder = make_encoder(encoder, seed=seed, dtype=dtype)
        self.encoding_dropout = keras.layers.Dropout(dropout, seed=seed + 1, dtype=dtype)
        self.logit = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
            # float16 logits would round the loss of a confident prediction to 0.
            dtype="float32",
        )

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scores token_ids <int32>[B, T] as <float32>[B]."""
        if self._longest:
            token_ids = last_tokens(token_ids, self._longest)
        lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)  # [B]
        embedded = self.embedding(token_ids)  # [B, T, E]
        if self._embedding_rate != 1:
            embedded *= self._embedding_rate
        embedded = self.embedding_dropout(embedded, training=training)
        encoding = self.encoder(embedded, lengths, training=training)  # [B, D]
        encoding = self.encoding_dropout(encoding, training=training)
        return tf.squeeze(self.logit(encoding), axis=-1)


def last_tokens(token_ids: tf.Tensor, longest: int) -> tf.Tensor:
    """Takes the last tokens of each review, `longest` at most.

    Args:
        token_ids: <int32>[B, T], padded with 0 on the right.
        longest: At least 1.

    Returns:
        <int32>[B, min(T, longest)], padded likewise.
    """
    lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32, keepdims=True)  # [B, 1]
    positions = tf.range(tf.minimum(tf.shape(token_ids)[1], longest))
    positions += tf.maximum(lengths - longest, 0)  # [B, longest]
    return tf.gather(token_ids, positions, batch_dims=1)
