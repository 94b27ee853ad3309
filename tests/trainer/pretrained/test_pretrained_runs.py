"""Runs with a pretrained encoder: train, resume, predict, explain, evaluate, export."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

import trainer
from pipeline.errors import UserError
from tests.helpers import StopAfterChecks, weights_sha256, write_csv
from tests.pretrained_folder import make_folder, make_tensors
from tests.small import ROOT
from trainer.artifacts.export import export
from trainer.artifacts.trained_run import load
from trainer.config import TrainConfig
from trainer.data import open_corpus
from trainer.run import train
from trainer.runtime.signals import Interrupted, use_stop

pytestmark = pytest.mark.usefixtures("small_ngram_tables")

TEXTS = ["This is a GOOD film!", "not good, unbelievable", "", "bad " * 100, "café 中文"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def config(folder, small_config):
    """Settings of a run of a few steps, with dropout."""
    return TrainConfig(
        dataset="imdb_offline",
        data_dir=small_config.data_dir,
        cache_dir=small_config.cache_dir,
        pretrained=str(folder),
        sequence_length=40,
        truncate="ends",
        batch_size=32,
        epochs=2,
        learning_rate=0.01,
        warmup=0.1,
        decay="linear",
        weight_decay=0.01,
        checkpoint_every=4,
        summary_every=5,
    )


@pytest.fixture(scope="module")
def model_dir(config, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("run") / "run"
    train(config, model_dir)
    return model_dir


def test_the_encoder_is_trained(model_dir, config):
    run = load(model_dir)
    tables = run.evaluator.model.neural_scorers[0].bert.embeddings
    start = make_tensors()["embeddings.word_embeddings.weight"]
    moved = np.abs(tables.words.numpy() - start).max(axis=1) > 1e-4
    assert moved.mean() > 0.9
    assert run.config == config


def test_all_ways_to_a_probability_agree(model_dir, tmp_path):
    run = load(model_dir)
    expected = run.predict(TEXTS)[:, 1]
    export(model_dir, tmp_path / "export")
    serve = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    np.testing.assert_allclose(serve(tf.constant(TEXTS))["probability"], expected, atol=1e-5)
    stored = tf.train.list_variables(str(tmp_path / "export" / "variables" / "variables"))
    params = run.evaluator.model.count_params()
    assert sum(np.prod(shape) for _, shape in stored) == pytest.approx(params, rel=0.1)  # once
    alone = np.concatenate([run.predict([text])[:, 1] for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    assert "pretrained" in (tmp_path / "export" / "model_card.md").read_text()


def test_a_run_needs_the_folder_of_the_encoder_only_to_start(model_dir, config, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(model_dir, moved)
    results = train(dataclasses.replace(config, cache_dir=""), moved)  # it is finished
    assert results["epochs"] == 2
    assert load(moved).predict(["good"]).shape == (1, 2)


def test_words_are_explained(model_dir):
    run = load(model_dir)
    explanation = run.explain("An unbelievable CAFÉ!")
    assert explanation.tokens == ["[CLS]", "an", "unbelievable", "cafe", "!", "[SEP]"]
    (probability,) = run.predict(["An unbelievable CAFÉ!"])[:, 1]
    log_odds = np.log(probability / (1 - probability))
    total = explanation.contributions.sum() + explanation.baseline
    assert total == pytest.approx(log_odds, abs=2e-2)


def test_the_split_is_evaluated_with_the_encoders_words(model_dir, config):
    run = load(model_dir)
    words = run.tokenizer.standardization
    corpus = open_corpus(config, label_names=run.label_names, standardization=words)
    found = run.evaluate_split(corpus, "test")
    texts = [text for batch, _ in corpus.dataset.read("test") for text in batch.numpy()]
    labels = np.concatenate([labels for _, labels in corpus.dataset.read("test")])
    again = run.predict(texts).argmax(axis=1)
    assert found["accuracy"] == pytest.approx((again == labels).mean())


def test_a_stopped_run_with_a_pretrained_encoder_resumes_to_the_same_bits(
    config, model_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("trainer.loop._SECONDS_PER_CALL", 1e-9)  # a check after each step
    with pytest.raises(Interrupted), use_stop(StopAfterChecks(9)):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "results.json").exists()
    train(config, tmp_path / "run")
    assert weights_sha256(tmp_path / "run") == weights_sha256(model_dir)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"ngrams": 2}, marks=pytest.mark.slow),
        {"train_layers": 0, "pooling": "cls", "ngrams": 2, "validation_fraction": 0.0},
        pytest.param({"train_layers": 1, "encoder_length": 20}, marks=pytest.mark.slow),
        pytest.param({"precision": "mixed_bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_other_settings(settings, config, tmp_path):
    config = dataclasses.replace(config, max_steps=4, **settings)
    results = train(config, tmp_path / "run")
    assert np.isfinite(results["loss"])
    export(tmp_path / "run", tmp_path / "export")
    serve = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    expected = load(tmp_path / "run", precision="float32").predict(TEXTS)[:, 1]
    np.testing.assert_allclose(serve(tf.constant(TEXTS))["probability"], expected, atol=1e-5)


def test_a_frozen_encoder_is_calibrated_by_cross_fitting(config, tmp_path):
    """The validation metrics are those of cross-fitted logits of the train split."""
    config = dataclasses.replace(config, train_layers=0, validation_fraction=0.0)
    results = train(config, tmp_path / "run")
    assert (results["steps"], results["epochs"]) == (0, 1)
    run = load(tmp_path / "run")
    assert run.evaluator.model.temperature.numpy() != 1
    assert abs(results["validation_loss"] - results["loss"]) < 0.1
    assert results["loss"] < 0.75


@pytest.mark.slow
def test_many_classes(folder, tmp_path):
    rows = [(f"{word} film {number}", word) for number in range(30) for word in "abc"]
    path = write_csv(tmp_path / "rows.csv", rows)
    config = TrainConfig(
        dataset=str(path), cache_dir="", pretrained=str(folder), sequence_length=12, epochs=1
    )
    train(config, tmp_path / "run")
    assert load(tmp_path / "run").predict(TEXTS).shape == (len(TEXTS), 3)


@pytest.mark.slow
def test_the_recipe_takes_20_steps(run, data_flags, folder, tmp_path):
    recipe = ROOT / "scripts" / "recipes" / "pretrained.flags"
    flags = [f"--flagfile={recipe}", "--dataset=imdb_offline", f"--model_dir={tmp_path / 'run'}"]
    done = run("train", *flags, *data_flags, f"--pretrained={folder}", "--max_steps=20")
    assert done.returncode == 0, done.stderr
    assert b"steps\t20\n" in done.stdout
    other = [flag for flag in flags if "model_dir" not in flag]
    done = run("train", *other, *data_flags, f"--model_dir={tmp_path / 'other'}")
    assert done.returncode == 1
    assert b"FOLDER is not a folder; download the encoder first" in done.stderr


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"units": 64}, "--units has no effect with --pretrained"),
        ({"encoder": "none", "ngrams": 2}, "--encoder has no effect with --pretrained"),
        ({"sequence_length": 2}, "--sequence_length=2 is too small with --pretrained"),
        ({"encoder_length": 1}, "--encoder_length=1 is too small"),
    ],
)
def test_settings_without_effect_are_refused(settings, message, folder):
    with pytest.raises(UserError) as error:
        TrainConfig(pretrained=str(folder), **settings)
    assert message in error.value.message
    with pytest.raises(UserError) as error:
        TrainConfig(pooling="cls")
    assert "--pooling has no effect without --pretrained" in error.value.message


def test_a_folder_that_cannot_be_used_creates_no_run(config, tmp_path):
    config = dataclasses.replace(config, pretrained=str(tmp_path))
    with pytest.raises(trainer.UserError, match=r"has no model\.safetensors"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_more_layers_than_the_encoder_has_are_refused(config, tmp_path):
    config = dataclasses.replace(config, train_layers=3)
    with pytest.raises(UserError, match="train_layers=3 is more than the 2 layers of the encoder"):
        train(config, tmp_path / "run")
