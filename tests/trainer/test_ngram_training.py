"""Runs with n-grams: alone without steps, or with encoders that learn what they leave."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import trainer
from pipeline.errors import RunError, UserError
from tests.helpers import (
    StopAfterChecks,
    all_equal,
    make_small_loop,
    state_arrays,
    stop_in_epoch,
    write_csv,
)
from trainer.artifacts.run_record import RunRecord
from trainer.config import TrainConfig
from trainer.data import open_corpus
from trainer.objectives.ngram_matrix import ngram_logits
from trainer.run import train
from trainer.runtime.signals import Interrupted, use_stop

pytestmark = pytest.mark.usefixtures("small_ngram_tables")


@pytest.fixture(scope="module")
def wide_config(small_config):
    return dataclasses.replace(small_config, encoder="none", ngrams=2, epochs=1, clip_norm=0.0)


@pytest.fixture(scope="module")
def both_config(wide_config):
    return dataclasses.replace(wide_config, encoder="pooled_lstm")


def test_only_the_train_split_is_in_the_table(wide_config, splits, tmp_path):
    _, training, validation = splits
    loop = make_small_loop(wide_config, splits, tmp_path)
    loop.fit()
    scorer = loop.state.model.ngram_scorer
    known = scorer.table.numpy().any(axis=1)
    found = [
        set(scorer.find_rows(tf.constant(part.row(position)[np.newaxis], tf.int32))[1].numpy())
        for part in (training, validation)
        for position in range(len(part))
    ]
    seen, unseen = set().union(*found[: len(training)]), set().union(*found[len(training) :])
    assert not known[sorted(unseen - seen)].any()
    assert known.sum() > 0.1 * len(seen)


def test_ngrams_alone_take_no_step_and_report_cross_fitted_metrics(wide_config, splits, tmp_path):
    loop = make_small_loop(wide_config, splits, tmp_path)
    loop.fit()
    assert loop.is_finished()
    header, row = (tmp_path / "history.csv").read_text().splitlines()
    values = dict(zip(header.split(","), map(float, row.split(",")), strict=True))
    assert (values["epoch"], values["step"]) == (1, 0)
    _, logits = loop._objective._cross_fitted
    labels = splits[1].labels
    assert values["train_accuracy"] == pytest.approx(np.mean((logits[:, 0] > 0) == labels))
    own = ngram_logits(loop.state.model.ngram_scorer, splits[1])[:, 0]
    assert np.mean((own > 0) == labels) > values["train_accuracy"]  # they are not in-sample
    assert values["validation_accuracy"] > 0.6
    assert float(loop.state.model.temperature) == 1


def test_without_a_validation_split_all_examples_train_and_are_cross_fitted(tmp_path, cache_dir):
    rows = [(f"a {word} film {n}", word) for n in range(30) for word in ("dull", "great")]
    config = TrainConfig(
        dataset=str(write_csv(tmp_path / "rows.csv", rows)),
        cache_dir=str(cache_dir),
        encoder="none",
        ngrams=2,
        validation_fraction=0.0,
    )
    run = trainer.train(config, tmp_path / "run")
    assert set(RunRecord.read(tmp_path / "run").sizes) == {"train"}
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    values = dict(zip(history[0].split(","), history[1].split(","), strict=True))
    assert float(values["validation_accuracy"]) == float(values["train_accuracy"]) == 1
    assert run.predict(["a great day"])[0].argmax() == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["accuracy"] == 1
    assert results["steps"] == 0
    with pytest.raises(UserError, match="no examples in its validation split with"):
        run.evaluate_split(open_corpus(run.config, label_names=run.label_names), "validation")
    assert train(config, tmp_path / "run") == results  # it is finished


@pytest.mark.parametrize("class_weights", ["", "balanced"])
def test_three_examples_of_a_class_train_and_cause_a_warning(
    tmp_path, cache_dir, project_log, class_weights
):
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(100)]
    rows = [
        (" ".join([*random.choice(words, 20), "rare" * (n < 3), str(n)]), "ab"[n < 3])
        for n in range(200)
    ]
    config = TrainConfig(
        dataset=str(write_csv(tmp_path / "rows.csv", rows)),
        cache_dir=str(cache_dir),
        encoder="none",
        ngrams=2,
        validation_fraction=0.0,
        class_weights=class_weights,
    )
    run = trainer.train(config, tmp_path / "run")
    assert "with label 'b' of" in project_log.text
    assert "they will rarely be predicted" in project_log.text
    probabilities = run.predict([row[0] for row in rows])[:, 1]
    assert np.isfinite(probabilities).all()
    if class_weights:
        assert probabilities.mean() > 0.2
    else:
        assert probabilities.mean() == pytest.approx(3 / 200, abs=0.01)


def test_encoders_need_a_validation_split(small_config):
    with pytest.raises(UserError, match=r"fraction=0\.0 needs encoder=none or train_layers=0"):
        dataclasses.replace(small_config, validation_fraction=0.0)
    dataclasses.replace(small_config, encoder="none", ngrams=1, validation_fraction=0.0)


@pytest.mark.parametrize("checks", [0, 3, 9])
def test_a_fit_that_was_stopped_is_repeated_with_the_same_bits(
    wide_config, splits, tmp_path, checks
):
    whole = make_small_loop(wide_config, splits, tmp_path / "whole")
    whole.fit()
    with pytest.raises(Interrupted), use_stop(StopAfterChecks(checks)):
        make_small_loop(wide_config, splits, tmp_path / "stopped").fit()
    resumed = make_small_loop(wide_config, splits, tmp_path / "stopped")
    assert not resumed.is_finished()
    resumed.fit()
    assert all_equal(state_arrays(resumed.state), state_arrays(whole.state))
    paths = [tmp_path / name / "history.csv" for name in ("whole", "stopped")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.fixture
def stopped(both_config, splits, tmp_path, monkeypatch):
    """The folder of a run with an encoder that was stopped within its first epoch."""
    stop_in_epoch(make_small_loop(both_config, splits, tmp_path / "stopped"), monkeypatch)
    return tmp_path / "stopped"


@pytest.mark.slow
def test_a_resumed_run_fits_no_ngrams_and_has_the_same_bits(
    both_config, splits, tmp_path, stopped, monkeypatch
):
    whole = make_small_loop(both_config, splits, tmp_path / "whole")
    whole.fit()
    resumed = make_small_loop(both_config, splits, stopped)
    assert int(resumed.state.step) > 0
    monkeypatch.setattr(resumed._objective, "fit_ngrams", None)  # not to be called again
    resumed.fit()
    assert all_equal(state_arrays(resumed.state), state_arrays(whole.state))


def test_encoders_learn_from_cross_fitted_offsets(both_config, splits, tmp_path):
    loop = make_small_loop(both_config, splits, tmp_path)
    loop.fit()
    _, cross_fitted = loop._objective._cross_fitted
    offsets = np.load(tmp_path / "offsets.npy")
    np.testing.assert_allclose(offsets, 0.8 * cross_fitted, rtol=1e-6)
    np.testing.assert_array_equal(loop._training.examples.offsets, offsets)
    in_sample = ngram_logits(loop.state.model.ngram_scorer, splits[1])
    assert np.abs(in_sample - cross_fitted).mean() > 0.5


def test_offsets_are_part_of_the_loss_and_of_the_logits(both_config, splits, tmp_path):
    config = dataclasses.replace(both_config, ngram_weight=0.25, dropout=0.0)
    loop = make_small_loop(config, splits, tmp_path)
    loop._fit_without_steps()
    model, token_ids = loop.state.model, tf.constant([[5, 6, 7], [8, 9, 0]])
    neural = model.neural_logits(token_ids)[:, 0]
    ngrams = model.ngram_scorer(token_ids)
    np.testing.assert_allclose(model(token_ids), neural + 0.25 * ngrams, rtol=1e-5)
    labels, offsets = tf.constant([1, 0]), tf.constant([[2.0], [-3.0]])
    losses, outputs = loop._objective.losses(token_ids, labels, offsets)
    logits = (neural + offsets)[:, 0]
    np.testing.assert_allclose(losses, np.log1p(np.exp([-logits[0], logits[1]])), rtol=1e-5)
    np.testing.assert_allclose(outputs[:, 2], logits, rtol=1e-6)


def test_damaged_offsets_are_an_error(both_config, splits, stopped):
    path = stopped / "offsets.npy"
    for content, message in (
        (None, "is missing or damaged"),
        (b"\x93NUMPY", "is missing or damaged"),
        (b"short", "has 3 numbers"),
    ):
        path.unlink(missing_ok=True)
        if content == b"short":
            np.save(path, np.zeros(3, np.float32))
        elif content:
            path.write_bytes(content)
        with pytest.raises(RunError, match=rf"offsets\.npy {message}"):
            make_small_loop(both_config, splits, stopped).fit()


def test_ngrams_alone_learn(wide_config, splits, tmp_path):
    loop = make_small_loop(wide_config, splits, tmp_path)
    loop.fit()
    logits = ngram_logits(loop.state.model.ngram_scorer, splits[1])[:, 0]
    assert np.mean((logits > 0) == splits[1].labels) > 0.9


def test_a_model_without_scorers_is_refused(small_config):
    with pytest.raises(UserError, match="encoder=none leaves no scorer to train; add ngrams=3"):
        dataclasses.replace(small_config, encoder="none")
