"""Classes as numbers: targets, losses and probabilities of two and of many classes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from model.labels import (
    count_logits,
    cross_entropies,
    exact_probabilities,
    from_targets,
    predict_classes,
    to_probabilities,
    to_targets,
)


def drawn(classes, count=300, scale=3.0):
    random = np.random.default_rng(classes)
    logits = random.normal(0, scale, [count, count_logits(classes)]).astype(np.float32)
    return logits, random.integers(0, classes, count).astype(np.int32)


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_losses_and_probabilities_are_those_of_scikit_learn(classes):
    logits, labels = drawn(classes)
    probabilities = to_probabilities(tf.constant(logits)).numpy()
    exact = logits.astype(float)
    expected = np.concatenate([expit(-exact), expit(exact)], axis=1)
    if classes > 2:
        expected = softmax(exact, axis=1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(exact_probabilities(logits), expected, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    losses = cross_entropies(to_targets(tf.constant(labels), logits.shape[1]), logits)
    reference = log_loss(labels, expected, labels=range(classes))
    assert float(tf.reduce_mean(losses)) == pytest.approx(reference, rel=1e-5)
    assert (predict_classes(logits) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("value", [-1e4, 1e4])
@pytest.mark.parametrize("classes", [2, 3])
def test_large_logits_have_finite_probabilities(classes, value):
    logits = np.zeros([1, count_logits(classes)], np.float32)
    logits[0, 0] = value
    for found in (exact_probabilities(logits), to_probabilities(tf.constant(logits)).numpy()):
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1)


@given(st.integers(2, 30), st.lists(st.integers(0, 29), min_size=1, max_size=20))
def test_targets_contain_the_labels(classes, labels):
    labels = np.array(labels, np.int32) % classes
    targets = to_targets(tf.constant(labels), count_logits(classes))
    assert from_targets(targets).numpy().tolist() == labels.tolist()
    np.testing.assert_array_equal(to_targets(targets, count_logits(classes)), targets)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_missing_label_has_a_finite_target(classes):
    targets = to_targets(tf.constant([-1, -2]), count_logits(classes)).numpy()
    assert ((targets >= 0) & (targets <= 1)).all()
