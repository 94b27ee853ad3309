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
        hint = "one more encoder after a comma" if teacher.encoders else "exactly one encoder"
        raise UserError(
            f"--teacher={student.teacher} must be this model without its last encoder, but it was "
            f"trained with {' '.join(differences)}; use the same settings here, but {hint}"
        )


def copy_scorers(student: TextClassifier, teacher: TextClassifier) -> None:
    """Copies the weights of a teacher's scorers to the first scorers of its student."""
    for scorer, source in zip(student.scorers[:-1], teacher.scorers, strict=True):
        for variable, value in zip(scorer.variables, source.variables, strict=True):
            variable.assign(value)


# The student has the teacher's probabilities, so that it can be resumed without the teacher, once
# its first step is saved.
_SOFT_LABELS = "taught_labels.npy"


def write_soft_labels(model_dir: Path, probabilities: np.ndarray) -> None:
    """Writes the probabilities <float32>[N, L] (`model.labels`) to the student's model_dir."""
    with replacing(model_dir / _SOFT_LABELS) as path, path.open("wb") as file:
        np.save(file, probabilities, allow_pickle=False)


def apply_soft_labels(model_dir: Path, examples: Examples, logit_count: int) -> Examples:
    """Returns the unlabelled examples with the stored probabilities as their soft labels.

    Raises:
        RunError: The file is missing or damaged, or does not fit the number of examples.
    """
    path = model_dir / _SOFT_LABELS
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is missing or damaged ({error}); restore it, or start a new run in another "
            "--model_dir"
        ) from error
    if labels.size != len(examples) * logit_count:
        raise RunError(f"{path} has {labels.size} probabilities for {len(examples)} examples")
    return dataclasses.replace(examples, labels=labels.reshape(-1, logit_count))
