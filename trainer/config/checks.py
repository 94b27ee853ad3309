"""Checks the settings of scorers against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model import ENCODERS
from pipeline.errors import UserError, shorten

if TYPE_CHECKING:
    from trainer.config.settings import TrainConfig

MIN_FRACTION = 0.001  # of a split
NGRAM_TEACHER = "ngrams"  # in place of a teacher's model_dir
_NEEDS_PRETRAINED = ("train_layers", "pooling")
# A pretrained encoder has its own tokenizer, embeddings and sizes.
_REFUSED_WITH_PRETRAINED = (
    *("encoder", "punctuation", "vocab_size", "units", "embedding_dim", "embedding_rate"),
    *("window", "word_dropout"),
)


def check_scorers(config: TrainConfig) -> None:
    """Checks the settings of scorers; raises a UserError."""
    _check_pretrained(config)
    if not config.pretrained and not set(config.encoders) <= set(ENCODERS):
        raise UserError(
            f"--encoder={shorten(config.encoder)} is unknown; choose none, or one or "
            f"several of {', '.join(ENCODERS)}, separated by commas"
        )
    if not config.encoders and not config.ngrams:
        raise UserError("--encoder=none leaves no scorer to train; add --ngrams=3")
    if config.has_steps and config.validation_fraction < MIN_FRACTION:
        raise UserError(
            f"--validation_fraction={config.validation_fraction} needs --encoder=none or "
            f"--train_layers=0; with an encoder that is trained, use at least {MIN_FRACTION}"
        )
    needs_ngrams = config.teacher == NGRAM_TEACHER
    if config.teacher and not (config.encoders and (config.ngrams or not needs_ngrams)):
        needed = "--ngrams=3" if config.encoders else "--encoder=pooled_lstm"
        raise UserError(f"--teacher={shorten(config.teacher)} also needs {needed}")


def _check_pretrained(config: TrainConfig) -> None:
    for name in _REFUSED_WITH_PRETRAINED if config.pretrained else _NEEDS_PRETRAINED:
        if getattr(config, name) != getattr(type(config), name):
            state = "with" if config.pretrained else "without"
            raise UserError(f"--{name} has no effect {state} --pretrained; leave it out")
    for name in ("sequence_length", "encoder_length") if config.pretrained else ():
        if 0 < (length := getattr(config, name)) < 3:
            raise UserError(
                f"--{name}={length} is too small with --pretrained; use at least 3, for [CLS], a "
                "token and [SEP]"
            )
