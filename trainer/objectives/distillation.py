"""Distillation: a teacher's probabilities of unlabelled texts are soft labels for a student."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from model.labels import to_targets
from pipeline.errors import UserError
from pipeline.examples import Examples
from trainer.config import TrainConfig


def check_teacher(
    teacher: TrainConfig,
    student: TrainConfig,
    teacher_labels: tuple[str, ...],
    labels: tuple[str, ...],
) -> None:
    """Checks that a teacher has the same data set, validation fraction and labels.

    Raises:
        UserError: It was not.
    """
    settings = ("dataset", "validation_fraction")
    differences = [
        f"--{name}={getattr(teacher, name)}"
        for name in settings
        if getattr(teacher, name) != getattr(student, name)
    ]
    if differences:
        raise UserError(
            f"--teacher={student.teacher} was trained with {' '.join(differences)}, so it may have "
            "learned from the validation split of this run; use the same settings"
        )
    if teacher_labels != labels:  # its probabilities would teach the wrong label
        raise UserError(
            f"--teacher={student.teacher} has the labels {teacher_labels}, but here they are "
            f"{labels}; use its labels"
            + (f", with --positive_label={teacher_labels[1]}" if len(labels) == 2 else "")
        )


def with_soft_labels(labelled: Examples, unlabelled: Examples, soft_labels: np.ndarray) -> Examples:
    """Returns labelled and unlabelled examples, with targets <float32>[N, L] as their labels."""
    targets = to_targets(tf.constant(labelled.labels), soft_labels.shape[1]).numpy()
    labelled = dataclasses.replace(labelled, labels=targets)
    return labelled.concatenate(dataclasses.replace(unlabelled, labels=soft_labels))
