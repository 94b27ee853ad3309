"""Training of n-gram scorers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logit

from model.ngrams import ngram_features
from pipeline.errors import UserError
from tests.helpers import StopAfterChecks, all_equal, make_small_loop, state_arrays
from trainer.runtime.signals import Interrupted, use_stop

pytestmark = pytest.mark.usefixtures("small_ngram_tables")


def test_training_on_imbalanced_classes_starts_at_their_log_odds(wide_config, splits, tmp_path):
    vectorizer, train, validation = splits
    train = train[unequal(train.labels)]
    share = float(train.labels.mean())
    assert share > 0.8
    loop = make_small_loop(wide_config, (vectorizer, train, validation), tmp_path)
    loop._objective.adapt(train)
    logits = loop.state.model.scorer_logits(tf.constant([[5, 6, 7], [8, 9, 0]]), training=True)
    np.testing.assert_allclose(logits, np.full([2, 1, 1], logit(share)), rtol=1e-5)


def unequal(labels):
    """Chooses all examples of label 1, and one in eight of label 0."""
    return (labels == 1) | (np.cumsum(labels == 0) % 8 == 1)


@pytest.fixture(scope="module")
def wide_config(small_config):
    return dataclasses.replace(small_config, encoder="none", ngrams=2, epochs=1, clip_norm=0.0)


def test_ratios_are_counted_only_in_the_train_split(wide_config, splits, tmp_path):
    _, training, _ = splits
    loop = make_small_loop(wide_config, splits, tmp_path)
    loop.fit()
    ratios = loop.state.model.scorers[0].ratios.numpy()
    seen = np.zeros(len(ratios), bool)
    for position in range(len(training)):
        row = tf.constant(training.row(position)[np.newaxis], tf.int32)
        seen[ngram_features(row, 2)[1].numpy()] = True
    assert (ratios[~seen] == ratios[~seen][0]).all()  # so no validation text was counted
    assert np.std(ratios[seen]) > 0


@pytest.mark.slow
def test_a_resumed_run_keeps_its_ratios_and_has_the_same_bits(
    wide_config, splits, tmp_path, monkeypatch
):
    whole = make_small_loop(wide_config, splits, tmp_path / "whole")
    whole.fit()
    monkeypatch.setattr("trainer.loop._SECONDS_PER_CALL", 1e-9)  # a check after each step
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted), use_stop(StopAfterChecks(6)):
        make_small_loop(wide_config, splits, folder).fit()
    resumed = make_small_loop(wide_config, splits, folder)
    assert int(resumed.state.step) > 0
    monkeypatch.setattr(resumed._objective, "adapt", None)  # not to be called again
    resumed.fit()
    assert all_equal(state_arrays(resumed.state), state_arrays(whole.state))


@pytest.mark.slow
def test_ngrams_alone_learn(wide_config, splits, tmp_path):
    longer = dataclasses.replace(wide_config, epochs=3)
    loop = make_small_loop(longer, splits, tmp_path)
    loop.fit()
    (*_, last) = (tmp_path / "history.csv").read_text().splitlines()
    assert float(last.split(",")[3]) > 0.9, last


def test_a_model_without_scorers_is_refused(small_config):
    with pytest.raises(UserError, match="encoder=none leaves no scorer to train; add ngrams=3"):
        dataclasses.replace(small_config, encoder="none")
