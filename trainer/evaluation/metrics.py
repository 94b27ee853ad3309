"""What is measured of a set of batches, by Keras' own metrics."""

from __future__ import annotations

import math

import keras
import tensorflow as tf


class Metrics:
    """Mean loss, accuracy and AUC over the reviews seen since the last reset.

    AUC is Keras': the curve is drawn through 1,000 thresholds, which is within 1e-3 of exact for a
    trained model; one whose probabilities are all alike has few thresholds among them.
    """

    def __init__(self) -> None:
        self._loss = keras.metrics.Mean(name="loss")
        self._accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        self._auc = keras.metrics.AUC(name="auc", from_logits=True, num_thresholds=1000)
        self._all = (self._loss, self._accuracy, self._auc)

    def update(self, labels: tf.Tensor, logits: tf.Tensor, losses: tf.Tensor) -> None:
        """Counts a batch: labels, logits and losses are <float32>[B].

        Where a label is a probability, the likelier class counts as the right one; where it is
        below 0 there is none.
        """
        labels, logits, losses = (
            tf.boolean_mask(values, labels >= 0) for values in (labels, logits, losses)
        )
        self._loss.update_state(losses)
        labels = tf.round(labels)
        # BinaryAccuracy takes the last axis for the classes of one example.
        self._accuracy.update_state(labels[:, tf.newaxis], logits[:, tf.newaxis])
        self._auc.update_state(labels, logits)

    def result(self) -> dict[str, float]:
        """Returns loss (nats), accuracy and auc (both 0 to 1).

        Without examples all are NaN; the AUC is NaN for examples of one class.
        """
        is_empty = math.isnan(mean(self._loss))
        results = {m.name: math.nan if is_empty else float(m.result()) for m in self._all}
        return results if self._has_both_classes() else results | {"auc": math.nan}

    def _has_both_classes(self) -> bool:
        auc = self._auc  # at each threshold it counts all examples
        positive = float(auc.true_positives[0] + auc.false_negatives[0])
        return 0 < positive < positive + float(auc.true_negatives[0] + auc.false_positives[0])

    def reset(self) -> None:
        """Forgets all batches."""
        for metric in self._all:
            metric.reset_state()

    @property
    def variables(self) -> list[keras.Variable]:
        """The counts, for a checkpoint."""
        return [variable for metric in self._all for variable in metric.variables]


def mean(metric: keras.metrics.Mean) -> float:
    """Returns a mean; that of nothing is NaN, where Keras has 0."""
    return float(metric.result()) if float(metric.count) else math.nan
