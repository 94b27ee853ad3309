"""TextClassifier: padding, branches, seeds and precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from model import ENCODERS
from tests.helpers import make_classifier, random_token_ids


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_and_batch_mates_change_no_logit(encoder):
    model, token_ids = make_classifier(encoder), random_token_ids(20, 60)
    (scorer,) = model.neural_scorers
    for variable in (scorer.embedding.embeddings, scorer.logit.kernel):
        variable.assign(variable * 20)  # as large as in a trained model
    together = model(token_ids.to_tensor(shape=[None, 80])).numpy()
    alone = np.concatenate([model(row[tf.newaxis]) for row in token_ids])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.std() > 1e-3  # the logits differ


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_branches_change_no_logit(encoder, count):
    """Also with fewer examples than branches."""
    token_ids = random_token_ids(count, 30).to_tensor()
    model = make_classifier(encoder)
    logits = []
    for branches in (1, 3):
        model._branches = branches
        logits.append(model(token_ids).numpy())
    np.testing.assert_allclose(*logits, atol=1e-6)
    assert logits[0].shape == (count, 1)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_token_counts(encoder):
    model, token_ids = make_classifier(encoder), tf.constant([[5, 6, 7, 8]])
    logit = model(token_ids).numpy()
    for position in range(4):
        changed = tf.tensor_scatter_nd_update(token_ids, [[0, position]], [9])
        assert abs(model(changed).numpy() - logit) > 1e-7


@pytest.mark.parametrize("training", [False, True])
def test_stacked_lstm_equals_masked_keras_lstms_and_their_gradients(training):
    """The reference is the tutorial's Sequential model with masks."""
    model = make_classifier("stacked_lstm")
    reference = keras.Sequential(
        [
            keras.layers.Embedding(50, 12, mask_zero=True),
            keras.layers.LSTM(128, return_sequences=True),
            keras.layers.LSTM(64),
            keras.layers.Dense(1),
        ]
    )
    token_ids = random_token_ids(16, 40).to_tensor(shape=[None, 48])
    labels = tf.constant([[0.0], [1.0]] * 8)
    reference(token_ids)
    reference.set_weights([variable.numpy() for variable in model.trainable_variables])

    def logits_and_gradients(logits_of, variables):
        with tf.GradientTape() as tape:
            logits = logits_of(token_ids)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_mean(losses)
        return [logits, *map(tf.convert_to_tensor, tape.gradient(loss, variables))]

    ours = logits_and_gradients(
        lambda ids: model(ids, training=training), model.trainable_variables
    )
    theirs = logits_and_gradients(lambda ids: reference(ids), reference.trainable_variables)
    assert len(ours) == len(theirs) == 10
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-5)


def test_dropout_acts_only_in_training():
    model, token_ids = (
        make_classifier("stacked_lstm", dropout=0.5),
        random_token_ids(8, 20).to_tensor(),
    )
    assert (model(token_ids).numpy() == model(token_ids).numpy()).all()
    first, second = (model.neural_logits(token_ids).numpy() for _ in range(2))
    assert (first != second).any()


def test_the_seed_determines_weights_and_dropout():
    token_ids = random_token_ids(8, 20).to_tensor()

    def logits(seed):
        model = make_classifier("stacked_lstm", dropout=0.5, seed=seed)
        return model.neural_logits(token_ids).numpy()

    assert (logits(0) == logits(0)).all()
    assert (logits(0) != logits(1)).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_and_weights_are_float32_under_mixed_precision(policy):
    model = make_classifier("stacked_lstm", policy=policy)
    token_ids = random_token_ids(8, 20).to_tensor()
    assert model(token_ids).dtype == tf.float32
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    np.testing.assert_allclose(
        model(token_ids), make_classifier("stacked_lstm")(token_ids), atol=0.02
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gradients_are_close_to_float32_gradients(policy):
    token_ids = random_token_ids(16, 40).to_tensor()

    def gradients(policy):
        model = make_classifier("stacked_lstm", policy=policy)
        with tf.GradientTape() as tape:
            losses = tf.nn.softplus(model.neural_logits(token_ids))
            loss = tf.reduce_sum(losses)
        return map(tf.convert_to_tensor, tape.gradient(loss, model.trainable_variables))

    errors = []
    for ours, exact in zip(gradients(policy), gradients("float32"), strict=True):
        assert ours.dtype == tf.float32
        errors.append(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
    assert 1e-4 < max(errors) < 0.02
