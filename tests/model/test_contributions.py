"""Contributions of tokens add up to the logit."""

import functools
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from model import ENCODERS
from tests.helpers import adapt_randomly, make_adapted_classifier, make_classifier, random_token_ids
from trainer.building import build_model
from trainer.config import TrainConfig


def check_complete(model, token_ids, *, tolerance, direction=(1.0,)):
    weights, baseline = model.contributions(token_ids, tf.constant(direction))
    assert weights.shape == token_ids.shape
    logit = float(tf.tensordot(model(token_ids[tf.newaxis])[0], tf.constant(direction), axes=1))
    assert float(tf.reduce_sum(weights) + baseline) == pytest.approx(logit, abs=tolerance)
    return np.abs(weights).max()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_of_a_network_add_up_to_its_logit(encoder):
    """The axiom of completeness, for logits as large as those of a trained network."""
    model = make_classifier(encoder)
    (scorer,) = model.neural_scorers
    for variable in (scorer.embedding.embeddings, scorer.logit.kernel):
        variable.assign(variable * 20)
    model.temperature.assign(0.7)
    for token_ids in random_token_ids(5, 60):
        assert check_complete(model, token_ids, tolerance=1e-3) > 0.01


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_weights_of_ngrams_add_up_to_their_logit(longest):
    counted = random_token_ids(40, 30)
    model = make_adapted_classifier(longest, counted)
    for token_ids in counted[:10]:
        assert check_complete(model, token_ids, tolerance=3e-5) > 0.01
    for few in ([7], [7, 7, 7], [3, 3]):
        check_complete(model, tf.constant(few), tolerance=3e-5)


@pytest.mark.slow
def test_contributions_of_an_ensemble_are_the_mean_of_its_scorers():
    counted = random_token_ids(40, 30)
    model = make_adapted_classifier(2, counted, "pooled_lstm", "stacked_lstm")
    for token_ids in counted[:5]:
        assert check_complete(model, token_ids, tolerance=1e-3) > 0.01


def test_the_weight_of_a_token_among_ngrams_is_its_shapley_value():
    """The reference averages what a token adds over all orders of the tokens.

    The norm of the text is that of all its tokens.
    """
    token_ids = [5, 9, 4, 11]
    model = make_adapted_classifier(3, tf.ragged.constant([token_ids], tf.int32))
    scorer = model.ngram_scorer

    def norm(ids):
        _, scales = scorer._look_up(scorer.find_rows(tf.constant([ids]))[1])
        return float(tf.norm(scales))

    def score(present):  # of the n-grams whose tokens are all present
        ngrams = [
            places
            for size in (1, 2, 3)
            for places in ([*range(i, i + size)] for i in range(5 - size))
            if set(places) <= set(present)
        ]
        return sum(alone(tuple(token_ids[place] for place in places)) for places in ngrams)

    @functools.cache
    def alone(ngram):  # its score without the scores of the shorter n-grams in it
        whole = float(scorer(tf.constant([ngram]))[0, 0] - scorer.bias[0]) * norm(ngram)
        shorter = {ngram[i:j] for i, j in itertools.combinations(range(len(ngram) + 1), 2)}
        return whole - sum(map(alone, shorter - {ngram}))

    shares = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for number, token in enumerate(order):
            shares[token] += score(order[: number + 1]) - score(order[:number])
    weights, _ = scorer.contributions(tf.constant(token_ids), tf.constant([1.0]))
    expected = shares / math.factorial(4) / norm(token_ids)
    np.testing.assert_allclose(weights, expected, atol=1e-4)


def test_tokens_outside_the_window_have_no_weight():
    model = make_classifier("pooled_lstm", encoder_length=5)
    weights, _ = model.contributions(tf.range(2, 14), tf.constant([1.0]))
    assert (weights[:-5].numpy() == 0).all()
    assert (weights[-5:].numpy() != 0).all()


@pytest.mark.parametrize("direction", [(0.0, 1.0, -1.0, 0.0), (1.0, 0.0, 0.0, 0.0)])
@pytest.mark.parametrize("encoders", [(), ("pooled_lstm",)])
def test_contributions_of_many_classes_add_up(encoders, direction):
    counted = random_token_ids(40, 30)
    config = TrainConfig(encoder=",".join(encoders) or "none", ngrams=2, embedding_dim=12)
    model = build_model(config, 50, 4, "float32")
    adapt_randomly(model.ngram_scorer, counted)
    for token_ids in counted[:5]:
        assert check_complete(model, token_ids, tolerance=1e-3, direction=direction) > 0.01
