"""The model: from token ids to logits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from model.neural import NeuralScorer
from model.ngrams import NgramScorer
from model.pretrained.scorer import PretrainedScorer

Scorer = NeuralScorer | PretrainedScorer  # both are trained by steps


class TextClassifier(keras.Model):
    """An n-gram scorer, neural scorers, or both.

    The logits are ngram_weight times those of the n-gram scorer, plus the mean of those of the
    neural scorers. Each neural scorer learns what the n-grams leave unexplained: its loss is that
    of its own logits plus weighted, cross-fitted logits of the n-grams. Alone, the n-gram scorer
    has the weight 1.

    Args:
        ngram_scorer: The n-gram scorer, if there is one.
        neural_scorers: The neural scorers. All scorers map token_ids <int32>[B, T] to logits
            <float32>[B, L]; see `model.labels`.
        ngram_weight: The weight of the n-gram scorer beside neural scorers. The smaller it is, the
            more they learn.
        branches: Number of parallel branches of the graph that share a batch. On a CPU each branch
            keeps one core busy: the matrix products of an LSTM are too small for several cores.
        dtype: Precision policy; logits are float32 under every policy.

    Attributes:
        ngram_scorer: As above.
        neural_scorers: As above. Training steps change only these.
        temperature: The divisor of the logits outside training, which calibrates the probabilities.
    """

    def __init__(
        self,
        ngram_scorer: NgramScorer | None,
        neural_scorers: Sequence[Scorer],
        *,
        ngram_weight: float,
        branches: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._branches = branches
        self._ngram_weight = ngram_weight if neural_scorers else 1.0
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature", dtype="float32"
        )
        self.ngram_scorer, self.neural_scorers = ngram_scorer, list(neural_scorers)

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates all variables. Without this method, Keras would trace `call` to create them."""
        for scorer in (self.ngram_scorer, *self.neural_scorers):
            if scorer is not None:
                scorer.build(token_ids_shape)

    def call(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Computes the calibrated logits of a batch.

        Args:
            token_ids: <int32>[B, T]. Each row has at least one token, then padding (0).

        Returns:
            Logits <float32>[B, L]; see `model.labels.to_probabilities`.
        """
        return self._in_branches(token_ids, self._logits) / self.temperature

    def _logits(self, token_ids: tf.Tensor) -> tf.Tensor:
        logits = []
        if self.ngram_scorer:
            logits.append(self._ngram_weight * self.ngram_scorer(token_ids))
        if self.neural_scorers:
            neural = self._neural_logits(token_ids, training=False)
            logits.append(tf.reduce_mean(neural, axis=1))
        return tf.add_n(logits)

    def neural_logits(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Computes the logits <float32>[B, S, L] of the S neural scorers in a training step."""
        return self._in_branches(
            token_ids, lambda branch: self._neural_logits(branch, training=True)
        )

    def encode(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Computes the vector of each text with the pretrained scorer, <float32>[B, H].

        Raises:
            ValueError: There is no pretrained scorer.
        """
        (scorer,) = (s for s in self.neural_scorers if isinstance(s, PretrainedScorer))
        return self._in_branches(token_ids, scorer.encode)

    def _neural_logits(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        return tf.stack([s(token_ids, training=training) for s in self.neural_scorers], axis=1)

    def _in_branches(
        self, token_ids: tf.Tensor, score: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Applies a function to parts of a batch, which may run in parallel."""
        size, logits = tf.shape(token_ids)[0], []
        ends = [size * number // self._branches for number in range(self._branches + 1)]
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            # Without this scope, TensorBoard's graph shows a separate model for each branch.
            with tf.name_scope(f"branch_{number}"):
                logits.append(score(token_ids[start:end]))
        return tf.concat(logits, axis=0)

    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attributes the logits of one example to its tokens.

        The contribution of a token is the sum of its contributions to the scorers, with their
        weights.

        Args:
            token_ids: <int32>[T], without padding.
            direction: <float32>[L]; the product of logits and direction is attributed.

        Returns:
            The contribution of each token <float32>[T], and the baseline <float32>[], the product
            without any contribution. Their sum is the product of logits and direction.
        """
        weighted: list[tuple[NgramScorer | Scorer, float]] = [
            (scorer, 1 / len(self.neural_scorers)) for scorer in self.neural_scorers
        ]
        if self.ngram_scorer:
            weighted.append((self.ngram_scorer, self._ngram_weight))
        total, total_baseline = tf.zeros([tf.size(token_ids)]), tf.zeros([])
        for scorer, weight in weighted:
            per_token, baseline = scorer.contributions(token_ids, direction)
            total, total_baseline = total + weight * per_token, total_baseline + weight * baseline
        return total / self.temperature, total_baseline / self.temperature
