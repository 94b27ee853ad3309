"""How settings reach the optimizer and the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.building import build_model, build_objective, build_optimizer
from trainer.config import TrainConfig
from trainer.runtime.replicas import one_replica

RATE = 0.01
SMALL = {"units": 4, "embedding_dim": 4, "learning_rate": RATE, "dropout": 0.0}
TOKEN_IDS = tf.constant([[2, 3, 4], [5, 6, 0], [7, 0, 0], [4, 3, 2]])
LABELS = tf.constant([0.0, 1.0, 1.0, 0.0])


def made(**settings):
    config = TrainConfig(**{**SMALL, **settings})
    model = build_model(config, 10, "float32")
    return config, model, build_optimizer(config, model, steps=100)


def take_step(config, model, optimizer, token_ids=TOKEN_IDS, labels=LABELS):
    with tf.GradientTape() as tape:
        losses, _ = build_objective(config, model, one_replica()).losses(
            token_ids, labels, tf.constant(0)
        )
        loss = tf.reduce_mean(losses)
    gradients = map(tf.convert_to_tensor, tape.gradient(loss, model.trainable_variables))
    optimizer.apply(list(gradients), model.trainable_variables)


def weights_of(model):
    return [weight.numpy() for weight in model.trainable_variables]


@pytest.mark.parametrize(("decay", "after"), [("none", 1.0), ("linear", 0.505), ("cosine", 0.505)])
def test_the_learning_rate_rises_before_it_falls(decay, after):
    *_, optimizer = made(warmup_steps=4, decay=decay)
    rates = []
    for step in (0, 1, 3, 50):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate) / RATE)
    assert rates == pytest.approx([0.25, 0.5, 1.0, after], rel=0.03)


def test_weight_decay_takes_off_its_share_of_all_but_biases():
    _, model, optimizer = made(weight_decay=0.1)
    before = weights_of(model)
    optimizer.apply([tf.zeros_like(weight) for weight in before], model.trainable_variables)
    for weight, old in zip(model.trainable_variables, before, strict=True):
        kept = 1.0 if "bias" in weight.name else 1 - RATE * 0.1
        np.testing.assert_allclose(weight.numpy(), kept * old, rtol=1e-6)


def test_label_smoothing_is_that_of_keras_and_what_is_measured_is_not_smoothed():
    config, model, _ = made(label_smoothing=0.2)
    losses, (_, logits, measured) = build_objective(config, model, one_replica()).losses(
        TOKEN_IDS, LABELS, tf.constant(0)
    )
    for share, ours in ((0.2, losses), (0.0, measured)):
        theirs = keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=share, reduction=None
        )(LABELS[:, tf.newaxis], logits[:, tf.newaxis])
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_gradients_of_two_batches_make_the_step_of_one_twice_as_large():
    config, model, optimizer = made(gradient_accumulation=2)
    before = weights_of(model)
    take_step(config, model, optimizer, TOKEN_IDS[:2], LABELS[:2])
    for weight, old in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    take_step(config, model, optimizer, TOKEN_IDS[2:], LABELS[2:])
    config, at_once, optimizer = made()
    take_step(config, at_once, optimizer)
    for weight, expected in zip(weights_of(model), weights_of(at_once), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-4)  # Adam divides by small numbers
        assert np.abs(weight).max() > 0


def test_the_model_that_is_kept_has_the_average_of_the_weights():
    config, model, optimizer = made(ema=0.5)
    average = None
    for _ in range(3):
        take_step(config, model, optimizer)
        now = weights_of(model)
        average = (
            now
            if average is None
            else [0.5 * old + 0.5 * new for old, new in zip(average, now, strict=True)]
        )
    optimizer.finalize_variable_values(model.trainable_variables)
    for weight, expected in zip(weights_of(model), average, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)
