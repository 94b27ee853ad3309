"""Reports the progress of a run to TensorBoard, history.csv, the progress bar and the log."""

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

_PROGRESS_VALUES = ("loss", "accuracy", "examples_per_second")  # beside the progress bar


class Monitor:
    """Reports each value of a run once, so that all outputs have the same number.

    Args:
        config: The settings.
        model_dir: The folder of the run.
        vocabulary: The tokens.
        label_names: The names of labels 0 and 1.
        epoch: Number of recorded epochs.
        step: Number of completed steps.
        first_step: The first step whose events this process writes.
        last_step: Number of steps of the whole run.
    """

    def __init__(
        self,
        config: TrainConfig,
        model_dir: Path,
        *,
        vocabulary: Sequence[str],
        label_names: tuple[str, ...],
        epoch: int,
        step: int,
        first_step: int,
        last_step: int,
    ) -> None:
        self._summaries = Summaries(
            model_dir, first_step=first_step, vocabulary=vocabulary, label_names=label_names
        )
        self._summaries.write_settings(config)
        self._profile = Profile(model_dir / "train", config.profile_range)
        self._progress = Progress(first_step=step, last_step=last_step)
        self._history = History(model_dir, epochs=epoch)

    def accuracies(self) -> list[float]:
        """Returns the validation accuracy of each recorded epoch."""
        return self._history.accuracies()

    def report_graph(self, graph: tf.Graph) -> None:
        """Reports the graph of the model, at the start of a run."""
        self._summaries.write_graph(graph)

    def begin_epoch(self, epoch: str) -> None:
        """Shows the current epoch, such as `2/5`."""
        self._progress.begin_epoch(epoch)

    def begin_steps(self, step: int, count: int) -> int:
        """Starts or stops the profile if it is due.

        Args:
            step: Number of completed steps.
            count: Number of steps that the loop would take next.

        Returns:
            The number of steps to take before the next call; fewer than `count` if the profile
            starts or stops in between.
        """
        self._profile.start_or_stop(step)
        return self._profile.limit_steps(step, count)

    def advance(self, steps: int) -> None:
        """Adds steps to the progress bar."""
        self._progress.advance(steps)

    def report_steps(self, values: dict[str, float], *, step: int) -> None:
        """Reports the means over the steps since the last report."""
        self._summaries.write("train", "step", values, step=step)
        self._progress.show({name: values[name] for name in _PROGRESS_VALUES})

    def report_best(
        self, metrics: dict[str, float], embeddings: dict[str, np.ndarray], *, step: int
    ) -> None:
        """Reports the validation metrics and the embeddings of the best epoch so far."""
        self._summaries.write("validation", "validation_best", metrics, step=step)
        self._summaries.write_embeddings(embeddings)

    def report_predictions(
        self, validation: Examples, logits: np.ndarray, errors: np.ndarray, *, step: int
    ) -> None:
        """Reports the predictions of an epoch, if all logits are finite.

        Args:
            validation: The validation split.
            logits: Its calibrated logits, <float32>[N].
            errors: The positions <int64>[M] of the misclassified examples to show.
            step: The last step of the epoch.
        """
        if np.isfinite(logits).all():
            self._summaries.write_predictions(validation, logits, errors, step=step)

    def report_histograms(
        self, group: str, samples: Iterable[tuple[str, tf.Tensor]], *, step: int
    ) -> None:
        """Reports the distribution of each named sample <float32>[N]."""
        self._summaries.write_histograms(group, samples, step=step)

    def prepare_epoch(
        self, train: dict[str, float], validation: dict[str, float], *, epoch: int, step: int
    ) -> dict[str, float]:
        """Reports the metrics of an epoch to TensorBoard, and returns its row of history.csv.

        The row is stored beside history.csv until `finish_epoch` adds it, so that each row of
        history.csv has a checkpoint.
        """
        for split, values in (("train", train), ("validation", validation)):
            self._summaries.write(split, "epoch", values, step=step)
        row: dict[str, float] = {"epoch": epoch, "step": step}
        row |= {f"train_{name}": value for name, value in train.items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self._history.prepare(row)
        return row

    def finish_epoch(self, row: dict[str, float], *, epochs: int, is_best: bool) -> None:
        """Adds a row to history.csv and logs it, after the checkpoint of its epoch is saved.

        Args:
            row: The row that `prepare_epoch` returned.
            epochs: Number of epochs of the run.
            is_best: Whether the epoch is the best so far.
        """
        self._history.append(row)
        _log.info(
            "epoch %d/%d  train %s  validation %s%s",
            row["epoch"],
            epochs,
            _format_metrics(row, "train_"),
            _format_metrics(row, "validation_"),
            "  (best so far)" if is_best else "",
        )

    def flush(self) -> None:
        """Writes all events to disk."""
        self._summaries.flush()

    def close(self) -> None:
        """Closes the progress bar, the profile and the event files."""
        self._progress.close()
        self._profile.close()
        self._summaries.close()


def _format_metrics(row: dict[str, float], prefix: str) -> str:
    metrics = {
        name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
