"""The model: from token ids to logits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import tensorflow as tf

from model.neural import NeuralScorer
from model.ngrams import NgramScorer


class TextClassifier(keras.Model):
    """An ensemble of scorers. Its logits are the means of their logits.

    Each neural scorer has a separate loss. The n-gram scorer is not trained by gradients.

    Args:
        scorers: The n-gram scorer, if there is one, then the neural scorers. Each maps token_ids
            <int32>[B, T] to logits <float32>[B, L]; see `model.labels`.
        is_student: Whether all scorers except the last are frozen copies of a teacher's scorers.
        branches: Number of parallel branches of the graph that share a batch. On a CPU each branch
            keeps one core busy: the matrix products of an LSTM are too small for several cores.
        dtype: Precision policy; logits are float32 under every policy.

    Attributes:
        scorers: All scorers.
        own_scorers: The scorers that are not a teacher's.
        trained_scorers: Those of them that are neural; the training steps change only these.
        temperature: The divisor of the logits outside training, which calibrates the probabilities.
    """

    def __init__(
        self,
        scorers: Sequence[NgramScorer | NeuralScorer],
        *,
        is_student: bool,
        branches: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._branches = branches
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature", dtype="float32"
        )
        self.scorers = list(scorers)
        self.own_scorers = self.scorers[-1:] if is_student else self.scorers
        self.trained_scorers = [s for s in self.own_scorers if isinstance(s, NeuralScorer)]
        for scorer in self.scorers:
            scorer.trainable = scorer in self.trained_scorers

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits of a batch.

        Args:
            token_ids: <int32>[B, T]. Each row has at least one token, then padding (0).
            training: If true, dropout is on, frozen scorers are left out, and the logits are not
                divided by the temperature.

        Returns:
            Logits <float32>[B, L]; see `model.labels.to_probabilities`.
        """
        logits = tf.reduce_mean(self.scorer_logits(token_ids, training=training), axis=1)
        return logits if training else logits / self.temperature

    def scorer_logits(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits of each scorer, without the temperature; see `call`.

        Returns:
            Logits <float32>[B, S, L] of all S scorers; in training, of the trained scorers.
        """
        scorers = self.trained_scorers if training else self.scorers
        logits = []
        size = tf.shape(token_ids)[0]
        ends = [size * number // self._branches for number in range(self._branches + 1)]
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            branch = token_ids[start:end]
            # Without this scope, TensorBoard's graph shows a separate model for each branch.
            with tf.name_scope(f"branch_{number}"):
                logits.append(tf.stack([s(branch, training=training) for s in scorers], axis=1))
        return tf.concat(logits, axis=0)

    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logits of one example to its tokens.

        The contribution of a token is the mean of its contributions in all scorers.

        Args:
            token_ids: <int32>[T], without padding.
            direction: <float32>[L]; the product of logits and direction is attributed.

        Returns:
            The contribution of each token <float32>[T], and the baseline <float32>[], the product
            without any contribution. Their sum is the product of logits and direction.
        """
        per_scorer = [scorer.contributions(token_ids, direction) for scorer in self.scorers]
        per_token, baseline = (
            tf.add_n(values) / len(values) for values in zip(*per_scorer, strict=True)
        )
        return per_token / self.temperature, baseline / self.temperature
