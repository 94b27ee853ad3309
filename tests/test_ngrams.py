import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit
from sklearn.feature_extraction.text import CountVectorizer

from model.ngrams import FEATURES, RARE, RARE_WEIGHT, ngram_features
from pipeline.errors import UserError
from tests.test_checkpoints import StopAfter, same, variables
from tests.test_model import make, reviews
from tests.test_trainer import data, trainer_of
from trainer.runtime.signals import Interrupted, use_stop

__all__ = ["data"]  # a fixture

LABELS = np.array([0, 1, 1, 0, 1] * 8, np.float32)


def make_counted(longest, token_ids, *encoders):
    """A model of n-grams whose ratios are of these reviews and whose weights are random."""
    model = make(*encoders, ngrams=longest)
    parts = (slice(16), slice(16, None))
    model.adapt([(token_ids[part].to_tensor(), LABELS[part]) for part in parts])
    weights = np.random.default_rng(0).normal(size=model.scorers[0].importance.shape)
    model.scorers[0].importance.assign(weights)
    return model


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_ratios_are_those_of_naive_bayes(longest):
    """The reference counts n-grams with scikit-learn, and comes from posteriors by Bayes' rule.

    P(label 1 | n-gram) is shrunk towards the share of label 1, by 2 examples that have that share.
    """
    token_ids = reviews(40, 30)
    model = make_counted(longest, token_ids)
    model.scorers[0].importance.assign(tf.fill(model.scorers[0].importance.shape, 1 / 7))
    texts = [" ".join(f"w{id}" for id in row) for row in token_ids.to_list()]
    counter = CountVectorizer(binary=True, ngram_range=(1, longest), token_pattern=r"\S+")
    present = counter.fit_transform(texts).toarray()
    counts = np.stack([present[label == LABELS].sum(axis=0) for label in (0, 1)])
    prior = LABELS.mean()
    posteriors = (counts[1] + 2 * prior) / (counts.sum(axis=0) + 2)
    weights = np.where(counts.sum(axis=0) < RARE, RARE_WEIGHT, 1)
    expected = logit(prior) + present @ (weights * (logit(posteriors) - logit(prior)))
    np.testing.assert_allclose(model(token_ids.to_tensor()), expected, atol=0.01)
    assert np.std(expected) > 1
    assert 0 < np.mean(weights == RARE_WEIGHT) < 1 or longest == 1


def counted(rows, labels):
    """The n-gram part of a model that has counted single tokens of these rows."""
    model = make(ngrams=1)
    model.adapt([(tf.ragged.constant(rows, tf.int32).to_tensor(), np.array(labels, np.float32))])
    return model.scorers[0]


def ratio_of(part, token_id):
    _, (feature,) = ngram_features(tf.constant([[token_id]]), 1)
    return float(part.ratios.numpy()[feature])


def rows_with(counts, sizes):
    """Examples, `sizes` of each label, of which `counts` have each token, and their labels.

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
def test_an_ngram_that_is_as_frequent_in_either_class_has_no_ratio(sizes):
    """However rare it is: smoothing must not move it towards the smaller class."""
    shares = {2: 0.01, 3: 0.05, 4: 0.2, 5: 1.0}
    neutral = {token: [round(share * size) for size in sizes] for token, share in shares.items()}
    part = counted(*rows_with(neutral, sizes))
    for token in (1, *neutral):
        assert ratio_of(part, token) == pytest.approx(0, abs=1e-3), token
    assert float(part.bias) == pytest.approx(np.log(sizes[1] / sizes[0]), abs=1e-6)


def test_ratios_of_balanced_classes_are_those_of_add_one_smoothing():
    counts = {2: (0, 5), 3: (7, 2), 4: (30, 29), 5: (0, 50), 6: (1, 0)}
    part = counted(*rows_with(counts, (50, 50)))
    for token, (negative, positive) in counts.items():
        expected = np.log((positive + 1) / (negative + 1))
        assert ratio_of(part, token) == pytest.approx(expected, abs=2e-3)
    assert float(part.bias) == 0


def test_classes_that_change_places_change_the_signs():
    counts, sizes = {2: (3, 40), 3: (10, 1), 4: (0, 9), 5: (2, 0)}, (20, 180)
    part = counted(*rows_with(counts, sizes))
    swapped = counted(*rows_with({token: of[::-1] for token, of in counts.items()}, sizes[::-1]))
    for token in counts:
        assert ratio_of(part, token) == pytest.approx(-ratio_of(swapped, token), abs=2e-3)
        assert abs(ratio_of(part, token)) > 0.1
    assert float(part.bias) == pytest.approx(-float(swapped.bias))


@pytest.mark.parametrize("label", [0, 1])
def test_examples_of_one_class_say_nothing_of_the_other(label):
    part = counted([[1, 2], [2, 3], [2]], [label] * 3)
    assert not part.ratios.numpy().any()
    assert float(part.bias) == 0


def test_training_on_unequal_classes_starts_from_their_share(wide_config, data, tmp_path):
    vectorizer, train, validation = data
    train = train[unequal(train.labels)]
    share = float(train.labels.mean())
    assert share > 0.8
    trainer = trainer_of(wide_config, (vectorizer, train, validation), tmp_path)
    trainer._objective.adapt(train)
    logits = trainer.state.model.scorer_logits(tf.constant([[5, 6, 7], [8, 9, 0]]), training=True)
    np.testing.assert_allclose(logits, np.full([2, 1], logit(share)), rtol=1e-5)


def unequal(labels):
    """Chooses all examples of label 1, and one in eight of label 0."""
    return (labels == 1) | (np.cumsum(labels == 0) % 8 == 1)


@pytest.mark.parametrize("longest", [1, 3])
def test_padding_batch_mates_and_branches_change_no_logit(longest):
    token_ids = reviews(40, 30)
    model = make_counted(longest, token_ids)
    together = model(token_ids.to_tensor(shape=[None, 48])).numpy()
    alone = np.concatenate([model(row[tf.newaxis]) for row in token_ids])
    np.testing.assert_allclose(together, alone, atol=1e-4, rtol=1e-5)
    assert together.std() > 1


def test_an_ngram_counts_once_a_review_and_its_words_in_their_order():
    def features(*ids):
        rows, found = ngram_features(tf.constant([ids]), 2)
        assert (rows.numpy() == 0).all()
        assert len(set(found.numpy())) == len(found)
        return set(found.numpy())

    assert len(features(5)) == 1
    assert len(features(5, 6)) == 3
    assert features(5, 6, 5, 6, 0, 0) == features(5, 6) | features(6, 5)
    assert features(5, 6) != features(6, 5)


def test_features_are_spread():
    """Hashing loses few of the n-grams of a small vocabulary."""
    ids = np.random.default_rng(0).integers(1, 10_000, [64, 200])
    _, features = ngram_features(tf.constant(ids, tf.int32), 2)
    different = len(set(zip(ids[:, :-1].ravel(), ids[:, 1:].ravel(), strict=True))) + len(
        set(ids.ravel())
    )
    assert len(set(features.numpy())) > 0.995 * different


def test_the_mean_of_the_parts_counts():
    token_ids = reviews(40, 30)
    both = make_counted(2, token_ids, "stacked_lstm")
    wide = make_counted(2, token_ids)
    deep = make("stacked_lstm")
    padded = token_ids.to_tensor()
    mean = (wide(padded) + deep(padded)) / 2
    np.testing.assert_allclose(both(padded), mean, atol=1e-4, rtol=1e-5)


@pytest.fixture(scope="module")
def wide_config(small_config):
    return dataclasses.replace(small_config, encoder="none", ngrams=2, epochs=1, clip_norm=0.0)


def test_ratios_are_counted_once_from_the_training_part(wide_config, data, tmp_path):
    _, training, _ = data
    trainer = trainer_of(wide_config, data, tmp_path)
    trainer.fit(tmp_path)
    ratios = trainer.state.model.scorers[0].ratios.numpy()
    seen = np.zeros(FEATURES, bool)
    for position in range(len(training)):
        row = tf.constant(training.row(position)[np.newaxis], tf.int32)
        seen[ngram_features(row, 2)[1].numpy()] = True
    assert (ratios[~seen] == ratios[~seen][0]).all()  # so nothing of the validation part is in
    assert np.std(ratios[seen]) > 0


def test_a_stopped_run_keeps_its_ratios(wide_config, data, tmp_path, monkeypatch):
    whole = trainer_of(wide_config, data, tmp_path / "whole")
    whole.fit(tmp_path / "whole")
    monkeypatch.setattr("trainer.loop._SECONDS_A_CALL", 1e-9)  # a check after each step
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted), use_stop(StopAfter(6)):
        trainer_of(wide_config, data, folder).fit(folder)
    resumed = trainer_of(wide_config, data, folder)
    assert int(resumed.state.step) > 0
    monkeypatch.setattr(resumed._objective, "adapt", None)  # not to be called again
    resumed.fit(folder)
    assert same(variables(resumed.state), variables(whole.state))


def test_ngrams_alone_learn(wide_config, data, tmp_path):
    longer = dataclasses.replace(wide_config, epochs=3)
    trainer = trainer_of(longer, data, tmp_path)
    trainer.fit(tmp_path)
    (*_, last) = (tmp_path / "history.csv").read_text().splitlines()
    assert float(last.split(",")[3]) > 0.9, last


def test_nothing_to_train_is_refused(small_config):
    with pytest.raises(UserError, match="--encoder=none leaves no scorer to train; add --ngrams=3"):
        dataclasses.replace(small_config, encoder="none")
