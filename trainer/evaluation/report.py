"""What an evaluation tells beyond one figure: which mistakes, how sure, at which lengths."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from pipeline.errors import UserError
from trainer.evaluation.calibration import BINS, reliability
from trainer.runtime.files import replacing

_LENGTHS = (50, 100, 200, 400, 800)  # tokens, where one slice ends and the next begins
_MISTAKES = 100  # that errors.csv lists
ERRORS, CURVES = "errors.csv", "curves.png"  # the files of a report
_COLUMNS = ("probability", "answer", "label", "text")


def details(
    logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> dict[str, float | list[list[int]] | list[dict[str, object]]]:
    """Measures decisions.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.
        lengths: <int32>[N], tokens that were read of each review.

    Returns:
        precision, recall and f1 of label 1, each 0 where it is undefined; macro_f1, the mean of
        the f1 of both labels; confusion_matrix, a row for each label and a column for each answer;
        by_length, examples and accuracy of the examples of each range of tokens.
    """
    answers, truth = logits > 0, labels > 0.5
    matrix = [
        [int(np.sum((truth == row) & (answers == column))) for column in (0, 1)] for row in (0, 1)
    ]
    (true_negatives, false_positives), (false_negatives, true_positives) = matrix
    f1 = _f1(true_positives, false_positives, false_negatives)
    return {
        "precision": true_positives / max(true_positives + false_positives, 1),
        "recall": true_positives / max(true_positives + false_negatives, 1),
        "f1": f1,
        "macro_f1": (f1 + _f1(true_negatives, false_negatives, false_positives)) / 2,
        "confusion_matrix": matrix,
        "by_length": _by_length(answers == truth, lengths),
    }


def _f1(true: int, false: int, missed: int) -> float:
    """Returns the F1 of a class; 0 if the class has neither examples nor answers."""
    return 2 * true / max(2 * true + false + missed, 1)


def _by_length(is_right: np.ndarray, lengths: np.ndarray) -> list[dict[str, object]]:
    slices, start = [], 1
    for end in (*_LENGTHS, None):
        chosen = (lengths >= start) & (lengths <= (end or np.inf))
        if chosen.any():
            tokens = f"{start} to {end}" if end else f"{start} or more"
            accuracy = float(is_right[chosen].mean())
            slices.append({"tokens": tokens, "examples": int(chosen.sum()), "accuracy": accuracy})
        start = (end or 0) + 1
    return slices


def worst(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the positions <int64>[≤ 100] of the wrong answers, the surest first."""
    wrong = np.flatnonzero((logits > 0) != (labels > 0.5))
    return wrong[np.argsort(-np.abs(logits[wrong]), kind="stable")][:_MISTAKES]


def check_replaceable(folder: Path) -> None:
    """Checks that a report replaces nothing but an earlier report in a folder.

    Raises:
        UserError: Other files have the names of a report's files.
    """
    errors, curves = folder / ERRORS, folder / CURVES
    start = b""
    with contextlib.suppress(OSError), errors.open("rb") as file:
        start = file.readline()
    is_report = start.strip() == ",".join(_COLUMNS).encode()
    for path in (errors, curves):
        if path.exists() and not is_report:
            raise UserError(
                f"{path} is not from a report of scripts.evaluate, and would be replaced; name "
                "another folder: --report_dir=FOLDER"
            )


def write_errors(
    path: Path, texts: Sequence[bytes], logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> None:
    """Writes a row for each mistake: probability of the second label, answer, label, text.

    Args:
        path: The file.
        texts: Of the mistakes; bytes that are no UTF-8 are replaced.
        logits: <float32>[len(texts)].
        labels: <float32>[len(texts)].
        names: What labels 0 and 1 are called.
    """
    with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for text, logit, label in zip(texts, logits, labels, strict=True):
            probability = 1 / (1 + np.exp(-float(logit)))
            row = [f"{probability:.6f}", names[int(logit > 0)], names[int(label > 0.5)]]
            writer.writerow([*row, text.decode(errors="replace")])


def draw(path: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Draws the ROC curve, precision against recall, and how honest the probabilities are."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    roc, precision, honest = figure.subplots(1, 3)
    truth = labels[np.argsort(-logits, kind="stable")] > 0.5
    found, false = np.cumsum(truth), np.cumsum(~truth)
    roc.plot(np.r_[0, false / max(false[-1], 1)], np.r_[0, found / max(found[-1], 1)])
    _name(roc, "ROC", "false positives", "true positives")
    precision.plot(found / max(found[-1], 1), found / np.arange(1, len(truth) + 1))
    _name(precision, "Precision and recall", "recall", "precision")
    confidence, accuracy, share = reliability(logits, labels)
    shades = [(*to_rgb("tab:blue"), 0.3 + 0.7 * part) for part in share / share.max()]
    honest.bar(confidence, accuracy, width=0.5 / BINS, color=shades)
    honest.plot([0.5, 1], [0.5, 1], color="tab:gray", linestyle="--")
    _name(honest, "Reliability (darker: more reviews)", "probability of the answer", "accuracy")
    honest.set(xlim=(0.5, 1))
    with replacing(path) as new:
        figure.savefig(new, format="png", dpi=120)


def _name(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
