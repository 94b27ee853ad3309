"""Calibration: fits the temperature, and measures the calibration error."""

from __future__ import annotations

import math

import numpy as np

BINS = 15  # of probabilities, with equal widths
_BISECTIONS = 50
_MAX_TEMPERATURE, _MIN_TEMPERATURE = 10_000.0, 0.01


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature T that minimizes the loss of the probabilities sigmoid(logits / T).

    A temperature calibrates probabilities and changes no predicted label (Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017).

    The targets are not 1 and 0 but (N + 1/2) / (N + 1) and 1/2 / (N + 1), for N examples: after N
    correct predictions, these are the probabilities that the next one is correct or wrong, under
    Jeffreys' prior (Krichevsky & Trofimov, The Performance of Universal Encoding, 1981). So the
    number of examples limits the confidence. If all predictions are correct, the mean probability
    of the labels, weighted by |logit|, is (N + 1/2) / (N + 1) instead of 1. Platt's targets, which
    count the examples of each label separately and add 1, change T more (Probabilistic Outputs for
    Support Vector Machines, 1999, section 2.2).

    The loss is convex in 1 / T, so bisection finds the minimum.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1. The model must not be trained on these examples.

    Returns:
        T, from 1/100 to 10,000; 1 if all examples have one label, or there are none.
    """
    is_positive = labels > 0.5
    if is_positive.all() or not is_positive.any():
        return 1.0
    count = len(labels)
    targets = np.where(is_positive, count + 0.5, 0.5) / (count + 1)
    logits = logits.astype(np.float64)
    low, high = 1 / _MAX_TEMPERATURE, 1 / _MIN_TEMPERATURE  # bounds of 1 / T
    for _ in range(_BISECTIONS):
        # geometric mean: the bounds span six orders of magnitude
        middle = (low * high) ** 0.5
        slope = np.mean((sigmoid(middle * logits) - targets) * logits)
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / low


def cross_calibrated(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Divides the logits of each half of a split by the temperature fitted on the other half.

    Metrics of the result are out-of-sample: no temperature is fitted to the labels that it is
    evaluated on.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.

    Returns:
        Logits <float32>[N]. Each half has every other example of each label.
    """
    is_second = np.zeros(len(labels), bool)
    for label in (False, True):
        (positions,) = np.nonzero((labels > 0.5) == label)
        is_second[positions[1::2]] = True
    calibrated = np.empty_like(logits)
    for half in (is_second, ~is_second):
        temperature = fit_temperature(logits[~half], labels[~half])
        calibrated[half] = logits[half] / np.float32(temperature)
    return calibrated


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Computes the expected calibration error: the mean gap between accuracy and confidence.

    Examples are binned by the probability of the predicted label, into 15 bins of equal width
    from 0 to 1; confidence is at least 0.5, so only the upper 8 are used.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.

    Returns:
        The mean over the examples of |accuracy - mean probability| of their bin, 0 to 1; NaN if a
        logit is not finite.
    """
    if not np.isfinite(logits).all():
        return math.nan
    confidence = sigmoid(np.abs(logits.astype(np.float64)))  # 0.5 to 1
    is_correct = (logits > 0) == (labels > 0.5)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=is_correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Computes 1 / (1 + exp(-values)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * values))
