"""The model: token ids to one logit a review."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from model.deep import DeepScores
from model.ngrams import NgramScores


@keras.saving.register_keras_serializable("text_sentiment")
class SentimentClassifier(keras.Model):
    """One part or several, each of which scores reviews by itself; the mean of their logits counts.

    Each part is trained on a loss of its own. Trained on one loss of their sum, n-grams would fit
    the labels within an epoch and leave a network nothing to learn.

    Args:
        parts: The wide part, if there is one, and then the deep ones: layers that answer logits
            <float32>[B] of token_ids <int32>[B, T].
        is_student: Whether all parts but the last are a teacher's, which training leaves as they
            are.
        branches: Parts into which a batch is cut, side by side in the graph: on a CPU each keeps a
            core busy, where the many small products of a recurrence would not share theirs.
        dtype: Precision policy; logits are float32 under every policy.

    Attributes:
        parts: As given.
        learning: Those of them that are trained.
        temperature: What a trained model's logits are divided by, so that its probabilities are
            honest.
    """

    def __init__(
        self,
        parts: Sequence[NgramScores | DeepScores],
        *,
        is_student: bool,
        branches: int,
        dtype: keras.DTypePolicy,
    ) -> None:
        super().__init__(dtype=dtype)
        self._branches, self._is_student = branches, is_student
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature", dtype="float32"
        )
        self.parts = list(parts)
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
        scores = []
        for number, some in enumerate(self.in_branches(token_ids)):
            with tf.name_scope(f"branch_{number}"):  # else the graph shows several models
                scores.append(tf.stack([part(some, training=training) for part in parts], axis=1))
        return tf.concat(scores, axis=0)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` makes the same model of, but for its weights."""
        parts = [keras.saving.serialize_keras_object(part) for part in self.parts]
        dtype = keras.saving.serialize_keras_object(self.dtype_policy)
        return {
            "parts": parts,
            "is_student": self._is_student,
            "branches": self._branches,
            "dtype": dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SentimentClassifier:
        """Makes the model of `get_config`."""
        parts = [keras.saving.deserialize_keras_object(part) for part in config["parts"]]
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(**{**config, "parts": parts, "dtype": dtype})

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes the variables, when Keras loads a model: by a call, as they were made."""
        del config
        self(tf.constant([[1, 1]]))

    def contributions(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Says how much of a review's logit is each token's doing; the parts' means, as `call`.

        Args:
            token_ids: <int32>[T], without padding.

        Returns:
            <float32>[T], and the logit <float32>[] of no tokens.
        """
        by_part = [part.contributions(token_ids) for part in self.parts]
        of_tokens, of_nothing = (
            tf.add_n(parts) / len(parts) for parts in zip(*by_part, strict=True)
        )
        return of_tokens / self.temperature, of_nothing / self.temperature

    def in_branches(self, batch: tf.Tensor) -> list[tf.Tensor]:
        """Cuts a batch [B, ...] into what is computed side by side."""
        return in_branches(batch, self._branches)


def in_branches(batch: tf.Tensor, branches: int) -> list[tf.Tensor]:
    """Cuts a batch [B, ...] into parts of equal size, give or take one."""
    size = tf.shape(batch)[0]
    ends = [size * branch // branches for branch in range(branches + 1)]
    return [batch[start:end] for start, end in itertools.pairwise(ends)]
