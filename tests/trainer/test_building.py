"""Settings of the optimizer and the loss."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from trainer.building import build_model, build_optimizer, total_steps
from trainer.config import TrainConfig

RATE = 0.01
SMALL = {"units": 4, "embedding_dim": 4, "learning_rate": RATE, "dropout": 0.0}
TOKEN_IDS = tf.constant([[2, 3, 4], [5, 6, 0], [7, 0, 0], [4, 3, 2]])
LABELS = tf.constant([0.0, 1.0, 1.0, 0.0])


def made(**settings):
    config = TrainConfig(**{**SMALL, **settings})
    model = build_model(config, 10, 2, "float32")
    return config, model, build_optimizer(config, model, steps=100)


def weights_of(model):
    return [weight.numpy() for weight in model.trainable_variables]


@pytest.mark.parametrize(("decay", "after"), [("none", 1.0), ("linear", 0.505)])
def test_the_learning_rate_rises_before_it_falls(decay, after):
    *_, optimizer = made(warmup=0.04, decay=decay)
    rates = []
    for step in (0, 1, 3, 50):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate) / RATE)
    assert rates == pytest.approx([0.25, 0.5, 1.0, after], rel=0.03)


def test_a_run_without_steps_may_have_a_schedule():
    config, model, _ = made(decay="linear", warmup=0.1)
    assert float(build_optimizer(config, model, steps=0).learning_rate) == pytest.approx(RATE)


def test_few_examples_get_more_epochs():
    config = TrainConfig(batch_size=10, epochs=2, min_steps=50)
    assert total_steps(config, 1_000) == 200
    assert total_steps(config, 95) == 50  # 5 epochs of 10 steps
    assert total_steps(config, 65) == 56  # 8 epochs of 7 steps
    assert total_steps(dataclasses.replace(config, max_steps=30), 95) == 30


def test_weight_decay_takes_off_its_share_of_all_but_biases():
    _, model, optimizer = made(weight_decay=0.1)
    before = weights_of(model)
    optimizer.apply([tf.zeros_like(weight) for weight in before], model.trainable_variables)
    for weight, old in zip(model.trainable_variables, before, strict=True):
        kept = 1.0 if "bias" in weight.name else 1 - RATE * 0.1
        np.testing.assert_allclose(weight.numpy(), kept * old, rtol=1e-6)
