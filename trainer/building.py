"""From the settings to a model, its optimizer and what it is trained for."""

from __future__ import annotations

import keras
import tensorflow as tf

from model.classifier import TextClassifier
from model.neural import NeuralScorer
from model.ngrams import NgramScorer
from model.seeds import derive_seed
from pipeline.errors import RunError
from pipeline.vocabulary import OOV_ID
from trainer.config import TrainConfig
from trainer.objectives.classification import Classification
from trainer.runtime import devices
from trainer.runtime.replicas import Replicas

_LAST_RATE = 0.01  # what --decay leaves of the learning rate


def build_model(
    config: TrainConfig, vocabulary_size: int, precision: str, branches: int | None = None
) -> TextClassifier:
    """Makes the model, and its variables, which restoring needs.

    Args:
        config: The settings.
        vocabulary_size: Number of token ids.
        precision: The name of Keras' policy.
        branches: Parts into which it cuts a batch; None: as many as suit this machine.
    """
    branches = branches or devices.branches(config.batch_size)
    model = _classifier(config, vocabulary_size, devices.policy(precision), branches)
    model(tf.constant([[OOV_ID, OOV_ID]]))
    return model


def build_objective(model: TextClassifier, replicas: Replicas) -> Classification:
    """Makes the objective: another `loss=` here trains the scorers by that loss."""
    return Classification(model, replicas)


def build_optimizer(
    config: TrainConfig, model: keras.Model, steps: int
) -> keras.optimizers.Optimizer:
    """Makes the optimizer.

    Args:
        config: The settings.
        model: The model, built.
        steps: Steps of the whole run, over which the learning rate may fall.

    Raises:
        RunError: The installed version of Keras combines gradients of replicas in another way.
    """
    _check_sums()
    optimizer = _Adam(
        _learning_rate(config, steps),
        global_clipnorm=config.clip_norm or None,
        weight_decay=config.weight_decay or None,
    )
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    if model.dtype_policy.compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def _classifier(
    config: TrainConfig, vocabulary_size: int, dtype: keras.DTypePolicy, branches: int
) -> TextClassifier:
    ngrams = [NgramScorer(config.ngrams)] if config.ngrams else []
    neural = [
        _neural_scorer(config, number, vocabulary_size, dtype)
        for number in range(len(config.encoders))
    ]
    return TextClassifier(
        [*ngrams, *neural],
        is_student=bool(config.teacher),
        branches=branches,
        dtype=dtype,
    )


def _neural_scorer(
    config: TrainConfig, number: int, vocabulary_size: int, dtype: keras.DTypePolicy
) -> NeuralScorer:
    """Makes the neural scorer with this number."""
    return NeuralScorer(
        config.encoders[number],
        vocabulary_size=vocabulary_size,
        embedding_dim=config.embedding_dim,
        embedding_rate=config.embedding_rate,
        units=config.units,
        longest=config.encoder_length,
        window=config.window,
        word_dropout=config.word_dropout,
        dropout=config.dropout,
        seed=derive_seed(config.seed, f"encoder_{number}"),
        dtype=dtype,
    )


def _learning_rate(
    config: TrainConfig, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.decay == "linear":
        rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, _LAST_RATE * rate)
    if config.decay == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=_LAST_RATE)
    return _WarmUp(rate, config.warmup_steps) if config.warmup_steps else rate


class _SumsGiven:
    """Makes an optimizer take gradients that are already sums over all replicas.

    Keras' own adds them up after clipping each replica's; a sum is to be clipped as it would be of
    one replica. The method is not public: see `_check_sums`.
    """

    def _all_reduce_sum_gradients(
        self, grads_and_vars: list[tuple[tf.Tensor, tf.Variable]]
    ) -> list[tuple[tf.Tensor, tf.Variable]]:
        return grads_and_vars


class _Adam(_SumsGiven, keras.optimizers.Adam):
    """Adam on sums of gradients."""


class DescentOnSums(_SumsGiven, keras.optimizers.SGD):
    """Gradient descent on sums of gradients; unlike Adam's, its step is proportional to them."""


def _check_sums() -> None:
    """With several replicas, checks an optimizer by a step of known length.

    If `_SumsGiven` overrode nothing in another version of Keras, the sums would be added up again:
    all gradients would be too large by a factor of the number of replicas, without an error.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return
    variable, optimizer = keras.Variable(1.0), DescentOnSums(learning_rate=1.0)
    optimizer.build([variable])
    strategy.run(tf.function(lambda: optimizer.apply([tf.ones([])], [variable])))
    if variable.numpy() != 0.0:
        raise RunError(
            f"Keras {keras.__version__} adds up gradients over replicas in another way than this "
            "program expects; install the version that setup.cfg names, or use --distribute=none"
        )


class _WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Multiplies a learning rate by 1/n, 2/n … 1 in its first n steps; Keras has it for cosine."""

    def __init__(
        self, rate: float | keras.optimizers.schedules.LearningRateSchedule, steps: int
    ) -> None:
        self._rate, self._steps = rate, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate <float32>[] after `step` steps."""
        rate = self._rate(step) if callable(self._rate) else self._rate
        return rate * tf.minimum((tf.cast(step, tf.float32) + 1) / self._steps, 1.0)
