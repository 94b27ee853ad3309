"""Measures a model on a split."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from pipeline.batches import evaluation_batches, evaluation_order
from pipeline.reviews import Reviews
from trainer.calibration import calibration_error, cross_calibrated, fit_temperature
from trainer.metrics import Metrics
from trainer.progress import watched
from trainer.replicas import Replicas, one_replica
from trainer.stopping import StopSignals

EVALUATION_BATCH = 128  # reviews; twice as many are no faster


class Evaluator:
    """Measures a model.

    Args:
        model: The model, built.
        replicas: Where it was made; None for this process alone.

    Attributes:
        model: As given.
    """

    def __init__(self, model: keras.Model, replicas: Replicas | None = None) -> None:
        self.model = model
        self._replicas = replicas or one_replica()

    def evaluate(self, examples: Reviews, *, stop: StopSignals | None = None) -> dict[str, float]:
        """Measures the model on a split, each review once.

        Args:
            examples: The split.
            stop: Asked between batches whether to go on.

        Returns:
            loss, accuracy, auc and calibration_error.

        Raises:
            Stopped: A signal came.
        """
        return measured(examples.labels, self.logits(examples, stop=stop, what="scoring"))

    def calibrate(self, examples: Reviews, *, stop: StopSignals | None = None) -> np.ndarray:
        """Fits the model's temperature on a split.

        Args:
            examples: The split; not one that the model was trained on.
            stop: Asked between batches whether to go on.

        Returns:
            The uncalibrated logits <float32>[N]. If one of them is not finite, the temperature
            stays 1.

        Raises:
            Stopped: A signal came.
        """
        self.model.temperature.assign(1.0)
        logits = self.logits(examples, stop=stop, what="scoring")
        if np.isfinite(logits).all():
            self.model.temperature.assign(fit_temperature(logits, examples.labels))
        return logits

    def predict(
        self, examples: Reviews, *, stop: StopSignals | None = None, what: str = ""
    ) -> np.ndarray:
        """Returns the probability of label 1 of each review, <float32>[N]; see `logits`."""
        return tf.sigmoid(self.logits(examples, stop=stop, what=what)).numpy()

    def logits(
        self, examples: Reviews, *, stop: StopSignals | None = None, what: str = ""
    ) -> np.ndarray:
        """Scores a split.

        Args:
            examples: The split.
            stop: Asked between batches whether to go on.
            what: What the bar calls it; empty for no bar.

        Returns:
            The logit of each review, <float32>[N], in their order.

        Raises:
            Stopped: A signal came.
        """
        among = {"parts": self._replicas.count, "mine": self._replicas.here}
        batches = evaluation_batches(examples, batch_size=EVALUATION_BATCH, **among)
        if what:
            about = {"total": len(examples), "per_part": EVALUATION_BATCH, "what": what}
            batches = watched(batches, **about, stop=stop)
        parts = [np.empty(0, np.float32), *(self.score_step(token_ids) for token_ids, _ in batches)]
        logits = np.empty(len(examples), np.float32)
        # Beyond the last review there may be rows that made the parts of its batch equal.
        in_order = np.concatenate(parts)[: len(examples)]
        logits[evaluation_order(examples.lengths)] = in_order
        return logits

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def score_step(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the logits <float32>[B] of all replicas' token_ids <int32>[B, T]."""
        return self._replicas.gathered(self._replicas.run(self._score, token_ids))

    def _score(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model(self._replicas.part(token_ids), training=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def contributions(self, token_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Explains the logit of one review; see `SentimentClassifier.contributions`."""
        return self.model.contributions(token_ids)


def measured(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Returns loss, accuracy, auc and calibration_error of logits <float32>[N]."""
    metrics = Metrics()
    metrics.update(labels, logits, cross_entropies(labels, logits))
    return metrics.result() | {"calibration_error": calibration_error(logits, labels)}


def measured_where_fitted(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Returns what `measured` does, for the split that the temperature was fitted on.

    Its calibration error is out-of-sample; see `cross_calibrated`.
    """
    error = calibration_error(cross_calibrated(logits, labels), labels)
    return measured(labels, logits) | {"calibration_error": error}


def cross_entropies(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the binary cross-entropy <float32>[...] of each label and its logit, in nats."""
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
