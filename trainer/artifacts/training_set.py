"""All examples that training steps read, with what they learn from n-grams and from a teacher."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from model.labels import count_logits, exact_probabilities
from pipeline.errors import RunError
from pipeline.examples import Examples
from trainer.config import NGRAM_TEACHER, TrainConfig
from trainer.objectives.distillation import with_soft_labels
from trainer.runtime.files import replacing

SOFT_LABELS = "taught_labels.npy"  # the teacher's probabilities of the unlabelled examples
OFFSETS = "offsets.npy"  # n-gram logits of all training examples, times ngram_weight


class TrainingSet:
    """The train split, and unlabelled texts with soft labels if there is a teacher.

    The soft labels of the unlabelled texts and the offsets of all examples are computed once,
    before the first step, and stored in the folder of the run.

    Args:
        config: The settings.
        model_dir: The folder of the run.
        labelled: The train split.
        unlabelled: The unlabelled texts; None without a teacher.
        class_count: Number of classes.

    Attributes:
        labelled: As above.
        unlabelled: As above.
        examples: All examples to train on. Until `read`, soft labels and offsets are 0.
    """

    def __init__(
        self,
        config: TrainConfig,
        model_dir: Path,
        labelled: Examples,
        unlabelled: Examples | None,
        *,
        class_count: int,
    ) -> None:
        self._config, self._model_dir = config, model_dir
        self.labelled, self.unlabelled = labelled, unlabelled
        logits, others = count_logits(class_count), 0 if unlabelled is None else len(unlabelled)
        self._soft_labels_shape = (others, logits)
        self._offsets_shape = (len(labelled) + others, logits)
        zeros = np.zeros(self._offsets_shape, np.float32)
        self.examples = self._combine(zeros[:others], zeros)

    def _combine(self, soft_labels: np.ndarray, offsets: np.ndarray) -> Examples:
        """Returns all examples; the arrays are not used if the run does not need them."""
        examples = self.labelled
        if self.unlabelled is not None:
            examples = with_soft_labels(examples, self.unlabelled, soft_labels)
        return dataclasses.replace(examples, offsets=offsets) if self._config.ngrams else examples

    def write(self, logits: np.ndarray, unlabelled_logits: np.ndarray) -> None:
        """Writes the offsets, and the soft labels if the n-grams are the teacher.

        Args:
            logits: Those of the n-grams for the train split, cross-fitted, <float32>[N, L].
            unlabelled_logits: Those for the unlabelled texts, <float32>[U, L].
        """
        if self._config.teacher == NGRAM_TEACHER:
            probabilities = exact_probabilities(unlabelled_logits)[:, -logits.shape[1] :]
            write_array(self._model_dir / SOFT_LABELS, probabilities.astype(np.float32))
        weight = np.float32(self._config.ngram_weight)
        offsets = weight * np.concatenate([logits, unlabelled_logits])
        write_array(self._model_dir / OFFSETS, offsets)

    def read(self) -> None:
        """Reads the soft labels and the offsets from the folder of the run.

        Raises:
            RunError: A file is missing or damaged.
        """
        soft_labels = np.zeros(self._soft_labels_shape, np.float32)
        offsets = np.zeros(self._offsets_shape, np.float32)
        if self.unlabelled is not None:
            soft_labels = _read_array(self._model_dir / SOFT_LABELS, self._soft_labels_shape)
        if self._config.ngrams:
            offsets = _read_array(self._model_dir / OFFSETS, self._offsets_shape)
        self.examples = self._combine(soft_labels, offsets)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an array to a file."""
    with replacing(path) as new, new.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _read_array(path: Path, shape: tuple[int, int]) -> np.ndarray:
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
