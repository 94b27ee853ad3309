"""What a run takes from other ones: weights, parts, an opinion of unlabelled reviews."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from model.classifier import SentimentClassifier
from model.language import LanguageModel
from pipeline.errors import Fault, Mistake
from pipeline.reviews import Reviews
from trainer import devices
from trainer.config import TrainConfig
from trainer.files import replacing
from trainer.stopping import StopSignals
from trainer.trained import load, load_best, read_record

_log = logging.getLogger(__name__)

# What both must cut in one way, and call by the same token ids.
_TOKENS = ("dataset", "validation_fraction", "punctuation", "vocab_size")
# What the weights of an encoder fit to.
_ENCODER = ("units", "embedding_dim", "embedding_rate")
# What a teacher's parts must read as it did.
_READING = ("sequence_length", "truncate", "ngrams")


def inherit(config: TrainConfig, words: list[str], model: SentimentClassifier) -> None:
    """Gives a new model the weights that other runs have for it.

    Raises:
        Mistake, Fault: They cannot be used, or are damaged.
    """
    if config.teacher:
        _take_over(model, load(_teacher_dir(config)).evaluator.model)
    if config.init_from:
        _start_from(model, load_start(config, words))


def load_start(config: TrainConfig, words: list[str]) -> LanguageModel:
    """Loads what --init_from names.

    Raises:
        Mistake: It does not fit.
    """
    folder = Path(config.init_from).expanduser()
    record = read_record(folder)
    _check_is_start(record.config, config)
    vectorizer, model, *_ = load_best(folder, record, devices.precision(config.precision))
    _check_vocabulary("init_from", vectorizer.words, words, config)
    return model


def _check_vocabulary(flag: str, theirs: list[str], ours: list[str], config: TrainConfig) -> None:
    if theirs != ours:
        raise Mistake(
            f"--{flag}={getattr(config, flag)} has another vocabulary: it was trained on other "
            f"reviews of the name {config.dataset}"
        )


def _teacher_dir(config: TrainConfig) -> Path:
    return Path(config.teacher).expanduser()


def ask_teacher(
    config: TrainConfig, model_dir: Path, words: list[str], unlabelled: Reviews, stop: StopSignals
) -> None:
    """Keeps what the teacher makes of the unlabelled reviews.

    Raises:
        Mistake: It does not fit.
        Stopped: A signal came.
    """
    teacher = load(_teacher_dir(config))
    _check_is_teacher(teacher.config, config)
    _check_vocabulary("teacher", teacher.vectorizer.words, words, config)
    _log.info("asking %s about %d unlabelled reviews", config.teacher, len(unlabelled))
    labels = teacher.evaluator.predict(unlabelled, stop=stop, what="asking the teacher")
    TaughtLabels(model_dir).write(labels)


def _check_is_teacher(teacher: TrainConfig, student: TrainConfig) -> None:
    """Checks that a teacher is its student without the last encoder.

    Raises:
        Mistake: It is not.
    """
    names = _TOKENS + _READING
    if teacher.encoders:
        names += ("encoder_length", *_ENCODER)
    differences = _differences(teacher, student, names)
    if teacher.encoders != student.encoders[:-1]:
        differences.append(f"--encoder={teacher.encoder}")
    if differences:
        raise Mistake(
            f"--teacher={student.teacher} must be this model without its last encoder, and it was "
            f"trained with {' '.join(differences)}; give the same here"
            + (", with one more encoder after a comma" if teacher.encoders else "")
        )


def _check_is_start(start: TrainConfig, config: TrainConfig) -> None:
    """Checks that a run is one of scripts.pretrain, for the last encoder of these settings.

    Raises:
        Mistake: It is not.
    """
    if start.objective != "next_words":
        raise Mistake(
            f"--init_from={config.init_from} is no run of scripts.pretrain; what scripts.train "
            "trained can be a --teacher"
        )
    differences = _differences(start, config, _TOKENS + _ENCODER)
    if start.encoder != config.encoders[-1]:
        differences.append(f"--encoder={start.encoder}")
    if differences:
        raise Mistake(
            f"--init_from={config.init_from} was pretrained with {' '.join(differences)}; give "
            "the same here"
        )


def _differences(theirs: TrainConfig, ours: TrainConfig, names: tuple[str, ...]) -> list[str]:
    """Lists their flags where they differ from ours."""
    return [
        f"--{name}={getattr(theirs, name)}"
        for name in names
        if getattr(theirs, name) != getattr(ours, name)
    ]


def _start_from(model: SentimentClassifier, start: LanguageModel) -> None:
    """Gives the last part of a model the embedding and the encoder of a language model."""
    part = model.parts[-1]
    for ours, theirs in (
        (part.embedding, start.deep.embedding),
        (part.encoder, start.deep.encoder),
    ):
        for variable, their in zip(ours.weights, theirs.weights, strict=True):
            variable.assign(their)


def _take_over(student: SentimentClassifier, teacher: SentimentClassifier) -> None:
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
