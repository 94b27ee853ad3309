"""Metrics of logits and labels, over the batches of training and over a whole split."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from model.labels import cross_entropies
from trainer.evaluation.calibration import calibration_error, cross_calibrated

_LENGTHS = (50, 100, 200, 400, 800)  # upper bounds of the ranges of `by_length`, in tokens


class Metrics:
    """Accumulates mean loss, accuracy and AUC over batches.

    The AUC is approximated with 1,000 thresholds. For a trained model the error is below 1e-3; it
    is larger if almost all probabilities are equal.
    """

    def __init__(self) -> None:
        self._loss = keras.metrics.Mean(name="loss")
        self._accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        self._auc = keras.metrics.AUC(name="auc", from_logits=True, num_thresholds=1000)
        self._all = (self._loss, self._accuracy, self._auc)

    def update(self, labels: tf.Tensor, logits: tf.Tensor, losses: tf.Tensor) -> None:
        """Adds a batch.

        Args:
            labels: <float32>[B]. A soft label counts as the more probable class. Rows with a label
                below 0 are left out.
            logits: <float32>[B].
            losses: <float32>[B].
        """
        labels, logits, losses = (
            tf.boolean_mask(values, labels >= 0) for values in (labels, logits, losses)
        )
        self._loss.update_state(losses)
        labels = tf.round(labels)
        # BinaryAccuracy takes the mean over the last axis first, so that axis must have size 1.
        self._accuracy.update_state(labels[:, tf.newaxis], logits[:, tf.newaxis])
        self._auc.update_state(labels, logits)

    def result(self) -> dict[str, float]:
        """Returns loss (nats), accuracy and auc (both 0 to 1).

        All are NaN if there are no examples; auc is also NaN if all examples have one label.
        """
        is_empty = math.isnan(mean(self._loss))
        results = {m.name: math.nan if is_empty else float(m.result()) for m in self._all}
        return results if self._has_both_labels() else results | {"auc": math.nan}

    def _has_both_labels(self) -> bool:
        auc = self._auc  # its counts at each threshold cover all examples
        positive = float(auc.true_positives[0] + auc.false_negatives[0])
        return 0 < positive < positive + float(auc.true_negatives[0] + auc.false_positives[0])

    def reset(self) -> None:
        """Resets all metrics."""
        for metric in self._all:
            metric.reset_state()

    @property
    def variables(self) -> list[keras.Variable]:
        """Returns the variables that hold the counts, for a checkpoint."""
        return [variable for metric in self._all for variable in metric.variables]


def mean(metric: keras.metrics.Mean) -> float:
    """Returns the result of a mean; NaN if it has no values (Keras returns 0)."""
    return float(metric.result()) if float(metric.count) else math.nan


def compute_metrics(
    labels: np.ndarray, logits: np.ndarray, *, is_fitted: bool = False
) -> dict[str, float]:
    """Computes loss (nats), accuracy, auc and calibration_error (all 0 to 1) of a split.

    Args:
        labels: <float32>[N], 0 or 1.
        logits: <float32>[N].
        is_fitted: Whether the temperature was fitted on this split. Then the calibration error is
            out-of-sample; see `cross_calibrated`.

    Returns:
        The metrics by name. auc is NaN if all examples have one label. auc and calibration_error
        are NaN if a logit is not finite. All are NaN if there are no examples.
    """
    if not len(labels):
        return dict.fromkeys(("loss", "accuracy", "auc", "calibration_error"), math.nan)
    calibrated = cross_calibrated(logits, labels) if is_fitted else logits
    return {
        "loss": float(np.mean(cross_entropies(labels, logits))),
        "accuracy": float(np.mean((logits > 0) == (labels > 0.5))),
        "auc": _auc(labels, logits),
        "calibration_error": calibration_error(calibrated, labels),
    }


def has_curves(labels: np.ndarray, logits: np.ndarray) -> bool:
    """Returns whether there are examples of both labels and finite logits, as curves need."""
    return bool((labels > 0.5).any() and (labels < 0.5).any() and np.isfinite(logits).all())


def _auc(labels: np.ndarray, logits: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score  # slow to import, and predict does not need it

    return float(roc_auc_score(labels, logits)) if has_curves(labels, logits) else math.nan


def compute_class_metrics(
    logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> dict[str, float | list[list[int]] | list[dict[str, object]]]:
    """Computes the metrics of the predicted labels.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.
        lengths: <int32>[N], the number of tokens of each example.

    Returns:
        precision, recall and f1 of label 1, each 0 where it is undefined; macro_f1, the mean of the
        f1 of both labels; confusion_matrix, with a row per label and a column per predicted label;
        by_length, the number of examples and the accuracy for ranges of lengths.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted, actual = (logits > 0).astype(int), (labels > 0.5).astype(int)
    precision, recall, f1, _ = precision_recall_fscore_support(
        actual, predicted, labels=[0, 1], zero_division=0
    )
    return {
        "precision": float(precision[1]),
        "recall": float(recall[1]),
        "f1": float(f1[1]),
        "macro_f1": float(f1.mean()),
        "confusion_matrix": confusion_matrix(actual, predicted, labels=[0, 1]).tolist(),
        "by_length": _accuracy_by_length(predicted == actual, lengths),
    }


def _accuracy_by_length(is_correct: np.ndarray, lengths: np.ndarray) -> list[dict[str, object]]:
    """Returns the number of examples and the accuracy of each range of lengths with examples."""
    ranges, start = [], 1
    for end in (*_LENGTHS, None):
        chosen = (lengths >= start) & (lengths <= (end or np.inf))
        if chosen.any():
            tokens = f"{start} to {end}" if end else f"{start} or more"
            accuracy = float(is_correct[chosen].mean())
            ranges.append({"tokens": tokens, "examples": int(chosen.sum()), "accuracy": accuracy})
        start = (end or 0) + 1
    return ranges


def errors_by_confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the positions <int64>[M] of misclassified examples, the most confident first.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.
    """
    wrong = np.flatnonzero((logits > 0) != (labels > 0.5))
    return wrong[np.argsort(-np.abs(logits[wrong]), kind="stable")]
