"""The state of a training run, which a checkpoint saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from model.classifier import TextClassifier
from trainer.evaluation.metrics import Metrics

_SAMPLE_SIZE = 10_000  # values of a weight or a gradient in its histogram


class TrainState:
    """The variables that change during training. Everything else follows from the settings.

    Args:
        model: The model, built.
        optimizer: The optimizer, built.
        fingerprint: The SHA-256 of the vocabulary.
        new_metrics: Creates the metrics.

    Attributes:
        model: The model.
        optimizer: The optimizer.
        step: Number of steps taken.
        epoch: Number of epochs that were trained, validated and recorded.
        best_loss: The lowest validation loss so far.
        best_epoch: The epoch with this loss, counted from 1.
        stale_epochs: Number of epochs since then.
        skipped: Number of the latest consecutive steps whose gradient was not finite.
        seconds: Time spent in training and validation, including earlier processes of the run.
        fingerprint: The SHA-256 of the vocabulary.
        window: Metrics since the last point of TensorBoard's curves.
        gradient_norm: Mean norm of the gradient over the same steps, before clipping.
        totals: Metrics since the start of the epoch.
        gradients: A sample of the last finite gradient of each trained weight, for its histogram.
    """

    def __init__(
        self,
        model: TextClassifier,
        optimizer: keras.optimizers.Optimizer,
        *,
        fingerprint: str,
        new_metrics: Callable[[], Metrics],
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
        self.window = new_metrics()
        self.gradient_norm = keras.metrics.Mean()
        self.totals = new_metrics()
        self.gradients = [
            tf.Variable(tf.zeros_like(sample(weight.value))) for weight in model.trainable_variables
        ]

    def checkpoint(self) -> tf.train.Checkpoint:
        """Returns a checkpoint of all variables."""
        return tf.train.Checkpoint(
            model=values_of(self.model.variables),
            optimizer=values_of(self.optimizer.variables),
            step=self.step,
            epoch=self.epoch,
            best_loss=self.best_loss,
            best_epoch=self.best_epoch,
            stale_epochs=self.stale_epochs,
            skipped=self.skipped,
            seconds=self.seconds,
            fingerprint=self.fingerprint,
            gradients=self.gradients,
            metrics=values_of(
                self.window.variables + self.gradient_norm.variables + self.totals.variables
            ),
        )


def values_of(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """Returns the TensorFlow variables of Keras variables, for tf.train.Checkpoint.

    Given a Keras model, tf.train.Checkpoint silently omits layers in a list and the seeds of
    dropout, and it refuses metrics. A list of variables is saved completely. Variables are restored
    by their position in the list, which is the order of creation.
    """
    return [variable.value for variable in variables]


def sample(tensor: tf.Tensor) -> tf.Tensor:
    """Returns about 10,000 evenly spaced values of a tensor, or all if there are fewer.

    Args:
        tensor: <float32>[...].

    Returns:
        <float32>[N].
    """
    flat = tf.reshape(tensor, [-1])
    stride = max(1, flat.shape[0] // _SAMPLE_SIZE) | 1  # odd: an even stride may skip whole columns
    return flat[::stride]
