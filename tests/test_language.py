"""A language model is measured exactly, learned by the same loop, and a start to train from."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from model.language import AdaptiveSoftmax
from pipeline.datasets import ReviewDataset
from pipeline.errors import Mistake
from tests.test_checkpoints import StopAfter, same, variables
from tests.test_model import reviews
from tests.test_teacher import make as make_run
from trainer import run as runs
from trainer.building import build_model
from trainer.config import TrainConfig
from trainer.stopping import Stopped, StopSignals

LANGUAGE = {"encoder": "pooled_lstm", "units": 8, "objective": "next_words"}


def model_of(**settings):
    config = TrainConfig(**LANGUAGE, embedding_dim=8, dropout=0.0, batch_size=32, **settings)
    return build_model(config, 50, "float32")


@pytest.mark.parametrize("vocabulary_size", [1_500, 2_000, 5_000, 12_000])
def test_the_probabilities_of_all_words_add_up_to_1(vocabulary_size):
    softmax = AdaptiveSoftmax(vocabulary_size, seed=0)
    vector = np.random.default_rng(0).normal(size=[1, 16]).astype(np.float32)
    words = tf.range(vocabulary_size)
    losses = softmax(tf.repeat(vector, vocabulary_size, axis=0), words).numpy()
    assert losses.shape == (vocabulary_size,)
    assert losses.std() > 0.01
    np.testing.assert_allclose(np.exp(-losses).sum(), 1, rtol=1e-5)


def test_every_word_but_the_first_is_predicted_once_from_those_before():
    model, token_ids = model_of(), reviews(20, 30)
    together = model(token_ids.to_tensor(shape=[None, 40])).numpy()
    lengths = token_ids.row_lengths().numpy()
    assert together.shape == ((lengths - 1).sum(),)
    alone = np.concatenate([model(row[tf.newaxis]).numpy() for row in token_ids])
    np.testing.assert_allclose(np.sort(together), np.sort(alone), atol=1e-5)
    row = token_ids[int(lengths.argmax())][tf.newaxis]
    changed = tf.concat([row[:, :-1], row[:, -1:] % 49 + 1], axis=1)
    before, after = model(row).numpy(), model(changed).numpy()
    np.testing.assert_allclose(before[:-1], after[:-1], atol=1e-6)
    assert before[-1] != after[-1]


def words_of(examples):
    """All words but each review's first."""
    return np.concatenate([examples.row(place)[1:] for place in range(len(examples))])


@pytest.fixture(scope="module")
def config(small_config):
    return dataclasses.replace(small_config, **LANGUAGE, epochs=10, learning_rate=0.02, dropout=0.0)


@pytest.fixture(scope="module")
def pretrained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    trainer = make_run(config, folder)
    trainer.fit(folder, stop=StopSignals())
    return folder, trainer


def test_it_learns_unlabelled_reviews_too_and_predicts_better_than_by_frequency(pretrained):
    folder, trainer = pretrained
    assert len(trainer._training) > runs.RunRecord.read(folder).sizes["train"]
    validation = trainer._validation
    counts = np.bincount(words_of(trainer._training), minlength=500) + 1
    entropy = -np.mean(np.log(counts / counts.sum())[words_of(validation)])
    measured = trainer._objective.validate(validation, None, step=0, stop=StopSignals())
    assert measured["perplexity"] == pytest.approx(np.exp(measured["loss"]))
    assert measured["loss"] < entropy


def test_it_never_reads_the_test_split(config, tmp_path, monkeypatch):
    asked = []
    read = ReviewDataset.read
    monkeypatch.setattr(
        ReviewDataset, "read", lambda self, split: asked.append(split) or read(self, split)
    )
    uncached = dataclasses.replace(config, epochs=1, cache_dir="")
    results = runs.train(uncached, tmp_path, stop=StopSignals())
    assert set(asked) == {"train"}
    assert results["split"] == "validation"
    assert results["loss"] == results["validation_loss"]


def test_a_stopped_one_ends_in_the_same_bits(config, pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.trainer._SECONDS_A_CALL", 1e-9)  # a check after each step
    with pytest.raises(Stopped):
        make_run(config, tmp_path).fit(tmp_path, stop=StopAfter(6))
    resumed = make_run(config, tmp_path, record=runs.RunRecord.read(tmp_path))
    assert int(resumed.state.step) > 0
    resumed.fit(tmp_path, stop=StopSignals())
    assert same(variables(resumed.state), variables(pretrained[1].state))


def test_the_last_encoder_starts_from_it_and_learns(small_config, pretrained, tmp_path):
    folder, _ = pretrained
    config = dataclasses.replace(
        small_config, encoder="pooled_lstm", units=8, ngrams=2, init_from=str(folder)
    )
    started = make_run(config, tmp_path)
    part = started.state.model.parts[-1]
    best = runs.load_start(config, runs.vocabulary.load(folder / "vocabulary.txt"))
    np.testing.assert_array_equal(part.embedding.embeddings, best.deep.embedding.embeddings)
    theirs = best.deep.encoder.lstm.cell.recurrent_kernel.numpy()
    np.testing.assert_array_equal(part.encoder.lstm.cell.recurrent_kernel, theirs)
    started.fit(tmp_path, stop=StopSignals())
    assert (part.encoder.lstm.cell.recurrent_kernel.numpy() != theirs).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"units": 16}, "was pretrained with --units=8; give the same here"),
        (
            {"encoder": "stacked_lstm", "embedding_dim": 9},
            "--embedding_dim=8 --encoder=pooled_lstm",
        ),
        ({"vocab_size": 400}, "--vocab_size=500"),
    ],
)
def test_a_start_of_another_kind_is_refused(small_config, pretrained, tmp_path, settings, message):
    settings = {"encoder": "pooled_lstm", "units": 8, "init_from": str(pretrained[0]), **settings}
    with pytest.raises(Mistake, match=message):
        make_run(dataclasses.replace(small_config, **settings), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_language_model_is_no_classifier(pretrained):
    with pytest.raises(Mistake, match="tells no sentiment; train from it"):
        runs.load(pretrained[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "pooled_lstm,pooled_lstm"}, "one encoder is pretrained"),
        ({"encoder": "none"}, "one encoder is pretrained"),
        ({"ngrams": 2}, "--ngrams is for scripts.train"),
        ({"adversarial": "virtual"}, "--adversarial is for scripts.train"),
    ],
)
def test_settings_that_mean_nothing_to_a_language_model_are_refused(settings, message):
    with pytest.raises(Mistake, match=message):
        TrainConfig(**{**LANGUAGE, **settings})


def test_the_commands_pretrain_and_train_from_there(run, flags, tmp_path):
    encoder = ["--encoder=pooled_lstm", "--units=8", "--epochs=1"]
    words, labels = tmp_path / "words", tmp_path / "labels"
    done = run("pretrain", f"--model_dir={words}", *flags, *encoder)
    assert done.returncode == 0, done.stderr.decode()
    assert b'"split": "validation"' in done.stdout
    assert b'"perplexity"' in done.stdout
    refused = run("train", f"--model_dir={words}", *flags, *encoder)
    assert refused.returncode == 1
    assert b"objective (next_words, not sentiment)" in refused.stderr
    done = run("train", f"--model_dir={labels}", *flags, *encoder, f"--init_from={words}")
    assert done.returncode == 0, done.stderr.decode()
    assert b'"accuracy"' in done.stdout
