"""The report of an evaluation: errors.csv and curves.png."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from trainer.evaluation.calibration import BINS, sigmoid
from trainer.evaluation.metrics import has_curves
from trainer.runtime.files import replacing

MAX_ERRORS = 100  # rows of errors.csv
ERRORS, CURVES = "errors.csv", "curves.png"  # the files of a report
_COLUMNS = ("probability", "answer", "label", "text")


def check_replaceable(folder: Path) -> None:
    """Checks that a report would replace only an earlier report.

    Raises:
        UserError: The folder has other files with the names of a report's files.
    """
    errors, curves = folder / ERRORS, folder / CURVES
    header = b""
    with contextlib.suppress(OSError), errors.open("rb") as file:
        header = file.readline()
    is_report = header.strip() == ",".join(_COLUMNS).encode()
    for path in (errors, curves):
        if path.exists() and not is_report:
            raise UserError(
                f"{path} is not from a report of scripts.evaluate, and would be replaced; name "
                "another folder: --report_dir=FOLDER"
            )


def write_errors(
    path: Path, texts: Sequence[bytes], logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> None:
    """Writes a CSV row per misclassified example.

    A row has the probability of the second label, the predicted label (`answer`), the label and the
    text. Bytes that are not UTF-8 are replaced.

    Args:
        path: The file.
        texts: The texts of the examples.
        logits: <float32>[len(texts)].
        labels: <float32>[len(texts)].
        names: The names of labels 0 and 1.
    """
    with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        probabilities = sigmoid(logits.astype(np.float64))
        predicted, actual = (logits > 0).astype(int), (labels > 0.5).astype(int)
        for text, probability, answer, label in zip(
            texts, probabilities, predicted, actual, strict=True
        ):
            row = [f"{probability:.6f}", names[answer], names[label]]
            writer.writerow([*row, text.decode(errors="replace")])


def draw_curves(path: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Draws the ROC, precision-recall and reliability curves of a split, as a PNG file.

    The charts are empty where the curves are undefined; see `has_curves`.

    Args:
        path: The file.
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.
    """
    # Imported here because loading a model imports this module, and predict draws nothing.
    from matplotlib.figure import Figure
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    roc, precision_recall, reliability = figure.subplots(1, 3)
    if has_curves(labels, logits):
        actual = (labels > 0.5).astype(int)
        probabilities = sigmoid(logits.astype(np.float64))
        RocCurveDisplay.from_predictions(actual, logits, name="model", ax=roc)
        PrecisionRecallDisplay.from_predictions(actual, logits, name="model", ax=precision_recall)
        CalibrationDisplay.from_predictions(
            actual, probabilities, n_bins=BINS, name="model", ax=reliability
        )
    for axes, title, x, y in (
        (roc, "ROC", "false positive rate", "true positive rate"),
        (precision_recall, "Precision and recall", "recall", "precision"),
        (reliability, "Reliability", "mean predicted probability", "frequency of the second label"),
    ):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
    with replacing(path) as new:
        figure.savefig(new, format="png", dpi=120)
