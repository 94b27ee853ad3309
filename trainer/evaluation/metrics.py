"""Metrics of logits and labels, over the batches of training and over a whole split.

Those of N examples of a split are labels <int32>[N] and logits <float32>[N, L].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from model.labels import cross_entropies, exact_probabilities, predict_classes, to_targets
from trainer.evaluation.calibration import calibration_error, cross_calibrated

_BY_CLASS = ("precision", "recall", "f1")
_TOP_K_CLASSES = 10  # more classes also have the top-5 accuracy
_MAX_MATRIX = 100  # classes; a larger confusion matrix would fill results.json
_LENGTHS = (50, 100, 200, 400, 800)  # upper bounds of the ranges of `by_length`, in tokens


class Metrics:
    """Accumulates mean loss and accuracy over batches, and the AUC of two classes.

    The AUC is approximated with 1,000 thresholds. For a trained model the error is below 1e-3; it
    is larger if almost all probabilities are equal. With more classes it would need that many
    thresholds for each class in every step, so only validation computes it.
    """

    def __init__(self, class_count: int) -> None:
        self._loss = keras.metrics.Mean(name="loss")
        self._accuracy: keras.metrics.Metric = keras.metrics.BinaryAccuracy(
            name="accuracy", threshold=0.0
        )
        self._auc = None
        if class_count == 2:
            self._auc = keras.metrics.AUC(name="auc", from_logits=True, num_thresholds=1000)
        else:
            self._accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self._all = [self._loss, self._accuracy, *([self._auc] if self._auc else [])]

    def update(self, outputs: tf.Tensor) -> None:
        """Adds a batch <float32>[B, 2 + L]: labels, losses and logits.

        Rows with a label below 0 are left out.
        """
        outputs = tf.boolean_mask(outputs, outputs[:, 0] >= 0)
        # The accuracies take the mean over the last axis first, so the labels have one of size 1.
        labels, losses, logits = outputs[:, :1], outputs[:, 1], outputs[:, 2:]
        self._loss.update_state(losses)
        self._accuracy.update_state(labels, logits)
        if self._auc:
            self._auc.update_state(labels[:, 0], logits[:, 0])

    def result(self) -> dict[str, float]:
        """Returns loss (nats) and accuracy, for two classes also auc (both 0 to 1).

        All are NaN if there are no examples; auc is also NaN if all examples have one label.
        """
        is_empty = math.isnan(mean(self._loss))
        results = {m.name: math.nan if is_empty else float(m.result()) for m in self._all}
        if (auc := self._auc) is not None:
            # Its counts at each threshold cover all examples.
            positive = float(auc.true_positives[0] + auc.false_negatives[0])
            negative = float(auc.true_negatives[0] + auc.false_positives[0])
            if not positive or not negative:
                results["auc"] = math.nan
        return results

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


def mean_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Computes the mean cross-entropy of a split, in nats."""
    targets = to_targets(tf.constant(labels), logits.shape[1])
    return float(np.mean(cross_entropies(targets, logits)))


def compute_metrics(
    labels: np.ndarray, logits: np.ndarray, *, is_fitted: bool = False
) -> dict[str, float]:
    """Computes the metrics of a split.

    If `is_fitted`, the temperature was fitted on this split, and the calibration error is made
    out-of-sample; see `cross_calibrated`.

    Returns:
        loss (nats), accuracy, macro_f1, auc and calibration_error (all 0 to 1); with more than 10
        classes also top_5_accuracy. macro_f1 is the mean of the F1 of all classes that are a label
        or a prediction. auc is the mean AUC of one class against the rest, over the classes
        that have examples; NaN if all examples have one label. It and calibration_error are NaN if
        a logit is not finite. All are NaN if there are no examples.
    """
    from sklearn.metrics import f1_score  # slow to import, and predict does not need it

    if not len(labels):
        names = ("loss", "accuracy", "macro_f1", "auc", "calibration_error")
        return dict.fromkeys(names, math.nan)
    calibrated = cross_calibrated(logits, labels) if is_fitted else logits
    predicted = predict_classes(logits)
    metrics = {
        "loss": mean_loss(labels, logits),
        "accuracy": float(np.mean(predicted == labels)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "auc": float(np.mean([*_class_aucs(labels, logits).values()] or math.nan)),
        "calibration_error": calibration_error(calibrated, labels),
    }
    if logits.shape[1] > _TOP_K_CLASSES:
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        metrics["top_5_accuracy"] = float((best == labels[:, np.newaxis]).any(axis=1).mean())
    return metrics


def class_scores(logits: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the scores <float>[N] that rank examples for a class, by the number of the class.

    They are the logits of the second of two classes, or the probabilities of each of more.
    """
    if logits.shape[1] == 1:
        return {1: logits[:, 0]}
    return dict(enumerate(exact_probabilities(logits).T))


def has_curves(labels: np.ndarray, logits: np.ndarray, number: int = 1) -> bool:
    """Returns whether there are examples in and outside a class, and finite logits."""
    is_class = labels == number
    return bool(is_class.any() and not is_class.all() and np.isfinite(logits).all())


def _class_aucs(labels: np.ndarray, logits: np.ndarray) -> dict[int, float]:
    """Returns the AUC of each class that has one, by the number of the class."""
    from sklearn.metrics import roc_auc_score

    return {
        number: float(roc_auc_score(labels == number, scores))
        for number, scores in class_scores(logits).items()
        if has_curves(labels, logits, number)
    }


def compute_class_metrics(
    logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray, names: Sequence[str]
) -> dict[str, object]:
    """Computes the metrics of the predicted labels, for examples with `lengths` <int32>[N] tokens.

    Returns:
        For two classes, precision, recall and f1 of the second; for more, `classes` with the
        examples, precision, recall, f1 and auc of each by name. Where it is undefined, auc is None,
        and the others are 0. confusion_matrix, for up to 100 classes, with a row per label and a
        column per predicted label; by_length, the number of examples and the accuracy for ranges of
        lengths.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted, numbers = predict_classes(logits), range(len(names))
    *values, sizes = precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0
    )
    by_class = [dict(zip(_BY_CLASS, row, strict=True)) for row in np.stack(values, 1).tolist()]
    metrics: dict[str, object] = dict(by_class[1])
    if len(names) > 2:
        aucs = _class_aucs(labels, logits)
        metrics = {
            "classes": {
                name: {"examples": int(sizes[number]), **by_class[number], "auc": aucs.get(number)}
                for number, name in enumerate(names)
            }
        }
    if len(names) <= _MAX_MATRIX:
        metrics["confusion_matrix"] = confusion_matrix(labels, predicted, labels=numbers).tolist()
    return metrics | {"by_length": _accuracy_by_length(predicted == labels, lengths)}


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
    """Returns the positions <int64>[M] of misclassified examples, the most confident first."""
    wrong = np.flatnonzero(predict_classes(logits) != labels)
    if logits.shape[1] == 1:
        confidence = np.abs(logits[wrong, 0])
    else:  # the distance of the two largest logits, which does not round, as a probability near 1
        second, first = np.partition(logits[wrong], -2)[:, -2:].T
        confidence = first - second
    return wrong[np.argsort(-confidence, kind="stable")]
