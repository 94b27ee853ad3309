"""The metrics of a report equal scikit-learn's."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference

from trainer.evaluation import report
from trainer.evaluation.metrics import (
    compute_class_metrics,
    compute_metrics,
    errors_by_confidence,
)

NAMES = ("neg", "pos")


def drawn(count=500):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count).astype(np.int32)
    logits = (random.normal(size=count) + 1.5 * labels - 0.6).astype(np.float32)
    return logits[:, np.newaxis], labels, random.integers(1, 1000, count).astype(np.int32)


def test_metrics_of_decisions_equal_scikit_learn():
    logits, labels, lengths = drawn()
    predicted = logits[:, 0] > 0
    found = compute_class_metrics(logits, labels, lengths, NAMES) | compute_metrics(labels, logits)
    assert found["confusion_matrix"] == reference.confusion_matrix(labels, predicted).tolist()
    for name in ("precision", "recall", "f1"):
        expected = getattr(reference, f"{name}_score")(labels, predicted)
        assert found[name] == pytest.approx(expected)
    macro = reference.f1_score(labels, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(macro)


def test_each_example_is_in_one_length_range():
    logits, labels, lengths = drawn()
    slices = compute_class_metrics(logits, labels, lengths, NAMES)["by_length"]
    assert [part["tokens"] for part in slices][::5] == ["1 to 50", "801 or more"]
    assert sum(part["examples"] for part in slices) == 500
    of_second = (lengths > 50) & (lengths <= 100)
    accuracy = reference.accuracy_score(labels[of_second], logits[of_second, 0] > 0)
    assert slices[1]["accuracy"] == pytest.approx(accuracy)
    right = sum(part["examples"] * part["accuracy"] for part in slices)
    assert right == pytest.approx(((logits[:, 0] > 0) == labels).sum())


def test_errors_are_sorted_by_confidence():
    logits = np.array([[3.0], [-2.0], [1.0], [-4.0], [0.5]], np.float32)
    labels = np.array([1, 1, 0, 1, 1], np.int32)
    assert errors_by_confidence(logits, labels).tolist() == [3, 1, 2]


@pytest.mark.parametrize("labels", [np.ones(3, np.int32), np.zeros(3, np.int32)])
def test_examples_of_one_class_have_metrics(labels, tmp_path):
    logits = np.array([[1.0], [2.0], [3.0]], np.float32)
    found = compute_class_metrics(logits, labels, np.array([1, 2, 3], np.int32), NAMES)
    assert found["recall"] == labels[0]
    assert np.isnan(compute_metrics(labels, logits)["auc"])  # undefined, not 0
    report.draw_curves(tmp_path / "a.png", logits, labels, NAMES)
    assert (tmp_path / "a.png").stat().st_size > 1000


def drawn_classes(classes, count=600):
    random = np.random.default_rng(1)
    labels = random.integers(0, classes, count).astype(np.int32)
    logits = random.normal(size=[count, classes]) + 1.5 * np.eye(classes)[labels]
    return logits.astype(np.float32), labels, random.integers(1, 1000, count).astype(np.int32)


@pytest.mark.parametrize("classes", [3, 20])
def test_metrics_of_many_classes_equal_scikit_learn(classes, tmp_path):
    logits, labels, lengths = drawn_classes(classes)
    names = [f"label {number}" for number in range(classes)]
    predicted, probabilities = logits.argmax(axis=1), softmax(logits.astype(float), axis=1)
    found = compute_metrics(labels, logits)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    macro = reference.f1_score(labels, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(macro)
    auc = reference.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert found["auc"] == pytest.approx(auc)
    assert found["loss"] == pytest.approx(reference.log_loss(labels, probabilities), rel=1e-5)
    top = reference.top_k_accuracy_score(labels, probabilities, k=5) if classes > 10 else None
    assert found.get("top_5_accuracy") == (top if top is None else pytest.approx(top))
    by_class = compute_class_metrics(logits, labels, lengths, names)
    matrix = reference.confusion_matrix(labels, predicted)
    assert by_class["confusion_matrix"] == matrix.tolist()
    expected = reference.classification_report(labels, predicted, output_dict=True)
    for number, name in enumerate(names):
        shown, row = by_class["classes"][name], expected[str(number)]
        assert shown["examples"] == row["support"]
        assert shown["f1"] == pytest.approx(row["f1-score"])
        assert shown["recall"] == pytest.approx(row["recall"])
    wrong = errors_by_confidence(logits, labels)
    assert sorted(wrong.tolist()) == np.flatnonzero(predicted != labels).tolist()
    report.draw_curves(tmp_path / "a.png", logits, labels, names)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_a_class_without_examples_leaves_the_auc_of_the_others():
    logits, labels, _ = drawn_classes(3)
    kept = labels != 2
    found = compute_metrics(labels[kept], logits[kept])
    assert 0.5 < found["auc"] < 1
