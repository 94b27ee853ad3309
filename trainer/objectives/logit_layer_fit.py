"""Fits the last layer of a frozen encoder by logistic regression, on vectors computed once."""

from __future__ import annotations

import logging

import keras
import numpy as np
import tensorflow as tf

from model.labels import exact_probabilities, to_targets
from pipeline.examples import Examples
from trainer.monitoring.progress import with_progress

_log = logging.getLogger(__name__)

# The candidates for the penalty, from the largest: the mean loss plus penalty / 2 * squared norm.
_PENALTIES = (1.0, 0.1, 0.01, 0.001, 0.0001)
_FOLDS = 5
_BUCKETS = 2**16  # of the hashes of texts
_TOLERANCE, _MAX_ITERATIONS = 1e-6, 200  # of L-BFGS; precise enough to choose a penalty


def fit_logit_layer(
    layer: keras.layers.Dense,
    vectors: np.ndarray,
    examples: Examples,
    class_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Fits a dense layer, so that its logits plus the offsets of the examples have a small loss.

    The vectors are standardized. The penalty is the candidate whose cross-fitted logits have the
    smallest loss. The cross-fitted logits of a fold come from a fit to the other folds.

    Args:
        layer: The layer, built, from [N, H] to [N, L].
        vectors: <float32>[N, H], what the layer gets for each example.
        examples: The examples; their labels are class numbers or soft labels.
        class_weights: <float32>[K], which multiply the losses of class numbers; None for 1.

    Returns:
        The cross-fitted logits <float32>[N, L] plus the offsets.
    """
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    inputs = ((vectors - mean) / scale).astype(np.float64)
    targets = to_targets(tf.constant(examples.labels), layer.units).numpy().astype(np.float64)
    offsets = np.zeros_like(targets) if examples.offsets is None else examples.offsets
    weights = np.ones(len(targets))
    if class_weights is not None and examples.labels.ndim == 1:
        weights = class_weights[examples.labels].astype(np.float64)
    data = (inputs, targets, offsets.astype(np.float64), weights)
    # Copies of a text have the same hash, and so the same fold.
    folds = (np.random.default_rng(0).permutation(_BUCKETS) % _FOLDS)[examples.hash_buckets]
    logits = np.zeros([len(_PENALTIES), *targets.shape])
    for fold in with_progress(range(_FOLDS), description="fitting the last layer", total=_FOLDS):
        is_held_out = folds == fold
        start = np.zeros([inputs.shape[1] + 1, targets.shape[1]])
        for number, penalty in enumerate(_PENALTIES):
            start = _minimize(start, penalty, *(array[~is_held_out] for array in data))
            logits[number, is_held_out] = _logits(start, inputs[is_held_out])
    logits += offsets
    losses = [np.average(_losses(targets, each), weights=weights) for each in logits]
    best = int(np.argmin(losses))
    _log.info(
        "chosen by cross-fitting: penalty %g of the last layer (loss %.4f)",
        *(_PENALTIES[best], losses[best]),
    )
    solution = _minimize(np.zeros_like(start), _PENALTIES[best], *data)
    kernel = solution[:-1] / scale[:, np.newaxis]
    layer.kernel.assign(kernel)
    layer.bias.assign(solution[-1] - mean @ kernel)
    return logits[best].astype(np.float32)


def _minimize(
    start: np.ndarray,
    penalty: float,
    inputs: np.ndarray,
    targets: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Returns the kernel and, in the last row, the bias, <float64>[H + 1, L]."""
    from scipy.optimize import minimize  # slow to import

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        solution = values.reshape(start.shape)
        logits = _logits(solution, inputs) + offsets
        probabilities = exact_probabilities(logits)[:, -targets.shape[1] :]
        errors = (probabilities - targets) * (weights / len(weights))[:, np.newaxis]
        gradient = np.concatenate([inputs.T @ errors, errors.sum(axis=0, keepdims=True)])
        gradient[:-1] += penalty * solution[:-1]
        loss = np.sum(weights * _losses(targets, logits)) / len(weights)
        loss += penalty / 2 * np.sum(solution[:-1] ** 2)
        return float(loss), gradient.ravel()

    found = minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "ftol": _TOLERANCE},
    )
    return found.x.reshape(start.shape)


def _logits(solution: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    return inputs @ solution[:-1] + solution[-1]


def _losses(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns the cross-entropies <float64>[N] of targets and logits, each [N, L]."""
    if logits.shape[1] == 1:
        return (np.logaddexp(0, logits) - targets * logits)[:, 0]
    largest = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
    return total - np.sum(targets * logits, axis=1)
