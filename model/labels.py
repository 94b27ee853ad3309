"""How classes become numbers: one sigmoid unit for two classes, softmax for more.

With two classes, the model has one logit: the log-odds of the second class. With K > 2 classes, it
has K logits. Shapes call the number of logits L; it is 1 or K, so L = 1 means two classes.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def count_logits(class_count: int) -> int:
    """Returns L, the number of logits."""
    return 1 if class_count == 2 else class_count


def to_targets(labels: tf.Tensor, logit_count: int) -> tf.Tensor:
    """Converts labels to targets, which the loss compares with logits.

    Args:
        labels: Class numbers <int32>[N], or soft labels <float32>[N, L], which are targets already.
        logit_count: L.

    Returns:
        Probabilities <float32>[N, L]: of the second class, or of each class. For a label below 0,
        which stands for no label, they are not probabilities, but finite.
    """
    if labels.dtype.is_floating:
        return tf.maximum(labels, 0.0)
    if logit_count == 1:
        return tf.cast(tf.maximum(labels, 0), tf.float32)[:, tf.newaxis]
    return tf.one_hot(labels, logit_count)


def from_targets(targets: tf.Tensor) -> tf.Tensor:
    """Returns the most probable class <int32>[N] of targets <float32>[N, L]."""
    if targets.shape[-1] == 1:
        return tf.cast(tf.round(targets[:, 0]), tf.int32)
    return tf.argmax(targets, axis=-1, output_type=tf.int32)


def cross_entropies(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Computes the cross-entropy of each target and its logits.

    Args:
        targets: <float32>[..., L], from `to_targets`.
        logits: <float32>[..., L].

    Returns:
        <float32>[...], in nats.
    """
    if logits.shape[-1] == 1:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
        return tf.squeeze(losses, axis=-1)
    return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)


def to_probabilities(logits: tf.Tensor) -> tf.Tensor:
    """Returns the probability of each class, <float32>[..., K], of logits <float32>[..., L]."""
    if logits.shape[-1] == 1:
        second = tf.sigmoid(logits)
        return tf.concat([1 - second, second], axis=-1)
    return tf.nn.softmax(logits)


def exact_probabilities(logits: np.ndarray) -> np.ndarray:
    """Computes `to_probabilities` in float64: <float64>[N, K] of logits [N, L]."""
    logits = logits.astype(np.float64)
    if logits.shape[-1] == 1:
        halves = np.tanh(0.5 * logits)  # without overflow, unlike 1 / (1 + exp(-logits))
        return 0.5 * (1 + np.concatenate([-halves, halves], axis=-1))
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def predict_classes(logits: np.ndarray) -> np.ndarray:
    """Returns the most probable class <int64>[N] of logits <float32>[N, L]."""
    if logits.shape[-1] == 1:
        return (logits[:, 0] > 0).astype(np.int64)
    return logits.argmax(axis=-1)
