"""NgramScorer: a linear model of hashed n-grams."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.feature_extraction.text import CountVectorizer

from model.ngrams import NgramScorer, find_ngrams
from tests.helpers import make_adapted_classifier, make_classifier, random_token_ids

BITS = 24


def find(token_ids, max_tokens):
    return find_ngrams(token_ids, max_tokens, BITS)


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_logits_are_those_of_a_linear_model_of_normalized_ngrams(longest):
    """The reference finds n-grams with scikit-learn."""
    token_ids = random_token_ids(40, 30)
    texts = [" ".join(map(str, row)) for row in token_ids.to_list()]
    counter = CountVectorizer(binary=True, ngram_range=(1, longest), token_pattern=r"\S+")
    present = counter.fit_transform(texts).toarray()
    ngrams = [[*map(int, name.split())] for name in counter.get_feature_names_out()]
    # An n-gram's row: the last hash of its text, which is not that of a shorter n-gram.
    rows = np.array([find(tf.constant([ids]), len(ids))[1].numpy()[-1] for ids in ngrams])
    assert len(set(rows.tolist())) == len(rows)
    random = np.random.default_rng(0)
    weights, scales = random.normal(size=len(rows)), random.uniform(0.5, 2, len(rows))
    scales[::5] = 0.0  # unknown n-grams
    scores = weights * scales
    model = make_classifier(ngrams=longest)
    model.ngram_scorer.assign(rows, scores[:, None], scales[:, None], np.array([0.3]))
    values = present * scales
    expected = 0.3 + values @ weights / np.linalg.norm(values, axis=1)
    np.testing.assert_allclose(model(token_ids.to_tensor())[:, 0], expected, atol=2e-3)
    assert np.std(expected) > 0.5


@pytest.mark.parametrize("longest", [1, 3])
def test_padding_batch_mates_and_branches_change_no_logit(longest):
    token_ids = random_token_ids(40, 30)
    model = make_adapted_classifier(longest, token_ids)
    together = model(token_ids.to_tensor(shape=[None, 48])).numpy()
    alone = np.concatenate([model(row[tf.newaxis]) for row in token_ids])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)
    assert together.std() > 0.5


def test_a_text_without_known_ngrams_has_the_bias_as_its_logit():
    model = make_adapted_classifier(1, tf.ragged.constant([[5], [6]], tf.int32))
    (bias,) = model.ngram_scorer.bias.numpy()
    logits = model(tf.constant([[7, 0], [5, 8], [1, 1]])).numpy()[:, 0]
    assert logits[0] == logits[2] == bias
    assert logits[1] != bias


def test_an_ngram_counts_once_per_example_and_word_order_matters():
    def ngrams(*ids):
        rows, found = find(tf.constant([ids]), 2)
        assert (rows.numpy() == 0).all()
        assert len(set(found.numpy())) == len(found)
        return set(found.numpy())

    assert len(ngrams(5)) == 1
    assert len(ngrams(5, 6)) == 3
    assert ngrams(5, 6, 5, 6, 0, 0) == ngrams(5, 6) | ngrams(6, 5)
    assert ngrams(5, 6) != ngrams(6, 5)


@pytest.mark.parametrize("bits", [4, 12])
def test_with_few_bits_no_text_has_a_row_twice(bits):
    ids = tf.constant(np.random.default_rng(0).integers(1, 1000, [8, 100]), tf.int32)
    numbers, rows = (values.numpy() for values in find_ngrams(ids, 3, bits))
    assert 0 <= rows.min() <= rows.max() < 2**bits
    assert len(set(zip(numbers, rows, strict=True))) == len(rows)
    assert (np.diff(numbers) >= 0).all()


def test_hashing_loses_few_ngrams():
    """With a small vocabulary."""
    ids = np.random.default_rng(0).integers(1, 10_000, [64, 200])
    _, found = find(tf.constant(ids, tf.int32), 2)
    different = len(set(zip(ids[:, :-1].ravel(), ids[:, 1:].ravel(), strict=True))) + len(
        set(ids.ravel())
    )
    assert len(set(found.numpy())) > 0.995 * different


@pytest.mark.slow
def test_logits_are_the_weighted_sum_of_the_scorers():
    token_ids = random_token_ids(40, 30)
    both = make_adapted_classifier(2, token_ids, "stacked_lstm")
    wide = make_adapted_classifier(2, token_ids)
    deep = make_classifier("stacked_lstm")
    padded = token_ids.to_tensor()
    expected = 0.8 * wide(padded) + deep(padded)
    np.testing.assert_allclose(both(padded), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 5, 100, 1000])
def test_tables_are_bounded(classes):
    scorer = NgramScorer(3, classes)
    scorer.build((None, None))
    assert scorer.table.dtype == "float16"
    assert 2**25 <= np.prod(scorer.table.shape) <= 2**26
    assert scorer.table.shape[0] == scorer.row_count
    assert not scorer.trainable_variables
