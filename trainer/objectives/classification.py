"""Classification: the loss of a training step, and the validation after an epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from model.classifier import TextClassifier
from model.labels import cross_entropies
from model.neural import NeuralScorer
from model.ngrams import NgramScorer
from pipeline.batches import evaluation_batches
from pipeline.examples import Examples
from trainer.evaluation.metrics import compute_metrics, errors_by_confidence
from trainer.evaluation.scoring import Evaluator
from trainer.monitoring.progress import with_progress
from trainer.runtime.replicas import Replicas

_log = logging.getLogger(__name__)

_SHOWN_ERRORS = 10  # examples per epoch in TensorBoard
_ADAPT_BATCH = 1024  # examples; a larger batch needs more memory and is hardly faster

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Classification:
    """Computes one loss per scorer of a built classifier, and validates the classifier.

    The `loss` maps labels, 0 to 1, and logits to losses, each <float32>[...]. To train with another
    loss, change its default.
    """

    def __init__(
        self, model: TextClassifier, replicas: Replicas, *, loss: Loss = cross_entropies
    ) -> None:
        self._model, self._loss = model, loss
        self._evaluator = Evaluator(model, replicas)

    def adapt(self, training: Examples) -> None:
        """Adapts the n-gram scorer to the labelled training examples, before the first step.

        Raises:
            Interrupted: A signal arrived.
        """
        for scorer in self._model.trained_scorers:
            if isinstance(scorer, NgramScorer):
                labelled = training[training.labels >= 0]
                _log.info("counting n-grams in %d texts", len(labelled))
                batches = with_progress(
                    evaluation_batches(labelled, batch_size=_ADAPT_BATCH),
                    description="counting n-grams",
                    total=len(labelled),
                    chunk_size=_ADAPT_BATCH,
                )
                scorer.adapt(batches)

    def graph(self) -> tf.Graph:
        """Returns the graph that computes the logits of validation."""
        return self._evaluator.score_step.get_concrete_function().graph

    def embeddings(self) -> dict[str, np.ndarray]:
        """Returns the embedding matrix <float32>[V, E] of each neural scorer, by its layer name."""
        neural = [scorer for scorer in self._model.scorers if isinstance(scorer, NeuralScorer)]
        return {scorer.name: scorer.embedding.embeddings.numpy() for scorer in neural}

    def losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Computes the losses of a training batch.

        Args:
            token_ids: <int32>[B, T].
            labels: <float32>[B], 0 to 1; -1 for an example without a label; PADDING_LABEL for a row
                that only pads the batch.

        Returns:
            1. The losses <float32>[B * S] of the S trained scorers, 0 for rows without a label. The
               step minimizes their sum divided by the batch size.
            2. The arguments of `Metrics.update`, each <float32>[B]: labels, logits of the ensemble,
               and their cross-entropies.
        """
        logits = self._model.scorer_logits(token_ids, training=True)  # [B, S]
        # No loss function sees the negative numbers that stand for missing labels.
        targets = tf.broadcast_to(tf.maximum(labels, 0.0)[:, tf.newaxis], tf.shape(logits))
        losses = tf.where((labels >= 0)[:, tf.newaxis], self._loss(targets, logits), 0.0)
        mean_logits = tf.reduce_mean(logits, axis=1)
        outputs = (labels, mean_logits, cross_entropies(labels, mean_logits))
        return tf.reshape(losses, [-1]), outputs

    def validate(self, validation: Examples) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Fits the temperature on the validation split and computes the metrics.

        `loss` is computed from the uncalibrated logits, as in training: a temperature that was
        fitted on the same split would make an overconfident model look better than it is. The other
        metrics are computed from the calibrated logits.

        Returns:
            1. The metrics by name. The epoch with the lowest `loss` is the best one.
            2. The calibrated logits <float32>[N], in the order of the examples.
            3. The positions <int64>[M] of the misclassified examples to show.

        Raises:
            Interrupted: A signal arrived.
        """
        logits = self._evaluator.calibrate(validation)
        calibrated = logits / self._model.temperature.numpy()
        metrics = compute_metrics(validation.labels, calibrated, is_fitted=True)
        metrics["loss"] = float(np.mean(cross_entropies(validation.labels, logits)))
        errors = errors_by_confidence(calibrated, validation.labels)[:_SHOWN_ERRORS]
        return metrics, calibrated, errors
