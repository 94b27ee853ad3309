"""Losses at the words' most harmful neighbours: adversarial and virtual adversarial training.

Miyato, Dai & Goodfellow, Adversarial Training Methods for Semi-Supervised Text Classification, ICLR
2017 (arXiv 1605.07725). They normalize the embeddings, since a network could make a perturbation of
fixed size harmless by growing them; here its size is relative to theirs, which comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from model.deep import DeepScores

_PROBE = 0.1  # the random step, relative as the perturbation is, at which virtual looks for it


def adversarial_losses(
    part: DeepScores, token_ids: tf.Tensor, labels: tf.Tensor, *, size: float
) -> tf.Tensor:
    """Returns the cross-entropy where a perturbation of the embeddings makes it largest (eq. 5).

    Args:
        part: The network.
        token_ids: <int32>[B, T].
        labels: <float32>[B], 0 to 1; of a review without a label (-1) the loss means nothing.
        size: The norm of a review's perturbation, as a multiple of that of its mean word.

    Returns:
        <float32>[B], nats.
    """
    embedded, lengths = part.embed(token_ids, training=True)

    def losses(at: tf.Tensor) -> tf.Tensor:
        logits = part.score(at, lengths, training=True)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)

    step = _steepest(losses, embedded) * size * _scale(embedded, lengths)
    return losses(embedded + step)


def virtual_adversarial_losses(
    part: DeepScores, token_ids: tf.Tensor, *, size: float, seed: tf.Tensor
) -> tf.Tensor:
    """Returns how far a perturbation of the embeddings can turn the answer (eq. 6 and 7).

    It needs no label. The direction is found by one power iteration from a random one.

    Args:
        part: The network.
        token_ids: <int32>[B, T].
        size: As `adversarial_losses` has it.
        seed: <int64>[2], decides the random direction.

    Returns:
        KL(p(clean) || p(perturbed)) <float32>[B], nats.
    """
    embedded, lengths = part.embed(token_ids, training=True)
    clean = tf.stop_gradient(part.score(embedded, lengths, training=True))
    answer = tf.sigmoid(clean)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=answer, logits=clean)

    def divergences(at: tf.Tensor) -> tf.Tensor:
        logits = part.score(at, lengths, training=True)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=answer, logits=logits) - entropy

    scale = _scale(embedded, lengths)
    is_token = tf.sequence_mask(lengths, tf.shape(embedded)[1], dtype=embedded.dtype)
    random = tf.random.stateless_normal(tf.shape(embedded), seed, dtype=embedded.dtype)
    probe = _unit(random * is_token[..., tf.newaxis]) * _PROBE * scale
    step = _steepest(divergences, tf.stop_gradient(embedded + probe)) * size * scale
    return divergences(embedded + step)


def _steepest(losses: Callable[[tf.Tensor], tf.Tensor], at: tf.Tensor) -> tf.Tensor:
    """Returns the directions [B, T, E], of norm 1 for each review, in which losses grow fastest."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        total = tf.reduce_sum(losses(at))
    return tf.stop_gradient(_unit(tape.gradient(total, at)))


def _unit(directions: tf.Tensor) -> tf.Tensor:
    """Scales each review's [T, E] to the norm 1; one of zeros stays."""
    squares = tf.reduce_sum(tf.square(tf.cast(directions, tf.float32)), axis=[1, 2], keepdims=True)
    return directions * tf.cast(tf.math.rsqrt(squares + 1e-30), directions.dtype)


def _scale(embedded: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Returns the norm of the mean word of each review, root of the mean square, [B, 1, 1]."""
    is_token = tf.sequence_mask(lengths, tf.shape(embedded)[1], dtype=embedded.dtype)
    squares = tf.reduce_sum(tf.square(embedded) * is_token[..., tf.newaxis], axis=[1, 2])
    means = squares / tf.cast(lengths, embedded.dtype)
    return tf.stop_gradient(tf.sqrt(means))[:, tf.newaxis, tf.newaxis]
