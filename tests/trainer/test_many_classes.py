"""Runs with more than two classes, from a file to the SavedModel."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from sklearn.utils.class_weight import compute_class_weight

import trainer
from pipeline.errors import UserError
from tests.helpers import StopAfterChecks, assert_same_run, write_csv
from trainer.config import TrainConfig
from trainer.data import open_corpus
from trainer.objectives.class_weights import class_weights
from trainer.run import train
from trainer.runtime.signals import Interrupted

pytestmark = pytest.mark.usefixtures("small_ngram_tables")

WORDS = ("dull", "fine", "great", "odd", "long", "loud")


def rows_of(classes, count=40):
    """Makes rows whose two words name their label in most of them."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count * classes):
        label = number % classes
        shown = label if random.random() < 0.8 else random.integers(classes)
        word = f"{WORDS[shown % len(WORDS)]} w{shown // len(WORDS)}"
        rows.append((f"a {word} film number {number}", f"class {label:02}"))
    return rows


@pytest.fixture(scope="module")
def make_config(tmp_path_factory, cache_dir):
    def make(classes, **settings):
        path = write_csv(tmp_path_factory.mktemp("data") / "rows.csv", rows_of(classes))
        small = {"encoder": "pooled_lstm", "units": 8, "embedding_dim": 8, "ngrams": 2}
        small |= {"epochs": 2, "learning_rate": 0.01, "batch_size": 16, "checkpoint_every": 3}
        return TrainConfig(dataset=str(path), cache_dir=str(cache_dir), **(small | settings))

    return make


MORE = [3, *(pytest.param(classes, marks=pytest.mark.slow) for classes in (5, 20))]

# Serves the SavedModel in a folder, in a process with TensorFlow alone.
SERVE = """
import json, sys
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
served = serve(texts=tf.constant(json.load(sys.stdin)))
assert not {"pipeline", "model", "trainer"} & set(sys.modules)
answer = {name: value.numpy().tolist() for name, value in served.items()}
print(json.dumps(answer, default=bytes.decode))
"""


def serve(folder, texts):
    done = subprocess.run(
        [sys.executable, "-I", "-c", SERVE, str(folder)],
        input=json.dumps([text.decode() for text in texts]).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("classes", MORE)
def test_evaluate_predict_and_the_export_agree(make_config, classes, tmp_path):
    config, folder = make_config(classes), tmp_path / "run"
    run = trainer.train(config, folder)
    results = json.loads((folder / "results.json").read_text())
    assert results["accuracy"] > 1.5 / classes
    corpus = open_corpus(config, label_names=run.label_names)
    examples = corpus.examples("test", run.tokenizer)
    texts = corpus.original_texts("test", np.arange(len(examples)))
    probabilities = run.predict(texts)
    assert probabilities.shape == (len(texts), classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    names = np.array(run.label_names)
    assert run.classify(texts) == names[probabilities.argmax(axis=1)].tolist()
    matrix = confusion_matrix(examples.labels, probabilities.argmax(axis=1))
    assert results["confusion_matrix"] == matrix.tolist()
    trainer.export(folder, folder / "export")
    served = serve(folder / "export", texts)
    np.testing.assert_allclose(served["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(served["probability"], probabilities.max(axis=1), atol=1e-5)
    assert served["labels"][0] == list(run.label_names)
    assert served["label"] == run.classify(texts)


def test_explanations_add_up_to_the_log_odds_against_another_label(make_config, tmp_path):
    run = trainer.train(make_config(3), tmp_path / "run")
    text = "a great film, a dull film"
    by_label = dict(zip(run.label_names, run.predict([text])[0], strict=True))
    ordered = sorted(by_label, key=by_label.get)
    for label in (None, *run.label_names):
        shown = run.explain(text, label)
        assert shown.label == (label or ordered[-1])
        assert shown.against == (ordered[-2] if shown.label == ordered[-1] else ordered[-1])
        log_odds = np.log(by_label[shown.label] / by_label[shown.against])
        assert shown.baseline + shown.contributions.sum() == pytest.approx(log_odds, abs=2e-3)
    with pytest.raises(UserError, match="'class 7' is not a label of the run"):
        run.explain(text, "class 7")


@pytest.mark.parametrize("classes", MORE)
def test_a_stopped_run_ends_with_the_same_bits(make_config, classes, tmp_path):
    config = make_config(
        classes, class_weights="balanced", best_metric="macro_f1", checkpoint_every=1
    )
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted), StopAfterChecks(10):
        train(config, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "results.json").exists()
    train(config, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.slow
def test_a_student_learns_soft_labels_of_three_classes(make_config, tmp_path):
    rows = [(text, label, "train") for text, label in rows_of(3)]
    rows += [(f"{text} again", "", "unsupervised") for text, *_ in rows]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "split"))
    config = make_config(3, encoder="none", batch_size=8)
    config = dataclasses.replace(config, dataset=str(path), split_column="split")
    teacher = trainer.train(config, tmp_path / "teacher")
    student = dataclasses.replace(config, encoder="pooled_lstm", teacher=str(tmp_path / "teacher"))
    trainer.train(student, tmp_path / "student")
    soft = np.load(tmp_path / "student" / "taught_labels.npy")
    expected = teacher.predict([text for text, _, split in rows if split == "unsupervised"])
    assert soft.shape[1] == 3
    np.testing.assert_allclose(soft, expected[: len(soft)], atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param("accuracy", marks=pytest.mark.slow), "macro_f1"])
def test_the_best_epoch_has_the_best_value_of_best_metric(make_config, name, tmp_path):
    run = trainer.train(make_config(3, best_metric=name, epochs=4), tmp_path / "run")
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index(f"validation_{name}")
    values = [float(line.split(",")[column]) for line in lines[1:]]
    assert run.best_epoch == 1 + int(np.argmax(values))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results[f"validation_{name}"] == run.best_value == max(values)


def test_wrong_class_weights_create_no_run(make_config, tmp_path):
    with pytest.raises(UserError, match="'neg' is not a label, or is there twice; write"):
        train(make_config(3, class_weights="neg:2"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_balanced_class_weights_are_those_of_scikit_learn():
    labels = np.array([0] * 50 + [1] * 5 + [2] * 20, np.int32)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = class_weights("balanced", labels, ("a", "b", "c"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert class_weights("", labels, ("a", "b", "c")) is None
    assert class_weights("b:3", labels, ("a", "b", "c")).tolist() == [1, 3, 1]
    for setting in ("b", "x:2", "b:0", "b:x", "b:inf", "b:nan"):
        with pytest.raises(UserError, match=f"class_weights={setting}"):
            class_weights(setting, labels, ("a", "b", "c"))
