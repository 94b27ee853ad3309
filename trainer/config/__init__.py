"""The settings of a run, each defined once."""

from trainer.config.checks import NGRAM_TEACHER
from trainer.config.settings import GROUPS, TrainConfig, changeable

__all__ = ["GROUPS", "NGRAM_TEACHER", "TrainConfig", "changeable"]
