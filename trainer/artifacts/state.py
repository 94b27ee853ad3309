"""The state of a training run: all that changes from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from model.classifier import TextClassifier
from trainer.evaluation.metrics import Metrics

_LARGEST_SAMPLE = 10_000  # numbers of a weight or a gradient in its histogram


class TrainState:
    """All that a training run changes as it goes; what is not here is a function of the settings.

    Attributes:
        model: The model, built.
        optimizer: Its optimizer, built.
        step: Steps taken.
        epoch: Epochs that were trained, validated and recorded.
        best_loss: The lowest validation loss so far.
        best_epoch: The epoch that had it, counted from 1.
        stale_epochs: Epochs since then.
        skipped: Steps up to now, without one in between, whose gradient was not finite.
        seconds: Time spent in training and validation, over all processes of the run.
        window: Metrics since the last point of the curves.
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
        """Names all of it for tf.train."""
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
    """Returns what tf.train can save of Keras' variables.

    Given a Keras model itself, tf.train.Checkpoint leaves out, without a word, layers that stand
    in a list and the seeds of dropout; a metric it does not take at all. In order of creation the
    variables of a model have their places whatever its layers are called.
    """
    return [variable.value for variable in variables]


def sample(tensor: tf.Tensor) -> tf.Tensor:
    """Takes of a tensor <float32>[...] at most 10,000 numbers or so, evenly: <float32>[N]."""
    flat = tf.reshape(tensor, [-1])
    stride = max(1, flat.shape[0] // _LARGEST_SAMPLE) | 1  # odd, or it would keep to some columns
    return flat[::stride]
