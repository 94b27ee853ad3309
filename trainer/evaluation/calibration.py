"""Whether a probability of 0.8 is right 8 times in 10, and what makes it so."""

from __future__ import annotations

import math

import numpy as np

BINS = 15
_HALVINGS = 50
_MOST, _LEAST = 10_000.0, 0.01  # T


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature T for which the probabilities sigmoid(logits / T) have the lowest loss.

    It calibrates probabilities and changes no decision (Guo et al., On Calibration of Modern Neural
    Networks, ICML 2017). Targets are not 1 and 0 (Platt, Probabilistic Outputs for Support Vector
    Machines, 1999, section 2.2), but (N + 1/2) / (N + 1) and 1/2 / (N + 1): after N right decisions
    that is the probability that the next one is right, or wrong, by Jeffreys' prior (Krichevsky &
    Trofimov, The Performance of Universal Encoding, 1981). So the number of examples limits how
    sure the model may be: if all decisions are right, the mean probability of the labels, weighted
    by |logit|, is (N + 1/2) / (N + 1) instead of 1. Platt's own targets count the examples of each
    label separately, and add 1; with thousands of examples they still change T by a few percent,
    these targets by less than one percent. The loss is convex in 1 / T, so bisection finds the
    minimum.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1; of examples that the model was not trained on.

    Returns:
        T, from 1/100 to 10,000; 1 if all labels are the same, or there are none.
    """
    is_positive = labels > 0.5
    if is_positive.all() or not is_positive.any():
        return 1.0
    count = len(labels)
    targets = np.where(is_positive, count + 0.5, 0.5) / (count + 1)
    logits = logits.astype(np.float64)
    low, high = 1 / _MOST, 1 / _LEAST  # of 1 / T
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        slope = np.mean((_sigmoid(middle * logits) - targets) * logits)
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / low


def cross_calibrated(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Divides the logits of each half of a split by the temperature fitted on the other half.

    Measurements of the result are out-of-sample, whereas a temperature fitted on all examples has
    seen their labels.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.

    Returns:
        <float32>[N]. Every other example of each label is in the second half.
    """
    is_second = np.zeros(len(labels), bool)
    for label in (False, True):
        (places,) = np.nonzero((labels > 0.5) == label)
        is_second[places[1::2]] = True
    calibrated = np.empty_like(logits)
    for half in (is_second, ~is_second):
        temperature = fit_temperature(logits[~half], labels[~half])
        calibrated[half] = logits[half] / np.float32(temperature)
    return calibrated


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Measures the expected calibration error: how far probabilities are from frequencies.

    Args:
        logits: <float32>[N].
        labels: <float32>[N], 0 or 1.

    Returns:
        Examples are sorted into 15 bins of equal width by the probability of the likelier label; the
        mean over the reviews of |accuracy - mean probability| of their bin, 0 to 1. NaN where a
        logit is not finite.
    """
    if not np.isfinite(logits).all():
        return math.nan
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
