"""Whether a probability of 0.8 is right 8 times in 10, and what makes it so."""

from __future__ import annotations

import numpy as np

BINS = 15
_HALVINGS = 50
_MOST = 100.0  # times by which logits are stretched or shrunk


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature T for which the probabilities sigmoid(logits / T) have the lowest loss.

    It makes probabilities honest and changes no decision (Guo et al., On Calibration of Modern
    Neural Networks, ICML 2017). The loss is convex in 1 / T, so halving an interval finds it.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1; of reviews that the model was not trained on.

    Returns:
        T, from 1/100 to 100; 1 where all labels are alike, which tell nothing of it.
    """
    if labels.min() == labels.max():
        return 1.0
    logits = logits.astype(np.float64)
    low, high = 1 / _MOST, _MOST  # of 1 / T
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        slope = np.mean((_sigmoid(middle * logits) - labels) * logits)
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / low


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Measures the expected calibration error: how far probabilities are from frequencies.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.

    Returns:
        Reviews are sorted into 15 bins of equal width by the probability of the likelier label; the
        mean over the reviews of |accuracy - mean probability| of their bin, 0 to 1.
    """
    confidence, accuracy, share = reliability(logits, labels)
    return float(np.abs(share * (accuracy - confidence)).sum())


def reliability(
    logits: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts reviews into bins of equal width by the probability of the likelier label.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.

    Returns:
        Mean probability, accuracy, and share of the reviews, of each bin that is not empty.
    """
    confidence = _sigmoid(np.abs(logits.astype(np.float64)))  # 0.5 to 1
    is_right = (logits > 0) == (labels > 0.5)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, is_right))
    confidence, accuracy = (total[filled] / counts[filled] for total in sums)
    return confidence, accuracy, counts[filled] / len(labels)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))  # exp would overflow
