"""The model: token ids to one logit a review."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import keras
import tensorflow as tf

from model.encoders import make_encoder
from model.ngrams import NgramScores


class SentimentClassifier(keras.Model):
    """A deep part, a wide part, or both: their logits are added.

    The deep part is an embedding, an encoder and a logit; the wide one the scores of n-grams.

    Args:
        vocabulary_size: Number of token ids; id 0 is padding.
        embedding_dim: Size of a token's vector.
        encoder: A key of `model.ENCODERS`, or `none` for no deep part.
        ngrams: Tokens in the longest n-grams of the wide part; 0 for no wide part.
        dropout: Share of the embedding's and the encoder's outputs that training drops.
        branches: Parts into which a batch is cut, side by side in the graph: on a CPU each keeps a
            core busy, where the many small products of a recurrence would not share theirs.
        seed: Decides the initial weights and the dropout.
        dtype: Precision policy of the layers; logits are float32 under every policy.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        encoder: str,
        ngrams: int,
        dropout: float,
        branches: int,
        seed: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._branches = branches
        # What a trained model's logits are divided by, so that its probabilities are honest.
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature", dtype="float32"
        )
        self.ngrams = NgramScores(ngrams) if ngrams else None
        self.encoder = None
        if encoder != "none":
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

    def count(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Takes from the training reviews what is counted, not trained; once, before training.

        Args:
            batches: Of token_ids <int32>[B, T] and labels <float32>[B].
        """
        if self.ngrams:
            self.ngrams.count(batches)

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scores a batch of reviews.

        Args:
            token_ids: <int32>[B, T], each row at least one token, then padding (0).
            training: Whether dropout is on, and the temperature out of it.

        Returns:
            Logits <float32>[B]; their sigmoid is the probability that a review is positive.
        """
        size = tf.shape(token_ids)[0]
        ends = [size * branch // self._branches for branch in range(self._branches + 1)]
        parts = [token_ids[start:end] for start, end in itertools.pairwise(ends)]
        logits = tf.concat([self._score(part, training) for part in parts], axis=0)
        return logits if training else logits / self.temperature

    def _score(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        parts = []
        if self.ngrams:
            parts.append(self.ngrams(token_ids, training=training))
        if self.encoder:
            parts.append(self._read(token_ids, training))
        return tf.add_n(parts)

    def _read(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        """Scores by the deep part, which reads a review word by word."""
        lengths = tf.math.count_nonzero(token_ids, axis=1, dtype=tf.int32)  # [B]
        embedded = self.embedding(token_ids)  # [B, T, E]
        embedded = self.embedding_dropout(embedded, training=training)
        encoding = self.encoder(embedded, lengths, training=training)  # [B, D]
        encoding = self.encoding_dropout(encoding, training=training)
        return tf.squeeze(self.logit(encoding), axis=-1)
