"""The weights of classes in the loss, for classes of different sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import UserError, quote

_MAX_WEIGHT = 1e6


def class_weights(setting: str, labels: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
    """Returns the weights of the classes in the loss, <float32>[K]; None if all are 1.

    Args:
        setting: `balanced`, weights such as `neg:1,pos:3`, or empty. Balanced weights are
            N / (K * examples of the class), so that all classes have the same influence (King &
            Zeng, Logistic Regression in Rare Events Data, 2001; scikit-learn's formula).
        labels: The training labels <int32>[N].
        names: The names of the K labels.

    Raises:
        UserError: The setting is neither, or names other labels.
    """
    if not setting:
        return None
    if setting == "balanced":
        counts = np.bincount(labels[labels >= 0], minlength=len(names))
        return (counts.sum() / (len(names) * np.maximum(counts, 1))).astype(np.float32)
    weights: dict[str, float] = {}
    for item in setting.split(","):
        name, _, number = item.rpartition(":")
        if name not in names or name in weights:
            raise UserError(
                f"--class_weights={setting}: {quote(name or item)} is not a label, or is there "
                f"twice; write balanced, or a weight for some of {', '.join(map(quote, names))}, "
                f"such as {names[0]}:2"
            )
        try:
            weights[name] = float(number)
        except ValueError:
            weights[name] = np.nan
        if not 1 / _MAX_WEIGHT <= weights[name] <= _MAX_WEIGHT:  # also refuses NaN
            raise UserError(
                f"--class_weights={setting}: {quote(number)} is not a number from 1e-6 to 1e6"
            )
    return np.array([weights.get(name, 1.0) for name in names], np.float32)
