"""Classification: the loss of a training step, and the validation after an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from model.classifier import TextClassifier
from model.labels import cross_entropies, from_targets, to_targets
from model.neural import NeuralScorer
from pipeline.batches import first_column
from pipeline.examples import Examples
from trainer.evaluation.calibration import fit_factor_and_bias
from trainer.evaluation.metrics import compute_metrics, errors_by_confidence, mean_loss
from trainer.evaluation.scoring import Evaluator
from trainer.objectives.logit_layer_fit import fit_logit_layer
from trainer.objectives.ngram_fit import fit_scorer
from trainer.objectives.ngram_matrix import ngram_logits
from trainer.runtime.replicas import Replicas

_SHOWN_ERRORS = 10  # examples per epoch in TensorBoard

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Classification:
    """Computes one loss per neural scorer of a built classifier, and validates the classifier.

    Args:
        model: The classifier, built.
        replicas: The replicas that train.
        class_weights: <float32>[K], which multiply the losses of the examples; None for 1.
        loss: Maps targets and logits, each <float32>[..., L], to losses <float32>[...]. To train
            with another loss, change its default.
    """

    def __init__(
        self,
        model: TextClassifier,
        replicas: Replicas,
        *,
        class_weights: np.ndarray | None = None,
        loss: Loss = cross_entropies,
    ) -> None:
        self._model, self._loss, self._class_weights = model, loss, class_weights
        self._has_steps = bool(model.trainable_variables)  # all else is fitted without steps
        self._evaluator = Evaluator(model, replicas)
        # The labelled examples of all fits without steps, and their cross-fitted logits.
        self._cross_fitted: tuple[Examples, np.ndarray] | None = None

    def fit_ngrams(self, training: Examples) -> np.ndarray | None:
        """Fits the n-gram scorer, if there is one, to the labelled training examples.

        Returns:
            The cross-fitted logits <float32>[N, L]; None without an n-gram scorer.

        Raises:
            Interrupted: A signal arrived.
        """
        if (scorer := self._model.ngram_scorer) is None:
            return None
        logits = fit_scorer(scorer, training, self._class_weights)
        self._cross_fitted = training, logits
        return logits

    def fit_logit_layer(self, training: Examples, labelled: Examples) -> np.ndarray:
        """Fits and calibrates the last layer of a frozen encoder.

        Args:
            training: The training examples, with offsets; the labelled ones come first.
            labelled: These, with class numbers as labels.

        Returns:
            The cross-fitted, calibrated logits of the labelled examples <float32>[N, L].

        Raises:
            Interrupted: A signal arrived.
        """
        (scorer,) = self._model.neural_scorers
        vectors = self._evaluator.encode(training, description="encoding")
        logits = fit_logit_layer(scorer.logit, vectors, training, self._class_weights)
        logits, weights = logits[: len(labelled)], np.ones(len(labelled))
        if self._class_weights is not None:
            weights = self._class_weights[labelled.labels]
        factor, bias, _ = fit_factor_and_bias(logits, labelled.labels, weights)
        scorer.logit.bias.assign_add((bias / factor).astype(np.float32))
        self._model.temperature.assign(1 / factor)
        calibrated = (factor * logits + bias).astype(np.float32)
        self._cross_fitted = labelled, calibrated
        return calibrated

    def ngram_logits(self, examples: Examples) -> np.ndarray:
        """Computes the logits <float32>[N, L] of the n-gram scorer alone.

        Raises:
            Interrupted: A signal arrived.
        """
        assert self._model.ngram_scorer is not None
        return ngram_logits(self._model.ngram_scorer, examples)

    def metrics_update(self, examples: Examples, logits: np.ndarray) -> tf.Tensor:
        """Returns the argument of `Metrics.update` for labelled examples and their logits."""
        labels = tf.constant(examples.labels)
        return _metrics_update(labels, to_targets(labels, logits.shape[1]), tf.constant(logits))

    def graph(self) -> tf.Graph:
        """Returns the graph that computes the logits of validation."""
        return self._evaluator.score_step.get_concrete_function().graph

    def embeddings(self) -> dict[str, np.ndarray]:
        """Returns the embedding matrix <float32>[V, E] of each neural scorer, by its layer name.

        Those of a pretrained encoder are left out: training hardly changes them.
        """
        scorers = [s for s in self._model.neural_scorers if isinstance(s, NeuralScorer)]
        return {scorer.name: scorer.embedding.embeddings.numpy() for scorer in scorers}

    def losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor, offsets: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the losses of a training batch.

        Args:
            token_ids: <int32>[B, T].
            labels: As in `Examples`: class numbers <int32>[B], -1 for an example without a label,
                or soft labels <float32>[B, L]; PADDING_LABEL for a row that only pads the batch.
            offsets: <float32>[B, L], added to the logits of each scorer; or <float32>[B, 0].

        Returns:
            1. The losses <float32>[B * S] of the S neural scorers, 0 for rows without a label. The
               step minimizes their sum divided by the batch size.
            2. The argument of `Metrics.update` for the ensemble, <float32>[B, 2 + L].
        """
        logits = self._model.neural_logits(token_ids)  # [B, S, L]
        if offsets.shape[1]:
            logits += offsets[:, tf.newaxis]
        # No loss function sees the negative numbers that stand for missing labels.
        has_label = first_column(labels) >= 0
        targets = to_targets(labels, logits.shape[-1])
        all_targets = tf.broadcast_to(targets[:, tf.newaxis], tf.shape(logits))
        losses = tf.where(has_label[:, tf.newaxis], self._loss(all_targets, logits), 0.0)
        numbers = from_targets(targets)
        if self._class_weights is not None:
            losses *= tf.gather(tf.constant(self._class_weights), numbers)[:, tf.newaxis]
        mean_logits = tf.reduce_mean(logits, axis=1)
        shown = tf.where(has_label, numbers, -1)
        return tf.reshape(losses, [-1]), _metrics_update(shown, targets, mean_logits)

    def validate(self, validation: Examples) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
        """Fits the temperature of trained encoders on the validation split; computes its metrics.

        `loss` is computed from the uncalibrated logits, as in training: a temperature that was
        fitted on the same split would make an overconfident model look better than it is. The other
        metrics are computed from the calibrated logits. What is fitted without steps is calibrated
        already, by cross-fitting. If `validation` is the train split, its cross-fitted logits are
        used.

        Returns:
            1. The metrics by name.
            2. The calibrated logits <float32>[N, L], in the order of the examples.
            3. The positions <int64>[M] of the misclassified examples to show.

        Raises:
            Interrupted: A signal arrived.
        """
        if self._has_steps:
            logits = self._evaluator.calibrate(validation)
            calibrated = logits / self._model.temperature.numpy()
        elif self._cross_fitted and validation is self._cross_fitted[0]:
            logits = calibrated = self._cross_fitted[1]
        else:
            logits = calibrated = self._evaluator.logits(validation, description="scoring")
        metrics = compute_metrics(validation.labels, calibrated, is_fitted=self._has_steps)
        metrics["loss"] = mean_loss(validation.labels, logits)
        errors = errors_by_confidence(calibrated, validation.labels)[:_SHOWN_ERRORS]
        return metrics, calibrated, errors


def _metrics_update(labels: tf.Tensor, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the argument of `Metrics.update` <float32>[B, 2 + L]."""
    columns = [
        tf.cast(values, tf.float32)[:, tf.newaxis]
        for values in (labels, cross_entropies(targets, logits))
    ]
    return tf.concat([*columns, logits], axis=1)
