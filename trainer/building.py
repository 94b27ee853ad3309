"""Builds the model and the optimizer from the settings."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from model.classifier import Scorer, TextClassifier
from model.neural import NeuralScorer
from model.ngrams import NgramScorer
from model.pretrained.bert import Architecture
from model.pretrained.scorer import PretrainedScorer
from model.seeds import derive_seed
from pipeline.batches import batches_per_epoch
from pipeline.errors import RunError
from trainer.config import TrainConfig
from trainer.runtime import devices

_FINAL_RATE = 0.01  # with --decay, the last learning rate as a fraction of the first


def build_model(
    config: TrainConfig,
    vocabulary_size: int,
    class_count: int,
    precision: str,
    branches: int | None = None,
    architecture: Architecture | None = None,
) -> TextClassifier:
    """Builds the model with all its variables, so that a checkpoint can be restored.

    The precision is a Keras dtype policy. A batch is split into `branches`, which run in parallel;
    None: the default of this machine. The architecture is that of a pretrained encoder, whose
    weights are 0 until they are assigned. Turns TensorFloat-32 on or off for the whole process.
    """
    # TensorFloat-32 has the range of float32, but the precision of float16.
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    dtype = keras.DTypePolicy(precision)
    ngrams = NgramScorer(config.ngrams, class_count) if config.ngrams else None
    if architecture is not None:
        neural: list[Scorer] = [_build_pretrained_scorer(config, architecture, class_count, dtype)]
    else:
        neural = _build_neural_scorers(config, vocabulary_size, class_count, dtype)
    model = TextClassifier(
        ngrams,
        neural,
        ngram_weight=config.ngram_weight,
        branches=branches or devices.choose_branches(config.batch_size),
        dtype=dtype,
    )
    model.build((None, None))
    return model


def _build_neural_scorers(
    config: TrainConfig, vocabulary_size: int, class_count: int, dtype: keras.DTypePolicy
) -> list[Scorer]:
    return [
        NeuralScorer(
            encoder,
            class_count=class_count,
            vocabulary_size=vocabulary_size,
            embedding_dim=config.embedding_dim,
            embedding_rate=config.embedding_rate,
            units=config.units,
            max_length=config.encoder_length,
            window=config.window,
            word_dropout=config.word_dropout,
            dropout=config.dropout,
            seed=derive_seed(config.seed, f"encoder_{number}"),
            dtype=dtype,
        )
        for number, encoder in enumerate(config.encoders)
    ]


def _build_pretrained_scorer(
    config: TrainConfig, architecture: Architecture, class_count: int, dtype: keras.DTypePolicy
) -> PretrainedScorer:
    return PretrainedScorer(
        architecture,
        class_count=class_count,
        pooling=config.pooling,
        max_length=config.encoder_length,
        truncate=config.truncate,
        train_layers=config.train_layers,
        dropout=config.dropout,
        seed=derive_seed(config.seed, "encoder_0"),
        dtype=dtype,
    )


def total_steps(config: TrainConfig, examples: int) -> int:
    """Returns the number of steps of a run; 0 if all of its parts are fitted without steps."""
    if not config.has_steps:
        return 0
    per_epoch = batches_per_epoch(examples, config.batch_size)
    steps = max(config.epochs, math.ceil(config.min_steps / per_epoch)) * per_epoch
    return min(steps, config.max_steps) if config.max_steps else steps


def build_optimizer(
    config: TrainConfig, model: keras.Model, steps: int
) -> keras.optimizers.Optimizer:
    """Builds the optimizer of a run with this number of steps, for a built model.

    Raises:
        RunError: The installed version of Keras sums the gradients of replicas differently.
    """
    _check_no_second_sum()
    optimizer = PresummedAdam(
        _learning_rate(config, steps),
        global_clipnorm=config.clip_norm or None,
        weight_decay=config.weight_decay or None,
    )
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if model.dtype_policy.compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _learning_rate(
    config: TrainConfig, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate, or its schedule over the steps of a run."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.decay == "linear":
        rate = keras.optimizers.schedules.PolynomialDecay(rate, max(1, steps), _FINAL_RATE * rate)
    warmup_steps = math.ceil(config.warmup * steps)
    return _WarmUp(rate, warmup_steps) if warmup_steps else rate


class PresummedAdam(keras.optimizers.Adam):
    """Adam in one fused operation, with gradients that are already summed over all replicas.

    Keras runs a dozen operations for each variable, and each of them reads and writes memory.

    Keras clips the gradients of each replica before it sums them. Here clipping must apply to the
    sum, so that several replicas take the same steps as one. The overridden method is not public,
    so `_check_no_second_sum` tests the effect.
    """

    def _all_reduce_sum_gradients(
        self, grads_and_vars: list[tuple[tf.Tensor, tf.Variable]]
    ) -> list[tuple[tf.Tensor, tf.Variable]]:
        return grads_and_vars

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates a variable by a dense gradient (Kingma & Ba, Adam, ICLR 2015)."""
        index, step = self._get_variable_index(variable), tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def _check_no_second_sum() -> None:
    """Checks with a step of known length that Keras does not sum gradients over replicas.

    A version of Keras that does not call the overridden method would sum the gradients a second
    time: without an error, they would be multiplied by the number of replicas.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return
    # With these arguments, the first step for a gradient g is 2 * g / (g + 1).
    variable, optimizer = keras.Variable(1.0), PresummedAdam(2.0, beta_2=0.0, epsilon=1.0)
    optimizer.build([variable])
    strategy.run(tf.function(lambda: optimizer.apply([tf.ones([])], [variable])))
    if abs(variable.numpy()) > 0.1:
        raise RunError(
            f"Keras {keras.__version__} sums the gradients of replicas differently than this "
            "program expects; install the version that setup.cfg requires, or use --distribute=none"
        )


class _WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Multiplies a learning rate by 1/n, 2/n, ..., 1 in its first n steps.

    Keras has a warm-up only in CosineDecay.
    """

    def __init__(
        self, rate: float | keras.optimizers.schedules.LearningRateSchedule, steps: int
    ) -> None:
        self._rate, self._steps = rate, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate <float32>[] after `step` steps."""
        rate = self._rate(step) if callable(self._rate) else self._rate
        return rate * tf.minimum((tf.cast(step, tf.float32) + 1) / self._steps, 1.0)
