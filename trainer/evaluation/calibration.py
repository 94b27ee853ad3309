"""Calibration: fits a temperature, or a factor and biases; measures the calibration error.

The arguments are logits <float32>[N, L] and labels <int32>[N].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from model.labels import exact_probabilities, predict_classes

BINS = 15  # of probabilities, with equal widths
_BISECTIONS = 50
_MAX_TEMPERATURE, _MIN_TEMPERATURE = 10_000.0, 0.01


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature T that minimizes the loss of the probabilities of logits / T.

    A temperature calibrates probabilities and changes no predicted label (Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017).

    The targets are not 1 and 0. For N examples, the label has (N + 1/2) / (N + 1), and the other
    classes share the rest. After N correct predictions, these are the probabilities that the next
    one is correct or wrong, under Jeffreys' prior (Krichevsky & Trofimov, The Performance of
    Universal Encoding, 1981). So the number of examples limits the confidence. Platt's targets,
    which count the examples of each label separately and add 1, change T more (Probabilistic
    Outputs for Support Vector Machines, 1999, section 2.2).

    The loss is convex in 1 / T, so bisection finds the minimum. The model must not be trained on
    these examples.

    Returns:
        T, from 1/100 to 10,000; 1 if all examples have one label, or there are none.
    """
    if len(np.unique(labels)) < 2:
        return 1.0
    logit_count, targets = logits.shape[1], _smooth_targets(labels, logits.shape[1])
    logits = logits.astype(np.float64)
    low, high = 1 / _MAX_TEMPERATURE, 1 / _MIN_TEMPERATURE  # bounds of 1 / T
    for _ in range(_BISECTIONS):
        # geometric mean: the bounds span six orders of magnitude
        middle = (low * high) ** 0.5
        probabilities = exact_probabilities(middle * logits)[:, -logit_count:]
        slope = np.mean(np.sum((probabilities - targets) * logits, axis=1))
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / low


def _smooth_targets(labels: np.ndarray, logit_count: int) -> np.ndarray:
    """Returns the targets <float64>[N, L] of `fit_temperature`."""
    count = len(labels)
    right, wrong = (count + 0.5) / (count + 1), 0.5 / (count + 1)
    if logit_count == 1:
        return np.where(labels[:, np.newaxis] == 1, right, wrong)
    targets = np.full([count, logit_count], wrong / (logit_count - 1))
    targets[np.arange(count), labels] = right
    return targets


class FactorAndBias(NamedTuple):
    """The calibrated logits are factor * logits + bias."""

    factor: float
    bias: np.ndarray  # <float64>[L]
    loss: float  # the minimum, in nats


def fit_factor_and_bias(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> FactorAndBias:
    """Finds the factor and the biases that minimize the loss of out-of-sample logits.

    With one logit, this is Platt scaling (Probabilistic Outputs for Support Vector Machines, 1999);
    with more, it is temperature scaling (Guo et al., 2017) with biases. The targets are those of
    `fit_temperature`. The `weights` <float>[N] multiply the losses.
    """
    from scipy.optimize import minimize  # slow to import, and predict does not need it

    logits, logit_count = logits.astype(np.float64), logits.shape[1]
    targets = _smooth_targets(labels, logit_count)
    shares = (weights / weights.sum())[:, np.newaxis]

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        calibrated = parameters[0] * logits + parameters[1:]
        if logit_count == 1:
            losses = np.logaddexp(0, calibrated) - targets * calibrated
        else:
            highest = calibrated.max(axis=1, keepdims=True)
            sums = highest + np.log(np.exp(calibrated - highest).sum(axis=1, keepdims=True))
            losses = targets * (sums - calibrated)
        errors = shares * (exact_probabilities(calibrated)[:, -logit_count:] - targets)
        gradient = np.concatenate([[np.sum(errors * logits)], errors.sum(axis=0)])
        return float(np.sum(shares * losses)), gradient

    bounds = [(1 / _MAX_TEMPERATURE, 1 / _MIN_TEMPERATURE), *[(None, None)] * logit_count]
    found = minimize(
        loss_and_gradient,
        np.eye(1, 1 + logit_count)[0],  # factor 1, biases 0
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"gtol": 1e-7, "ftol": 1e-12},
    )
    return FactorAndBias(float(found.x[0]), found.x[1:], float(found.fun))


def cross_calibrated(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Divides the logits of each half of a split by the temperature fitted on the other half.

    Metrics of the result <float32>[N, L] are out-of-sample: no temperature is fitted to the labels
    that it is evaluated on. Each half has every other example of each label.
    """
    is_second = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        (positions,) = np.nonzero(labels == label)
        is_second[positions[1::2]] = True
    calibrated = np.empty_like(logits)
    for half in (is_second, ~is_second):
        temperature = fit_temperature(logits[~half], labels[~half])
        calibrated[half] = logits[half] / np.float32(temperature)
    return calibrated


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Computes the expected calibration error: the mean gap between accuracy and confidence.

    Examples are binned by the probability of the predicted label, into 15 bins of equal width
    from 0 to 1. With two classes it is at least 0.5, so only the upper 8 are used.

    Returns:
        The mean over the examples of |accuracy - mean probability| of their bin, 0 to 1; NaN if a
        logit is not finite.
    """
    if not np.isfinite(logits).all():
        return math.nan
    confidence = exact_probabilities(logits).max(axis=1)
    is_correct = predict_classes(logits) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=is_correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
