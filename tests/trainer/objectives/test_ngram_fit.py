"""The fit of n-grams: scales, folds, calibration and the choice of settings."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from model.ngrams import NgramScorer
from pipeline.examples import unlabelled_examples
from tests.helpers import random_token_ids
from trainer.evaluation.calibration import fit_factor_and_bias
from trainer.evaluation.metrics import compute_metrics
from trainer.objectives import ngram_fit
from trainer.objectives import ngram_matrix as ngram_matrix_module
from trainer.objectives.ngram_fit import (
    NgramTexts,
    Settings,
    assign_folds,
    fit_ngrams,
    fit_scorer,
)
from trainer.objectives.ngram_matrix import ngram_logits, ngram_matrix

pytestmark = pytest.mark.usefixtures("small_ngram_tables")


def make_texts(sizes, *, seed=0, signal=1.0, ngrams=200):
    """Makes texts of classes with these sizes; `signal` is how much n-grams differ by class."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rates = 0.15 * np.exp(signal * random.normal(size=[len(sizes), ngrams]))
    present = random.random([len(labels), ngrams]) < np.minimum(rates, 0.9)[labels]
    texts = sparse.csr_matrix(present.astype(float))
    return NgramTexts(texts, labels, len(sizes), np.ones(len(labels)))


def halves(data):
    """Divides texts into those to fit and those to test."""
    random = np.random.default_rng(1).random(len(data)) < 0.5
    return data[random], data[~random]


@pytest.mark.parametrize("sizes", [(300, 300), (60, 540), (200, 200, 100, 30)])
def test_a_fit_is_accurate_and_calibrated_on_other_texts(sizes):
    training, test = halves(make_texts([2 * size for size in sizes], signal=0.3))
    fit, cross_fitted = fit_ngrams(training)
    for data, logits in ((training, cross_fitted), (test, fit.logits(test.texts))):
        metrics = compute_metrics(data.labels, logits.astype(np.float32))
        assert metrics["calibration_error"] < 0.06
        assert metrics["auc"] > 0.8
        majority = max(sizes) / sum(sizes)
        assert metrics["accuracy"] > majority + 0.01


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_without_a_signal_the_probabilities_are_the_shares_of_the_classes(share):
    data = make_texts([round(400 * (1 - share)), round(400 * share)], signal=0.0)
    fit, cross_fitted = fit_ngrams(data)
    assert expit(cross_fitted).mean() == pytest.approx(share, abs=0.01)
    assert np.std(expit(fit.logits(data.texts))) < 0.12


def test_scores_are_those_of_logistic_regression_on_normalized_scales():
    data = make_texts([100, 140])
    (fit,) = ngram_fit._fit(data, [Settings(2, 0.3, 10.0)])
    counts = np.asarray(data.texts.sum(axis=0)).ravel()
    positive = np.asarray(data.texts[data.labels == 1].sum(axis=0)).ravel()
    share = positive.sum() / counts.sum()
    posteriors = (positive + 2 * share) / (counts + 2)  # shrunk towards the share
    ratios = logit(posteriors) - logit(share)
    idf = 1 + np.log(241 / (1 + counts))
    scales = np.where(counts >= 2, np.hypot(ratios, 0.3 * idf), 0)
    np.testing.assert_allclose(fit.scales[:, 0], scales)
    values = data.texts.toarray() * scales
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    reference = LogisticRegression(C=10, solver="liblinear", tol=1e-6).fit(values, data.labels)
    expected = reference.decision_function(values)
    np.testing.assert_allclose(fit.logits(data.texts)[:, 0], expected, atol=0.02)


@pytest.mark.parametrize("sizes", [(100, 900), (900, 100), (500, 500)])
def test_an_ngram_equally_frequent_in_both_classes_has_ratio_zero(sizes):
    """Smoothing must not move rare n-grams towards the smaller class."""
    shares = np.array([0.01, 0.05, 0.2, 1.0])
    ratios = ngram_fit._log_ratios(np.round(shares * sum(sizes)), np.round(shares * sizes[1]))
    np.testing.assert_allclose(ratios, 0, atol=1e-12)


def test_swapped_classes_swap_the_signs_of_ratios():
    negative, positive = np.array([3, 10, 0, 2]), np.array([40, 1, 9, 0])
    ratios = ngram_fit._log_ratios(negative + positive, positive)
    np.testing.assert_allclose(ratios, -ngram_fit._log_ratios(negative + positive, negative))
    assert (np.abs(ratios) > 0.1).all()


def test_rare_ngrams_are_left_out():
    data = make_texts([50, 50])
    present = data.texts.tolil()
    present[:, :3] = 0
    present[0, 0] = present[0, 1] = present[1, 1] = 1
    rare = dataclasses.replace(data, texts=present.tocsr())
    (both,) = ngram_fit._fit(rare, [Settings(1, 0.1, 10.0)])
    (common,) = ngram_fit._fit(rare, [Settings(2, 0.1, 10.0)])
    for values in ("scales", "scores"):
        assert (getattr(both, values)[:3, 0] != 0).tolist() == [True, True, False]
        assert (getattr(common, values)[:3, 0] != 0).tolist() == [False, True, False]


def test_folds_have_equal_shares_of_every_class_and_do_not_divide_copies():
    data = make_texts([100, 37, 3])
    doubled = data[np.concatenate([np.arange(140), np.arange(140), np.arange(70)])]
    folds = assign_folds(doubled, 5)
    np.testing.assert_array_equal(folds[:140], folds[140:280])
    np.testing.assert_array_equal(folds[:70], folds[280:])
    for label, size in enumerate([100, 37, 3]):
        counts = np.bincount(folds[:140][data.labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1, (label, size)


def test_cross_fitted_logits_do_not_depend_on_their_own_labels():
    data = make_texts([60, 60])
    folds = assign_folds(data, 5)
    (logits,) = ngram_fit._cross_fit(data, folds, [Settings(1, 0.1, 10.0)])
    flipped = np.where(folds == 2, 1 - data.labels, data.labels)
    (changed,) = ngram_fit._cross_fit(
        dataclasses.replace(data, labels=flipped), folds, [Settings(1, 0.1, 10.0)]
    )
    np.testing.assert_array_equal(logits[folds == 2], changed[folds == 2])
    assert (logits[folds != 2] != changed[folds != 2]).all()


@pytest.mark.parametrize("sizes", [(197, 3), (1, 5), (3, 0), (2, 0, 2), (1, 1)])
def test_tiny_classes_give_finite_logits(sizes):
    data = make_texts(sizes)
    fit, cross_fitted = fit_ngrams(data)
    for logits in (fit.logits(data.texts), cross_fitted):
        assert np.isfinite(logits).all()
        assert logits.shape == (sum(sizes), 1 if len(sizes) == 2 else len(sizes))
    if 0 in sizes:  # a class without examples is not predicted
        missing = sizes.index(0)
        predicted = (fit.logits(data.texts)[:, 0] > 0) if len(sizes) == 2 else None
        assert (
            not predicted.any()
            if len(sizes) == 2
            else (fit.logits(data.texts).argmax(axis=1) != missing).all()
        )


def test_class_weights_shift_the_probabilities():
    data = make_texts([180, 20], signal=0.1)
    plain, _ = fit_ngrams(data)
    weighted, _ = fit_ngrams(dataclasses.replace(data, weights=np.where(data.labels, 9.0, 1.0)))
    means = [expit(fit.logits(data.texts)).mean() for fit in (plain, weighted)]
    assert means[0] < 0.2 < 0.35 < means[1]


def test_a_fit_has_the_same_bits_each_time():
    data = make_texts([200, 100])
    (fit, logits), (again, logits_again) = fit_ngrams(data), fit_ngrams(data)
    np.testing.assert_array_equal(logits, logits_again)
    for name in ("scores", "scales", "bias"):
        np.testing.assert_array_equal(getattr(fit, name), getattr(again, name))


def test_many_texts_are_cross_fitted_with_two_folds_and_chosen_on_some(monkeypatch):
    monkeypatch.setattr(ngram_fit, "_MANY_TEXTS", 200)
    monkeypatch.setattr(ngram_fit, "_SELECTION_TEXTS", 50)
    seen = []
    fit = ngram_fit._fit
    monkeypatch.setattr(ngram_fit, "_fit", lambda data, *a: seen.append(len(data)) or fit(data, *a))
    fit_ngrams(make_texts([150, 150]))
    assert sorted(seen[-3:]) == [150, 150, 300]
    assert seen[-8:-3] == [40] * 5
    assert {33, 34} == set(seen[:-8])
    assert len(seen) == 2 * 3 + 5 + 3  # two smallest n


@pytest.mark.parametrize("classes", [2, 4])
def test_the_scorer_computes_the_logits_of_the_fit_and_answers_in_order(classes, monkeypatch):
    """Also that cross-fitted logits belong to their examples, which are sorted by length."""
    token_ids = random_token_ids(40, 30)
    labels = np.array([np.mean(row) * classes // 50 for row in token_ids.to_list()], np.int32)
    examples = dataclasses.replace(unlabelled_examples(token_ids), labels=labels)
    fits = []
    fit_all = ngram_fit.fit_ngrams
    monkeypatch.setattr(
        ngram_fit, "fit_ngrams", lambda d: fits.append((d, *fit_all(d))) or fits[0][1:]
    )
    scorer = NgramScorer(2, classes)
    scorer.build((None, None))
    cross_fitted = fit_scorer(scorer, examples)
    ((data, fit, by_length),) = fits
    order = np.argsort(examples.lengths, kind="stable")
    np.testing.assert_array_equal(cross_fitted[order], by_length)
    np.testing.assert_array_equal(data.labels, labels[order])
    logits = scorer(token_ids.to_tensor()).numpy()
    np.testing.assert_allclose(logits[order], fit.logits(data.texts), atol=0.01)
    assert logits.std() > 0.3


def test_data_larger_than_memory_is_fitted_in_part(monkeypatch):
    token_ids = random_token_ids(40, 30)
    labels = np.array([np.mean(row) > 25 for row in token_ids.to_list()], np.int32)
    examples = dataclasses.replace(unlabelled_examples(token_ids), labels=labels)
    monkeypatch.setattr(ngram_fit, "_MAX_NGRAMS", 2 * int(examples.lengths.sum()) // 2)
    is_chosen = ngram_fit._choose_texts(examples.lengths, 2)
    assert 10 < is_chosen.sum() < 30
    counted = []
    count = ngram_fit.ngram_matrix
    monkeypatch.setattr(
        ngram_fit, "ngram_matrix", lambda s, e: counted.append(len(e)) or count(s, e)
    )
    scorer = NgramScorer(2, 2)
    scorer.build((None, None))
    logits = fit_scorer(scorer, examples)
    assert counted == [is_chosen.sum()]
    own = ngram_logits(scorer, examples)
    np.testing.assert_array_equal(logits[~is_chosen], own[~is_chosen])
    assert (logits[is_chosen] != own[is_chosen]).all()


def test_the_matrix_has_the_distinct_ngrams_of_each_text_and_frequent_ones_first(monkeypatch):
    token_ids = random_token_ids(40, 30)
    monkeypatch.setattr(ngram_matrix_module, "_BATCH", 16)
    scorer = NgramScorer(3, 2)
    texts, rows = ngram_matrix(scorer, unlabelled_examples(token_ids))
    order = np.argsort(token_ids.row_lengths().numpy(), kind="stable")
    for text, position in zip(texts, order, strict=True):
        _, expected = scorer.find_rows(token_ids[position : position + 1].to_tensor())
        assert sorted(rows[text.indices]) == sorted(expected.numpy())
        assert (np.diff(text.indices) > 0).all()  # sorted, and none twice
        assert (text.data == 1).all()
    counts = np.asarray(texts.sum(axis=0)).ravel()
    assert (np.diff(counts) <= 0).all()
    assert counts[0] > counts[-1] > 0


@pytest.mark.parametrize("logit_count", [1, 3])
def test_factor_and_bias_undo_a_distortion(logit_count):
    random = np.random.default_rng(0)
    logits = random.normal(size=[20_000, logit_count]) * 2
    if logit_count == 1:
        labels = (random.random(len(logits)) < expit(logits[:, 0])).astype(np.int32)
    else:
        labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    distorted = (logits - np.arange(1, logit_count + 1)) / 3
    found = fit_factor_and_bias(distorted, labels, np.ones(len(labels)))
    assert found.factor == pytest.approx(3, rel=0.05)
    bias = found.bias - found.bias.mean() * (logit_count > 1)
    expected = np.arange(1.0, logit_count + 1)
    expected -= expected.mean() * (logit_count > 1)
    np.testing.assert_allclose(bias, expected, atol=0.08)


def test_factor_stays_finite_for_perfect_and_for_useless_logits():
    labels = np.array([0, 1] * 20)
    for logits in (np.where(labels, 1.0, -1.0), np.where(labels, -1.0, 1.0), np.zeros(40)):
        found = fit_factor_and_bias(logits[:, None], labels, np.ones(40))
        assert 0 < found.factor < 100
        assert np.isfinite(found.bias).all()
        assert abs(found.factor * logits[0] + found.bias[0]) < 5


def test_tf_function_of_the_scorer_needs_no_training_argument():
    """Keras passes `training` only to layers that have it."""
    scorer = NgramScorer(1, 2)
    np.testing.assert_array_equal(
        scorer(tf.constant([[3]]), training=True), scorer(tf.constant([[3]]), training=False)
    )
