"""Checks of the training texts, before anything is trained on them."""

from __future__ import annotations

import logging

import numpy as np

from pipeline.datasets import ReviewDataset
from pipeline.errors import Mistake
from pipeline.review_files import ReviewFiles
from pipeline.reviews import Reviews
from pipeline.vocabulary import standardize
from trainer.config import TrainConfig

_log = logging.getLogger(__name__)


def check_texts(texts: Reviews, dataset: ReviewDataset | ReviewFiles, config: TrainConfig) -> None:
    """Checks that the training texts have words, and warns if some have none.

    Args:
        texts: The standardized texts of the train split.
        dataset: The data set that they are read from.
        config: The settings.

    Raises:
        Mistake: There is no text, or no text has a word.
    """
    if not len(texts):
        raise Mistake(
            f"--dataset={config.dataset} has no texts left to train on; add rows, or lower "
            f"--validation_fraction={config.validation_fraction} or "
            f"--test_fraction={config.test_fraction}"
        )
    empty = int(np.count_nonzero(texts.lengths == 0))
    if empty == len(texts):
        raise Mistake(
            f"--dataset={config.dataset}: no text has a word in the train split "
            f"({_texts(empty)}); {_remedy(dataset, config)}"
        )
    if empty:
        _log.warning(
            "%s: %d of %s in the train split have no word; each is trained on as one "
            "out-of-vocabulary token",
            config.dataset,
            empty,
            _texts(len(texts)),
        )


def warn_of_single_tokens(training: Reviews, config: TrainConfig) -> None:
    """Warns if most training texts have only one token.

    Args:
        training: The train split as token ids.
        config: The settings.
    """
    single = int(np.count_nonzero(training.lengths == 1))
    if 2 * single <= len(training):
        return
    if config.sequence_length == 1:
        remedy = "--sequence_length=1 keeps one token of each text; a larger one keeps more"
    else:
        remedy = (
            "a model can then only memorize whole texts; check --text_column="
            f"{config.text_column}, and that words are separated by spaces"
        )
    _log.warning(
        "%s: %d of %s in the train split (%.0f%%) have one token; %s",
        config.dataset,
        single,
        _texts(len(training)),
        100 * single / len(training),
        remedy,
    )


def _remedy(dataset: ReviewDataset | ReviewFiles, config: TrainConfig) -> str:
    if config.punctuation == "drop" and _has_punctuation(dataset):
        return "all punctuation is dropped, and there are no other tokens; add --punctuation=keep"
    return f"name the column of the texts with --text_column (it is {config.text_column} now)"


def _has_punctuation(dataset: ReviewDataset | ReviewFiles) -> bool:
    """Says whether the train split has tokens if punctuation is kept."""
    batches = dataset.read("train").as_numpy_iterator()
    return any(standardize(texts, punctuation="keep").numpy().any() for texts, _ in batches)


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"
