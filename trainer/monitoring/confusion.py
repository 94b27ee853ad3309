"""Draws a confusion matrix, and chooses the classes that pictures show."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trainer.monitoring.fonts import make_drawable

_MAX_DRAWN = 20  # more classes would be illegible


def drawn_classes(labels: np.ndarray) -> list[int]:
    """Returns the numbers of the most frequent classes of labels <int32>[N], in their order."""
    numbers, counts = np.unique(labels, return_counts=True)
    return sorted(numbers[np.argsort(-counts, kind="stable")[:_MAX_DRAWN]].tolist())


def draw_confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    """Draws a confusion matrix of `drawn_classes` as a picture <uint8>[1, H, W, 4].

    Both the labels <int32>[N] and the predicted labels <int64>[N] are numbers of `names`.
    """
    from sklearn.metrics import ConfusionMatrixDisplay  # slow to import

    chosen = [0, 1] if len(names) == 2 else drawn_classes(labels)
    size = max(3.0, 1 + 0.6 * len(chosen))  # inches
    figure = Figure(figsize=(size, size), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    texts, options = zip(*(make_drawable(names[n]) for n in chosen), strict=True)
    ConfusionMatrixDisplay.from_predictions(
        labels,
        predicted,
        labels=chosen,
        display_labels=texts,
        cmap="Blues",
        colorbar=False,
        im_kw={"vmin": 0},
        ax=axes,
    )
    for tick_labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for tick_label, option in zip(tick_labels, options, strict=True):
            tick_label.set(**option)
    for tick_label in axes.get_yticklabels():
        tick_label.set(rotation="vertical", va="center")
    if len(chosen) < len(names):
        axes.set_title(f"{len(chosen)} of {len(names)} labels")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[np.newaxis]
