"""The training step: tracing, gradients, learning rate and precision."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from model.labels import to_targets
from pipeline.batches import evaluation_batches, training_batches
from tests.helpers import make_small_loop, take_step
from trainer.evaluation.scoring import Evaluator


def test_a_step_is_traced_once_for_all_lengths(small_config, splits, tmp_path):
    loop = make_small_loop(small_config, splits, tmp_path)
    batches = training_batches(splits[1], batch_size=16, seed=0, epoch=0)
    assert len({token_ids.shape for token_ids, *_ in batches}) > 2
    for count in (1, 2, 5):
        loop.train_step.run(iter(batches), count)
    assert int(loop.state.step) == 8
    assert loop.train_step.run.experimental_get_tracing_count() == 1
    evaluator = Evaluator(loop.state.model)
    evaluator.logits(splits[1])
    evaluator.logits(splits[2])
    evaluator.predict(splits[2])
    assert evaluator.score_step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("decay", "middle", "last"),
    [("none", 1.0, 1.0), ("linear", 0.505, 0.01)],
)
def test_the_learning_rate_falls_until_the_last_step(
    small_config, splits, tmp_path, decay, middle, last
):
    config = dataclasses.replace(small_config, decay=decay, max_steps=20)
    optimizer = make_small_loop(config, splits, tmp_path).state.optimizer
    for step, share in ((0, 1.0), (10, middle), (20, last)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(config.learning_rate * share)


@pytest.mark.slow
def test_steps_have_the_same_bits_in_one_call_or_in_many(small_config, splits, tmp_path):
    batches = training_batches(splits[1], batch_size=16, seed=0, epoch=0)
    weights = []
    for counts in ([6], [1, 3, 2]):
        loop, iterator = make_small_loop(small_config, splits, tmp_path), iter(batches)
        for count in counts:
            loop.train_step.run(iterator, count)
        weights.append([variable.numpy() for variable in loop.state.model.variables])
    for one, many in zip(*weights, strict=True):
        assert (one == many).all()


def test_a_step_follows_the_clipped_gradient_of_the_mean_loss(small_config, splits, tmp_path):
    """The reference is written out: dense gradients, their norm, clipping, Adam's first step."""
    config = dataclasses.replace(small_config, dropout=0.0, clip_norm=0.01)
    loop = make_small_loop(config, splits, tmp_path)
    model = loop.state.model
    token_ids, labels, _ = next(iter(training_batches(splits[1], batch_size=16, seed=0, epoch=0)))
    with tf.GradientTape() as tape:
        targets = to_targets(labels, 1)
        loss = tf.reduce_mean(loop._objective._loss(targets, model(token_ids)))
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    before = [variable.numpy() for variable in model.trainable_variables]
    take_step(loop, token_ids, labels)
    assert float(loop.state.gradient_norm.result()) == pytest.approx(norm, rel=1e-4)
    assert norm > 0.01
    for variable, old, gradient in zip(model.trainable_variables, before, gradients, strict=True):
        clipped = gradient * 0.01 / norm
        # Keras adds epsilon to a root that is not yet corrected for its bias.
        step = config.learning_rate * clipped / (np.abs(clipped) + 1e-7 / np.sqrt(1 - 0.999))
        np.testing.assert_allclose(variable.numpy(), old - step, atol=2e-5)


def test_a_smaller_batch_has_a_proportional_gradient(small_config, splits, tmp_path):
    """Half a batch gives half the gradient of a batch that has each example twice."""
    config = dataclasses.replace(small_config, dropout=0.0)
    token_ids, labels, _ = next(iter(evaluation_batches(splits[1], batch_size=16)))

    def gradient_norm(*batches):
        loop = make_small_loop(config, splits, tmp_path)
        for batch in batches:
            take_step(loop, *batch)
        return float(loop.state.gradient_norm.result())

    twice = gradient_norm((tf.repeat(token_ids[:8], 2, axis=0), tf.repeat(labels[:8], 2)))
    assert gradient_norm((token_ids[:8], labels[:8])) == pytest.approx(twice / 2, rel=1e-4)


@pytest.mark.slow
def test_float16_trains_with_a_loss_scale(small_config, splits, tmp_path):
    batch = next(iter(training_batches(splits[1], batch_size=16, seed=0, epoch=0)))
    norms = []
    for precision in ("float32", "mixed_float16"):
        config = dataclasses.replace(small_config, precision=precision, dropout=0.0)
        loop = make_small_loop(config, splits, tmp_path)
        take_step(loop, *batch[:2])
        norms.append(float(loop.state.gradient_norm.result()))
    assert float(loop.state.optimizer.scale_loss(1.0)) == 2.0**15
    assert norms[1] == pytest.approx(norms[0], rel=0.02)
    assert int(loop.state.optimizer.iterations) == 1
