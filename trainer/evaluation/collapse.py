"""Warns if training has collapsed: the model only guesses, after it was better."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

_log = logging.getLogger(__name__)


def warn_of_collapse(
    accuracy: float, *, before: Sequence[float], labels: np.ndarray, best_epoch: int
) -> None:
    """Warns if accuracy has fallen to that of guessing, within two standard errors.

    It is the accuracy on the validation labels <int32>[N] after an epoch; `before` has those of the
    epochs before it.
    """
    guessing, error = np.bincount(labels).max() / len(labels), 0.5 / math.sqrt(len(labels))
    best = max(before, default=0.0)
    if accuracy <= guessing + 2 * error < best - 2 * error:
        _log.warning(
            "training has collapsed: validation accuracy fell from %.3f to %.3f, and guessing "
            "reaches %.3f. The model of epoch %d is still the best one, and will be used. A "
            "smaller --learning_rate or --clip_norm makes training more stable",
            best,
            accuracy,
            guessing,
            best_epoch,
        )
