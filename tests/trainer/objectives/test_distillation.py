"""Unlabelled texts have the soft labels of a teacher, or of the run's own n-grams."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from pipeline.errors import RunError, UserError
from pipeline.named_dataset.dataset import NamedDataset
from pipeline.reading import READ_BATCH, in_validation
from tests.helpers import all_equal, state_arrays, stop_in_epoch
from trainer import run as runs
from trainer.artifacts.trained_run import load
from trainer.data import make_corpus, open_corpus
from trainer.objectives.distillation import check_teacher
from trainer.objectives.ngram_matrix import ngram_logits
from trainer.preparation import prepare_run

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
        data.examples("train", best.tokenizer),
        data.unlabelled(best.tokenizer),
    )
    loop._fit_without_steps()
    loop._training.read()
    training = loop._training.examples
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
    data, tokenizer = open_with_unlabelled(config), load(teacher).tokenizer
    fraction = config.validation_fraction
    assert in_validation(
        data._token_ids("unsupervised", tokenizer).hash_buckets, validation_fraction=fraction
    ).any()
    found = data.unlabelled(tokenizer)
    assert not in_validation(found.hash_buckets, validation_fraction=fraction).any()


def test_own_ngrams_can_be_the_teacher(config, tmp_path):
    loop = make(dataclasses.replace(config, teacher="ngrams"), tmp_path)
    loop._fit_without_steps()
    loop._training.read()
    scorer, labelled = loop.state.model.ngram_scorer, loop._training.labelled
    training = loop._training.examples
    logits = ngram_logits(scorer, training[len(labelled) :])
    np.testing.assert_allclose(training.labels[len(labelled) :], expit(logits), atol=1e-6)
    np.testing.assert_allclose(training.offsets[len(labelled) :], 0.8 * logits, rtol=1e-5)
    np.testing.assert_array_equal(training.labels[: len(labelled), 0], labelled.labels)
    loop.fit()
    assert loop.is_finished()


@pytest.mark.slow
def test_a_resumed_student_needs_no_teacher_and_has_the_same_bits(
    config, student, tmp_path, monkeypatch
):
    uninterrupted = resume(config, student)
    folder = tmp_path / "stopped"
    stop_in_epoch(make(config, folder), monkeypatch)
    monkeypatch.setattr("trainer.preparation.load", None)  # the teacher is not needed again
    resumed = resume(config, folder)
    assert int(resumed.state.step) > 0
    resumed.fit()
    assert all_equal(state_arrays(resumed.state), state_arrays(uninterrupted.state))


def resume(config, folder):
    return make(config, folder, record=runs.RunRecord.read(folder))


@pytest.mark.slow
def test_a_student_can_be_a_teacher_of_another_architecture(config, student, tmp_path):
    settings = {"encoder": "stacked_lstm", "ngrams": 0, "vocab_size": 300, "punctuation": "keep"}
    third = dataclasses.replace(config, **settings, teacher=str(student))
    loop = make(third, tmp_path)
    loop.fit()
    best = load(student)
    expected = best.evaluator.predict(open_with_unlabelled(config).unlabelled(best.tokenizer))
    soft_labels = np.load(tmp_path / "taught_labels.npy")
    np.testing.assert_allclose(soft_labels, expected[:, 1:], atol=1e-6)


@pytest.mark.parametrize("setting", [{"validation_fraction": 0.3}, {"dataset": "imdb_reviews"}])
def test_a_teacher_that_may_know_the_validation_split_is_refused(config, setting):
    labels = ("neg", "pos")
    teacher = dataclasses.replace(config, **setting)
    with pytest.raises(UserError, match=f"was trained with {next(iter(setting))}="):
        check_teacher(teacher, config, labels, labels)
    check_teacher(config, config, labels, labels)


def test_a_teacher_with_the_labels_in_another_order_is_refused(config, tmp_path):
    """Its probabilities would teach the student the opposite of the labels."""
    with pytest.raises(UserError, match=r"has the labels .*, with positive_label=pos"):
        make(dataclasses.replace(config, positive_label="neg"), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_data_set_without_unlabelled_examples_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="imdb_offline has no unlabelled texts"):
        prepare_run(config, open_corpus(config), tmp_path)


@pytest.mark.slow
def test_a_missing_file_of_soft_labels_is_an_error(config, tmp_path):
    loop = make(config, tmp_path)
    (tmp_path / "taught_labels.npy").unlink()
    with pytest.raises(RunError, match=r"taught_labels\.npy is missing or damaged"):
        loop.fit()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"encoder": "none", "ngrams": 2},
            "teacher=runs/a also needs encoder=pooled_lstm",
        ),
        ({"teacher": "ngrams"}, "teacher=ngrams also needs ngrams=3"),
    ],
)
def test_a_teacher_without_use_is_refused(small_config, settings, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(small_config, **{"teacher": "runs/a", **settings})
