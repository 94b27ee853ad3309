"""Distillation: a student copies a teacher's scorers, and learns the teacher's soft labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from model.classifier import TextClassifier
from pipeline.errors import RunError, UserError
from pipeline.examples import Examples
from trainer.config import TrainConfig
from trainer.runtime.files import replacing

# A teacher and its student must have the same examples, token ids and frozen scorers.
_DATA = ("dataset", "validation_fraction", "punctuation", "vocab_size")
_SCORERS = ("sequence_length", "truncate", "ngrams")
_NEURAL_SCORERS = ("encoder_length", "units", "embedding_dim", "embedding_rate")


def check_teacher(teacher: TrainConfig, student: TrainConfig) -> None:
    """Checks that the teacher has all scorers of the student except the last one.

    Raises:
        UserError: The teacher has other scorers, or was trained on other data.
    """
    names = _DATA + _SCORERS + (_NEURAL_SCORERS if teacher.encoders else ())
    differences = [
        f"--{name}={getattr(teacher, name)}"
        for name in names
        if getattr(teacher, name) != getattr(student, name)
    ]
    if teacher.encoders != student.encoders[:-1]:
        differences.append(f"--encoder={teacher.encoder}")
    if differences:
        hint = ", with one more encoder after a comma" if teacher.encoders else ""
        raise UserError(
            f"--teacher={student.teacher} must be this model without its last encoder, but it was "
            f"trained with {' '.join(differences)}; use the same settings here{hint}"
        )


def check_vocabulary(teacher: list[str], student: list[str], config: TrainConfig) -> None:
    """Checks that a teacher and its student have the same vocabulary.

    Raises:
        UserError: They have different vocabularies.
    """
    if teacher != student:
        raise UserError(
            f"--teacher={config.teacher} has another vocabulary: it was trained on other examples "
            f"of the data set {config.dataset}"
        )


def copy_scorers(student: TextClassifier, teacher: TextClassifier) -> None:
    """Copies the weights of a teacher's scorers to the first scorers of its student."""
    for scorer, source in zip(student.scorers[:-1], teacher.scorers, strict=True):
        for variable, value in zip(scorer.variables, source.variables, strict=True):
            variable.assign(value)


class SoftLabels:
    """Stores the teacher's probabilities of the unlabelled examples in the student's model_dir.

    The student can then be resumed without the teacher.

    Args:
        model_dir: The student's model_dir.
    """

    def __init__(self, model_dir: Path) -> None:
        self._path = model_dir / "taught_labels.npy"

    def write(self, probabilities: np.ndarray) -> None:
        """Writes the probabilities <float32>[N] of the second label."""
        with replacing(self._path) as path, path.open("wb") as file:
            np.save(file, probabilities, allow_pickle=False)

    def apply_to(self, examples: Examples) -> Examples:
        """Returns the unlabelled examples with the stored probabilities as their labels.

        Raises:
            RunError: The file is missing or damaged, or does not fit the number of examples.
        """
        try:
            labels = np.load(self._path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self._path} is missing or damaged ({error}); restore it, or start a new run in "
                "another --model_dir"
            ) from error
        if labels.shape != examples.labels.shape:
            raise RunError(f"{self._path} has {len(labels)} labels for {len(examples)} examples")
        return dataclasses.replace(examples, labels=labels)
