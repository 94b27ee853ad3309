"""The metrics of a report equal scikit-learn's."""

import numpy as np
import pytest
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
