"""Classification: the loss of a training step, and the validation after an epoch."""

from __future__ import annotations

import dataclasses
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
from trainer.evaluation.metrics import Metrics
from trainer.evaluation.report import worst
from trainer.evaluation.scoring import Evaluator, compute_cross_fitted_metrics
from trainer.monitoring.progress import with_progress
from trainer.runtime.replicas import Replicas

_log = logging.getLogger(__name__)

_SHOWN_MISTAKES = 10  # in TensorBoard, of an epoch
_ADAPT_BATCH = 1024  # examples; each batch costs a pass over all counts

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Validation:
    """The results of a validation.

    Attributes:
        figures: By name. The epoch with the lowest `loss` is the best one.
        logits: The calibrated logits <float32>[N], in the order of the examples.
        mistakes: The positions <int64>[M] of the wrong answers, the most confident first.
    """

    figures: dict[str, float]
    logits: np.ndarray
    mistakes: np.ndarray


class Classification:
    """Trains a classifier by one loss per scorer, and validates it.

    Args:
        model: The model, built.
        replicas: The replicas that it was made for.
        loss: Maps labels <float32>[...], 0 to 1, and logits <float32>[...] to losses
            <float32>[...].
    """

    def __init__(
        self, model: TextClassifier, replicas: Replicas, *, loss: Loss = cross_entropies
    ) -> None:
        self._model, self._loss = model, loss
        self._evaluator = Evaluator(model, replicas)

    def new_metrics(self) -> Metrics:
        """Makes the metrics of training; their `update` takes what `losses` returns."""
        return Metrics()

    def adapt(self, training: Examples) -> None:
        """Counts n-grams in the labelled training examples; once, before the first step."""
        if not any(isinstance(scorer, NgramScorer) for scorer in self._model.trained_scorers):
            return
        labelled = training[training.labels >= 0]
        batches = evaluation_batches(labelled, batch_size=_ADAPT_BATCH)
        _log.info("counting n-grams in %d texts", len(labelled))
        self._model.adapt(
            with_progress(
                batches,
                what="counting n-grams",
                total=len(labelled),
                chunk_size=_ADAPT_BATCH,
            )
        )

    def graph(self) -> tf.Graph:
        """Returns the graph that validation runs."""
        return self._evaluator.score_step.get_concrete_function().graph

    def embeddings(self) -> dict[str, np.ndarray]:
        """Returns the embedding <float32>[V, E] of each neural scorer, by the scorer's name."""
        neural = [scorer for scorer in self._model.scorers if isinstance(scorer, NeuralScorer)]
        return {scorer.name: scorer.embedding.embeddings.numpy() for scorer in neural}

    def losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Computes the losses of a training batch.

        Args:
            token_ids: <int32>[B, T].
            labels: <float32>[B], 0 to 1; -1 without a label, PADDING_LABEL without an example.

        Returns:
            The losses of all trained scorers <float32>[B * S]. The step minimizes their sum over
            the batch size. And what the metrics' `update` takes: labels, logits of the ensemble and
            their cross-entropies, <float32>[B] each.
        """
        logits = self._model.scorer_logits(token_ids, training=True)  # [B, S]
        targets = tf.broadcast_to(labels[:, tf.newaxis], tf.shape(logits))
        losses = tf.where((labels >= 0)[:, tf.newaxis], self._loss(targets, logits), 0.0)
        mean_logits = tf.reduce_mean(logits, axis=1)
        measured = (labels, mean_logits, cross_entropies(labels, mean_logits))
        return tf.reshape(losses, [-1]), measured

    def validate(self, validation: Examples) -> Validation:
        """Fits the temperature on the validation split and measures the model there.

        The figure `loss` is computed from the uncalibrated logits, as in training. With a
        temperature that was fitted on the same split, an overconfident model would look better than
        it is. All other figures are computed from the calibrated logits.
        """
        logits = self._evaluator.calibrate(validation)
        calibrated = logits / self._model.temperature.numpy()
        figures = compute_cross_fitted_metrics(validation.labels, calibrated)
        loss = float(np.mean(cross_entropies(validation.labels, logits)))
        mistakes = worst(calibrated, validation.labels)[:_SHOWN_MISTAKES]
        return Validation(figures | {"loss": loss}, calibrated, mistakes)
