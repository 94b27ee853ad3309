"""TensorBoard: what a run tells of its steps and epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.pr_curve import metadata

from trainer.files import full_disk_told, replacing

SPLITS = ("train", "validation")
_THRESHOLDS = 201
_LARGEST_SAMPLE = 100_000  # numbers of a weight that make its histogram


class Summaries:
    """Writes events to `model_dir/train` and `model_dir/validation`.

    Args:
        model_dir: The run's folder.
        first_step: The first step that this process writes. What an earlier process wrote from
            there on, beyond its last checkpoint, is dropped.
    """

    def __init__(self, model_dir: Path, *, first_step: int) -> None:
        self._folders = {split: model_dir / split for split in SPLITS}
        for folder in self._folders.values():
            _drop_steps_from(first_step, folder)
        self._writers = {
            split: tf.summary.create_file_writer(str(folder))
            for split, folder in self._folders.items()
        }

    def write(self, split: str, group: str, values: dict[str, float], *, step: int) -> None:
        """Writes one point on each of some curves.

        Args:
            split: `train` or `validation`.
            group: `step` or `epoch`: what the values are of.
            values: The values by name.
            step: Where on the axis; epochs too are drawn over steps.

        Raises:
            Fault: The disk is full.
        """
        with self._told(split), self._writers[split].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def describe(self, settings: Mapping[str, str | int | float | bool]) -> None:
        """Writes the settings of a run, as text and for the HParams page; once, at its start."""
        rows = [f"| {name} | {value} |" for name, value in settings.items()]
        table = "\n".join(["| setting | value |", "|---|---|", *rows])
        with self._told("validation"), self._writers["validation"].as_default(step=0):
            tf.summary.text("settings", table)
            hparams.hparams(dict(settings))

    def write_decisions(self, labels: np.ndarray, logits: np.ndarray, *, step: int) -> None:
        """Writes the precision-recall curve and the confusion matrix of the validation split.

        Args:
            labels: <float32>[N], 0 or 1.
            logits: <float32>[N].
            step: Where on the axis.
        """
        with self._told("validation"), self._writers["validation"].as_default(step=step):
            about = metadata.create_summary_metadata("", "", _THRESHOLDS)
            curve = _precision_recall(labels > 0.5, tf.sigmoid(logits).numpy())
            tf.summary.write("epoch/precision_recall", curve, metadata=about)
            tf.summary.image("epoch/confusion", _confusion(labels > 0.5, logits > 0))

    def write_weights(self, weights: Iterable[keras.Variable], *, step: int) -> None:
        """Writes a histogram of each trained weight."""
        with self._told("train"), self._writers["train"].as_default(step=step):
            for weight in weights:
                sample = tf.reshape(weight, [-1])
                stride = max(1, int(tf.size(sample)) // _LARGEST_SAMPLE)
                tf.summary.histogram(f"weights/{weight.path}", sample[::stride])

    def flush(self) -> None:
        """Sees to it that what was written is on disk.

        Raises:
            Fault: The disk is full.
        """
        for split, writer in self._writers.items():
            with self._told(split):
                writer.flush()

    def close(self) -> None:
        """Ends the files."""
        for split, writer in self._writers.items():
            with self._told(split):
                writer.close()

    def _told(self, split: str) -> contextlib.AbstractContextManager[None]:
        return full_disk_told("events for TensorBoard", self._folders[split])


def _precision_recall(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Makes what TensorBoard's PR curves read, <float32>[6, thresholds].

    True positives, false positives, true negatives, false negatives, precision and recall of those
    whose probability is above each threshold.
    """
    thresholds = np.linspace(0, 1, _THRESHOLDS)
    above = [
        len(chosen) - np.searchsorted(np.sort(chosen), thresholds)
        for chosen in (probabilities[truth], probabilities[~truth])
    ]
    found, false = above
    missed, spared = truth.sum() - found, (~truth).sum() - false
    precision, recall = found / np.maximum(found + false, 1), found / max(truth.sum(), 1)
    return np.stack([found, false, spared, missed, precision, recall]).astype(np.float32)


def _confusion(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Draws how often each answer was given for each label, <uint8>[1, H, W, 4]."""
    counts = np.bincount(2 * truth + answers, minlength=4).reshape(2, 2)
    figure = Figure(figsize=(3, 3), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    for label in (0, 1):
        for answer in (0, 1):
            color = "white" if counts[label, answer] > counts.max() / 2 else "black"
            axes.text(answer, label, counts[label, answer], ha="center", va="center", color=color)
    axes.set(xlabel="answer", ylabel="label", xticks=[0, 1], yticks=[0, 1])
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[np.newaxis]


def _drop_steps_from(step: int, folder: Path) -> None:
    """Rewrites the event files of earlier processes without what is going to be written again.

    A restart mark in the events would be shorter, but TensorBoard's EventAccumulator heeds it for
    old kinds of events alone.
    """
    for path in folder.glob("*.new"):  # of a process that was killed in here
        path.unlink()
    for path in sorted(folder.glob("*tfevents*")):
        kept, is_whole = [], True
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                if Event.FromString(record).step < step:
                    kept.append(record)
                else:
                    is_whole = False
        except tf.errors.DataLossError:  # the last words of a process that was killed
            is_whole = False
        if not is_whole:
            with replacing(path) as new, tf.io.TFRecordWriter(str(new)) as writer:
                for record in kept:
                    writer.write(record)
