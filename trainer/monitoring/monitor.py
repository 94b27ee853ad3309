"""Reports the progress of a run: TensorBoard, history.csv and the progress bar get one number."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.examples import Examples
from trainer.config import TrainConfig
from trainer.monitoring.history import History
from trainer.monitoring.profiler import Profile
from trainer.monitoring.progress import Progress
from trainer.monitoring.summaries import Summaries

_log = logging.getLogger(__name__)

_SHOWN = ("loss", "accuracy", "examples_per_second")  # beside the progress bar


class Monitor:
    """Reports a run while this process trains it.

    Args:
        config: The settings.
        model_dir: The run's folder.
        words: The vocabulary.
        label_names: What labels 0 and 1 are called.
        epoch: Epochs that are recorded.
        step: Steps that are taken.
        first_step: The first step whose points this process writes.
        last_step: Steps of the whole run.

    Attributes:
        summaries: Writes to TensorBoard.
        profile: Records a profile between two steps.
        progress: The progress bar.
    """

    def __init__(
        self,
        config: TrainConfig,
        model_dir: Path,
        *,
        words: Sequence[str],
        label_names: tuple[str, ...],
        epoch: int,
        step: int,
        first_step: int,
        last_step: int,
    ) -> None:
        self.summaries = Summaries(
            model_dir, first_step=first_step, words=words, label_names=label_names
        )
        self.summaries.describe(config)
        self.profile = Profile(model_dir / "train", config.profiled)
        self.progress = Progress(first_step=step, last_step=last_step)
        self._history = History(model_dir, epochs=epoch)

    def accuracies(self) -> list[float]:
        """Returns the validation accuracy of each epoch so far."""
        return self._history.accuracies()

    def report_steps(self, values: dict[str, float], *, step: int) -> None:
        """Reports what was measured since the last report."""
        self.summaries.write("train", "step", values, step=step)
        self.progress.show({name: values[name] for name in _SHOWN})

    def report_best(
        self, figures: dict[str, float], embeddings: dict[str, np.ndarray], *, step: int
    ) -> None:
        """Reports an epoch that is the best so far."""
        self.summaries.write("validation", "validation_best", figures, step=step)
        self.summaries.write_embeddings(embeddings)

    def report_decisions(
        self, validation: Examples, logits: np.ndarray, mistakes: np.ndarray, *, step: int
    ) -> None:
        """Reports the calibrated logits <float32>[N] of an epoch, if all of them are finite."""
        if np.isfinite(logits).all():
            self.summaries.write_decisions(validation, logits, mistakes, step=step)

    def report_histograms(
        self, group: str, samples: Iterable[tuple[str, tf.Tensor]], *, step: int
    ) -> None:
        """Reports the distribution of each named sample <float32>[N]."""
        self.summaries.write_histograms(group, samples, step=step)

    def prepare_epoch(
        self, train: dict[str, float], validation: dict[str, float], *, epoch: int, step: int
    ) -> dict[str, float]:
        """Reports an epoch to TensorBoard, and returns its row of history.csv.

        The row is kept beside history.csv until `finish_epoch` adds it, so that each row there has
        a checkpoint.
        """
        for split, values in (("train", train), ("validation", validation)):
            self.summaries.write(split, "epoch", values, step=step)
        row: dict[str, float] = {"epoch": epoch, "step": step}
        row |= {f"train_{name}": value for name, value in train.items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self._history.prepare(row)
        return row

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Adds a row to history.csv, after the checkpoint of its epoch is saved."""
        self._history.append(row)

    def flush(self) -> None:
        """Writes all events to disk."""
        self.summaries.flush()

    def close(self) -> None:
        """Ends the progress bar, the profile and the event files."""
        self.progress.close()
        self.profile.close()
        self.summaries.close()
