"""The model: token ids to one logit a review."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from model.deep import DeepScores
from model.ngrams import NgramScores

_SEEDS_A_PART = 10  # seeds that the layers of a part use up, with some to spare


class SentimentClassifier(keras.Model):
    """One part or several, each of which scores reviews by itself; the mean of their logits counts.

    Each part is trained on a loss of its own. Trained on one loss of their sum, n-grams would fit
    the labels within an epoch and leave a network nothing to learn.

    Args:
        vocabulary_size: Number of token ids; id 0 is padding.
        embedding_dim: Size of a token's vector.
        embedding_rate: See `DeepScores`.
        encoders: Keys of `model.ENCODERS`, one for each deep part.
        encoder_length: Tokens that the deep parts read of a review, at its end; 0: all of them.
        ngrams: Tokens in the longest n-grams of the wide part; 0 for no wide part.
        dropout: Share of an embedding's and an encoder's outputs that training drops.
        branches: Parts into which a batch is cut, side by side in the graph: on a CPU each keeps a
            core busy, where the many small products of a recurrence would not share theirs.
        is_student: Whether all parts but the last are a teacher's, which training leaves as they
            are.
        seed: Decides the initial weights and the dropout.
        dtype: Precision policy of the layers; logits are float32 under every policy.

    Attributes:
        parts: The wide part, if there is one, and then the deep ones.
        learning: Those of them that are trained.
        temperature: What a trained model's logits are divided by, so that its probabilities are
            honest.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int,
        embedding_rate: float,
        encoders: Sequence[str],
        encoder_length: int,
        ngrams: int,
        dropout: float,
        branches: int,
        is_student: bool,
        seed: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._branches = branches
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature", dtype="float32"
        )
        self.parts = [NgramScores(ngrams)] if ngrams else []
        self.parts += [
            DeepScores(
                encoder,
                vocabulary_size=vocabulary_size,
                embedding_dim=embedding_dim,
                embedding_rate=embedding_rate,
                longest=encoder_length,
                dropout=dropout,
                seed=seed + _SEEDS_A_PART * number,
                dtype=dtype,
            )
            for number, encoder in enumerate(encoders)
        ]
        self.learning = self.parts[-1:] if is_student else self.parts
        for part in self.parts:
            part.trainable = part in self.learning

    def count(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Takes from the training reviews what is counted, not trained; once, before training.

        Args:
            batches: Of token_ids <int32>[B, T] and labels <float32>[B].
        """
        for part in self.learning:
            if isinstance(part, NgramScores):
                part.count(batches)

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scores a batch of reviews.

        Args:
            token_ids: <int32>[B, T], each row at least one token, then padding (0).
            training: Whether dropout is on, and the temperature and a teacher's parts out of it.

        Returns:
            Logits <float32>[B]; their sigmoid is the probability that a review is positive.
        """
        logits = tf.reduce_mean(self.part_logits(token_ids, training=training), axis=1)
        return logits if training else logits / self.temperature

    def part_logits(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Scores a batch of reviews by each part; see `call`.

        Returns:
            Logits <float32>[B, P] of all parts; in training, of those that are trained.
        """
        parts = self.learning if training else self.parts
        size = tf.shape(token_ids)[0]
        ends = [size * branch // self._branches for branch in range(self._branches + 1)]
        rows = [token_ids[start:end] for start, end in itertools.pairwise(ends)]
        scores = [[part(some, training=training) for part in parts] for some in rows]
        return tf.concat([tf.stack(by_part, axis=1) for by_part in scores], axis=0)
