"""The state of a training run, which a checkpoint saves."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from model.classifier import TextClassifier
from trainer.evaluation.metrics import Metrics

_SAMPLE_SIZE = 10_000  # values of a weight or a gradient in its histogram


class TrainState:
    """The variables that change during training. Everything else follows from the settings.

    Attributes:
        model: The model, built.
        optimizer: The optimizer, built.
        step: Number of steps taken.
        epoch: Number of epochs that were trained, validated and recorded.
        best_loss: The lowest validation loss so far; with another --best_metric, the negative of
            its highest value.
        best_epoch: The epoch with this value, counted from 1.
        stale_epochs: Number of epochs since the best epoch.
        skipped: Number of consecutive skipped steps up to now; their gradients were not finite.
        seconds: Time spent in training and validation, including earlier processes of the run.
        fingerprint: The SHA-256 of the vocabulary.
        interval_metrics: Metrics since the last point of TensorBoard's curves.
        gradient_norm: Mean norm of the gradient over the same steps, before clipping.
        epoch_metrics: Metrics since the start of the epoch.
        gradient_samples: Samples of the last finite gradients, for histograms.
    """

    def __init__(
        self,
        model: TextClassifier,
        optimizer: keras.optimizers.Optimizer,
        *,
        class_count: int,
        fingerprint: str,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        with tf.device("CPU"):
            self.step = tf.Variable(0, dtype=tf.int64)
            self.epoch = tf.Variable(0, dtype=tf.int64)
            self.best_loss = tf.Variable(float("inf"), dtype=tf.float64)
            self.best_epoch = tf.Variable(0, dtype=tf.int64)
            self.stale_epochs = tf.Variable(0, dtype=tf.int64)
            self.skipped = tf.Variable(0, dtype=tf.int64)
            self.seconds = tf.Variable(0.0, dtype=tf.float64)
            self.fingerprint = tf.Variable(fingerprint, dtype=tf.string)
        self.interval_metrics = Metrics(class_count)
        self.gradient_norm = keras.metrics.Mean()
        self.epoch_metrics = Metrics(class_count)
        self.gradient_samples = [
            tf.Variable(tf.zeros_like(sample(weight.value))) for weight in model.trainable_variables
        ]

    def checkpoint(self) -> tf.train.Checkpoint:
        """Returns a checkpoint of all variables."""
        metrics = (self.interval_metrics, self.gradient_norm, self.epoch_metrics)
        return tf.train.Checkpoint(
            step=self.step,
            epoch=self.epoch,
            best_loss=self.best_loss,
            best_epoch=self.best_epoch,
            stale_epochs=self.stale_epochs,
            skipped=self.skipped,
            seconds=self.seconds,
            fingerprint=self.fingerprint,
            model=values_of(self.model.variables),
            optimizer=values_of(self.optimizer.variables),
            gradients=self.gradient_samples,
            metrics=values_of([variable for metric in metrics for variable in metric.variables]),
        )


def values_of(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """Returns the TensorFlow variables of Keras variables, for tf.train.Checkpoint.

    From a Keras model, tf.train.Checkpoint silently omits layers in a list and dropout seeds, and
    it rejects metrics. It saves all variables of a list, and restores them by position, which is
    the order of creation.
    """
    return [variable.value for variable in variables]


def sample(tensor: tf.Tensor) -> tf.Tensor:
    """Returns about 10,000 evenly spaced values <float32>[N] of a tensor <float32>[...], or all."""
    flat = tf.reshape(tensor, [-1])
    stride = max(1, flat.shape[0] // _SAMPLE_SIZE) | 1  # odd: an even stride may skip whole columns
    return flat[::stride]
