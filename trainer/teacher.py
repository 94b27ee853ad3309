"""What a run learns from another one: its parts, and its opinion of unlabelled reviews."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.classifier import SentimentClassifier
from pipeline.errors import Fault, Mistake
from pipeline.reviews import Reviews
from trainer.config import TrainConfig
from trainer.files import replacing

# What both must read and cut in one way.
_SHARED = (
    "dataset",
    "validation_fraction",
    "punctuation",
    "vocab_size",
    "sequence_length",
    "truncate",
    "ngrams",
)
# What the weights of deep parts fit to.
_SHARED_BY_ENCODERS = ("encoder_length", "embedding_dim", "embedding_rate")


def check_is_teacher(teacher: TrainConfig, student: TrainConfig) -> None:
    """Checks that a teacher is its student without the last encoder.

    Raises:
        Mistake: It is not.
    """
    names = _SHARED + (_SHARED_BY_ENCODERS if teacher.encoders else ())
    differences = [
        f"--{name}={getattr(teacher, name)}"
        for name in names
        if getattr(teacher, name) != getattr(student, name)
    ]
    if teacher.encoders != student.encoders[:-1]:
        differences.append(f"--encoder={teacher.encoder}")
    if differences:
        raise Mistake(
            f"--teacher={student.teacher} must be this model without its last encoder, and it was "
            f"trained with {' '.join(differences)}; give the same here"
            + (", with one more encoder after a comma" if teacher.encoders else "")
        )


def take_over(student: SentimentClassifier, teacher: SentimentClassifier) -> None:
    """Gives a student all parts of its teacher."""
    for part, theirs in zip(student.parts[:-1], teacher.parts, strict=True):
        for variable, their in zip(part.variables, theirs.variables, strict=True):
            variable.assign(their)


class TaughtLabels:
    """The teacher's probabilities for the unlabelled reviews, in a file of the student's folder.

    A run that goes on needs no teacher any more.

    Args:
        model_dir: The student's folder.
    """

    def __init__(self, model_dir: Path) -> None:
        self._path = model_dir / "taught_labels.npy"

    def write(self, probabilities: np.ndarray) -> None:
        """Keeps probabilities <float32>[N]."""
        with replacing(self._path) as path, path.open("wb") as file:
            np.save(file, probabilities, allow_pickle=False)

    def given_to(self, reviews: Reviews) -> Reviews:
        """Returns the reviews with these labels.

        Raises:
            Fault: The file is gone, damaged, or of other reviews.
        """
        try:
            labels = np.load(self._path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise Fault(
                f"{self._path} is gone or damaged ({error}); put it back, or train anew in another "
                "--model_dir"
            ) from error
        if labels.shape != reviews.labels.shape:
            raise Fault(f"{self._path} has {len(labels)} labels for {len(reviews)} reviews")
        return reviews.labelled(labels)
