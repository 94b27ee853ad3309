"""Arrays that a run computes once, before its first step, and needs again to resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import RunError
from trainer.runtime.files import replacing

SOFT_LABELS = "taught_labels.npy"  # the teacher's probabilities of the unlabelled examples
OFFSETS = "offsets.npy"  # the logits of the n-gram scorer for all training examples


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array to a file."""
    with replacing(path) as new, new.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads an array of this shape.

    Raises:
        RunError: The file is missing or damaged, or has another size.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is missing or damaged ({error}); restore it, or start a new run in another "
            "--model_dir"
        ) from error
    if array.size != shape[0] * shape[1]:
        raise RunError(f"{path} has {array.size} numbers for {shape[0]} examples")
    return array.reshape(shape)
