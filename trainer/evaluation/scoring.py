"""Scores a split: its logits, its temperature, and figures of both."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from model.classifier import TextClassifier
from model.labels import cross_entropies
from pipeline.batches import evaluation_batches, evaluation_order
from pipeline.examples import Examples
from trainer.evaluation.calibration import calibration_error, cross_calibrated, fit_temperature
from trainer.evaluation.metrics import Metrics
from trainer.monitoring.progress import with_progress
from trainer.runtime.replicas import Replicas, one_replica

EVALUATION_BATCH = 128  # examples; twice as many are no faster


class Evaluator:
    """Scores splits with a model.

    Args:
        model: The model, built.
        replicas: The replicas that it was made for; None for this process alone.

    Attributes:
        model: As given.
    """

    def __init__(self, model: TextClassifier, replicas: Replicas | None = None) -> None:
        self.model = model
        self._replicas = replicas or one_replica()

    def evaluate(self, examples: Examples) -> dict[str, float]:
        """Measures the model on a split, each example once.

        Args:
            examples: The split.

        Returns:
            loss, accuracy, auc and calibration_error.

        Raises:
            Interrupted: A signal arrived.
        """
        return compute_metrics(examples.labels, self.logits(examples, what="scoring"))

    def calibrate(self, examples: Examples) -> np.ndarray:
        """Fits the model's temperature on a split.

        Args:
            examples: The split; not one that the model was trained on.

        Returns:
            The uncalibrated logits <float32>[N]. If one of them is not finite, the temperature
            stays 1.

        Raises:
            Interrupted: A signal arrived.
        """
        self.model.temperature.assign(1.0)
        logits = self.logits(examples, what="scoring")
        if np.isfinite(logits).all():
            self.model.temperature.assign(fit_temperature(logits, examples.labels))
        return logits

    def predict(self, examples: Examples, *, what: str = "") -> np.ndarray:
        """Returns the probability of label 1 of each example, <float32>[N]; see `logits`."""
        return tf.sigmoid(self.logits(examples, what=what)).numpy()

    def logits(self, examples: Examples, *, what: str = "") -> np.ndarray:
        """Scores a split.

        Args:
            examples: The split.
            what: The name of this work in the progress bar; empty for no bar.

        Returns:
            The logit of each example, <float32>[N], in their order.

        Raises:
            Interrupted: A signal arrived.
        """
        batches = evaluation_batches(
            examples,
            batch_size=EVALUATION_BATCH,
            shards=self._replicas.count,
            local=self._replicas.local,
        )
        if what:
            batches = with_progress(
                batches, what=what, total=len(examples), chunk_size=EVALUATION_BATCH
            )
        scored = [self.score_step(token_ids).numpy() for token_ids, _ in batches]
        # Rows after the last example only make the shards of its batch equal.
        by_length = np.concatenate([np.empty(0, np.float32), *scored])[: len(examples)]
        logits = np.empty(len(examples), np.float32)
        logits[evaluation_order(examples.lengths)] = by_length
        return logits

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def score_step(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the logits <float32>[B] of all replicas' token_ids <int32>[B, T]."""
        return self._replicas.gather(self._replicas.run(self._score, token_ids))

    def _score(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model(self._replicas.shard(token_ids), training=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def contributions(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Explains the logit of one example; see `TextClassifier.contributions`."""
        return self.model.contributions(token_ids)


def compute_metrics(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Returns loss, accuracy, auc and calibration_error of logits <float32>[N]."""
    metrics = Metrics()
    metrics.update(labels, logits, cross_entropies(labels, logits))
    return metrics.result() | {"calibration_error": calibration_error(logits, labels)}


def compute_cross_fitted_metrics(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Returns what `compute_metrics` returns, for the split that the temperature was fitted on.

    Its calibration error is out-of-sample; see `cross_calibrated`.
    """
    error = calibration_error(cross_calibrated(logits, labels), labels)
    return compute_metrics(labels, logits) | {"calibration_error": error}
