"""TensorBoard: what a run tells of its steps and epochs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.plugins.pr_curve import metadata

from pipeline.examples import Examples
from pipeline.vocabulary import FIRST_TOKEN_ID
from trainer.config import TrainConfig, changeable
from trainer.monitoring.fonts import drawable
from trainer.monitoring.projector import write_projector
from trainer.runtime.files import remove_unfinished, replacing, translate_disk_full

_UNKNOWN = "▯"  # stands for a word that is not in the vocabulary
SPLITS = ("train", "validation")
_SETTINGS = "settings"
_THRESHOLDS = 201


class Summaries:
    """Writes events to `model_dir/train` and `model_dir/validation`.

    Args:
        model_dir: The run's folder.
        first_step: The first step that this process writes. What an earlier process wrote from
            there on, beyond its last checkpoint, is dropped, and so are the settings, which
            `describe` writes again.
        words: The vocabulary.
        label_names: What labels 0 and 1 are called.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        first_step: int,
        words: Sequence[str],
        label_names: tuple[str, str],
    ) -> None:
        self._words, self._label_names = words, label_names
        self._model_dir = model_dir
        self._folders = {split: model_dir / split for split in SPLITS}
        for folder in self._folders.values():
            _drop_outdated(first_step, folder)
        self._writers = {
            split: tf.summary.create_file_writer(str(folder))
            for split, folder in self._folders.items()
        }

    def write(self, split: str, group: str, values: dict[str, float], *, step: int) -> None:
        """Writes one point on each of some curves.

        Args:
            split: `train` or `validation`.
            group: `step`, `epoch` or `validation_best`: what the values describe. TensorBoard sorts
                groups by name and opens the first two.
            values: The values by name.
            step: Where on the axis; epochs too are drawn over steps.

        Raises:
            RunError: The disk is full.
        """
        with self._translate_errors(split), self._writers[split].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def describe(self, config: TrainConfig) -> None:
        """Writes the settings in force at each start, as text and for the HParams page.

        Both pages show only the first event of their tag, so earlier ones are dropped.
        """
        settings = dataclasses.asdict(config)
        rows = [f"| {name} | {value} |" for name, value in settings.items()]
        table = "\n".join(["| setting | value |", "|---|---|", *rows])
        # Folders and the like would crowd out what runs are compared by.
        left_out = set(changeable()) - {"epochs"}
        compared = {name: value for name, value in settings.items() if name not in left_out}
        with self._translate_errors("validation"), self._writers["validation"].as_default(step=0):
            tf.summary.text(_SETTINGS, table)
            hparams.hparams(compared, trial_id=str(self._model_dir))
        self.flush()

    def write_graph(self, graph: tf.Graph) -> None:
        """Writes what a model computes; once, at the start of a run."""
        with self._translate_errors("train"), self._writers["train"].as_default(step=0):
            tf.summary.graph(graph)

    def write_decisions(
        self, examples: Examples, logits: np.ndarray, mistakes: np.ndarray, *, step: int
    ) -> None:
        """Writes what a model makes of the validation split, beyond a figure or two.

        The precision-recall curve, the confusion matrix, and the surest mistakes as they were read.

        Args:
            examples: The split, as token ids.
            logits: <float32>[N].
            mistakes: <int64>[M], the positions of wrong answers that are shown.
            step: Where on the axis.
        """
        is_second, answers = examples.labels > 0.5, logits > 0
        with (
            self._translate_errors("validation"),
            self._writers["validation"].as_default(step=step),
        ):
            about = metadata.create_summary_metadata("", "", _THRESHOLDS)
            curve = _precision_recall(is_second, tf.sigmoid(logits).numpy())
            tf.summary.write("epoch/precision_recall", curve, metadata=about)
            picture = _confusion(is_second, answers, self._label_names)
            tf.summary.image("epoch/confusion", picture)
            tf.summary.text("epoch/mistakes", self._mistakes(examples[mistakes], logits[mistakes]))

    def _mistakes(self, examples: Examples, logits: np.ndarray) -> str:
        """Writes reviews as Markdown, in the words that the model reads."""
        first, second = self._label_names
        parts = [f"{_UNKNOWN} stands for an out-of-vocabulary token."]
        for position, probability in enumerate(tf.sigmoid(logits).numpy()):
            ids = examples.row(position).astype(np.int64) - FIRST_TOKEN_ID
            read = " ".join(self._words[i] if i >= 0 else _UNKNOWN for i in ids)
            label = second if examples.labels[position] > 0.5 else first
            parts.append(f"**{label}**, probability of {second} {probability:.4f}\n\n{read}")
        return "\n\n".join(parts)

    def write_histograms(
        self, group: str, samples: Iterable[tuple[str, tf.Tensor]], *, step: int
    ) -> None:
        """Writes a histogram for each named sample <float32>[N]."""
        with self._translate_errors("train"), self._writers["train"].as_default(step=step):
            for name, sample in samples:
                tf.summary.histogram(f"{group}/{name}", sample)

    def write_embeddings(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Writes the vectors of words <float32>[V, E], by name, for the projector."""
        write_projector(
            self._folders["validation"], embeddings, self._words, first_word=FIRST_TOKEN_ID
        )

    def flush(self) -> None:
        """Sees to it that what was written is on disk.

        Raises:
            RunError: The disk is full.
        """
        for split, writer in self._writers.items():
            with self._translate_errors(split):
                writer.flush()

    def close(self) -> None:
        """Ends the files."""
        for split, writer in self._writers.items():
            with self._translate_errors(split):
                writer.close()

    def _translate_errors(self, split: str) -> contextlib.AbstractContextManager[None]:
        return translate_disk_full("events for TensorBoard", self._folders[split])


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


def _confusion(truth: np.ndarray, answers: np.ndarray, names: tuple[str, str]) -> np.ndarray:
    """Draws how often each answer was given for each label, <uint8>[1, H, W, 4]."""
    counts = np.bincount(2 * truth + answers, minlength=4).reshape(2, 2)
    figure = Figure(figsize=(3, 3), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    for label in (0, 1):
        for answer in (0, 1):
            color = "white" if counts[label, answer] > counts.max() / 2 else "black"
            axes.text(answer, label, counts[label, answer], ha="center", va="center", color=color)
    axes.set(xlabel="answer", ylabel="label")
    texts, options = zip(*map(drawable, names), strict=True)
    axes.set_xticks([0, 1], texts)
    axes.set_yticks([0, 1], texts, rotation="vertical", va="center")
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        for tick, option in zip(ticks, options, strict=True):
            tick.set(**option)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[np.newaxis]


def _drop_outdated(first_step: int, folder: Path) -> None:
    """Rewrites the event files of earlier processes without what is going to be written again.

    That is everything from `first_step` on, and the settings.

    A restart mark in the events would be shorter, but TensorBoard's EventAccumulator heeds it for
    old kinds of events alone.
    """
    remove_unfinished(folder)
    for path in sorted(folder.glob("*tfevents*")):
        kept, is_whole = [], True
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                if _is_kept(Event.FromString(record), first_step):
                    kept.append(record)
                else:
                    is_whole = False
        except tf.errors.DataLossError:  # the last words of a process that was killed
            is_whole = False
        if not is_whole:
            with replacing(path) as new, tf.io.TFRecordWriter(str(new)) as writer:
                for record in kept:
                    writer.write(record)


def _is_kept(event: Event, first_step: int) -> bool:
    tags = {value.tag for value in event.summary.value}
    return event.step < first_step and not tags & {_SETTINGS, SESSION_START_INFO_TAG}
