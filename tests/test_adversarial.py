"""The losses of adversarial training are worse than those of chance, and learned without labels."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import Mistake
from tests.test_checkpoints import StopAfter, same, variables
from tests.test_model import make, reviews
from tests.test_teacher import make as make_run
from trainer import run as runs
from trainer.adversarial import adversarial_losses, virtual_adversarial_losses
from trainer.stopping import Stopped, StopSignals

SEED = tf.constant([1, 2], tf.int64)
LABELS = tf.constant([0.0, 1.0] * 8)


@pytest.fixture
def part():
    (part,) = make("pooled_lstm", units=8).parts
    for variable in (part.embedding.embeddings, part.logit.kernel):
        variable.assign(variable * 20)  # as large as in a trained model
    return part


def at_random(part, token_ids, size, seed):
    """The logits where all vectors of a review are moved by as much, in a random direction."""
    embedded, lengths = part.embed(token_ids, training=True)
    is_token = tf.sequence_mask(lengths, tf.shape(embedded)[1], dtype=tf.float32)[..., tf.newaxis]
    step = tf.random.stateless_normal(tf.shape(embedded), [seed, 0]) * is_token
    norms = tf.norm(embedded * is_token, axis=[1, 2], keepdims=True)
    scale = norms / tf.sqrt(tf.reduce_sum(is_token, axis=1, keepdims=True))
    step *= size * scale / tf.norm(step, axis=[1, 2], keepdims=True)
    return part.score(embedded + step, lengths, training=True)


def cross_entropies(labels, logits):
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits).numpy()


def test_no_random_step_of_the_size_hurts_as_much(part):
    token_ids = reviews(16, 30).to_tensor(shape=[None, 40])
    found = adversarial_losses(part, token_ids, LABELS, size=0.1).numpy()
    clean = cross_entropies(LABELS, part(token_ids, training=True))
    assert (found > clean).all()
    for seed in range(10):
        assert (found > cross_entropies(LABELS, at_random(part, token_ids, 0.1, seed))).all()


def test_virtual_finds_what_turns_the_answer(part):
    token_ids = reviews(16, 30).to_tensor(shape=[None, 40])
    found = virtual_adversarial_losses(part, token_ids, size=0.1, seed=SEED).numpy()
    clean = part(token_ids, training=True)
    answer = tf.sigmoid(clean)
    entropy = cross_entropies(answer, clean)
    turned = [
        cross_entropies(answer, at_random(part, token_ids, 0.1, seed)) - entropy
        for seed in range(10)
    ]
    assert (found > 0).all()
    assert found.mean() > 3 * np.mean(turned)


@pytest.mark.parametrize("kind", ["adversarial", "virtual"])
def test_a_larger_step_hurts_more_and_padding_does_not(part, kind):
    def losses(size, width):
        token_ids = reviews(16, 30).to_tensor(shape=[None, width])
        if kind == "adversarial":
            return adversarial_losses(part, token_ids, LABELS, size=size).numpy()
        return virtual_adversarial_losses(part, token_ids, size=size, seed=SEED).numpy()

    assert losses(0.2, 30).mean() > losses(0.1, 30).mean()
    if kind == "adversarial":  # virtual draws other numbers for another shape
        np.testing.assert_allclose(losses(0.1, 30), losses(0.1, 50), rtol=1e-3)


@pytest.fixture(scope="module", params=["adversarial", "virtual"])
def config(request, small_config):
    return dataclasses.replace(
        small_config, encoder="pooled_lstm", units=8, adversarial=request.param
    )


def test_a_stopped_run_ends_in_the_same_bits(config, tmp_path, monkeypatch):
    whole = make_run(config, tmp_path / "whole")
    is_virtual = config.adversarial == "virtual"
    labels = set(whole._training.labels.tolist())
    assert labels == ({-1.0, 0.0, 1.0} if is_virtual else {0.0, 1.0})
    whole.fit(tmp_path / "whole", stop=StopSignals())
    monkeypatch.setattr("trainer.trainer._SECONDS_A_CALL", 1e-9)  # a check after each step
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        make_run(config, folder).fit(folder, stop=StopAfter(6))
    resumed = make_run(config, folder, record=runs.RunRecord.read(folder))
    assert int(resumed.state.step) > 0
    resumed.fit(folder, stop=StopSignals())
    assert same(variables(resumed.state), variables(whole.state))


def test_a_review_without_a_label_has_no_other_loss(small_config, tmp_path):
    config = dataclasses.replace(small_config, encoder="pooled_lstm", units=8, ngrams=2)
    objective = make_run(config, tmp_path)._objective
    token_ids = reviews(16, 30).to_tensor()
    some = tf.where(tf.range(16) % 4 > 0, -1.0, LABELS)
    losses, told = objective.losses(token_ids, some, tf.constant(0, tf.int64))
    metrics, expected = objective.new_metrics(), [part.numpy()[some.numpy() >= 0] for part in told]
    metrics.update(*told)
    assert len(expected[0]) == 4
    assert metrics.result()["loss"] == pytest.approx(expected[2].mean(), rel=1e-6)
    assert metrics.result()["accuracy"] == ((expected[1] > 0) == expected[0]).mean()
    losses = losses.numpy().reshape(16, 2)  # reviews x parts
    assert (losses[some.numpy() < 0] == 0).all()
    assert (losses[some.numpy() >= 0] > 0).all()


def test_nothing_to_move_is_refused(small_config):
    with pytest.raises(Mistake, match="--encoder=none has none"):
        dataclasses.replace(small_config, encoder="none", ngrams=2, adversarial="virtual")
