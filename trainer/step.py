"""The training step: gradients of a batch, and one update of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import keras
import tensorflow as tf

from pipeline.batches import PADDING_LABEL, first_column
from pipeline.errors import RunError
from trainer.artifacts.state import TrainState, sample
from trainer.config import TrainConfig
from trainer.objectives.classification import Classification
from trainer.runtime.files import is_out_of_memory
from trainer.runtime.replicas import Replicas

_MAX_SKIPPED = 20  # consecutive steps; with float16, the loss scale may need 16 to recover


class TrainStep:
    """Takes training steps, which change the state of a run.

    The `batch_spec` is that of `pipeline.batches.batch_spec`.

    Attributes:
        run: Trains on the next `count` <int64>[] batches of an iterator, in one call.
        examples: Number of examples since the last reset.
        tokens: Number of tokens in these examples.
        skipped_since_report: Steps skipped since the last report, without float16 overflows.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        objective: Classification,
        replicas: Replicas,
        batch_spec: tuple[tf.TensorSpec, ...],
    ) -> None:
        self._config, self._state = config, state
        self._objective, self._replicas = objective, replicas
        self.tokens, self.examples = keras.metrics.Sum(), keras.metrics.Sum()
        self.skipped_since_report = tf.Variable(0)
        self._skipped_loss = tf.Variable(0.0)  # of the last skipped step
        self._scales_loss = isinstance(state.optimizer, keras.optimizers.LossScaleOptimizer)
        signature = [tf.data.IteratorSpec(batch_spec), tf.TensorSpec([], tf.int64)]
        self.run = tf.function(self._run, input_signature=signature)

    def _run(self, batches: tf.data.Iterator, count: tf.Tensor) -> None:
        """Trains on the next `count` batches; see `batch_spec`."""
        # Workers in different iterations would wait for each other forever.
        parallel_iterations = 1 if self._replicas.is_cluster else 10  # 10 is TensorFlow's default
        for left in tf.range(count, 0, -1):
            tf.autograph.experimental.set_loop_options(parallel_iterations=parallel_iterations)
            gradients, sums, outputs = self._replicas.run(self._gradients, *next(batches))
            loss, examples, tokens, norm = tf.unstack(self._replicas.first_local(sums))
            if tf.math.is_finite(norm):
                self._replicas.run(self._apply, gradients)
                self._state.skipped.assign(0)
                self._state.gradient_norm.update_state(norm)
                if tf.equal(left, 1):
                    self._store_samples(gradients)
            else:
                self._skip(gradients, loss)
            outputs = self._replicas.gather(outputs)
            if tf.math.is_finite(loss):
                for metrics in (self._state.interval_metrics, self._state.epoch_metrics):
                    metrics.update(outputs)
            self.examples.update_state(examples)
            self.tokens.update_state(tokens)
            self._state.step.assign_add(1)

    def _gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor, offsets: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Computes the gradients of a replica's shard, and sums them over all replicas.

        Returns:
            The summed gradients, multiplied by the loss scale; the summed loss, number of examples,
            number of tokens and the norm of the gradient <float32>[4]; and, for the examples of
            this shard, the argument of `Metrics.update`.
        """
        model, optimizer = self._state.model, self._state.optimizer
        token_ids, labels, offsets = map(self._replicas.shard, (token_ids, labels, offsets))
        with tf.GradientTape() as tape:
            losses, outputs = self._objective.losses(token_ids, labels, offsets)
            # Divided by the full batch size, so that a smaller last batch takes a smaller step.
            loss = tf.reduce_sum(losses) / self._config.batch_size
            scaled_loss = optimizer.scale_loss(loss)
        weights = model.trainable_variables
        gradients = tape.gradient(scaled_loss, weights)
        # Dense, because Keras computes a wrong norm for the sparse gradient of the embedding: it
        # treats repeated rows as different rows.
        gradients = [
            tf.ensure_shape(tf.convert_to_tensor(gradient), weight.shape)
            for gradient, weight in zip(gradients, weights, strict=True)
        ]
        is_example = first_column(labels) > PADDING_LABEL
        tokens = tf.math.count_nonzero(tf.boolean_mask(token_ids, is_example), dtype=tf.float32)
        sums = tf.stack([loss, tf.reduce_sum(tf.cast(is_example, tf.float32)), tokens])
        *gradients, sums = self._replicas.all_reduce_sum([*gradients, sums])
        norm = tf.linalg.global_norm(gradients) / optimizer.scale_loss(1.0)
        return gradients, tf.concat([sums, [norm]], axis=0), outputs

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self._state.optimizer.apply(gradients, self._state.model.trainable_variables)

    def _store_samples(self, gradients: list[tf.Tensor]) -> None:
        """Stores samples of the gradients, for histograms."""
        scale = self._state.optimizer.scale_loss(1.0)
        for stored, gradient in zip(self._state.gradient_samples, gradients, strict=True):
            stored.assign(sample(self._replicas.first_local(gradient)) / scale)

    def _skip(self, gradients: list[tf.Tensor], loss: tf.Tensor) -> None:
        """Counts a step whose gradient is not finite, without updating the weights."""
        if self._scales_loss:
            # LossScaleOptimizer does not apply these gradients; it halves its loss scale.
            self._replicas.run(self._apply, gradients)
        self._state.skipped.assign_add(1)
        self._skipped_loss.assign(loss)
        # With float16, overflows are normal.
        is_overflow = self._scales_loss and tf.math.is_finite(loss)
        if not is_overflow:
            self.skipped_since_report.assign_add(1)

    def check_skipped(self, step: int) -> None:
        """Checks that not too many consecutive steps were skipped.

        Raises:
            RunError: The last 20 steps were skipped.
        """
        skipped = int(self._state.skipped)
        if skipped < _MAX_SKIPPED:
            return
        loss = float(self._skipped_loss)
        smaller = f"--learning_rate={self._config.learning_rate / 10:g}"
        if not math.isfinite(loss):
            problem, remedy = f"the loss is {loss}", smaller
        elif self._scales_loss:
            problem, remedy = "the gradient overflows float16", "--precision=float32"
        else:
            problem, remedy = "the gradient is not finite", smaller
        raise RunError(
            f"{problem}: all of the last {skipped} steps up to step {step} were skipped; try "
            f"{remedy} in a new --model_dir. The checkpoints are from before these steps"
        )


@contextlib.contextmanager
def translate_memory_errors(config: TrainConfig) -> Iterator[None]:
    """Translates out-of-memory errors into a RunError with advice."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"not enough memory for --batch_size={config.batch_size} and "
            f"--sequence_length={config.sequence_length}; try smaller values in a new --model_dir"
        ) from error
