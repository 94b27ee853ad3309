"""NgramScorer: Naive-Bayes ratios and hashed n-grams."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit
from sklearn.feature_extraction.text import CountVectorizer

from model.ngrams import MIN_COUNT, RARE_WEIGHT, NgramScorer, ngram_features
from tests.helpers import NGRAM_LABELS, make_adapted_classifier, make_classifier, random_token_ids


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_ratios_equal_naive_bayes(longest):
    """The reference counts n-grams with scikit-learn and applies Bayes' rule.

    P(label 1 | n-gram) is shrunk towards the share of label 1, by 2 examples that have that share.
    """
    token_ids = random_token_ids(40, 30)
    model = make_adapted_classifier(longest, token_ids)
    model.scorers[0].importance.assign(tf.fill(model.scorers[0].importance.shape, 1 / 7))
    texts = [" ".join(f"w{id}" for id in row) for row in token_ids.to_list()]
    counter = CountVectorizer(binary=True, ngram_range=(1, longest), token_pattern=r"\S+")
    present = counter.fit_transform(texts).toarray()
    counts = np.stack([present[label == NGRAM_LABELS].sum(axis=0) for label in (0, 1)])
    prior = NGRAM_LABELS.mean()
    posteriors = (counts[1] + 2 * prior) / (counts.sum(axis=0) + 2)
    weights = np.where(counts.sum(axis=0) < MIN_COUNT, RARE_WEIGHT, 1)
    expected = logit(prior) + present @ (weights * (logit(posteriors) - logit(prior)))
    np.testing.assert_allclose(model(token_ids.to_tensor())[:, 0], expected, atol=0.01)
    assert np.std(expected) > 1
    assert 0 < np.mean(weights == RARE_WEIGHT) < 1 or longest == 1


def counted(rows, labels):
    """Returns an n-gram scorer that has counted the single tokens of these rows."""
    (scorer,) = make_classifier(ngrams=1).scorers
    scorer.adapt([(tf.ragged.constant(rows, tf.int32).to_tensor(), np.array(labels, np.float32))])
    return scorer


def ratio_of(scorer, token_id):
    _, (feature,) = ngram_features(tf.constant([[token_id]]), 1)
    return float(scorer.ratios.numpy()[feature])


def rows_with(counts, sizes):
    """Makes `sizes` examples of each label, of which `counts` have each token, and their labels.

    Args:
        counts: By token id, the number of examples of either label that have it.
        sizes: Of the labels.
    """
    rows, labels = [], []
    for label, size in enumerate(sizes):
        for place in range(size):
            rows.append([1, *(token for token, of in counts.items() if place < of[label])])
            labels.append(label)
    return rows, labels


@pytest.mark.parametrize("sizes", [(100, 900), (900, 100), (500, 500)])
def test_an_ngram_equally_frequent_in_both_classes_has_ratio_zero(sizes):
    """Smoothing must not move rare n-grams towards the smaller class."""
    shares = {2: 0.01, 3: 0.05, 4: 0.2, 5: 1.0}
    neutral = {token: [round(share * size) for size in sizes] for token, share in shares.items()}
    scorer = counted(*rows_with(neutral, sizes))
    for token in (1, *neutral):
        assert ratio_of(scorer, token) == pytest.approx(0, abs=1e-3), token
    assert float(scorer.bias) == pytest.approx(np.log(sizes[1] / sizes[0]), abs=1e-6)


def test_ratios_of_balanced_classes_equal_add_one_smoothing():
    counts = {2: (0, 5), 3: (7, 2), 4: (30, 29), 5: (0, 50), 6: (1, 0)}
    scorer = counted(*rows_with(counts, (50, 50)))
    for token, (negative, positive) in counts.items():
        expected = np.log((positive + 1) / (negative + 1))
        assert ratio_of(scorer, token) == pytest.approx(expected, abs=2e-3)
    assert float(scorer.bias) == 0


def test_swapped_classes_swap_the_signs_of_ratios():
    counts, sizes = {2: (3, 40), 3: (10, 1), 4: (0, 9), 5: (2, 0)}, (20, 180)
    scorer = counted(*rows_with(counts, sizes))
    swapped = counted(*rows_with({token: of[::-1] for token, of in counts.items()}, sizes[::-1]))
    for token in counts:
        assert ratio_of(scorer, token) == pytest.approx(-ratio_of(swapped, token), abs=2e-3)
        assert abs(ratio_of(scorer, token)) > 0.1
    assert float(scorer.bias) == pytest.approx(-float(swapped.bias))


@pytest.mark.parametrize("label", [0, 1])
def test_examples_of_one_class_give_zero_ratios(label):
    scorer = counted([[1, 2], [2, 3], [2]], [label] * 3)
    assert not scorer.ratios.numpy().any()
    assert float(scorer.bias) == 0


@pytest.mark.parametrize("longest", [1, 3])
def test_padding_batch_mates_and_branches_change_no_logit(longest):
    token_ids = random_token_ids(40, 30)
    model = make_adapted_classifier(longest, token_ids)
    together = model(token_ids.to_tensor(shape=[None, 48])).numpy()
    alone = np.concatenate([model(row[tf.newaxis]) for row in token_ids])
    np.testing.assert_allclose(together, alone, atol=1e-4, rtol=1e-5)
    assert together.std() > 1


def test_an_ngram_counts_once_per_example_and_word_order_matters():
    def features(*ids):
        rows, found = ngram_features(tf.constant([ids]), 2)
        assert (rows.numpy() == 0).all()
        assert len(set(found.numpy())) == len(found)
        return set(found.numpy())

    assert len(features(5)) == 1
    assert len(features(5, 6)) == 3
    assert features(5, 6, 5, 6, 0, 0) == features(5, 6) | features(6, 5)
    assert features(5, 6) != features(6, 5)


def test_hashing_loses_few_ngrams():
    """With a small vocabulary."""
    ids = np.random.default_rng(0).integers(1, 10_000, [64, 200])
    _, features = ngram_features(tf.constant(ids, tf.int32), 2)
    different = len(set(zip(ids[:, :-1].ravel(), ids[:, 1:].ravel(), strict=True))) + len(
        set(ids.ravel())
    )
    assert len(set(features.numpy())) > 0.995 * different


@pytest.mark.slow
def test_logits_are_the_mean_of_the_scorers():
    token_ids = random_token_ids(40, 30)
    both = make_adapted_classifier(2, token_ids, "stacked_lstm")
    wide = make_adapted_classifier(2, token_ids)
    deep = make_classifier("stacked_lstm")
    padded = token_ids.to_tensor()
    mean = (wide(padded) + deep(padded)) / 2
    np.testing.assert_allclose(both(padded), mean, atol=1e-4, rtol=1e-5)


def test_ratios_of_many_classes_equal_naive_bayes_of_one_class_against_the_rest():
    token_ids, labels = random_token_ids(60, 30), np.arange(60, dtype=np.int32) % 4
    labels[labels == 3] = np.where(np.arange(15) < 5, 3, 0)  # the classes differ in size
    scorer = NgramScorer(1, 4)
    scorer.build((None, None))
    scorer.adapt([(token_ids.to_tensor(), labels)])
    sizes = np.bincount(labels)
    np.testing.assert_allclose(scorer.bias, np.log(sizes / 60), rtol=1e-5)
    ratios = scorer.ratios.numpy()
    present = np.array([[id in row for id in range(50)] for row in token_ids.to_list()])
    for label in range(4):
        is_class = labels == label
        total = present[:, 1:].sum()  # of all n-grams; token id 0 is padding
        share = present[is_class, 1:].sum() / total
        inside = present[is_class].sum(axis=0) + 2 * share
        outside = present[~is_class].sum(axis=0) + 2 * (1 - share)
        expected = np.log(inside / outside) - np.log(share / (1 - share))
        for token_id in range(1, 50):
            _, (feature,) = ngram_features(tf.constant([[token_id]]), 1)
            ratio = float(ratios[feature % len(ratios), label])
            assert ratio == pytest.approx(expected[token_id], abs=2e-3)


def test_a_class_without_examples_has_no_ratios_and_finite_logits():
    scorer = NgramScorer(1, 3)
    scorer.build((None, None))
    scorer.adapt([(tf.constant([[5, 6], [7, 8]]), np.array([0, 2], np.int32))])
    assert (scorer.ratios.numpy()[:, 1] == 0).all()
    logits = scorer(tf.constant([[5, 6]])).numpy()
    assert np.isfinite(logits).all()
    assert logits.argmin() == 1


@pytest.mark.parametrize("classes", [3, 5, 100, 1000])
def test_tables_of_many_classes_are_bounded(classes):
    """With both moments of Adam, at most 256 MB."""
    scorer = NgramScorer(3, classes)
    logits = classes
    ratios = 2 * scorer._ratio_buckets * logits + scorer._ratio_buckets
    assert ratios + 3 * 4 * scorer._weight_buckets * logits < 256e6
