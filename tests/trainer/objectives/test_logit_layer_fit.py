"""The last layer of a frozen encoder, fitted by logistic regression."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model.labels import exact_probabilities
from pipeline.examples import Examples
from trainer.objectives import logit_layer_fit
from trainer.objectives.logit_layer_fit import fit_logit_layer

COUNT, SIZE = 400, 6


def make_examples(labels, offsets=None, buckets=None):
    count = len(labels)
    if buckets is None:
        buckets = np.arange(count)
    lengths, starts = np.ones(count, np.int32), np.zeros(count, np.int64)
    return Examples(None, starts, lengths, labels, buckets.astype(np.uint16), offsets)


def make_data(classes, seed=0):
    """Vectors of different scales, and labels that depend on them."""
    random = np.random.default_rng(seed)
    vectors = random.normal(3, [1, 2, 0.1, 5, 1, 1], (COUNT, SIZE)).astype(np.float32)
    scores = (vectors - 3) / [1, 2, 0.1, 5, 1, 1] @ random.normal(size=(SIZE, classes))
    return vectors, (scores + random.gumbel(size=scores.shape)).argmax(axis=1).astype(np.int32)


def make_layer(units):
    layer = keras.layers.Dense(units)
    layer.build((None, SIZE))
    return layer


@pytest.mark.parametrize("classes", [2, 4])
def test_the_fit_is_that_of_scikit_learn(classes, monkeypatch):
    monkeypatch.setattr(logit_layer_fit, "_PENALTIES", (0.01,))
    vectors, labels = make_data(classes)
    layer = make_layer(1 if classes == 2 else classes)
    fit_logit_layer(layer, vectors, make_examples(labels))
    scaled = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    reference = LogisticRegression(C=1 / (0.01 * COUNT), max_iter=1000).fit(scaled, labels)
    found = exact_probabilities(layer(vectors).numpy())
    np.testing.assert_allclose(found, reference.predict_proba(scaled), atol=5e-3)


def test_cross_fitted_logits_are_out_of_sample(monkeypatch):
    """Labels by chance: the fit has learned them, and cross-fitted logits do not know them."""
    monkeypatch.setattr(logit_layer_fit, "_PENALTIES", (1e-4,))
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 40)).astype(np.float32)
    labels = random.integers(0, 2, 60).astype(np.int32)
    layer = keras.layers.Dense(1)
    layer.build((None, 40))
    cross_fitted = fit_logit_layer(layer, vectors, make_examples(labels))
    own = ((layer(vectors).numpy()[:, 0] > 0) == labels).mean()
    assert own > 0.9 > 0.7 > ((cross_fitted[:, 0] > 0) == labels).mean()


def test_copies_of_a_text_are_in_one_fold():
    """Otherwise the label of a copy would be known."""
    random = np.random.default_rng(0)
    vectors = np.repeat(random.normal(size=(50, 60)).astype(np.float32), 2, axis=0)
    labels = np.repeat(random.integers(0, 2, 50).astype(np.int32), 2)
    layer = keras.layers.Dense(1)
    layer.build((None, 60))
    buckets = np.repeat(random.permutation(2**16)[:50], 2)
    cross_fitted = fit_logit_layer(layer, vectors, make_examples(labels, buckets=buckets))
    assert ((cross_fitted[:, 0] > 0) == labels).mean() < 0.75


def test_offsets_are_added_to_the_logits():
    """What the offsets explain already is not learned again."""
    vectors, labels = make_data(2)
    alone, beside = make_layer(1), make_layer(1)
    fit_logit_layer(alone, vectors, make_examples(labels))
    offsets = alone(vectors).numpy()
    logits = fit_logit_layer(beside, vectors, make_examples(labels, offsets))
    assert np.abs(beside(vectors)).mean() < 0.1 * np.abs(offsets).mean()
    np.testing.assert_allclose(logits, offsets, atol=0.5)


def test_soft_labels_and_class_weights():
    vectors, labels = make_data(2)
    soft, hard, weighted = make_layer(1), make_layer(1), make_layer(1)
    fit_logit_layer(hard, vectors, make_examples(labels))
    fit_logit_layer(soft, vectors, make_examples(labels[:, np.newaxis].astype(np.float32)))
    np.testing.assert_allclose(soft(vectors), hard(vectors), atol=1e-4)
    fit_logit_layer(weighted, vectors, make_examples(labels), np.array([1.0, 5.0], np.float32))
    assert (weighted(vectors) - hard(vectors)).numpy().mean() > 0.5
