"""A student takes its teacher's scorers and soft labels."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline.datasets import READ_BATCH, NamedDataset, in_validation
from pipeline.errors import RunError, UserError
from tests.helpers import StopAfterChecks, all_equal, state_arrays
from trainer import run as runs
from trainer.artifacts.trained_run import load
from trainer.data import make_corpus, open_corpus
from trainer.preparation import prepare_run
from trainer.runtime.signals import Interrupted, use_stop

pytestmark = pytest.mark.usefixtures("small_ngram_tables")

TEACHER = {"encoder": "none", "ngrams": 2, "epochs": 1}
STUDENT = {"encoder": "pooled_lstm", "ngrams": 2, "epochs": 1}


class WithUnlabelled(NamedDataset):
    """Adds unlabelled examples: the test split and a third of the train split."""

    splits = frozenset({"train", "test", "unsupervised"})

    def size(self, split):
        return sum(len(labels) for _, labels in self.read(split))

    def read(self, split):
        if split != "unsupervised":
            return super().read(split)
        some = super().read("train").unbatch().shard(3, 0)
        examples = super().read("test").unbatch().concatenate(some)
        return examples.map(lambda text, _: (text, tf.constant(-1, tf.int64))).batch(READ_BATCH)


def open_with_unlabelled(config):
    opened = open_corpus(config).dataset
    return make_corpus(config, WithUnlabelled(**vars(opened)))


def make(config, folder, record=None):
    folder.mkdir(exist_ok=True)
    data = open_with_unlabelled(config)
    return prepare_run(config, data, folder, record=record)


@pytest.fixture(scope="module")
def teacher(small_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    make(dataclasses.replace(small_config, **TEACHER), folder).fit()
    return folder


@pytest.fixture(scope="module")
def config(small_config, teacher):
    return dataclasses.replace(small_config, **STUDENT, teacher=str(teacher))


@pytest.fixture(scope="module")
def student(config, tmp_path_factory):
    """The folder of a student that was trained without an interruption."""
    folder = tmp_path_factory.mktemp("student")
    make(config, folder).fit()
    return folder


def test_unlabelled_examples_have_the_teachers_probabilities(config, teacher, tmp_path):
    loop, data = make(config, tmp_path), open_with_unlabelled(config)
    best = load(teacher)
    labelled, unlabelled = (
        data.examples("train", best.vectorizer),
        data.unlabelled(best.vectorizer),
    )
    training = loop._training
    assert len(training) == len(labelled) + len(unlabelled)
    np.testing.assert_array_equal(training.labels[: len(labelled), 0], labelled.labels)
    taught = training.labels[len(labelled) :]
    np.testing.assert_allclose(taught, best.evaluator.predict(unlabelled)[:, 1:], atol=1e-6)
    assert taught.std() > 0.1
    for position in (0, len(unlabelled) - 1):
        expected = unlabelled.row(position)
        np.testing.assert_array_equal(training.row(len(labelled) + position), expected)


def test_no_unlabelled_example_is_in_validation(config, teacher):
    """Without the filter there would be some, because a third of the train split is unlabelled."""
    data, vectorizer = open_with_unlabelled(config), load(teacher).vectorizer
    fraction = config.validation_fraction
    assert in_validation(
        data._token_ids("unsupervised", vectorizer).hash_buckets, validation_fraction=fraction
    ).any()
    found = data.unlabelled(vectorizer)
    assert not in_validation(found.hash_buckets, validation_fraction=fraction).any()


def test_the_teachers_scorers_do_not_change(config, teacher, student, tmp_path):
    _, deep = make(config, tmp_path).state.model.scorers
    before = [variable.numpy() for variable in deep.trainable_variables]
    wide, deep = load(student).evaluator.model.scorers
    assert all(
        (old != new).any() for old, new in zip(before, deep.trainable_variables, strict=True)
    )
    (theirs,) = load(teacher).evaluator.model.scorers
    assert theirs.table.numpy().any()
    for ours, their in zip(wide.variables, theirs.variables, strict=True):
        np.testing.assert_array_equal(ours, their)


@pytest.mark.slow
def test_a_resumed_student_needs_no_teacher_and_has_the_same_bits(
    config, student, tmp_path, monkeypatch
):
    uninterrupted = resume(config, student)
    monkeypatch.setattr("trainer.loop._SECONDS_PER_CALL", 1e-9)  # a check after each step
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted), use_stop(StopAfterChecks(6)):
        make(config, folder).fit()
    monkeypatch.setattr("trainer.preparation.load", None)  # the teacher is not needed again
    resumed = resume(config, folder)
    assert int(resumed.state.step) > 0
    resumed.fit()
    assert all_equal(state_arrays(resumed.state), state_arrays(uninterrupted.state))


def resume(config, folder):
    return make(config, folder, record=runs.RunRecord.read(folder))


@pytest.mark.slow
def test_a_student_can_be_a_teacher(config, student, tmp_path):
    third = dataclasses.replace(
        config, encoder="pooled_lstm,pooled_lstm", teacher=str(student), epochs=1
    )
    loop = make(third, tmp_path)
    loop.fit()
    token_ids = tf.constant([[5, 6, 7]])
    logits = load(tmp_path).evaluator.model.scorer_logits(token_ids).numpy()[0, :, 0]
    taught_by = load(student).evaluator.model.scorer_logits(token_ids).numpy()[0, :, 0]
    assert len(set(logits.tolist())) == 3
    np.testing.assert_array_equal(logits[:2], taught_by)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ngrams": 3}, "was trained with ngrams=2; use the same settings here"),
        ({"vocab_size": 400, "truncate": "head"}, "vocab_size=500 truncate=tail"),
        (
            {"encoder": "pooled_lstm,pooled_lstm"},
            "was trained with encoder=none; .*, but exactly one encoder",
        ),
    ],
)
def test_an_incompatible_teacher_is_refused(config, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        make(dataclasses.replace(config, **settings), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_teacher_with_the_labels_in_another_order_is_refused(config, tmp_path):
    """Its probabilities would teach the student the opposite of the labels."""
    with pytest.raises(UserError, match=r"has the labels .*, with positive_label=pos"):
        make(dataclasses.replace(config, positive_label="neg"), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_data_set_without_unlabelled_examples_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="imdb_offline has no unlabelled texts"):
        prepare_run(config, open_corpus(config), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"\x93NUMPY", b"other"])
def test_damaged_soft_labels_are_an_error(config, tmp_path, content):
    make(config, tmp_path)
    path = tmp_path / "taught_labels.npy"
    if content is None:
        path.unlink()
    elif content == b"other":
        np.save(path, np.zeros(3, np.float32))
    else:
        path.write_bytes(content)
    with pytest.raises(
        RunError, match=r"taught_labels\.npy (is missing or damaged|has 3 probabilities)"
    ):
        resume(config, tmp_path)


def test_a_student_without_its_own_scorer_is_refused(small_config):
    with pytest.raises(UserError, match="needs a model with a scorer besides the last encoder"):
        dataclasses.replace(small_config, teacher="runs/a")
