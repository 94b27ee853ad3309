"""Runs a model on a split: computes logits and probabilities, and fits the temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from model.classifier import TextClassifier
from model.labels import to_probabilities
from pipeline.batches import eager_batches, evaluation_batches, evaluation_order
from pipeline.examples import Examples
from trainer.evaluation.calibration import fit_temperature
from trainer.monitoring.progress import with_progress
from trainer.runtime.replicas import Replicas, one_replica

EVALUATION_BATCH = 128  # examples; larger batches are not faster
_FEW = 16 * EVALUATION_BATCH  # up to so many examples are gathered without tf.data


class Evaluator:
    """Computes the logits and probabilities of splits.

    Args:
        model: The model, built; also an attribute.
        replicas: The replicas that the model was built for; None for one replica.
    """

    def __init__(self, model: TextClassifier, replicas: Replicas | None = None) -> None:
        self.model = model
        self._replicas = replicas or one_replica()

    def calibrate(self, examples: Examples) -> np.ndarray:
        """Fits the model's temperature on a split that the model was not trained on.

        Returns:
            The uncalibrated logits <float32>[N, L]. If one is not finite, the temperature is 1.

        Raises:
            Interrupted: A signal arrived.
        """
        self.model.temperature.assign(1.0)
        logits = self.logits(examples, description="scoring")
        if np.isfinite(logits).all():
            self.model.temperature.assign(fit_temperature(logits, examples.labels))
        return logits

    def predict(self, examples: Examples, *, description: str = "") -> np.ndarray:
        """Computes the probability of each class, <float32>[N, K]; see `logits`."""
        return to_probabilities(self.logits(examples, description=description)).numpy()

    def logits(self, examples: Examples, *, description: str = "") -> np.ndarray:
        """Computes the logits of each example, <float32>[N, L], in the order of the examples.

        Args:
            examples: The split.
            description: The description of the progress bar; empty for no bar.

        Raises:
            Interrupted: A signal arrived.
        """
        return self._compute(self.score_step, examples, description)

    def encode(self, examples: Examples, *, description: str = "") -> np.ndarray:
        """Computes the vectors of the pretrained scorer, <float32>[N, H]; see `logits`."""

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def encode_step(token_ids: tf.Tensor) -> tf.Tensor:
            return self._replicas.gather(self._replicas.run(self._encode, token_ids))

        return self._compute(encode_step, examples, description)

    def _compute(
        self,
        step: Any,  # noqa: ANN401 a tf.function has no type
        examples: Examples,
        description: str,
    ) -> np.ndarray:
        """Computes one row for each example, <float32>[N, D], in the order of the examples."""
        make_batches = eager_batches if len(examples) <= _FEW else evaluation_batches
        batches = make_batches(
            examples,
            batch_size=EVALUATION_BATCH,
            shards=self._replicas.count,
            local=self._replicas.local,
        )
        if description:
            batches = with_progress(
                batches, description=description, total=len(examples), chunk_size=EVALUATION_BATCH
            )
        per_batch = [step(token_ids).numpy() for token_ids, *_ in batches]
        # Rows after the last example only pad the last batch to equal shards.
        shape = step.get_concrete_function().output_shapes[1:]
        by_length = np.concatenate([np.empty([0, *shape], np.float32), *per_batch])
        by_length = by_length[: len(examples)]
        rows = np.empty_like(by_length)
        rows[evaluation_order(examples.lengths)] = by_length
        return rows

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def score_step(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Computes the logits <float32>[B, L] of token_ids <int32>[B, T] on all replicas."""
        return self._replicas.gather(self._replicas.run(self._score, token_ids))

    def _score(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model(self._replicas.shard(token_ids))

    def _encode(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model.encode(self._replicas.shard(token_ids))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)]
    )
    def contributions(
        self, token_ids: tf.Tensor, direction: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Divides the logits of one example among its tokens: `TextClassifier.contributions`."""
        return self.model.contributions(token_ids, direction)
