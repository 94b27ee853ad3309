"""The report of an evaluation, errors.csv and curves.png, from logits <float32>[N, L]."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.labels import exact_probabilities, predict_classes
from pipeline.errors import UserError
from trainer.evaluation.calibration import BINS
from trainer.evaluation.metrics import class_scores, has_curves
from trainer.monitoring.confusion import drawn_classes
from trainer.monitoring.fonts import make_drawable
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

    A row has the probability of the second of two labels, or of the predicted one of more, the
    predicted label (`answer`), the label and the text. Bytes that are not UTF-8 are replaced.
    """
    with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        probabilities, predicted = exact_probabilities(logits), predict_classes(logits)
        rows = zip(texts, probabilities, predicted, labels, strict=True)
        for text, by_class, answer, label in rows:
            shown = by_class[1 if len(names) == 2 else answer]
            row = [f"{shown:.6f}", names[answer], names[label]]
            writer.writerow([*row, text.decode(errors="replace")])


def draw_curves(path: Path, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    """Draws the ROC, precision-recall and reliability curves of a split, as a PNG file.

    With more than two classes, each of the most frequent ones has a ROC and a precision-recall
    curve, and the reliability is that of the predicted label. The charts are empty where the curves
    are undefined; see `has_curves`.
    """
    # Imported here because loading a model imports this module, and predict draws nothing.
    from matplotlib.figure import Figure
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    roc, precision_recall, reliability = figure.subplots(1, 3)
    is_binary, scores = len(names) == 2, class_scores(logits)
    options = []
    for number in drawn_classes(labels) if np.isfinite(logits).all() else ():
        if number not in scores or not has_curves(labels, logits, number):
            continue  # the first of two labels, whose curves mirror those of the second
        name, option = ("model", {}) if is_binary else make_drawable(names[number])
        options.append(option)
        chosen = (labels == number).astype(int), scores[number]
        RocCurveDisplay.from_predictions(*chosen, name=name, ax=roc)
        PrecisionRecallDisplay.from_predictions(*chosen, name=name, ax=precision_recall)
    if options:  # there is a curve
        probabilities = exact_probabilities(logits)
        predicted = np.ones(len(labels), int) if is_binary else predict_classes(logits)
        confidence = probabilities[np.arange(len(labels)), predicted]
        CalibrationDisplay.from_predictions(
            labels == predicted, confidence, n_bins=BINS, name="model", ax=reliability
        )
    counted = "the second label" if is_binary else "correct predictions"
    for axes, title, x, y in (
        (roc, "ROC", "false positive rate", "true positive rate"),
        (precision_recall, "Precision and recall", "recall", "precision"),
        (reliability, "Reliability", "mean predicted probability", f"frequency of {counted}"),
    ):
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        if (legend := axes.get_legend()) and axes is not reliability:
            for text, option in zip(legend.get_texts(), options, strict=False):
                text.set(**option)
    with replacing(path) as new:
        figure.savefig(new, format="png", dpi=120)
