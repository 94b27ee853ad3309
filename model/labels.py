"""The loss of binary classification: one sigmoid unit, two labels."""

from __future__ import annotations

import tensorflow as tf


def cross_entropies(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Computes the binary cross-entropy of each label and its logit.

    Args:
        labels: <float32>[...], probabilities of the second label, 0 to 1.
        logits: <float32>[...].

    Returns:
        <float32>[...], in nats.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
